"""How good scores are against labels, every figure with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, roc_auc_score

Array = npt.NDArray[np.float64]
#: name of a rounded level to the raw cut that means it
CUTS = {"3": 2.5, "2": 1.5}


def _rounded(scores: Array) -> npt.NDArray[np.int64]:
    return np.clip(np.round(scores), 0, 5).astype(np.int64)


def _cut_measures(truth: Array, score: Array) -> dict[str, float]:
    """Return AUC, precision, recall and both kinds of F1 at each cut; counted here for the sake of the resamples."""
    found: dict[str, float] = {}
    for level, cut in CUTS.items():
        positive, chosen = truth >= float(level), score > cut
        hits, misses, alarms = (
            int((positive & chosen).sum()),
            int((positive & ~chosen).sum()),
            int((~positive & chosen).sum()),
        )
        rest = len(truth) - hits - misses - alarms
        positive_f1 = 2 * hits / max(2 * hits + misses + alarms, 1)
        found |= {
            f"auc_{level}": float(roc_auc_score(positive, score)),
            f"precision_{level}": hits / max(hits + alarms, 1),
            f"recall_{level}": hits / max(hits + misses, 1),
            f"positive_f1_{level}": positive_f1,
            f"macro_f1_{level}": (positive_f1 + 2 * rest / max(2 * rest + misses + alarms, 1)) / 2,
        }
    return found


def _measure(truth: Array, score: Array) -> dict[str, float]:
    kappa = cohen_kappa_score(truth.astype(int), _rounded(score), weights="quadratic", labels=list(range(6)))
    return {
        "spearman": float(spearmanr(truth, score).statistic),
        "quadratic_kappa": float(kappa),
        "mae": float(np.abs(truth - score).mean()),
        **_cut_measures(truth, score),
    }


def evaluate(truth: Array, score: Array, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """Measure scores against labels.

    Args:
        truth: n labels, 0 to 5.
        score: n raw scores on the same scale; the cut for "3" is 2.5, for "2" 1.5.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        ``n``, ``positives`` by level, and of each measure its value and the 95 % percentile bootstrap interval over
        documents: ``{"value": ..., "low": ..., "high": ...}``. Positive-class and macro F1 stand
        side by side: with 8 % positives the macro figure is the more flattering one by far.
    """
    chance = np.random.default_rng(seed)
    samples: list[npt.NDArray[np.int64]] = []
    while len(samples) < resamples:
        rows = chance.integers(0, len(truth), len(truth))
        if all(0 < (truth[rows] >= float(level)).sum() < len(rows) for level in CUTS):
            samples.append(rows)
    result: dict[str, Any] = {
        "n": len(truth),
        "positives": {level: int((truth >= float(level)).sum()) for level in CUTS},
    }
    draws = [_measure(truth[rows], score[rows]) for rows in samples]
    for name, value in _measure(truth, score).items():
        low, high = np.nanpercentile([draw[name] for draw in draws], [2.5, 97.5])
        result[name] = {"value": round(value, 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    return result
