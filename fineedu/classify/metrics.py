"""How good scores are against labels, every figure with its interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, f1_score, precision_score, recall_score, roc_auc_score

Array = npt.NDArray[np.float64]
#: name of a rounded level to the raw cut that means it
CUTS = {"3": 2.5, "2": 1.5}
_RESAMPLES = 1000


def _rounded(scores: Array) -> npt.NDArray[np.int64]:
    return np.clip(np.round(scores), 0, 5).astype(np.int64)


def _measures() -> dict[str, Callable[[Array, Array], float]]:
    measures: dict[str, Callable[[Array, Array], float]] = {
        "spearman": lambda truth, score: float(spearmanr(truth, score).statistic),
        "quadratic_kappa": lambda truth, score: float(
            cohen_kappa_score(truth.astype(int), _rounded(score), weights="quadratic", labels=list(range(6)))
        ),
        "mae": lambda truth, score: float(np.abs(truth - score).mean()),
    }
    for level, cut in CUTS.items():
        at = float(level)

        def parts(truth: Array, score: Array, at: float = at, cut: float = cut) -> tuple[Any, Any]:
            return truth >= at, score > cut

        measures |= {
            f"auc_{level}": lambda truth, score, at=at: float(roc_auc_score(truth >= at, score)),  # type: ignore[misc]
            f"precision_{level}": lambda t, s, parts=parts: float(precision_score(*parts(t, s), zero_division=0)),  # type: ignore[misc]
            f"recall_{level}": lambda t, s, parts=parts: float(recall_score(*parts(t, s), zero_division=0)),  # type: ignore[misc]
            f"positive_f1_{level}": lambda t, s, parts=parts: float(f1_score(*parts(t, s), zero_division=0)),  # type: ignore[misc]
            f"macro_f1_{level}": lambda t, s, parts=parts: float(f1_score(*parts(t, s), average="macro", zero_division=0)),  # type: ignore[misc]
        }
    return measures


def evaluate(truth: Array, score: Array, seed: int = 0) -> dict[str, Any]:
    """Measure scores against labels.

    Args:
        truth: n labels, 0 to 5.
        score: n raw scores on the same scale; the cut for "3" is 2.5, for "2" 1.5.
        seed: of the bootstrap.

    Returns:
        ``n``, ``positives`` by level, and of each measure its value and the 95 % percentile bootstrap interval over
        documents (1,000 resamples): ``{"value": ..., "low": ..., "high": ...}``. Positive-class and macro F1 stand
        side by side: with 8 % positives the macro figure is the more flattering one by far.
    """
    chance = np.random.default_rng(seed)
    samples = []
    while len(samples) < _RESAMPLES:
        rows = chance.integers(0, len(truth), len(truth))
        if all(0 < (truth[rows] >= float(level)).sum() < len(rows) for level in CUTS):
            samples.append(rows)
    result: dict[str, Any] = {
        "n": len(truth),
        "positives": {level: int((truth >= float(level)).sum()) for level in CUTS},
    }
    for name, measure in _measures().items():
        draws = [measure(truth[rows], score[rows]) for rows in samples]
        low, high = np.nanpercentile(draws, [2.5, 97.5])
        result[name] = {"value": round(measure(truth, score), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    return result
