"""What tells cells apart: few comparisons, of which every document fulfils one of few combinations.

A thousand cells are a thousand combinations of the same handful of clauses. Thresholds on one column become one
factor, the number of thresholds that a value has reached; any other clause is a factor of two values. So a document is
judged once, whatever the number of cells, and exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.select.choose import Selector
from fineedu.select.cuts import Cuts
from fineedu.select.rules import clauses, compile_rule

Codes = npt.NDArray[np.int64]
Lookup = npt.NDArray[np.uint16]
_THRESHOLD = re.compile(r'^\(?\s*"?([A-Za-z_]\w*)"?\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*\)?$')


class Factor(Protocol):
    """A property of a document with few values."""

    #: values are 0 to radix - 1
    radix: int
    columns: list[str]

    def codes(self, batch: pl.DataFrame) -> Codes:
        """Return the value of each of n documents."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A comparison of a column with a number, as its data type sees it: holds from, or below, ``cut``."""

    column: str
    op: str
    #: as it is written
    bound: float
    #: least value of the column's type from which on ``>=`` and ``>`` hold, ``<`` and ``<=`` no longer do
    cut: float

    @property
    def rising(self) -> bool:
        """Whether greater values fulfil it."""
        return self.op.startswith(">")


def parse_threshold(sql: str, schema: Mapping[str, pl.DataType]) -> Threshold | None:
    """Read a clause as a threshold; None where it is something else.

    Polars compares a Float32 with ``2.1`` as Float32, an integer with ``2.5`` as a float, and so on: the clause itself
    is asked about the values around its bound, so that no document is judged differently here than by a recipe.
    """
    found = _THRESHOLD.match(sql.strip())
    if found is None or found[1] not in schema or not schema[found[1]].is_numeric():
        return None
    column, op, bound = found[1], found[2], float(found[3])
    dtype = schema[column]
    if dtype.is_float():
        kind = np.float32 if dtype == pl.Float32 else np.float64
        with np.errstate(over="ignore"):
            near = kind(bound)
        if not np.isfinite(near):
            return None
        probes: list[Any] = [np.nextafter(near, kind(-np.inf)), near, np.nextafter(near, kind(np.inf))]
    else:
        if abs(bound) > 2**52:
            return None
        empty = pl.Series("x", [], dtype=dtype)
        low, high = empty.lower_bound().item(), empty.upper_bound().item()
        probes = [int(np.floor(bound)) + step for step in (-1, 0, 1, 2)]
        probes = [probe for probe in probes if low <= probe <= high]
    values = pl.Series(column, [float(p) if dtype.is_float() else p for p in probes], dtype=dtype)
    told = values.to_frame().select(compile_rule(sql, schema).alias("told"))["told"].to_list()
    turns = [at for at in range(1, len(told)) if told[at] != told[at - 1]]
    if len(turns) != 1 or told[-1] != op.startswith(">"):
        return None
    return Threshold(column, op, bound, float(probes[turns[0]]))


class Reached:
    """How many thresholds of one column a value has reached; a missing value has a code of its own, the last."""

    def __init__(self, column: str, dtype: pl.DataType, cuts: Sequence[float]) -> None:
        self.columns = [column]
        kind = np.float32 if dtype == pl.Float32 else np.float64 if dtype.is_float() else np.int64
        self._cuts = np.array(sorted(set(cuts)), kind)
        self.radix = len(self._cuts) + 2

    def codes(self, batch: pl.DataFrame) -> Codes:
        """Return the number of cuts at or below each of n values; NaN is above all, as in Polars."""
        values = batch[self.columns[0]]
        if values.dtype.is_integer():
            values = values.cast(pl.Int64)
        found = np.searchsorted(self._cuts, values.fill_null(0).to_numpy(), side="right").astype(np.int64)
        if values.null_count():
            found[values.is_null().to_numpy()] = self.radix - 1
        return found

    def lookup(self, threshold: Threshold) -> Lookup:
        """Return for each code whether a threshold holds."""
        at = int(np.searchsorted(self._cuts, threshold.cut))
        codes = np.arange(self.radix)
        held = codes > at if threshold.rising else codes <= at
        held[-1] = False
        return held.astype(np.uint16)


