"""The evaluation as a whole: what is measured, what is left out, and what is said about it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from fineedu.errors import FineeduError
from fineedu.evaluate.evaluation import evaluate
from fineedu.evaluate.measures import measure
from fineedu.evaluate.page import write_evaluation
from fineedu.evaluate.scores import Scores, read_predictions
from fineedu.evaluate.terminal import print_evaluation
from fineedu.evaluate.votes import document_labels
from fineedu.labels import write_labels

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_failures_are_counted_and_never_zero(votes: pl.DataFrame, scores: pl.DataFrame) -> None:
    found = evaluate(scores, votes, annotator="large", resamples=50)
    assert found.counts == {"labelled documents": 200, "no valid label": 5, "no score": 2, "measured": 193}
    assert found.states == {"ok": 195, "refusal": 5}
    labels = document_labels(votes, "large").documents.join(scores, on="id").drop_nulls(["label", "score"])
    by_hand = measure(labels["label"].to_numpy(), labels["score"].to_numpy(), count=0)
    assert found.measures["mae"].value == by_hand["mae"].value
    assert sum(map(sum, found.confusion)) == found.measures.n == 193
    assert set(found.baselines) == {"commonest label", "length only", "host only"}
    gain = found.gains["length only"]["spearman"]
    assert gain.low is not None and gain.low > 0
    assert found.ceiling is not None and found.ceiling.main.n > 50
    assert any("--training" in note for note in found.notes)
    assert [part.name for part in found.slices["topic"]] == ["science", "games", "rare"]
    assert found.slices["topic"][2].estimates is None and "length" in found.slices


def test_rows_in_any_order_give_the_same(votes: pl.DataFrame, scores: pl.DataFrame) -> None:
    first = evaluate(scores, votes, annotator="large", resamples=50)
    again = evaluate(scores.reverse(), votes.sample(fraction=1, shuffle=True, seed=3), annotator="large", resamples=50)
    assert first.as_json() == again.as_json()
    assert json.loads(json.dumps(first.as_json(), allow_nan=False)) == first.as_json()


def test_annotators_must_be_clear(votes: pl.DataFrame, scores: pl.DataFrame) -> None:
    with pytest.raises(FineeduError, match=r"2 annotators: large \(200 votes\), small \(60 votes\)"):
        evaluate(scores, votes)
    with pytest.raises(FineeduError, match="no annotator 'huge'"):
        evaluate(scores, votes, annotator="huge")
    both = document_labels(votes, "*a*")
    assert both.annotators == {"large": 200, "small": 60}
    mean = votes.filter((pl.col("id") == "d003") & (pl.col("state") == "ok"))["score"].mean()
    assert both.documents.filter(pl.col("id") == "d003")["label"].item() == mean
    mixed = votes.with_columns(rubric=pl.when(pl.col("id") < "d100").then(pl.lit("old")).otherwise(pl.lit("new")))
    with pytest.raises(FineeduError, match="follow 2 rubrics"):
        evaluate(scores, mixed, annotator="large")
    with pytest.raises(FineeduError, match="cannot slice by 'colour'"):
        evaluate(scores, votes, annotator="large", by=["colour"], resamples=20)
    with pytest.raises(FineeduError, match="cannot slice by topic: neither"):
        evaluate(scores, votes.with_columns(topic=None), annotator="large", by=["topic"], resamples=20)
    with pytest.raises(FineeduError, match="threshold 6"):
        evaluate(scores, votes, annotator="large", threshold=6)
    with pytest.raises(FineeduError, match="nothing to measure"):
        evaluate(scores.with_columns(score=None), votes, annotator="large")


def test_training_documents_are_left_out_or_told(votes: pl.DataFrame, scores: pl.DataFrame) -> None:
    seen = frozenset(f"d{n:03d}" for n in range(50))
    found = evaluate(Scores("m", scores, training="files", seen=seen), votes, annotator="large", resamples=20)
    assert found.counts["seen in training"] == 46 and found.counts["measured"] == 147
    everything = evaluate(
        Scores("m", scores, training="files", seen=frozenset(scores["id"])), votes, annotator="large", resamples=20
    )
    assert everything.counts["seen in training"] == everything.counts["measured"] == 193
    assert "all 193 documents were seen in training" in everything.warnings[0]
    unseen = evaluate(Scores("m", scores, training="documents"), votes, annotator="large", resamples=20)
    assert unseen.counts["seen in training"] == 0 and "duplicate of training" not in unseen.counts
    assert any("not looked for" in note for note in unseen.notes)
    others = evaluate(Scores("m", scores, training="files"), votes, annotator="large", resamples=20)
    assert "seen in training" not in others.counts and any("not be noticed" in note for note in others.notes)
    texts = votes.filter(pl.col("annotator") == "large").sort("id")
    copies = pl.DataFrame(
        {"id": ["d000", "copy", "near"], "text": [None, texts["text"][3].upper(), texts["text"][4] + " more"]}
    )
    found = evaluate(scores, votes, annotator="large", training=copies, resamples=20)
    left_out = [found.counts[f"{name} training"] for name in ("seen in", "duplicate of", "near-duplicate of")]
    assert left_out == [1, 1, 1] and found.counts["measured"] == 190


def test_hosts_as_clusters(votes: pl.DataFrame, scores: pl.DataFrame) -> None:
    documents = evaluate(scores, votes, annotator="large", resamples=50)
    hosts = evaluate(scores, votes, annotator="large", cluster_by_host=True, resamples=50)
    assert documents.measures["mae"].value == hosts.measures["mae"].value
    assert documents.measures["mae"] != hosts.measures["mae"]
    assert (documents.unit, hosts.unit) == ("documents", "hosts")
    with pytest.raises(FineeduError, match="no host"):
        evaluate(scores, votes.drop("url"), annotator="large", cluster_by_host=True)


def test_few_documents_and_other_scales_are_warned_of(votes: pl.DataFrame, scores: pl.DataFrame) -> None:
    small = scores.with_columns(pl.col("score") / 5)
    assert any(
        "between 0 and 1" in warning for warning in evaluate(small, votes, annotator="large", resamples=20).warnings
    )
    found = evaluate(scores.head(20), votes, annotator="large", resamples=20)
    assert any("only 17 documents" in warning for warning in found.warnings)
    only = evaluate(
        scores.head(1), votes.drop("text", "url").with_columns(n_chars=None), annotator="large", resamples=20
    )
    assert only.measures.n == 1 and only.baselines == {} and any("length" in note for note in only.notes)


def test_predictions_with_a_learning_curve(votes: pl.DataFrame, scores: pl.DataFrame, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 1, 200)
    parts = [scores.with_columns(score=pl.col("score") + noise / size, n_labels=size) for size in (1, 2, 50)]
    pl.concat(parts).write_parquet(tmp_path / "held-out.parquet")
    given = read_predictions(tmp_path / "held-out.parquet")
    found = evaluate(given, votes, annotator="large", resamples=100)
    assert found.learning_curve is not None
    assert [point.n_labels for point in found.learning_curve.points] == [1, 2, 50]
    assert found.learning_curve.points[-1].estimates["spearman"].value == found.measures["spearman"].value
    page = write_evaluation(tmp_path / "out", found).read_text()
    assert page.count("More labels: ") == 2


def test_bad_predictions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    for content, words in (
        ('{"id": "a", "value": 1}\n', "no column 'score'"),
        ('{"id": "a", "score": "high"}\n', "not a number"),
        ('{"id": "a", "score": 1}\n{"id": "a", "score": 2}\n', "1 ids more than once, 'a'"),
        ('{"id": \n', "cannot read the predictions"),
    ):
        path.write_text(content)
        with pytest.raises(FineeduError, match=words):
            read_predictions(path)
    with pytest.raises(FineeduError, match="cannot read"):
        read_predictions(tmp_path / "absent.parquet")
    path.write_text('{"id": 7, "score": NaN}\n{"id": 8, "score": null}\n{"id": 9, "score": 2}\n')
    path.write_text('{"id": 8, "score": null}\n{"id": 9, "score": 2}\n')
    assert read_predictions(path).table.rows() == [("8", None), ("9", 2.0)]


@pytest.mark.parametrize("width", [80, 140])
def test_terminal_says_the_essentials(votes: pl.DataFrame, scores: pl.DataFrame, width: int) -> None:
    found = evaluate(
        Scores("[red]model", scores, training="files", seen=frozenset(scores["id"])),
        votes,
        annotator="large",
        resamples=50,
    )
    console = Console(width=width, record=True, file=None, quiet=False)
    with console.capture() as capture:
        print_evaluation(found, console)
    told = " ".join(capture.get().split())
    for words in (
        "[red]model against large, 193 documents",
        "seen in training",
        "warning:",
        "positive F1",
        "macro F1",
        "raw > 2.5",
        "Ceiling",
    ):
        assert words in told
    assert f"{found.measures['spearman'].value:.3f}" in told
    assert max(map(len, capture.get().splitlines())) <= width


def test_page_escapes_and_json_agrees(votes: pl.DataFrame, scores: pl.DataFrame, tmp_path: Path) -> None:
    hostile = votes.with_columns(topic=pl.lit("<script>alert(1)</script>"))
    found = evaluate(Scores("<b>model", scores), hostile, annotator="large", resamples=50)
    page = write_evaluation(tmp_path / "a", found).read_text()
    assert "<script" not in page and "<b>model" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert page == write_evaluation(tmp_path / "b", found).read_text()
    stored = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert stored == found.as_json()
    assert stored["measures"]["spearman"].keys() == {"value", "low", "high", "undefined"}
    for heading in ("Figures", "At each threshold", "Curves", "Slices", "Ceiling", "Documents"):
        assert f"{heading}</h2>" in page


@pytest.mark.slow
def test_command(votes: pl.DataFrame, scores: pl.DataFrame, tmp_path: Path, cli: Cli) -> None:
    labels = tmp_path / "votes.parquet"
    write_labels(labels, votes, {})
    scores.write_parquet(tmp_path / "scores.parquet")
    done = cli(
        "evaluate",
        "scores.parquet",
        "-l",
        labels,
        "--annotator",
        "large",
        "--by",
        "topic",
        "-o",
        "out",
        "--resamples",
        "100",
    )
    assert done.returncode == 0, done.stderr
    assert "193 documents" in done.stdout and "By topic" in done.stdout and "By length" not in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"evaluation.html", "evaluation.json"}
    done = cli("evaluate", "scores.parquet", "-l", labels)
    assert done.returncode == 2 and "--annotator NAME" in done.stderr and "Traceback" not in done.stderr
    # A model that names the file among those it was trained on.
    bundle = Path(__file__).parents[2] / "models" / "edu-fasttext"
    copy = tmp_path / "trained"
    copy.mkdir()
    facts = json.loads((bundle / "bundle.json").read_text())
    facts["training"]["files"] = {"other-name": sha256(labels.read_bytes()).hexdigest()}
    (copy / "bundle.json").write_text(json.dumps(facts))
    (copy / "model.ftz").write_bytes((bundle / "model.ftz").read_bytes())
    done = cli("evaluate", copy, "-l", labels, "--annotator", "large", "--resamples", "100")
    assert done.returncode == 0, done.stderr
    assert "warning: all 195 documents were seen in training" in " ".join(done.stdout.split())
    done = cli("evaluate", "edu-fasttext", "-l", labels, "--annotator", "large", "--resamples", "100")
    assert "warning: all" not in done.stdout


@pytest.mark.slow
def test_texts_from_a_store(votes: pl.DataFrame, tmp_path: Path, cli: Cli) -> None:
    texts = votes.filter(pl.col("annotator") == "large").select("id", "text", "url", language=pl.lit("en"))
    shard = tmp_path / "store" / "documents" / "dump=CC-TEST" / "00000.parquet"
    shard.parent.mkdir(parents=True)
    texts.head(150).write_parquet(shard)
    bare = votes.drop("text", "url").with_columns(n_chars=pl.lit(None, pl.Int64))
    write_labels(tmp_path / "bare.parquet", bare, {})
    line = ["evaluate", "edu-fasttext", "-l", "bare.parquet", "--annotator", "large", "--resamples", "100"]
    done = cli(*line)
    assert done.returncode == 2 and "--documents STORE" in done.stderr
    done = cli(*line, "--documents", "store", "-o", "out")
    assert done.returncode == 0, done.stderr
    counts = json.loads((tmp_path / "out" / "evaluation.json").read_text())["counts"]
    assert (counts["measured"], counts["no score"]) == (146, 49)
    assert "By length" in done.stdout and "By language" in done.stdout and "host only" in done.stdout
    assert cli(*line, "--documents", "nowhere").returncode == 2


@pytest.mark.slow
def test_shipped_model_on_its_own_labels(real_data: Path, cli: Cli) -> None:
    labels = real_data / "labels" / "llama3-70b.jsonl.gz"
    done = cli("evaluate", "edu-fasttext", "-l", labels, "--resamples", "100")
    assert done.returncode == 0, done.stderr
    assert "warning: all 600 documents were seen in training" in " ".join(done.stdout.split())
