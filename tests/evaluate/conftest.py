"""Votes and texts of the project's own making."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fineedu.labels import read_labels

WORDS = [
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
    "oxygen",
    "teacher",
    "pupil",
    "lesson",
    "number",
    "square",
    "circle",
    "angle",
    "river",
    "mountain",
    "valley",
    "cloud",
    "rain",
    "snow",
    "engine",
    "wheel",
    "road",
    "bridge",
    "market",
    "price",
    "offer",
    "basket",
    "ticket",
    "concert",
    "guitar",
]


def text(seed: int, words: int) -> str:
    """Random words that no other seed gives."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


@pytest.fixture(scope="package")
def votes(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """200 documents: one annotator on all (5 failures), a second on 60 of them, with topics, urls and lengths."""
    chance = np.random.default_rng(0)
    quality = chance.normal(1.5, 1.1, 200)
    rows = []
    for n in range(200):
        score = int(np.clip(round(quality[n] + chance.normal(0, 0.5)), 0, 5))
        row = {
            "id": f"d{n:03d}",
            "text": text(n, 40 + int(40 * chance.random() * (1 + max(quality[n], 0)))),
            "url": f"https://host{n % 23}.example/{n}",
            "topic": ("science", "games", "rare")[0 if n % 5 < 3 else 1 if n % 40 > 4 else 2],
        }
        failed = n % 40 == 7
        rows.append(
            row | {"annotator": "large", "score": None if failed else score, "state": "refusal" if failed else "ok"}
        )
        if n < 60:
            other = int(np.clip(round(quality[n] + chance.normal(0, 0.7)), 0, 5))
            rows.append(row | {"annotator": "small", "score": other, "state": "ok"})
    path = tmp_path_factory.mktemp("labels") / "votes.jsonl"
    pl.DataFrame(rows, infer_schema_length=None).write_ndjson(path)
    return read_labels(path)


@pytest.fixture(scope="package")
def scores() -> pl.DataFrame:
    """Scores that follow the quality behind the votes; two documents have none."""
    chance = np.random.default_rng(0)
    quality = chance.normal(1.5, 1.1, 200)
    noisy = quality + np.random.default_rng(5).normal(0, 0.6, 200)
    found = pl.DataFrame({"id": [f"d{n:03d}" for n in range(200)], "score": np.clip(noisy, 0, 5)})
    return found.with_columns(score=pl.when(pl.col("id").is_in(["d001", "d002"])).then(None).otherwise("score"))
