"""Stores of documents without archives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from fineedu.extract.documents import SCHEMA
from fineedu.store import Shard, Store, TableWriter, atomic_open
from tests.dedup.pages import revised, words

MADE_BY = {"code": 1, "made": "for tests"}


def documents(texts: Sequence[str | None], **columns: Sequence[object]) -> pl.DataFrame:
    """Return documents with ids d0, d1 ... and dates a day apart."""
    count = len(texts)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "id": [f"d{n}" for n in range(count)],
            "url": [f"http://h{n % 7}.example/p{n}" for n in range(count)],
            "host": [f"h{n % 7}.example" for n in range(count)],
            "dump": ["D"] * count,
            "date": [start + timedelta(days=n) for n in range(count)],
            "language": ["en"] * count,
            "text": texts,
        },
        schema_overrides={"text": pl.String},
    )
    frame = frame.with_columns(pl.Series(name, values) for name, values in columns.items())
    frame = frame.with_columns(pl.col("text").str.len_bytes().fill_null(0).alias("text_bytes"))
    missing = [pl.lit(None).alias(name) for name in SCHEMA if name not in frame.columns]
    return frame.with_columns(missing).select(list(SCHEMA)).cast(SCHEMA)  # type: ignore[arg-type]


def make_store(root: Path, frame: pl.DataFrame, shard_rows: int = 10, family: pl.DataFrame | None = None) -> Store:
    """Write documents, dump by dump in shards of so many rows; ``family`` adds a signal family ``edu`` beside them."""
    store = Store(root)
    mark = store.claim("documents", MADE_BY)
    if family is not None:
        family_mark = store.claim("signals/edu", {"family": "edu"})
    for dump in frame["dump"].unique().sort().to_list():
        own = frame.with_row_index("row").filter(pl.col("dump") == dump)
        for number, start in enumerate(range(0, own.height, shard_rows)):
            batch = own.slice(start, shard_rows)
            shard = Shard(dump, number)
            _write(store.documents(shard), batch.select(list(SCHEMA)), mark, f"{dump}-{shard_rows}-{number}")
            if family is not None:
                signals = family[batch["row"].to_list()].insert_column(0, batch["id"])
                _write(store.signals("edu", shard), signals, family_mark, "")
    return store


def _write(path: Path, frame: pl.DataFrame, mark: str, source: str) -> None:
    with atomic_open(path) as stream:
        writer = TableWriter(stream, dict(frame.schema))
        for start in range(0, frame.height, 7):  # several row groups a shard
            writer.write(frame[start : start + 7])
        writer.close({"fingerprint": mark, "source": {"url": source}})


def signals(store: Store) -> pl.DataFrame:
    """Return the signals of all documents, by id."""
    return pl.read_parquet(store.root / "signals" / "dedup" / "dump=*" / "*.parquet").sort("id")


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts, a third of them near copies of earlier ones."""
    draw = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for n in range(count):
        if n > 3 and draw.random() < 0.35:
            texts.append(revised(texts[int(draw.integers(n))], float(draw.choice([1.0, 0.97, 0.9])), n + seed))
        else:
            texts.append(words(120, seed * 100_003 + n))
    return [" ".join(text) for text in texts]
