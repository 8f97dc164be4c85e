"""What a banding finds: the S-curve of MinHash LSH, and how far counts may stray from it by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def s_curve(similarity: npt.ArrayLike, bands: int, rows: int) -> npt.NDArray[np.float64]:
    """Return the probability that a pair meets in at least one band: ``1 - (1 - s**rows)**bands``.

    Args:
        similarity: Jaccard similarity of the shingle sets, 0 to 1; any shape.
        bands: number of bands.
        rows: hashes a band.

    Returns:
        Probabilities, in the shape of ``similarity``. Source: Leskovec et al., Mining of Massive Datasets, 3.4.2.
    """
    return np.asarray(1.0 - (1.0 - np.asarray(similarity, np.float64) ** rows) ** bands)


def threshold(bands: int, rows: int) -> float:
    """Return the similarity that is found with probability one half: the middle of the curve.

    The usual rule of thumb ``(1/bands)**(1/rows)`` lies a little above it: .719 against .685 for 14 x 8.
    """
    return float((1.0 - 0.5 ** (1.0 / bands)) ** (1.0 / rows))


def expected_found(similarities: npt.ArrayLike, bands: int, rows: int, deviations: float = 3.0) -> tuple[float, float]:
    """Return the interval in which the number of pairs found must lie if the hashing is sound.

    Pairs are independent trials, each with its own probability (a Poisson binomial); the interval is its mean plus
    and minus so many standard deviations, and half a pair for the continuity.

    Args:
        similarities: (n,) exact Jaccard similarities of pairs.
        bands: number of bands.
        rows: hashes a band.
        deviations: half the width, in standard deviations.
    """
    chances = s_curve(similarities, bands, rows)
    mean, deviation = float(chances.sum()), float(np.sqrt((chances * (1 - chances)).sum()))
    return mean - deviations * deviation - 0.5, mean + deviations * deviation + 0.5


def curve_table(bands: int, rows: int) -> list[dict[str, Any]]:
    """Return the curve at similarities .5, .55 ... 1, for reports."""
    points = np.arange(0.5, 1.0001, 0.05)
    return [
        {"similarity": round(float(s), 2), "found": round(float(p), 4)}
        for s, p in zip(points, s_curve(points, bands, rows), strict=True)
    ]
