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
) -> None:
    """Measure one documents shard.

    Args:
        documents: the shard.
        targets: family name to the signals shard to write.
        families: the families to compute.
        marks: family name to fingerprint.
    """
    columns = sorted({"id"}.union(*(family.inputs for family in families)))
    with ExitStack() as stack:
        writers = {
            family.name: TableWriter(
                stack.enter_context(atomic_open(targets[family.name])), {"id": pl.String(), **family.schema}
            )
            for family in families
        }
        for batch in read_batches(documents, columns):
            for family in families:
                writers[family.name].write(measure(family, batch).insert_column(0, batch["id"]))
        for family in families:
            writers[family.name].close({"fingerprint": marks[family.name]})
