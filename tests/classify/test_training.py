from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import polars as pl
import pytest

from fineedu.classify.bundle import load_bundle
from fineedu.errors import FineeduError
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

    first, second = (train(data / "train.yaml", data, data / name) for name in "ab")
    assert first.weights_sha256 == second.weights_sha256
    assert (data / "a" / "bundle.json").read_bytes() == (data / "b" / "bundle.json").read_bytes()
    assert first.metrics["cross_validated"]["spearman"]["value"] > 0.5
    card = (data / "a" / "card.md").read_text()
    assert f"n = {first.metrics['cross_validated']['n']}" in card
    lesson, shop = load_bundle(data / "a").score(pl.Series([" ".join(LEARNED * 5), " ".join(SOLD * 5)]))
    assert lesson > shop + 1


def test_predict_only_build_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fasttext

    from fineedu.classify.fasttext import require_training

    monkeypatch.delattr(fasttext, "train_supervised", raising=False)
    with pytest.raises(FineeduError, match="fasttext-community"):
        require_training()
