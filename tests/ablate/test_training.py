"""Models on cells: the same for all but the corpus, and the same after a stop."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fineedu.ablate.lab import Lab, run_ablation, set_up
from fineedu.ablate.train import model as models
from fineedu.ablate.train import run as training
from fineedu.ablate.train.run import check_training, mean_over_seeds, train_cells
from fineedu.errors import FineeduError
from tests.ablate.pools import make_lab, make_pool

TINY = {"vocabulary": 400, "width": 32, "layers": 1, "heads": 2, "context": 32}
TRAIN: dict[str, Any] = {"tokens": 4000, "seeds": [0, 1], "model": TINY, "batch": 4, "held_out": 0.1}
NOUNS = [
    "plant",
    "light",
    "water",
    "sugar",
    "leaf",
    "root",
    "stem",
    "cell",
    "energy",
    "carbon",
    "lesson",
    "number",
    "circle",
    "angle",
    "river",
]
OFFERS = ["buy", "cheap", "offer", "click", "basket", "price", "deal", "now", "free", "sale"]


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> None:
    """Models this small gain nothing from threads, and lose much when another process has the processors."""
    if request.node.get_closest_marker("slow"):
        pytest.importorskip("torch").set_num_threads(1)


def lab_of(folder: Path, **train: Any) -> Lab:
    """Documents of a high score are about plants, the others are offers."""
    frame = make_pool(folder / "pool.parquet", 800)
    rng = np.random.default_rng(0)
    texts = []
    for score in frame["edu_score"].fill_null(0):
        words = NOUNS if score >= 2 else OFFERS
        texts.append(" ".join(rng.choice(words, 60)) + ".")
    frame.with_columns(text=pl.Series(texts)).write_parquet(folder / "pool.parquet", row_group_size=256)
    (folder / "plants.txt").write_text(" ".join(rng.choice(NOUNS, 400)))
    settings = TRAIN | {"texts": {"plants": str(folder / "plants.txt")}} | train
    grid = {"select.rules.edu": {"good": "edu_score >= 2", "bad": "edu_score < 2"}}
    return make_lab(folder, folder / "pool.parquet", grid=grid, train=settings)


def results(lab: Lab) -> dict[str, bytes]:
    return {path.name + path.parent.name: path.read_bytes() for path in sorted((lab.folder / "train").rglob("*.json"))}


def test_intervals_over_seeds() -> None:
    found = mean_over_seeds([10.0, 12.0, 14.0])
    assert (found.value, found.low, found.high) == pytest.approx((12.0, 12 - 4.9683, 12 + 4.9683), abs=1e-3)
    assert mean_over_seeds([3.0]).low is None


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [models.rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == 0.2 and max(rates) == 1.0 and rates[-1] == pytest.approx(0.1, abs=0.01)
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_without_torch_it_says_so(tmp_path: Path) -> None:
    lab = lab_of(tmp_path)
    # Undone before the test ends: plugins that set seeds between tests call torch.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        with pytest.raises(FineeduError, match=r"pip install 'fineedu\[encoder\]', or --no-train"):
            check_training(lab)


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(FineeduError, match="no cell 'ugly'; there are good, bad"):
        check_training(lab_of(tmp_path, cells=["ugly"]))
    with pytest.raises(FineeduError, match="nothing to measure on"):
        check_training(lab_of(tmp_path, held_out=0, texts={}))
    with pytest.raises(FineeduError, match="cannot read the text set"):
        check_training(lab_of(tmp_path, texts={"x": str(tmp_path / "none.txt")}))


def test_tasks_need_the_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(FineeduError, match="pip install lm-eval"):
        check_training(lab_of(tmp_path, tasks=["arc_easy"]))


@pytest.mark.slow
def test_models_differ_by_their_corpus_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    lab = lab_of(tmp_path)
    bench = set_up(lab)
    found = run_ablation(lab, bench)
    whole = train_cells(lab, bench, found)
    good, bad = whole.cells
    assert (good.name, bad.name) == ("good", "bad")
    ours, theirs = good.measures["perplexity: plants"], bad.measures["perplexity: plants"]
    assert ours.high is not None and theirs.low is not None and ours.high < theirs.low
    gap = bad.from_first["perplexity: plants"]
    assert gap.low is not None and gap.low > 0
    assert set(whole.measures) == {
        f"{kind}: {name}" for kind in ("perplexity", "bits a byte") for name in ("held out", "plants")
    }
    held = set(json.loads((lab.folder / "train" / "held-out.json").read_text()))
    every = pl.read_parquet(tmp_path / "pool.parquet")
    assert 20 < len(held) < 200
    # Copies of a held-out document are held out with it.
    keys = every.filter(pl.col("text").is_in(held))["exact_key"]
    kept = every.filter(
        (pl.col("language") == "en") & pl.col("edu_score").is_not_null() & pl.col("exact_key").is_in(keys.implode())
    )
    assert set(kept["text"]) == held

    before = results(lab)
    path = lab.folder / "train" / lab.cells[1].folder / "seed-1.json"
    path.unlink()
    asked: list[int] = []
    real = training.train_model

    def counted(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(training, "train_model", counted)
    again = train_cells(lab, bench, found)
    assert asked == [1] and again == whole and results(lab) == before


@pytest.mark.slow
def test_a_million_parameters_learn(tmp_path: Path) -> None:
    """A Llama of a million parameters on CPU: it beats the vocabulary's own entropy, and reads its corpus whole."""
    pytest.importorskip("torch")
    model = {"vocabulary": 600, "width": 128, "layers": 5, "heads": 4, "context": 64}
    lab = lab_of(tmp_path, seeds=[0], tokens=20_000, model=model, batch=8, cells=["good"], learning_rate=2e-3)
    found = run_ablation(lab)
    trained = train_cells(lab, set_up(lab), found)
    assert 900_000 < trained.parameters < 1_300_000
    (cell,) = trained.cells
    value = cell.measures["perplexity: plants"].value
    assert value is not None and value < 2 * len(NOUNS)
    assert cell.epochs == pytest.approx(19_968 / cell.corpus_tokens)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_task_of_the_real_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A multiple choice of our own: words of the corpus against words that it does not hold."""
    pytest.importorskip("torch")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"begin": f"{a} {b}", "choices": [NOUNS[0], OFFERS[0]], "label": 0} for a in NOUNS[:5] for b in NOUNS[5:9]]
    (folder / "plants.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "plants.yaml").write_text(
        f"task: plants\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {folder}/plants.jsonl}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{begin}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: '{{label}}'\nmetric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
    )
    lab = lab_of(tmp_path, tasks=["plants"], task_folder=str(folder), tokens=20_000, learning_rate=5e-3)
    trained = train_cells(lab, set_up(lab), run_ablation(lab))
    good, bad = (cell.measures["plants acc"].value for cell in trained.cells)
    assert good is not None and bad is not None and good > 0.9 > 0.1 > bad


@pytest.mark.slow
def test_tasks_of_the_harness_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness is asked with a model that transformers loads; its measures are kept, its errors are not."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    asked: list[dict[str, Any]] = []

    class Harness(types.ModuleType):
        @staticmethod
        def simple_evaluate(**settings: Any) -> dict[str, Any]:
            asked.append(settings)
            folder = settings["model_args"].removeprefix("pretrained=")
            loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            assert loaded.config.vocab_size == len(tokenizer)
            return {"results": {"toy": {"alias": "toy", "acc,none": 0.25, "acc_stderr,none": 0.1}}}

    monkeypatch.setitem(sys.modules, "lm_eval", Harness("lm_eval"))
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", Harness("tasks"))
    lab = lab_of(tmp_path, tasks=["toy"], seeds=[0], cells=["good"])
    trained = train_cells(lab, set_up(lab), run_ablation(lab))
    assert [settings["tasks"] for settings in asked] == [["toy"]]
    assert trained.cells[0].measures["toy acc"].value == 0.25 and "toy acc_stderr" not in trained.measures
