from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import polars as pl
import pytest
import yaml

from fineedu.assets import asset_dir
from fineedu.classify.bundle import load_bundle
from fineedu.errors import FineeduError
from fineedu.evaluate.scores import read_predictions
from tests.classify.conftest import LEARNED, PLAIN, SOLD

FILLER = [f"word{n}" for n in range(400)]


def document(chance: random.Random, score: int) -> str:
    words = [
        chance.choice(
            LEARNED
            if chance.random() < 0.05 + score / 6
            else SOLD
            if chance.random() < 0.5
            else FILLER
            if chance.random() < 0.3
            else PLAIN
        )
        for _ in range(80)
    ]
    return " ".join(words)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    chance = random.Random(3)
    for name, count in (("target", 240), ("second", 120), ("other", 400)):
        rows = []
        for n in range(count):
            score = chance.choice([0, 1, 1, 1, 2, 2, 3, 4])
            rows.append(
                {
                    "id": f"{name if name == 'other' else 'doc'}-{n}",
                    "text": document(chance, score),
                    "score": score,
                }
            )
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.yaml").write_text(
        "name: tiny\nlabels: {target: target.jsonl.gz, second: second.jsonl.gz}\nunlabelled: other.jsonl.gz\n"
        "family: fasttext\nteacher: {word: 1.0, character: 0}\nfolds: 3\n"
        "model: {dim: 8, epoch: 5, lr: 0.5, minCount: 1, bucket: 1000, step: 0.5}\n"
    )
    return tmp_path


def test_training_is_deterministic_and_makes_a_sound_bundle(data: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    if not hasattr(fasttext, "train_supervised"):
        pytest.skip(
            "the installed fasttext can only predict: pip install --force-reinstall --no-deps fasttext-community"
        )
    from fineedu.classify.training import train

    held = data / "held.parquet"
    first = train(data / "train.yaml", data, data / "a", held_out=held, sizes=[60])
    second = train(data / "train.yaml", data, data / "b")
    found = pl.read_parquet(held)
    assert found.group_by("n_labels").len()["len"].to_list() == [240, 240]
    assert found["n_labels"].min() == 60
    scores = read_predictions(held)
    assert len(scores.table) == 240
    with pytest.raises(FineeduError, match="learning curve: 5 labels; there can be 20 to"):
        train(data / "train.yaml", data, data / "c", held_out=held, sizes=[5])
    with pytest.raises(FineeduError, match="--held-out a file"):
        train(data / "train.yaml", data, data / "c", sizes=[60])
    assert first.weights_sha256 == second.weights_sha256
    assert (data / "a" / "bundle.json").read_bytes() == (data / "b" / "bundle.json").read_bytes()
    assert first.metrics["cross_validated"]["spearman"]["value"] > 0.5
    card = (data / "a" / "card.md").read_text()
    assert f"n = {first.metrics['cross_validated']['n']}" in card
    lesson, shop = load_bundle(data / "a").score(pl.Series([" ".join(LEARNED * 5), " ".join(SOLD * 5)]))
    assert lesson > shop + 1


def write(path: Path, rows: list[dict[str, object]]) -> None:
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_contrast_of_instructions_and_web(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    if not hasattr(fasttext, "train_supervised"):
        pytest.skip("the installed fasttext can only predict")
    from fineedu.classify.recipe import read_recipe
    from fineedu.classify.training import train

    chance = random.Random(5)
    write(tmp_path / "answers.parquet", [{"body": document(chance, 4)} for _ in range(120)])
    write(tmp_path / "forum.jsonl", [{"body": f"__label__0 {document(chance, 4)}"} for _ in range(40)])
    web = [{"body": document(chance, 0)} for _ in range(300)]
    write(tmp_path / "web.jsonl", [*web, *web, {"body": None}])
    raw = yaml.safe_load((asset_dir("models") / "dclm-fasttext" / "train.yaml").read_text())
    raw["contrast"] = {"positive": ["answers.parquet", "forum.jsonl"], "negative": ["web.jsonl"], "text": "body"}
    raw["model"] |= {"dim": 8, "bucket": 1000, "epoch": 20, "lr": 0.5}
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(raw))
    bundle = train(path, tmp_path, tmp_path / "model")
    assert (bundle.training["positives"], bundle.training["negatives"]) == (160, 160)
    assert bundle.metrics["cross_validated"]["auc_1"]["value"] > 0.95
    # These made texts differ in length too, and the baseline says so.
    assert bundle.metrics["baselines"]["length only"]["auc_1"]["value"] > 0.9
    model = load_bundle(tmp_path / "model")
    answer, shop, missing = model.score(pl.Series([" ".join(LEARNED * 5), " ".join(SOLD * 5), None]))
    assert 0 <= shop < 0.2 < 0.8 < answer <= 1 and missing != missing
    assert "160 positives (answers.parquet, forum.jsonl)" in (tmp_path / "model" / "card.md").read_text()
    for change, message in (({"text": "words"}, "no 'words' in its rows"), ({"negative": ["no.jsonl"]}, "no.jsonl")):
        path.write_text(yaml.safe_dump(raw | {"contrast": raw["contrast"] | change}))
        with pytest.raises(FineeduError, match=message):
            train(path, tmp_path, tmp_path / "model")
    path.write_text(yaml.safe_dump(raw | {"family": "static"}))
    with pytest.raises(FineeduError, match="contrast stands alone"):
        read_recipe(path)


def test_predict_only_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fasttext

    from fineedu.classify.fasttext import require_training

    monkeypatch.delattr(fasttext, "train_supervised", raising=False)
    with pytest.raises(FineeduError, match="fasttext-community"):
        require_training()


def test_labels_of_any_file_and_failures_are_no_zeros(tmp_path: Path) -> None:
    from fineedu.classify.labels import read_labels as read_for_training
    from fineedu.labels import write_labels

    votes = pl.DataFrame(
        {
            "id": ["a", "a", "b", "c"],
            "annotator": ["x", "y", "x", "x"],
            "rubric": "edu",
            "rubric_hash": "h",
            "sample": [0, 0, 0, 0],
            "state": ["ok", "ok", "refusal", "ok"],
            "score": [2.0, 3.0, None, 1.0],
            "expected_score": [2.25, None, None, 1.5],
        },
        schema_overrides={"sample": pl.Int32},
    )
    path = tmp_path / "votes.parquet"
    write_labels(path, votes, {})
    with pytest.raises(FineeduError, match=r"has no texts: name the store .*labels\.documents"):
        read_for_training(path, None)
    write_labels(path, votes.with_columns(text=pl.col("id").repeat_by(3).list.join("")), {})
    found = read_for_training(path, None)
    assert (found.ids, found.texts, found.target.tolist()) == (["a", "c"], ["aaa", "ccc"], [2.5, 1.0])
    assert found.annotators == ("2 annotators (x … y)",)
    assert read_for_training(path, None, expected=True).target.tolist() == [2.625, 1.5]
    assert found.on_target_scale([0, 1], 0.5)[0].tolist() == [2.5, 1.0]
    write_labels(path, votes.filter(pl.col("state") != "ok"), {})
    with pytest.raises(FineeduError, match=r"no vote in .* has a valid score"):
        read_for_training(path, None)
