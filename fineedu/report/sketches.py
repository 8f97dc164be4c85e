"""Counts over a whole run in memory that does not grow with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

#: Documents that scales and ranges are told from: the sample's quartiles lie within 1.4 points of the run's,
#: 19 times in 20 (1.96 * sqrt(0.25 * 0.75 / 4096)).
SCALE_ROWS = 4096
_BINS = 60
_WAITING_ROWS, _WAITING_BATCHES = 50_000, 200


class _Waiting:
    """Batches not yet merged: merging each into a table of 200,000 names took half of a report's time."""

    def __init__(self) -> None:
        self._batches: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, batch: pl.DataFrame) -> bool:
        """Put a batch by, and tell whether it is time to merge."""
        self._batches.append(batch)
        self._rows += batch.height
        return self._rows >= _WAITING_ROWS or len(self._batches) >= _WAITING_BATCHES

    def take(self) -> list[pl.DataFrame]:
        """Return what waits, and start anew."""
        batches, self._batches, self._rows = self._batches, [], 0
        return batches


class Names:
    """How often names occur, before and after the cut, e.g. domains.

    Exact up to ``2 * size`` distinct names. Beyond that the rarest are forgotten now and then (lossy
    counting), and each count may be too low by at most :attr:`error`.

    Args:
        size: names kept when memory is made free.
    """

    def __init__(self, size: int = 100_000) -> None:
        self._size = size
        self._table = pl.DataFrame(schema={"name": pl.String, "documents": pl.UInt64, "kept": pl.UInt64})
        self._waiting = _Waiting()
        self._error = 0

    def update(self, names: pl.Series, keep: pl.Series) -> None:
        """Count n names, null ones not."""
        batch = pl.DataFrame({"name": names, "kept": keep}).drop_nulls("name").group_by("name")
        counts = batch.agg(pl.len().cast(pl.UInt64).alias("documents"), pl.col("kept").sum().cast(pl.UInt64))
        if self._waiting.add(counts):
            self._merge()

    @property
    def error(self) -> int:
        """By how much a count may be too low; 0 where all names were counted."""
        self._merge()
        return self._error

    def _merge(self) -> None:
        together = pl.concat([self._table, *self._waiting.take()])
        together = together.group_by("name").agg(pl.col("documents", "kept").sum())
        if together.height > 2 * self._size:
            together = together.sort("documents", "name", descending=[True, False])
            self._error += int(together["documents"][self._size])
            together = together.head(self._size)
        self._table = together

    def top(self, number: int, by: str = "documents") -> list[tuple[str, int, int]]:
        """Return name, documents before and after, of the commonest by ``documents`` or ``kept``."""
        self._merge()
        found = self._table.filter(pl.col(by) > 0).sort(by, "name", descending=[True, False]).head(number)
        return found.rows()


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Kept documents with the same text."""

    #: documents that these figures rest on; fewer than kept where keys are sampled
    n: int
    #: share of ``n`` that has a twin among the kept
    shared: float
    #: share of ``n`` that would go if one of each text stayed
    surplus: float
    #: half of the 95 % interval of ``surplus``, 0 where every key was counted; normal theory, so too narrow
    #: where a handful of texts make up most of the documents
    margin: float


class DuplicateKeys:
    """Counts kept documents by content key; beyond ``size`` keys, those of a fixed random share of the keys.

    All documents of a key are counted or none, so shares of counted documents estimate those of all (a ratio
    estimate over clusters, one cluster a key).

    Args:
        size: keys held at most.
    """

    def __init__(self, size: int = 500_000) -> None:
        self._size = size
        self._limit = 2**64 - 1
        self._table = pl.DataFrame(schema={"key": pl.UInt64, "n": pl.UInt32})
        self._waiting = _Waiting()

    def update(self, keys: pl.Series) -> None:
        """Count the keys of kept documents; null ones not."""
        hashes = pl.DataFrame({"key": keys.drop_nulls().hash(seed=0)})
        batch = hashes.group_by("key").agg(pl.len().cast(pl.UInt32).alias("n"))
        if self._waiting.add(batch.filter(pl.col("key") <= self._limit)):
            self._merge()

    def _merge(self) -> None:
        together = pl.concat([self._table, *self._waiting.take()]).filter(pl.col("key") <= self._limit)
        self._table = together.group_by("key").agg(pl.col("n").sum())
        while self._table.height > self._size:
            self._limit //= 2
            self._table = self._table.filter(pl.col("key") <= self._limit)

    def result(self) -> Duplicates | None:
        """Return the figures; None where no kept document has a key."""
        self._merge()
        if not self._table.height:
            return None
        sizes = self._table["n"].to_numpy().astype(np.float64)
        n, keys = float(sizes.sum()), len(sizes)
        surplus = (n - keys) / n
        sampled = self._limit < 2**64 - 1
        spread = math.sqrt(float((((sizes - 1) - surplus * sizes) ** 2).sum()))
        return Duplicates(int(n), float(sizes[sizes > 1].sum()) / n, surplus, 1.96 * spread / n if sampled else 0.0)


class RandomRows:
    """The rows with the smallest hash of their id: a random sample, the same for the same documents."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._rows: pl.DataFrame | None = None

    def update(self, batch: pl.DataFrame) -> None:
        """Take a batch with ``id`` and the columns."""
        values = batch.select(
            pl.col("id").hash(seed=0).alias("hash"), pl.col(self._columns).cast(pl.Float64).fill_nan(None)
        )
        together = values if self._rows is None else pl.concat([self._rows, values])
        self._rows = together.bottom_k(SCALE_ROWS, by=["hash", *self._columns])

    def values(self, column: str) -> npt.NDArray[np.float64]:
        """Return the finite values of a column in the sample."""
        if self._rows is None:
            return np.zeros(0)
        found: npt.NDArray[np.float64] = self._rows[column].drop_nulls().to_numpy()
        return found[np.isfinite(found)]


