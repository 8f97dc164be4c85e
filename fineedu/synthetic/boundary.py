"""Intervals for a share, which cannot lie below 0.

A two-sided interval cut off at 0 covers a share of 0 in 97.5 % of samples, or is empty where the estimate lies far
below. Feldman and Cousins (1998, Phys. Rev. D 57:3873) order outcomes by likelihood ratio instead: the interval goes
over from one-sided to two-sided by itself, is never empty, and covers 95 % at 0 too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
#: two-sided 95 % and one-sided 95 % of the normal distribution
_TWO_SIDED, _ONE_SIDED = 1.959963984540054, 1.6448536269514722


class Share(NamedTuple):
    """An estimated share with its 95 % interval.

    Attributes:
        value: between 0 and 1.
        low: lower end.
        high: upper end.
        raw: the estimate before it was held to 0 … 1; it may be negative.
    """

    value: float
    low: float
    high: float
    raw: float


@cache
def _table() -> tuple[Array, Array]:
    """Return upper limits of the standardised deviation by distance of the share from 0, in standard errors."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    distances = np.linspace(1e-3, _TWO_SIDED, 200)
    upper = [
        brentq(lambda b, mu=mu: norm.cdf(b) - norm.cdf(-(b * b + mu * mu) / (2 * mu)) - 0.95, 1.6, 2.0)
        for mu in distances
    ]
    return distances, np.array(upper)


def accepts(deviation: Array, distance: Array) -> npt.NDArray[np.bool_]:
    """Tell which shares a 95 % interval holds.

    Args:
        deviation: (estimate - share) / standard error, for each share that is tried.
        distance: share / standard error, the same.
    """
    distances, table = _table()
    upper = np.interp(distance, distances, table, left=_ONE_SIDED, right=_TWO_SIDED)
    with np.errstate(divide="ignore"):
        lower = np.where(distance >= _TWO_SIDED, -_TWO_SIDED, -(upper**2 + distance**2) / (2 * distance))
    return (deviation <= upper) & ((deviation >= lower) | (distance <= 0))


def invert(test: Callable[[Array], tuple[Array, Array]], raw: float, points: int = 801) -> Share:
    """Return the interval of all shares that a test does not reject.

    Args:
        test: takes shares, gives for each the standardised deviation of the data from it and its standard error.
        raw: the estimate; may be below 0.
        points: shares tried at a time; the ends are found on a second, finer grid.
    """
    grid = np.concatenate([[0.0], np.geomspace(1e-5, 1, points)])
    ends = []
    deviation, error = test(grid)
    kept = np.flatnonzero(accepts(deviation, grid / error))
    if not len(kept):  # only where the share lies above 1
        return Share(1.0, 1.0, 1.0, raw)
    for at, side in ((kept[0], -1), (kept[-1], 1)):
        other = int(np.clip(at + side, 0, len(grid) - 1))
        fine = np.linspace(grid[at], grid[other], 33)
        deviation, error = test(fine)
        inside = fine[accepts(deviation, fine / error)]
        found = inside.min(initial=grid[at]) if side < 0 else inside.max(initial=grid[at])
        ends.append(float(found))
    return Share(float(np.clip(raw, 0, 1)), ends[0], ends[1], raw)
