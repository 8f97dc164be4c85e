"""From raw predictions to the rubric's scale: monotone maps stored as knots, and the distribution of scores."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fineedu.classify.family import Array

Knots = tuple[tuple[float, float], ...]
Method = Literal["quantile", "isotonic"]


def fit_knots(predicted: Array, truth: Array, method: Method = "quantile") -> Knots:
    """Return a rising map from predictions to labels.

    Args:
        predicted: n held-out predictions.
        truth: n labels.
        method: ``quantile`` gives predictions the labels' own distribution, ``isotonic`` the least squared error.
    """
    return quantile_knots(predicted, truth) if method == "quantile" else isotonic_knots(predicted, truth)


def quantile_knots(predicted: Array, truth: Array) -> Knots:
    """Return the rising map that gives predictions the labels' own distribution.

    A knot for each cut between levels: the prediction that as many documents stay below as are labelled below. Least
    squares would shrink scores to the mean (every score was below 2.5 here), which makes thresholds on the scale
    useless.
    """
    knots = []
    for level in range(1, 6):
        below = float((truth < level).mean())
        if 0 < below < 1:
            knots.append((float(np.quantile(predicted, below)), level - 0.5))
    low, high = float(predicted.min()), float(predicted.max())
    if not knots:
        return (low, float(truth[0])), (high + 1e-6, float(truth[0]))
    knots = [(low, max(0.0, knots[0][1] - 0.5)), *knots, (high, min(5.0, knots[-1][1] + 0.5))]
    return _rising(knots)


def isotonic_knots(predicted: Array, truth: Array) -> Knots:
    """Return the rising map of least squared error (pool adjacent violators), as the corners of its steps."""
    from sklearn.isotonic import IsotonicRegression

    found = IsotonicRegression(out_of_bounds="clip").fit(predicted, truth)
    knots = list(zip(found.X_thresholds_.tolist(), found.y_thresholds_.tolist(), strict=True))
    return _rising(knots if len(knots) > 1 else [*knots, (knots[0][0] + 1e-6, knots[0][1])])


def _rising(knots: list[tuple[float, float]]) -> Knots:
    rising = [knots[0]]
    for knot in knots[1:]:
        if knot[0] > rising[-1][0]:
            rising.append(knot)
    if len(rising) == 1:
        rising.append((rising[0][0] + 1e-6, rising[0][1]))
    return tuple((round(at, 6), round(score, 6)) for at, score in rising)


def percentile_sketch(scores: Array, steps: int = 200) -> tuple[float, ...]:
    """Return scores at ``steps`` + 1 evenly spaced percentiles of those that are known."""
    known = scores[~np.isnan(scores)]
    return tuple(np.round(np.quantile(known, np.linspace(0, 1, steps + 1)), 4).tolist())
