"""Where documents to label come from: a store, plain parquet files, or a frame; read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fineedu.errors import FineeduError
from fineedu.store import Shard, Store, read_batches

#: Columns of a document that go into the sample, where the source has them.
DOCUMENT_COLUMNS = ("id", "url", "host", "title", "text")


class Source(Protocol):
    """Documents that can be read twice: some columns of all of them, then every wanted column of a few."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of all columns."""

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

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all documents in batches."""
        yield from self.scan.select(columns).collect_batches(chunk_size=65_536, maintain_order=False)

    def take(self, ids: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
        """Return the documents of these ids."""
        chosen = self.scan.filter(pl.col("id").is_in(ids.implode())).select(columns).collect(engine="streaming")
        return chosen.sort(pl.all()).unique("id", keep="first")


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A store of ``fineedu run``: documents and signals, row by row side by side.

    Args:
        store: the store.
        shards: its shards.
        owners: signal column to the family that has it.
        own: columns of the documents.
    """

    store: Store
    shards: Sequence[Shard]
    owners: Mapping[str, str]
    own: Sequence[str]

    @property
    def columns(self) -> list[str]:
        """Names of all columns, the documents' first."""
        return [*self.own, *(column for column in self.owners if column not in self.own)]

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield all documents in batches.

        Raises:
            FineeduError: a signals shard is missing, damaged, or of other documents.
        """
        families: dict[str, list[str]] = {}
        for column in columns:
            if column not in self.own:
                families.setdefault(self.owners[column], ["id"]).append(column)
        own = list(dict.fromkeys(["id", *(column for column in columns if column in self.own)]))
        for shard in self.shards:
            others = {family: read_batches(self._signals(family, shard), names) for family, names in families.items()}
            for batch in read_batches(self.store.documents(shard), own):
                for family, other in others.items():
                    signals = next(other, None)
                    if signals is None or not signals["id"].equals(batch["id"]):
                        raise FineeduError(
                            f"{self.store.signals(family, shard)} does not belong to {self.store.documents(shard)}: "
                            f"delete it and run the recipe again"
                        )
                    batch = batch.hstack(signals.drop("id"))
                yield batch.select(columns)

    def _signals(self, family: str, shard: Shard) -> Path:
        path = self.store.signals(family, shard)
        if not path.exists():
            raise FineeduError(f"shard {shard} has no {family} signals ({path}): finish the run that makes them first")
        return path

    def take(self, ids: pl.Series, columns: Sequence[str]) -> pl.DataFrame:
        """Return the documents of these ids; columns of the documents only."""
        paths = [self.store.documents(shard) for shard in self.shards]
        # One file at a time: a scan over thousands of shards at once holds all their footers.
        parts = [
            pl.scan_parquet(path, hive_partitioning=False)
            .filter(pl.col("id").is_in(ids.implode()))
            .select(columns)
            .collect(engine="streaming")
            for path in paths
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
        return _open_store(given)
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


def _open_store(root: Path) -> StoreSource:
    store = Store(root)
    shards = sorted(
        Shard(path.parent.name.removeprefix("dump="), int(path.stem))
        for path in (root / "documents").glob("dump=*/*.parquet")
        if path.stem.isdecimal()
    )
    if not shards:
        raise FineeduError(f"the store {root} holds no documents yet: fineedu run first")
    owners: dict[str, str] = {}
    for folder in sorted((root / "signals").glob("*")):
        first = next((path for shard in shards if (path := store.signals(folder.name, shard)).exists()), None)
        for column in _columns(first) if first else []:
            if column != "id":
                owners.setdefault(column, folder.name)
    return StoreSource(store, shards, owners, _columns(store.documents(shards[0])))


def _columns(path: Path) -> list[str]:
    try:
        names: list[str] = pq.read_schema(path).names
        return names
    except (OSError, pa.ArrowException) as error:
        raise FineeduError(f"{path} is damaged ({error}): delete it and run again, it is made anew") from error
