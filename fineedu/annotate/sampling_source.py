"""Where documents to label come from: a store, plain parquet files, or a frame; read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from fineedu.errors import FineeduError
from fineedu.pool import Pool, open_pool

#: Columns of a document that go into the sample, where the source has them.
DOCUMENT_COLUMNS = ("id", "url", "host", "title", "text")


class Source(Protocol):
    """Documents that can be read twice: some columns of all of them, then every wanted column of a few."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of all columns."""

    @property
    def lacking(self) -> str:
        """What to add to a message about a missing column."""

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all documents in batches."""

    def take(self, ids: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
        """Return the documents of these ids, one row an id, in any order."""


@dataclass(frozen=True, slots=True)
class ScanSource:
    """A frame or scan with a column ``id``."""

    scan: pl.LazyFrame

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self.scan.collect_schema().names()

    @property
    def lacking(self) -> str:
        """Nothing: what is not in the scan is nowhere."""
        return ""

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all documents in batches."""
        yield from self.scan.select(columns).collect_batches(chunk_size=65_536, maintain_order=False)

    def take(self, ids: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
        """Return the documents of these ids."""
        chosen = self.scan.filter(pl.col("id").is_in(ids.implode())).select(columns).collect(engine="streaming")
        return chosen.sort(pl.all()).unique("id", keep="first")


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A store of ``fineedu run``: documents and signals, row by row side by side."""

    pool: Pool

    @property
    def columns(self) -> list[str]:
        """Names of all columns, the documents' first."""
        return list(self.pool.schema)

    @property
    def lacking(self) -> str:
        """Signals that only some shards have."""
        return self.pool.lacking

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all documents in batches.

        Raises:
            FineeduError: a shard is damaged, or its signals are of other documents.
        """
        yield from self.pool.batches(columns)

    def take(self, ids: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
        """Return the documents of these ids; columns of the documents only."""
        # One file at a time: a scan over thousands of shards at once holds all their footers.
        parts = [
            pl.scan_parquet(path, hive_partitioning=False)
            .filter(pl.col("id").is_in(ids.implode()))
            .select(columns)
            .collect(engine="streaming")
            for path in self.pool.parts["documents"]
        ]
        return pl.concat(parts).unique("id", keep="first", maintain_order=True)


def open_source(given: pl.DataFrame | pl.LazyFrame | Path) -> Source:
    """Open a frame, a scan, a store, a parquet file, or a folder of parquet files.

    Raises:
        FineeduError: it is none of these, or empty.
    """
    if isinstance(given, pl.DataFrame):
        return ScanSource(given.lazy())
    if isinstance(given, pl.LazyFrame):
        return ScanSource(given)
    if (given / "documents").is_dir():
        return StoreSource(open_pool(given))
    paths = [given] if given.is_file() else sorted(given.rglob("*.parquet"))
    if not paths:
        raise FineeduError(f"{given} is neither a store (no folder documents/ in it) nor a parquet file or folder")
    scan = pl.scan_parquet(paths, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
    try:
        names = scan.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read {paths[0]}: {str(error).splitlines()[0]}") from error
    if "id" not in names or "text" not in names:
        raise FineeduError(f"{paths[0]} needs the columns id and text; it has {', '.join(names)}")
    return ScanSource(scan)
