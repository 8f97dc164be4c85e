"""Bootstrap over documents, or over clusters of them: resamples as weights, intervals from draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Weights in memory at a time: 16 MB, so that a chunk and its cumulated sums stay near the processor.
_CELLS = 2_000_000
#: With fewer defined draws than this share an interval would say more about luck than about the measure.
_ENOUGH = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its 95 % percentile bootstrap interval; None where it is not defined.

    A precision without a chosen document, a correlation of constant scores or an area under the curve with one class
    only have no value: they are None, never 0.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    #: share of the resamples in which the measure was not defined; the interval is over the others
    undefined: float = 0.0

    def as_json(self) -> dict[str, float | None]:
        """Return the four figures, rounded to 4 digits."""
        shown: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high, "undefined": self.undefined}
        return {name: None if number is None else round(number, 4) for name, number in shown.items()}


def estimate(value: float, draws: Array) -> Estimate:
    """Return a value with the percentile interval of its draws.

    Args:
        value: on the sample itself; NaN where it is not defined.
        draws: the same on each resample, NaN where it is not defined.
    """
    if np.isnan(value):
        return Estimate(None)
    defined = draws[~np.isnan(draws)]
    lost = 1 - len(defined) / len(draws) if len(draws) else 1.0
    if len(defined) == 0 or 1 - lost < _ENOUGH:
        return Estimate(float(value), undefined=lost)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high), lost)


def resamples(n: int, *, count: int, seed: int, clusters: npt.NDArray[Any] | None = None) -> Iterator[Array]:
    """Yield the resamples of a bootstrap as weights: how often each row was drawn.

    The same arguments give the same resamples, so two models measured with one seed are compared on the same draws.

    Args:
        n: rows.
        count: number of resamples.
        seed: of the draws.
        clusters: n names, hosts for instance; whole clusters are drawn with replacement, which is what the interval
            needs where documents of one cluster resemble each other. Default: every row by itself.

    Yields:
        Chunks, r x n.
    """
    names, member = (None, None) if clusters is None else np.unique(clusters, return_inverse=True)
    units = n if names is None else len(names)
    if not units:
        return
    chance = np.random.default_rng(seed)
    rows = max(1, _CELLS // n)
    for start in range(0, count, rows):
        size = min(rows, count - start)
        drawn = chance.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units).astype(np.float64)
        yield weights if member is None else weights[:, member]
