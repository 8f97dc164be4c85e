"""Thresholds that a reader of the page may move: which, where they may stand, and binned counts of all settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.ablate.config import Slider
from fineedu.ablate.factors import Factor, Holds, Reached, Threshold, parse_threshold
from fineedu.ablate.picks import Hashes, Lowest, Numbers
from fineedu.errors import FineeduError
from fineedu.recipe import SelectConfig
from fineedu.select.rules import clauses, compile_rule

#: Positions of each slider, by the number of sliders: so that the counts of all settings stay below 0.3 MB.
POSITIONS = {1: 120, 2: 48, 3: 20}
MOST_TOGGLES = 3
SAMPLES_A_BIN = 3


@dataclass(frozen=True, slots=True)
class Control:
    """One slider: ``column op position``."""

    column: str
    op: str
    positions: tuple[float, ...]
    #: of each position, what code of the factor it begins at
    cuts: tuple[float, ...]
    #: where it stands at first: as in the first cell; None: off
    start: float | None


@dataclass(frozen=True, slots=True)
class Binned:
    """Counts of all settings; the page adds them up, and so does :meth:`at`."""

    controls: tuple[Control, ...]
    #: clauses that may be switched on and off
    toggles: tuple[str, ...]
    #: clauses that always hold
    fixed: tuple[str, ...]
    #: (bins of each control + 1 for a missing value, then 2 of each toggle): documents, and tokens
    documents: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.float64]
    #: number in the pool and code of sampled documents: a row each, controls and toggles in the columns
    samples: tuple[tuple[int, tuple[int, ...]], ...]
    #: id of a labelled document that fulfils the fixed clauses to its codes
    labelled: dict[str, tuple[int, ...]]

    def at(self, positions: Mapping[str, float], on: Sequence[str] = ()) -> tuple[int, float]:
        """Return documents and tokens kept with the sliders at ``positions`` (column to place) and toggles on.

        A slider without a place is off: any value is kept, and a missing one too.
        """
        chosen: list[Any] = []
        for control in self.controls:
            if control.column not in positions:
                chosen.append(slice(None))
                continue
            place = control.positions.index(positions[control.column])
            bins = len(control.positions) + 1
            rising = control.op.startswith(">")
            chosen.append(slice(place + 1, bins) if rising else slice(0, place + 1))
        chosen += [slice(1, 2) if toggle in on else slice(0, 2) for toggle in self.toggles]
        return int(self.documents[tuple(chosen)].sum()), float(self.tokens[tuple(chosen)].sum())


class Sliders:
    """Counts documents by the sliders' bins.

    Args:
        selects: of all cells.
        wanted: column to range; others are chosen from the thresholds that the cells do not share.
        schema: columns.
        seed: of the samples.

    Raises:
        FineeduError: a wanted column is not numeric.
    """

    def __init__(
        self, selects: Sequence[SelectConfig], wanted: Mapping[str, Slider], schema: Mapping[str, pl.DataType]
    ) -> None:
        uses = Counter(clause for select in selects for clause in _clauses(select))
        thresholds = {clause: found for clause in uses if (found := parse_threshold(clause, schema)) is not None}
        self.fixed = tuple(clause for clause, number in uses.items() if number == len(selects))
        varying = [clause for clause, number in uses.items() if number < len(selects)]
        self.controls = _controls(varying, thresholds, selects, wanted, schema)
        moved = {control.column for control in self.controls}
        self.fixed = tuple(c for c in self.fixed if c not in thresholds or thresholds[c].column not in moved)
        others = [clause for clause in varying if clause not in thresholds or thresholds[clause].column not in moved]
        self.toggles = tuple(sorted(others, key=lambda clause: (-uses[clause], clause))[:MOST_TOGGLES])
        #: clauses that vary and that the page leaves out
        self.left_out = tuple(clause for clause in others if clause not in self.toggles)
        self._fixed = [compile_rule(clause, schema) for clause in self.fixed]
        self._factors: list[Factor] = [Reached(c.column, schema[c.column], c.cuts) for c in self.controls]
        self._factors += [Holds(compile_rule(clause, schema)) for clause in self.toggles]
        self._shape = tuple(factor.radix for factor in self._factors)
        self._documents = np.zeros(math.prod(self._shape) if self.controls else 0, np.int64)
        self._tokens = np.zeros(len(self._documents))
        self._lowest = Lowest(SAMPLES_A_BIN)
        self._codes: dict[int, tuple[int, ...]] = {}

    @property
    def columns(self) -> list[str]:
        """Columns that are read."""
        if not self.controls:
            return []
        named = [root for expression in self._fixed for root in expression.meta.root_names()]
        return list(dict.fromkeys([*named, *(column for factor in self._factors for column in factor.columns)]))

    def update(self, batch: pl.DataFrame, tokens: npt.NDArray[np.float64], dice: Hashes, rows: Numbers) -> None:
        """Look at n documents, with their tokens, hashes and numbers in the pool."""
        if not self.controls:
            return
        held = self._held(batch)
        batch, tokens, dice, rows = batch.filter(pl.Series(held)), tokens[held], dice[held], rows[held]
        codes = [factor.codes(batch) for factor in self._factors]
        flat = np.ravel_multi_index(tuple(codes), self._shape)
        self._documents += np.bincount(flat, minlength=len(self._documents))
        self._tokens += np.bincount(flat, tokens, len(self._tokens))
        before = set(self._lowest.held[2].tolist())
        self._lowest.update(codes[0], dice, rows, self._shape[0])
        new = [row for row in self._lowest.held[2].tolist() if row not in before]
        for row, at in zip(new, np.searchsorted(rows, np.array(new, np.int64)).tolist(), strict=True):
            self._codes[row] = tuple(int(code[at]) for code in codes)

    def _held(self, batch: pl.DataFrame) -> npt.NDArray[np.bool_]:
        told = pl.repeat(True, pl.len()).and_(*(expression.fill_null(False) for expression in self._fixed))
        found: npt.NDArray[np.bool_] = batch.select(told.alias("held"))["held"].to_numpy()
        return found

    def codes_of(self, batch: pl.DataFrame) -> list[tuple[int, ...] | None]:
        """Return the codes of n documents, None for one that does not fulfil the fixed clauses."""
        codes = np.stack([factor.codes(batch) for factor in self._factors], axis=1).tolist()
        return [tuple(code) if held else None for code, held in zip(codes, self._held(batch), strict=True)]

    def finish(self, labelled: dict[str, tuple[int, ...]]) -> Binned | None:
        """Return the counts; None where there is nothing to move."""
        if not self.controls:
            return None
        kept = sorted(self._lowest.held[2].tolist())
        return Binned(
            self.controls,
            self.toggles,
            self.fixed,
            self._documents.reshape(self._shape),
            self._tokens.reshape(self._shape),
            tuple((row, self._codes[row]) for row in kept),
            labelled,
        )


def _clauses(select: SelectConfig) -> list[str]:
    return list(dict.fromkeys(clause for sql in select.rules.values() for clause in clauses(sql)))


def _controls(
    varying: Sequence[str],
    thresholds: Mapping[str, Threshold],
    selects: Sequence[SelectConfig],
    wanted: Mapping[str, Slider],
    schema: Mapping[str, pl.DataType],
) -> tuple[Control, ...]:
    bounds: dict[tuple[str, str], list[float]] = {}
    for clause, found in thresholds.items():
        # One bound only is a filter on or off: a switch, unless its column is asked for.
        if clause in varying or found.column in wanted:
            bounds.setdefault((found.column, found.op), []).append(found.bound)
    for column in wanted:
        if column not in schema or not schema[column].is_numeric():
            raise FineeduError(f"sliders.{column}: no column of numbers")
        if column not in {name for name, _ in bounds}:
            bounds[column, ">="] = []
    order = sorted(bounds, key=lambda key: (key[0] not in wanted, -len(bounds[key])))
    chosen: list[tuple[str, str]] = []
    for key in order:
        ranged = key[0] in wanted or len(set(bounds[key])) > 1
        if key[0] not in {name for name, _ in chosen} and len(chosen) < max(POSITIONS) and ranged:
            chosen.append(key)
    told = [thresholds[clause] for clause in _clauses(selects[0]) if clause in thresholds]
    first = {(found.column, found.op): found.bound for found in told}
    most = POSITIONS.get(len(chosen), 1)
    made = [_control(*key, bounds[key], wanted.get(key[0]), most, first, schema) for key in chosen]
    return tuple(control for control in made if control is not None)


def _control(
    column: str,
    op: str,
    bounds: Sequence[float],
    wanted: Slider | None,
    most: int,
    first_bounds: Mapping[tuple[str, str], float],
    schema: Mapping[str, pl.DataType],
) -> Control | None:
    if wanted is not None:
        low, high, step = wanted.low, wanted.high, wanted.step
    else:
        width = max(bounds) - min(bounds)
        low, high = min(bounds) - width, max(bounds) + width
        low = max(low, 0.0) if min(bounds) >= 0 else low
        step = _nice((high - low) / max(most - len(set(bounds)), most // 2))
    first = math.floor(low / step + 1e-9)
    ticks = [round(number * step, 10) for number in range(first, math.ceil(high / step - 1e-9) + 1)]
    spread = sorted({*ticks[: most + 40], *bounds})
    found = [(at, parse_threshold(f"{column} {op} {at!r}", schema)) for at in spread]
    kept: dict[float, float] = {}
    for at, threshold in found:
        # Two positions of an integer column may mean the same cut: the rounder one stands.
        if threshold is not None and (threshold.cut not in kept.values() or at in bounds):
            kept = {place: cut for place, cut in kept.items() if cut != threshold.cut} | {at: threshold.cut}
    if len(kept) < 2:
        return None
    places = tuple(sorted(kept))
    start = first_bounds.get((column, op))
    return Control(column, op, places, tuple(kept[place] for place in places), start)


def _nice(step: float) -> float:
    """Round a step up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
