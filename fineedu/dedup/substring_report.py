"""What removing exact substrings would take, told from their signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from fineedu.dedup.substrings import FAMILY, spans_path
from fineedu.store import Shard, Store, read_batches

_LONGEST, _HOSTS = 10, 20
_SAMPLE = 300
_SUMS = ("documents", "touched", "mostly", "bytes", "repeated_bytes", "later_copy_bytes")


def substring_report(store: Store, shards: Sequence[Shard]) -> dict[str, Any]:
    """Sum up the signals ``repeated_byte*`` of a store.

    Returns:
        JSON-ready: documents, those touched and those made up of repeats by half or more, bytes of text, bytes in
        repeats and in all but the first of each; the same by dump and by host (those with most repeats); and the
        longest later copies, with the beginning of their text.
    """
    tables = []
    longest = pl.DataFrame(schema={"id": pl.String, "start": pl.UInt32, "stop": pl.UInt32})
    for shard in shards:
        pairs = zip(
            read_batches(store.documents(shard), ["host", "dump", "text_bytes"]),
            read_batches(store.signals(FAMILY, shard)),
            strict=True,
        )
        for batch, signals in pairs:
            tables.append(_sums(batch.hstack(signals.drop("id"))))
        for spans in read_batches(spans_path(store, shard)):
            later = spans.filter("later").select("id", "start", "stop")
            longest = pl.concat([longest, later]).sort(
                pl.col("stop").cast(pl.Int64) - pl.col("start"), "id", "start", descending=[True, False, False]
            )[:_LONGEST]
        if len(tables) > 64:
            tables = [_summed(tables)]
    total = _summed(tables)
    return {
        **{name: int(total[name].sum()) for name in _SUMS},
        "dumps": _ranked(total, "dump", 10_000),
        "hosts": _ranked(total.filter(pl.col("repeated_bytes") > 0), "host", _HOSTS),
        "longest": _texts(store, shards, longest),
    }


def _sums(batch: pl.DataFrame) -> pl.DataFrame:
    return batch.group_by("host", "dump").agg(
        documents=pl.len().cast(pl.Int64),
        touched=(pl.col("repeated_bytes") > 0).sum().cast(pl.Int64),
        mostly=(pl.col("repeated_byte_share") >= 0.5).sum().cast(pl.Int64),
        bytes=pl.col("text_bytes").sum().cast(pl.Int64),
        repeated_bytes=pl.col("repeated_bytes").sum().cast(pl.Int64),
        later_copy_bytes=pl.col("later_copy_bytes").sum().cast(pl.Int64),
    )


def _summed(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    empty = pl.DataFrame(schema={"host": pl.String, "dump": pl.String, **dict.fromkeys(_SUMS, pl.Int64)})
    return pl.concat([empty, *tables]).group_by("host", "dump").agg(pl.all().sum())


def _ranked(total: pl.DataFrame, by: str, most: int) -> list[dict[str, Any]]:
    table = total.group_by(by).agg(pl.col(_SUMS).sum()).sort("repeated_bytes", by, descending=[True, False])
    return table.head(most).to_dicts()


def _texts(store: Store, shards: Sequence[Shard], longest: pl.DataFrame) -> list[dict[str, Any]]:
    from fineedu.dedup.radius import texts_of

    texts = texts_of(store, shards, set(longest["id"]))
    return [
        {**row, "text": texts[row["id"]].encode()[row["start"] : row["stop"]][:_SAMPLE].decode(errors="ignore")}
        for row in longest.iter_rows(named=True)
    ]