def spread(values: npt.NDArray[np.float64]) -> float:
    """Return the interquartile range, else the standard deviation, else 1: a scale that is never zero."""
    if not len(values):
        return 1.0
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) or float(values.std()) or 1.0


class Histogram:
    """Kept and dropped documents by a signal's value, in bins of a round width.

    Args:
        sample: values that the range is told from.
        marks: values that must lie inside, e.g. thresholds.
        whole: values are integers.
    """

    def __init__(self, sample: npt.NDArray[np.float64], marks: Sequence[float], whole: bool) -> None:
        ends = np.concatenate([_ends(sample), np.asarray(marks, float)])
        low, high = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
        step = _round_step((high - low) / (_BINS - 2), whole)
        first, last = math.floor(low / step), math.floor(high / step) + 1
        if len(sample) and sample.min() >= 0:
            first = max(first, 0)
        #: n + 1 edges of n bins; the outermost bins take what lies beyond
        self.edges = np.round(np.arange(first, last + 1) * step, 12)
        self.counts = np.zeros((2, len(self.edges) - 1), np.int64)
        self.missing = np.zeros(2, np.int64)
        self.beyond = np.zeros(2, np.int64)

    def update(self, values: pl.Series, keep: pl.Series) -> None:
        """Count n values; row 0 of the counts is kept, row 1 dropped."""
        numbers = values.cast(pl.Float64).fill_nan(None)
        for row, side in enumerate((keep, ~keep)):
            chosen = numbers.filter(side)
            self.missing[row] += chosen.null_count()
            found = chosen.drop_nulls().to_numpy()
            bins = np.searchsorted(self.edges, found, side="right") - 1
            last = len(self.edges) - 2
            self.beyond += [int((bins < 0).sum()), int((found > self.edges[-1]).sum())]
            self.counts[row] += np.bincount(np.clip(bins, 0, last), minlength=last + 1)


def _ends(sample: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return lowest and highest value; with long tails, those of the middle 98 %.

    A single page of 2 million words would squeeze all others into one bar.
    """
    if not len(sample):
        return np.zeros(0)
    lowest, low, high, highest = np.quantile(sample, [0, 0.01, 0.99, 1])
    return np.array([lowest, highest] if highest - lowest <= 3 * (high - low) else [low, high])


def _round_step(width: float, whole: bool) -> float:
    """Return the next 1, 2, 2.5 or 5 times a power of ten."""
    if width <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(width))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= width * (1 - 1e-9))
    return max(1.0, float(math.ceil(step))) if whole else float(step)


class LogHistogram:
    """Kept and dropped documents by size, eight bins to a power of ten from 1 to 10**9."""

    _EACH = 8

    def __init__(self) -> None:
        self.edges = np.round(10.0 ** (np.arange(9 * self._EACH + 1) / self._EACH), 3)
        self.counts = np.zeros((2, len(self.edges) - 1), np.int64)

    def update(self, sizes: pl.Series, keep: pl.Series) -> None:
        """Count n sizes; 0 counts as 1."""
        for row, side in enumerate((keep, ~keep)):
            found = np.maximum(sizes.filter(side).drop_nulls().to_numpy(), 1)
            bins = np.searchsorted(self.edges, found, side="right") - 1
            self.counts[row] += np.bincount(np.clip(bins, 0, len(self.edges) - 2), minlength=len(self.edges) - 1)

    def trimmed(self) -> tuple[Any, Any]:
        """Return edges and counts from the first to the last bin that holds anything."""
        used = np.flatnonzero(self.counts.sum(axis=0))
        if not len(used):
            return self.edges[:0], self.counts[:, :0]
        first, last = used[0], used[-1] + 1
        return self.edges[first : last + 1], self.counts[:, first:last]
