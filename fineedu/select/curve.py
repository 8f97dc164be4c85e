"""An upsampling curve over quality buckets, fitted to the pool: nothing of the worst, the best several times."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError
from fineedu.recipe import CurveConfig

Floats = npt.NDArray[np.float64]
#: Points of a bucket's part of the curve: its mean is then right to six digits for the powers that occur.
_POINTS = 2000
_LARGEST_POWER = 200.0


def _means(edges: Floats, start: float, power: float, growth: float) -> Floats:
    """Return the mean of (x - start)^power * exp(growth * (x - start)) over each interval; 0 below the start."""
    places = (np.arange(_POINTS) + 0.5) / _POINTS
    x = edges[:-1, None] + (edges[1:] - edges[:-1])[:, None] * places
    inside = x > start
    above = np.where(inside, x - start, 1.0)
    # The value at the best end is brought to 1: a high power of a number below 1 would be rounded to nothing.
    exponent = power * np.log(above / (1 - start)) + growth * (above - (1 - start))
    shape: Floats = np.where(inside, np.exp(np.where(inside, exponent, 0.0)), 0.0).mean(axis=1)
    return shape


def fit_curve(mass: Floats, config: CurveConfig) -> Floats:
    """Find how often each quality bucket is repeated.

    OLMo 3's family of curves: over the quality percentile x, nothing below ``drop``, and from there
    C * (x - drop)^power * exp(growth * (x - drop)). Growth is given; C and the power are such that the best bucket is
    repeated ``highest`` times on average and the whole pool ``mean`` times.

    Args:
        mass: weight of each bucket in the pool, worst first; buckets need not be equally heavy.
        config: the curve.

    Returns:
        Mean repeats of each bucket; they never fall from a bucket to a better one.

    Raises:
        FineeduError: no power gives both.
    """
    share = mass / mass.sum()
    edges = np.concatenate([[0.0], np.cumsum(share)])
    edges[-1] = 1.0

    def found(power: float) -> Floats:
        shape = _means(edges, config.drop, power, config.growth)
        repeats: Floats = shape * config.highest / shape[-1]
        return repeats

    def excess(power: float) -> float:
        return float(found(power) @ share) - config.mean

    # The higher the power, the less there is of all but the best: the mean falls from one end to the other.
    most, least = excess(0.0) + config.mean, excess(_LARGEST_POWER) + config.mean
    if not least <= config.mean <= most:
        raise FineeduError(
            f"select.upsample.curve: with drop {config.drop:g} and highest {config.highest:g} the pool is repeated "
            f"{least:.3g} to {most:.3g} times on average, not {config.mean:g}: change mean, highest, drop or growth"
        )
    from scipy.optimize import brentq

    return found(brentq(excess, 0.0, _LARGEST_POWER, xtol=1e-9)) if most > least else found(0.0)


def order_buckets(values: list[str], column: str) -> list[str]:
    """Return the buckets' names, worst first.

    Raises:
        FineeduError: they are no numbers.
    """
    try:
        return sorted(values, key=float)
    except ValueError as error:
        raise FineeduError(
            f"select.upsample.curve: {column} holds {', '.join(sorted(values)[:5])}: a curve needs numbered buckets, "
            "the best one highest; give repeats for named levels"
        ) from error


def curve_repeats(masses: pl.DataFrame, column: str, config: CurveConfig) -> tuple[dict[str, float], list[Any]]:
    """Return the repeats by bucket, and what to tell of each.

    Args:
        masses: ``value`` and ``weight`` of each bucket of what the rules keep.
        column: name of the bucket's column, for messages.
        config: the curve.
    """
    held = dict(masses.filter(pl.col("value").is_not_null(), pl.col("weight") > 0).iter_rows())
    if not held:
        return {}, []
    names = order_buckets(list(held), column)
    mass = np.array([held[name] for name in names], np.float64)
    repeats = fit_curve(mass, config)
    told = [
        {"bucket": name, "share": float(weight), "repeat": float(each)}
        for name, weight, each in zip(names, mass / mass.sum(), repeats, strict=True)
    ]
    return dict(zip(names, repeats.tolist(), strict=True)), told
