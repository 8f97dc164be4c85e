"""The signals that an ablation reads: a store's or files' columns, and ensembles worked out on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from fineedu.ensemble.family import EnsembleSignals
from fineedu.ensemble.percentiles import calibrate, write_table
from fineedu.ensemble.recipe import load_ensemble
from fineedu.errors import FineeduError
from fineedu.pool import Pool
from fineedu.signals.families import parse_entry


@dataclass(frozen=True, slots=True)
class Signals:
    """A pool and ensembles over its columns; an ensemble may read those before it."""

    pool: Pool
    ensembles: tuple[EnsembleSignals, ...]
    schema: dict[str, pl.DataType]

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield columns of the pool and of the ensembles.

        Raises:
            FineeduError: see :meth:`fineedu.pool.Pool.batches`.
        """
        wanted = list(dict.fromkeys(columns))
        needed = set(wanted)
        used: list[EnsembleSignals] = []
        for family in reversed(self.ensembles):
            if needed & set(family.schema):
                used.insert(0, family)
                needed = (needed - set(family.schema)) | set(family.inputs)
        own = [column for column in self.schema if column in needed]
        for batch in self.pool.batches(own):
            for family in used:
                batch = batch.hstack(family.compute(batch))
            yield batch.select(wanted)


def open_signals(pool: Pool, ensembles: Sequence[dict[str, Any]], folder: Path) -> Signals:
    """Make the ensembles ready.

    Args:
        pool: the documents with their signals.
        ensembles: entries as in a recipe, with or without ``ensemble:`` around them; ``percentiles: auto`` takes the
            percentiles from this pool and writes them to ``folder``.
        folder: where those go.

    Raises:
        FineeduError: a wrong setting, or a score that is not there.
    """
    schema = dict(pool.schema)
    made: list[EnsembleSignals] = []
    for entry in ensembles:
        settings = dict(parse_entry(entry)[1] if set(entry) == {"ensemble"} else entry)
        use = settings.pop("use", None)
        if not isinstance(use, str):
            raise FineeduError("ensembles: each entry needs use: a shipped ensemble's name, or a file")
        if settings.get("percentiles") == "auto":
            recipe = load_ensemble(use, settings)
            scores = getattr(recipe, "scores", None) or list(getattr(recipe, "weights", {}))
            path = folder / f"percentiles-{recipe.name}.json"
            write_table(path, calibrate(pool, scores))
            settings["percentiles"] = str(path)
        family = EnsembleSignals(use, **settings)
        family.check(schema)
        schema |= family.schema
        made.append(family)
    return Signals(pool, tuple(made), schema)


def read_rows(pool: Pool, rows: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
    """Read single documents by their number in the pool, no more than the row groups that hold them.

    Args:
        pool: the documents; all columns are of the part that holds ``id``.
        rows: numbers, ascending.
        columns: wanted columns.

    Returns:
        Columns, and ``row``.
    """
    found: list[pl.DataFrame] = []
    base = at = 0
    for path in pool.parts[pool.owners["id"]]:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                here = []
                while at < len(rows) and rows[at] < base + size:
                    here.append(rows[at] - base)
                    at += 1
                if here:
                    table = pl.from_arrow(file.read_row_group(group, columns=list(columns)))
                    assert isinstance(table, pl.DataFrame)
                    numbers = pl.Series("row", [base + row for row in here], dtype=pl.Int64)
                    found.append(table.select(columns)[here].with_columns(numbers))
                base += size
    empty = pl.DataFrame(schema={name: pool.schema[name] for name in columns} | {"row": pl.Int64()})
    return pl.concat([empty, *found])
