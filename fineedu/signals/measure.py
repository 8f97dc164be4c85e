"""Documents shards to signals shards: every family that is missing, in one pass over the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from fineedu.errors import FineeduError
from fineedu.signals.base import SignalFamily
from fineedu.store import TableWriter, atomic_open, read_batches


def measure(family: SignalFamily, documents: pl.DataFrame) -> pl.DataFrame:
    """Compute a family and hold it to its word: its columns, its types, a row for each document.

    Raises:
        FineeduError: the family breaks its contract.
    """
    found = family.compute(documents.select(family.inputs))
    if found.height != documents.height or found.columns != list(family.schema):
        raise FineeduError(
            f"signal family {family.name!r} gave {found.height} rows of {found.columns} "
            f"for {documents.height} documents; expected columns {list(family.schema)}"
        )
    return found.cast(dict(family.schema))  # type: ignore[arg-type]


def write_signals(
    documents: Path,
    targets: Mapping[str, Path],
    families: Sequence[SignalFamily],
    marks: Mapping[str, str],
    stored: Mapping[Path, Sequence[str]] | None = None,
) -> None:
    """Measure one documents shard.

    Args:
        documents: the shard.
        targets: family name to the signals shard to write.
        families: the families to compute; one that reads another's columns stands behind it.
        marks: family name to fingerprint.
        stored: signals shards that are there already, and the columns of theirs that ``families`` read.

    Raises:
        FineeduError: a stored signals shard does not belong to the documents.
    """
    given = {column for family in families for column in family.schema}
    beside = {path: ["id", *columns] for path, columns in (stored or {}).items()}
    elsewhere = given.union(*(columns[1:] for columns in beside.values()))
    columns = sorted({"id"}.union(*(family.inputs for family in families)) - elsewhere)
    with ExitStack() as stack:
        writers = {
            family.name: TableWriter(
                stack.enter_context(atomic_open(targets[family.name])), {"id": pl.String(), **family.schema}
            )
            for family in families
        }
        others = {path: read_batches(path, names) for path, names in beside.items()}
        for batch in read_batches(documents, columns):
            ids = batch["id"]
            for path, other in others.items():
                signals = next(other, None)
                if signals is None or not signals["id"].equals(ids):
                    raise FineeduError(f"{path} does not belong to {documents}: delete it and run again")
                batch = batch.hstack(signals.drop("id"))
            for family in families:
                found = measure(family, batch)
                writers[family.name].write(found.clone().insert_column(0, ids))
                batch = batch.hstack(found)
        for family in families:
            writers[family.name].close({"fingerprint": marks[family.name]})
