"""How a pool or a corpus divides over topic and quality."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from fineedu.errors import FineeduError
from fineedu.pool import Pool, Weight, find_weight
from fineedu.select.rules import compile_rule

_MISSING = "(missing)"
#: Values of the quality that a table has room for.
MOST_COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Mix:
    """Weight and documents by two columns."""

    rows: str
    columns: str
    weight: Weight
    #: ``row``, ``column``, ``weight``, ``documents``; every combination that occurs, repeats counted
    cells: pl.DataFrame
    #: words that say so where repeats are counted
    repeated: str = ""

    @property
    def total(self) -> int:
        """Weight of the whole pool."""
        return int(self.cells["weight"].sum())

    def table(self) -> pl.DataFrame:
        """Return one row a topic, heaviest first: its name, its share, and its weight by quality in ascending order."""
        names = sorted(self.cells["column"].unique().to_list(), key=_number_first)
        wide = self.cells.pivot(on="column", index="row", values="weight", aggregate_function="sum").fill_null(0)
        share = (pl.sum_horizontal(names) / max(self.total, 1)).alias("share")
        return wide.select("row", share, *names).sort(["share", "row"], descending=[True, False])


def _number_first(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), "")
    except ValueError:
        return (2 if name == _MISSING else 1, 0.0, name)


def mix(pool: Pool, rows: str, columns: str, unit: str | None = None, where: str | None = None) -> Mix:
    """Count a pool by two columns, in one pass.

    Args:
        pool: a store, or a corpus; a column ``repeat`` multiplies.
        rows: e.g. a topic.
        columns: quality: a bucket, a level, or a score, which is cut at whole numbers.
        unit: ``tokens``, ``bytes`` or ``documents``; None takes the first that there is.
        where: SQL over columns; only documents that fulfil it are counted.

    Raises:
        FineeduError: a column is missing, the condition is wrong, or the quality has too many values.
    """
    pool.require([rows, columns])
    chosen = pl.lit(True) if where is None else compile_rule(where, pool.schema)
    weight = find_weight(list(pool.schema), unit)
    repeat = ["repeat"] if "repeat" in pool.schema else []
    each = pl.col("repeat").cast(pl.Int64) if repeat else pl.repeat(1, pl.len(), dtype=pl.Int64)
    quality = pl.col(columns)
    if pool.schema[columns].is_float():
        quality = quality.fill_nan(None).floor().cast(pl.Int64)
    wanted = [rows, columns, *([weight.column] if weight.column else []), *repeat, *chosen.meta.root_names()]
    parts = [
        batch.filter(chosen)
        .select(
            pl.col(rows).cast(pl.String).fill_null(_MISSING).alias("row"),
            quality.cast(pl.String).fill_null(_MISSING).alias("column"),
            (weight.expression * each).alias("weight"),
            each.alias("documents"),
        )
        .group_by("row", "column")
        .agg(pl.col("weight", "documents").sum())
        for batch in pool.batches(wanted)
    ]
    if not sum(part.height for part in parts):
        raise FineeduError(f"{pool.root} has no documents" + (f" of which {where!r} holds" if where else ""))
    cells = pl.concat(parts).group_by("row", "column").agg(pl.col("weight", "documents").sum()).sort("row", "column")
    if cells["column"].n_unique() > MOST_COLUMNS:
        raise FineeduError(
            f"{columns} has {cells['column'].n_unique()} values: a table takes {MOST_COLUMNS}; name a bucket or a level"
        )
    return Mix(rows, columns, weight, cells, ", repeats counted" if repeat else "")
