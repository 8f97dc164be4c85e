"""Votes for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from fineedu.labels import LABEL_SCHEMA


def votes_of(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows with ``id`` and ``annotator``; what is missing is null, the state ``ok``, the sample 0."""
    filled = [{"state": "ok", "sample": 0, **row} for row in rows]
    return pl.DataFrame(filled, {**LABEL_SCHEMA, **{"choice_position": pl.Int32(), "n_choices": pl.Int32()}})


def votes_table(columns: Mapping[str, Sequence[Any]], value: str = "score", **further: Sequence[Any]) -> pl.DataFrame:
    """One column an annotator, one place a document; None and NaN where there is no vote."""
    rows = []
    for annotator, values in columns.items():
        for place, vote in enumerate(values):
            if vote is not None and vote == vote:
                extra = {name: given[place] for name, given in further.items()}
                rows.append({"id": f"d{place:05d}", "annotator": annotator, value: vote, **extra})
    return votes_of(rows)


def random_votes(documents: int, annotators: int, seed: int, topics: int = 24) -> pl.DataFrame:
    """Votes of annotators that err by one level now and then, on all documents."""
    chance = np.random.default_rng(seed)
    true = chance.choice(6, documents, p=[0.12, 0.57, 0.22, 0.07, 0.015, 0.005])
    topic = chance.integers(0, topics, documents)
    chars = chance.integers(100, 9000, documents)
    frames = []
    for annotator in range(annotators):
        wrong = chance.random(documents) < 0.3
        score = np.clip(true + wrong * chance.integers(-1, 2, documents), 0, 5).astype(float)
        said = np.where(chance.random(documents) < 0.7, topic, chance.integers(0, topics, documents))
        rows = pl.DataFrame({"id": [f"d{n:05d}" for n in range(documents)], "score": score, "n_chars": chars})
        rows = rows.with_columns(topic=pl.Series([f"t{n:02d}" for n in said]), annotator=pl.lit(f"a{annotator}"))
        frames.append(rows.with_columns(state=pl.lit("ok"), sample=pl.lit(0, pl.Int32)))
    found = pl.concat(frames)
    missing = [pl.lit(None, kind).alias(name) for name, kind in LABEL_SCHEMA.items() if name not in found.columns]
    return found.with_columns(missing).select(LABEL_SCHEMA.keys())
