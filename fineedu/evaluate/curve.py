"""Learning curves: would more labels help?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.errors import FineeduError
from fineedu.evaluate.leakage import assign_folds
from fineedu.evaluate.measures import Measures, difference, measure
from fineedu.evaluate.resample import Array, Estimate

Rows = npt.NDArray[np.int64]
#: Fits on some rows and scores others.
FitScore = Callable[[Rows, Rows], Array]


@dataclass(frozen=True, slots=True)
class Point:
    """What a model trained on so many labels reaches."""

    n_labels: int
    #: test documents, all of them held out
    n: int
    estimates: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Measures by the number of labels, and what the last step brought."""

    points: tuple[Point, ...]
    #: measure to its gain from the last point but one to the last, on the same documents and resamples
    last_gain: dict[str, Estimate]

    def as_json(self) -> dict[str, Any]:
        """Return points and gain."""
        points = [
            {"n_labels": point.n_labels, "n": point.n}
            | {name: found.as_json() for name, found in point.estimates.items()}
            for point in self.points
        ]
        return {"points": points, "last_gain": {name: found.as_json() for name, found in self.last_gain.items()}}


def learning_curve(
    fit_score: FitScore,
    truth: Array,
    ids: Sequence[str],
    sizes: Sequence[int],
    *,
    groups: Sequence[str] | None = None,
    level: int = 3,
    folds: int = 5,
    seed: int = 0,
    count: int = 1000,
) -> LearningCurve:
    """Fit on ever more labels, cross-validated: every document is scored by models that have not seen its group.

    Args:
        fit_score: takes the rows to fit on and the rows to score, returns the latter's scores.
        truth: n labels.
        ids: n document ids; which labels come first follows from a hash of id and seed, so smaller sets are parts of
            the larger ones, whatever the order of rows.
        sizes: numbers of labels to fit on; those above what the smallest training part has are left out.
        groups: n names of groups that folds must not tear, e.g. duplicates
            (:func:`~fineedu.evaluate.leakage.group_names`) or hosts; default: each document by itself.
        level: threshold of F1 and average precision.
        folds: of the cross-validation.
        seed: of folds, subsets and bootstrap.
        count: resamples.

    Raises:
        FineeduError: fewer labels than the smallest size, or a fold without documents.
    """
    fold = assign_folds(groups or ids, folds, seed)
    ranks = np.argsort([blake2b(f"{seed} {name}".encode(), digest_size=8).digest() for name in ids], kind="stable")
    parts = [(ranks[fold[ranks] != number], np.flatnonzero(fold == number)) for number in range(folds)]
    most = min(len(train) for train, _ in parts)
    kept = [size for size in sorted(set(sizes)) if size <= most]
    if not kept:
        raise FineeduError(f"no size of the learning curve fits: {folds} folds leave {most} labels to fit on")
    scores = {size: np.full(len(truth), np.nan) for size in kept}
    for size in kept:
        for train, test in parts:
            if len(test):
                scores[size][test] = fit_score(np.sort(train[:size]), test)
    return curve_from_scores(scores, truth, level=level, seed=seed, count=count)


def curve_from_scores(
    scores: dict[int, Array],
    truth: Array,
    *,
    level: int = 3,
    clusters: npt.NDArray[Any] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> LearningCurve:
    """Measure saved held-out scores of models trained on different numbers of labels.

    Args:
        scores: number of labels to n scores; documents that one of them has not scored (NaN) are left out of all.
        truth: n labels.
        level: threshold of F1 and average precision.
        clusters: n cluster names for the bootstrap.
        seed: of the bootstrap.
        count: resamples.
    """
    known = np.isfinite(np.stack([truth, *scores.values()])).all(axis=0)
    named = None if clusters is None else clusters[known]
    found: dict[int, Measures] = {
        size: measure(truth[known], scores[size][known], levels=(level,), clusters=named, seed=seed, count=count)
        for size in sorted(scores)
    }
    shown = ("spearman", f"positive_f1_{level}_rounded", f"average_precision_{level}")
    points = tuple(Point(size, m.n, {name: m[name] for name in shown}) for size, m in found.items())
    gain = {}
    if len(found) > 1:
        before, last = list(found.values())[-2:]
        gain = {name: difference(last, before, name) for name in shown}
    return LearningCurve(points, gain)
