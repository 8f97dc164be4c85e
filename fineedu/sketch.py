"""Weights by sortable key in bounded memory: exact while it fits, coarser bit by bit when it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

#: Distinct (group, key) pairs held: 2**20 rows of a key and two sums take 24 MB.
CELLS = 2**20
_WAITING_ROWS = 2**22


def sort_keys(values: pl.Series) -> pl.Series:
    """Map numbers to integers that sort the same way.

    Args:
        values: n numbers; they are rounded to float32 first, as scores are stored.

    Returns:
        n UInt64 below 2**32; null where the value is null, NaN or infinite. -0.0 and 0.0 share a key.
    """
    finite = values.cast(pl.Float32)
    finite = finite.set(~finite.is_finite(), None)
    numbers = finite.fill_null(0).to_numpy() + np.float32(0)  # -0.0 + 0.0 is 0.0
    bits = numbers.view(np.uint32).astype(np.uint64)
    negative = bits >> np.uint64(31) == 1
    keys = np.where(negative, np.uint64(2**32 - 1) - bits, bits + np.uint64(2**31))
    return pl.Series(values.name, keys, dtype=pl.UInt64).set(finite.is_null(), None)


def key_values(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Turn :func:`sort_keys` round: n keys to n float32."""
    negative = keys < 2**31
    bits = np.where(negative, np.uint64(2**32 - 1) - keys, keys - np.uint64(2**31))
    return bits.astype(np.uint32).view(np.float32)


def _halved(key: pl.Expr, times: int) -> pl.Expr:
    return key // pl.lit(2**times, pl.UInt64) if times else key


class KeySketch:
    """Sums of weights by group and key.

    Exact up to ``cells`` distinct (group, key) pairs. Beyond that the keys lose low bits, one at a time and all
    alike, until they fit: a cell then stands for a range of keys, all of whose weight it holds. The number of bits
    lost is the smallest that makes the distinct pairs of *all* rows fit, so the result does not depend on the order
    of rows, on shards, or on how sketches were merged.

    Args:
        weights: names of integer columns to sum.
        groups: names of columns that tell groups apart; integers are three times as fast as text.
        cells: pairs held at most.
    """

    def __init__(self, weights: Sequence[str], groups: Sequence[str] = (), cells: int = CELLS) -> None:
        self._weights = list(weights)
        self._by = [*groups, "cell"]
        self._cells = cells
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0
        self._table: pl.DataFrame | None = None
        self._shift = 0

    def update(self, rows: pl.DataFrame) -> None:
        """Take rows with the groups, ``key`` (UInt64) and the weights; a null key is not counted."""
        chosen = rows.filter(pl.col("key").is_not_null()).select(
            *self._by[:-1], _halved(pl.col("key"), self._shift).alias("cell"), pl.col(self._weights).cast(pl.Int64)
        )
        self._waiting.append(chosen)
        self._rows += chosen.height
        if self._rows >= _WAITING_ROWS:
            self._fit()

    def merge(self, other: KeySketch) -> None:
        """Take everything that another sketch of the same columns holds."""
        theirs = other.table
        if theirs is None:
            return
        self._shift_to(max(self._shift, other.shift))
        self._waiting.append(theirs.with_columns(_halved(pl.col("cell"), self._shift - other.shift)))
        self._fit()

    @property
    def table(self) -> pl.DataFrame | None:
        """Groups, ``cell`` and summed weights in order; None where nothing was counted."""
        self._fit()
        return None if self._table is None else self._table.sort(self._by)

    @property
    def shift(self) -> int:
        """Low bits that keys have lost."""
        self._fit()
        return self._shift

    def _shift_to(self, shift: int) -> None:
        coarser = _halved(pl.col("cell"), shift - self._shift)
        self._waiting = [frame.with_columns(coarser) for frame in self._waiting]
        self._table = None if self._table is None else self._sum(self._table.with_columns(coarser))
        self._shift = shift

    def _sum(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.group_by(self._by).agg(pl.col(self._weights).sum())

    def _fit(self) -> None:
        if not self._waiting:
            return
        held = [] if self._table is None else [self._table]
        table = self._sum(pl.concat([*held, *self._waiting]))
        self._waiting, self._rows = [], 0
        if table.height > self._cells:
            more = self._too_fine(table)
            table = self._sum(table.with_columns(_halved(pl.col("cell"), more)))
            self._shift += more
        self._table = table

    def _too_fine(self, table: pl.DataFrame) -> int:
        """Return how many more bits must go until the pairs fit.

        Neighbours in order stay apart while a bit above those lost differs; trying each number of bits by summing
        anew took 30 times as long.
        """
        ordered = table.select(self._by).sort(self._by)
        other = ordered.select(
            pl.any_horizontal(
                pl.repeat(False, pl.len()), *(pl.col(name).ne_missing(pl.col(name).shift()) for name in self._by[:-1])
            )
        ).to_series()
        cells = ordered["cell"].to_numpy()
        differing = (cells[1:] ^ cells[:-1])[~other.to_numpy()[1:]]
        groups = len(cells) - len(differing)
        for more in range(1, 64 - self._shift):
            differing = differing[differing >> np.uint64(more) != 0]
            if groups + len(differing) <= self._cells:
                return more
        return 63 - self._shift
