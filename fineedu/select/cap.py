"""The best documents of each group, for a cap on hosts."""

from __future__ import annotations

import numpy as np
import polars as pl

_SCHEMA = {"group": pl.UInt64, "key": pl.UInt64}


class Cap:
    """The ``size`` highest keys of each group, over a stream of rows.

    Memory: ``min(rows of the group, size)`` keys a group of 16 bytes, and as much again while they are sorted out. The
    result does not depend on the order of rows.

    Args:
        size: rows of a group that are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._table = pl.DataFrame(schema=_SCHEMA)
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0

    def update(self, groups: pl.Series, keys: pl.Series) -> None:
        """Take n rows: the hash of each one's group, and its key."""
        rows = pl.DataFrame({"group": groups, "key": keys})
        self._waiting.append(rows)
        self._rows += rows.height
        # Sorting out as often as the table doubles costs a sort of two rows for each row, whatever their number.
        if self._rows > max(self._table.height, 2**22):
            self._sort_out()

    def _sort_out(self) -> None:
        rows = pl.concat([self._table, *self._waiting]).sort("group", "key", descending=[False, True])
        self._waiting, self._rows = [], 0
        groups = rows["group"].to_numpy()
        starts = (
            np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]])) if len(groups) else np.zeros(0, int)
        )
        place = np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
        # One more than the cap is kept: it tells that the group has a cut at all.
        self._table = rows.filter(pl.Series(place <= self._size))

    def cuts(self) -> pl.DataFrame:
        """Return ``group`` and the lowest key kept, ``cut``, of the groups that hold more than the cap."""
        self._sort_out()
        place = pl.int_range(pl.len()).over("group")
        full = self._table.filter(pl.len().over("group") > self._size)
        return full.filter(place == self._size - 1).select("group", cut="key").sort("group")