class Holds:
    """Whether a clause holds; a missing value does not fulfil it."""

    radix = 2

    def __init__(self, expression: pl.Expr) -> None:
        self._expression = expression
        self.columns = list(dict.fromkeys(expression.meta.root_names()))

    def codes(self, batch: pl.DataFrame) -> Codes:
        """Return 1 where it holds."""
        return batch.select(self._expression.fill_null(False).cast(pl.Int64).alias("held"))["held"].to_numpy()


class Ranked:
    """How many cuts of one ranking (top shares, budgets) a document has reached; a refused one has the last code."""

    def __init__(self, selector: Selector, shift: int, cuts: Sequence[int]) -> None:
        self._selector = selector
        self._shift = np.uint64(shift)
        self._cuts = np.array(sorted(set(cuts)), np.uint64)
        self.columns = ["id", *selector.columns]
        self.radix = len(self._cuts) + 2

    def codes(self, batch: pl.DataFrame) -> Codes:
        """Return the number of cuts at or below each document's place in the ranking."""
        rows = self._selector.candidates(batch)
        places = rows["key"].fill_null(0).to_numpy() >> self._shift
        found = np.searchsorted(self._cuts, places, side="right").astype(np.int64)
        found[rows["refused"].is_not_null().to_numpy()] = self.radix - 1
        return found

    def lookup(self, cut: int) -> Lookup:
        """Return for each code whether a cut is reached."""
        held = np.arange(self.radix) > int(np.searchsorted(self._cuts, np.uint64(cut)))
        held[-1] = False
        return held.astype(np.uint16)


class Repeats:
    """How often a selection with a cap, a mixture or groups counts a document."""

    radix = 2**16

    def __init__(self, selector: Selector, found: tuple[Cuts, pl.DataFrame]) -> None:
        self._selector = selector
        self._found = found
        self.columns = ["id", *selector.columns]

    def codes(self, batch: pl.DataFrame) -> Codes:
        """Return the repeats, 0 where a document is dropped."""
        return self._selector.judge(batch, *self._found)["repeat"].cast(pl.Int64).to_numpy()


@dataclass(frozen=True, slots=True)
class Part:
    """One condition of a cell: a factor, and what each of its values counts (0: dropped)."""

    factor: int
    lookup: Lookup


class Clauses:
    """The clauses of all cells as factors; give it all rules first, then ask for the parts of each."""

    def __init__(self, rules: Sequence[Mapping[str, str]], schema: Mapping[str, pl.DataType]) -> None:
        split = {sql: clauses(sql) for sql in dict.fromkeys(sql for each in rules for sql in each.values())}
        self._split = split
        every = list(dict.fromkeys(clause for parts in split.values() for clause in parts))
        thresholds = {clause: found for clause in every if (found := parse_threshold(clause, schema)) is not None}
        cuts: dict[str, list[float]] = {}
        for found in thresholds.values():
            cuts.setdefault(found.column, []).append(found.cut)
        self.factors: list[Factor] = []
        reached = {}
        for column, held in cuts.items():
            reached[column] = len(self.factors)
            self.factors.append(Reached(column, schema[column], held))
        self._parts: dict[str, Part] = {}
        for clause in every:
            threshold = thresholds.get(clause)
            if threshold is not None:
                factor = self.factors[reached[threshold.column]]
                assert isinstance(factor, Reached)
                self._parts[clause] = Part(reached[threshold.column], factor.lookup(threshold))
            else:
                self._parts[clause] = Part(len(self.factors), np.array([0, 1], np.uint16))
                self.factors.append(Holds(compile_rule(clause, schema)))
        self.thresholds = thresholds

    def parts(self, rules: Mapping[str, str]) -> list[Part]:
        """Return what a document must fulfil."""
        named = dict.fromkeys(clause for sql in rules.values() for clause in self._split[sql])
        return [self._parts[clause] for clause in named]
