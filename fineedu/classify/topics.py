"""How well topics are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.classify.family import Array


def measure_topics(
    truth: npt.NDArray[np.int64], names: Sequence[str], probabilities: Array, seed: int = 0, count: int = 1000
) -> dict[str, Any]:
    """Measure held-out topic probabilities.

    Args:
        truth: n numbers of topics.
        names: k names.
        probabilities: n×k; a document without any counts as wrong.
        seed: of the bootstrap.
        count: resamples.

    Returns:
        ``n``; ``accuracy``, ``macro_f1`` and ``top_2_accuracy`` with 95 % percentile bootstrap intervals over
        documents; the accuracy of the commonest topic; F1 by topic.
    """
    k = len(names)
    known = np.where(np.isnan(probabilities), -1.0, probabilities)
    order = np.argsort(-known, axis=1, kind="stable")
    chosen = np.where(known.max(1) < 0, -1, order[:, 0])
    second = np.where(known.max(1) < 0, -1, order[:, 1])
    draws = np.random.default_rng(seed).integers(0, len(truth), (count, len(truth)))

    def figures(rows: Any) -> dict[str, float]:
        right, either = truth[rows] == chosen[rows], second[rows] == truth[rows]
        return {
            "accuracy": float(right.mean()),
            "macro_f1": float(_f1(truth[rows], chosen[rows], k).mean()),
            "top_2_accuracy": float((right | either).mean()),
        }

    found = figures(np.arange(len(truth)))
    resampled = [figures(rows) for rows in draws]
    result: dict[str, Any] = {"n": len(truth)}
    for name, value in found.items():
        low, high = np.percentile([draw[name] for draw in resampled], [2.5, 97.5])
        result[name] = {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    result["commonest_topic_accuracy"] = round(float(np.bincount(truth).max() / len(truth)), 4)
    result["f1"] = dict(zip(names, np.round(_f1(truth, chosen, k), 3).tolist(), strict=True))
    return result


def _f1(truth: Any, chosen: Any, k: int) -> Array:
    """Return F1 of each topic; 0 for one that is neither there nor chosen."""
    hits = np.bincount(truth[truth == chosen], minlength=k)
    either = np.bincount(truth, minlength=k) + np.bincount(chosen[chosen >= 0], minlength=k)
    return np.asarray(2 * hits / np.maximum(either, 1), dtype=np.float64)
