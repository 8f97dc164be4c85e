"""Trivial models that any classifier must beat: the commonest label, the text's length, the host it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.errors import FineeduError
from fineedu.evaluate.measures import rounded
from fineedu.evaluate.resample import Array

COMMONEST, LENGTH, HOST = "commonest label", "length only", "host only"


def baselines(
    truth: Array, n_chars: npt.ArrayLike, folds: npt.NDArray[Any], hosts: Sequence[str | None] | None = None
) -> dict[str, Array]:
    """Return what trivial models predict of each document, fitted on the documents of the other folds only.

    Length and host predictions are mapped to the labels' own distribution: a mean of labels shrinks to the middle and
    would put nothing above a threshold, which is too easy to beat.

    Args:
        truth: n labels.
        n_chars: n lengths of the texts in characters.
        folds: n fold numbers; where hosts are compared, not grouped by host, or a host is never seen before.
        hosts: n host names, None where unknown; without it there is no host baseline.

    Returns:
        Name of the baseline to n scores; with a single fold nothing can be held out, and there are none.

    Raises:
        FineeduError: scikit-learn is missing.
    """
    models = {COMMONEST: _commonest, LENGTH: _length} | ({} if hosts is None else {HOST: _host})
    given: dict[str, Any] = {
        COMMONEST: np.zeros((len(truth), 1)),
        LENGTH: np.log1p(np.asarray(n_chars, np.float64))[:, None],
        HOST: np.array([host or "" for host in hosts or ()], dtype=object)[:, None],
    }
    numbers = np.unique(folds)
    if len(numbers) < 2:
        return {}
    found = {}
    for name, fit in models.items():
        scores = np.full(len(truth), np.nan)
        for fold in numbers:
            train, test = folds != fold, folds == fold
            scores[test] = fit(given[name][train], truth[train], given[name][test])
        found[name] = scores
    return found


def match_distribution(fitted: Array, truth: Array, predicted: Array) -> Array:
    """Map predictions so that those of the training documents have the labels' own distribution.

    Args:
        fitted: predictions of n training documents.
        truth: their labels.
        predicted: m predictions to map.

    Returns:
        m scores, rising with the predictions.
    """
    levels, place, sizes = np.unique(fitted, return_inverse=True, return_counts=True)
    matched = np.bincount(np.sort(place), weights=np.sort(truth)) / sizes
    return np.asarray(np.interp(predicted, levels, matched), np.float64)


def _commonest(train: Any, truth: Array, test: Any) -> Array:
    values, counts = np.unique(rounded(truth), return_counts=True)
    return np.full(len(test), values[counts.argmax()])


def _length(train: Any, truth: Array, test: Any) -> Array:
    try:
        from sklearn.neighbors import KNeighborsRegressor
    except ImportError as error:
        raise FineeduError("baselines need scikit-learn: pip install 'fineedu[train]'") from error
    # Twice the root: about 40 neighbours of 480 documents, as smooth as a curve by hand.
    neighbours = max(1, min(len(truth), round(2 * np.sqrt(len(truth)))))
    model = KNeighborsRegressor(neighbours).fit(train, truth)
    return match_distribution(model.predict(train), truth, model.predict(test))


def _host(train: Any, truth: Array, test: Any) -> Array:
    try:
        from sklearn.preprocessing import TargetEncoder
    except ImportError as error:
        raise FineeduError("baselines need scikit-learn: pip install 'fineedu[train]'") from error
    if len(np.unique(truth)) < 2:
        return np.full(len(test), truth[0])
    # Means by host, shrunk to the overall mean by empirical Bayes; an unknown host gets the overall mean.
    model = TargetEncoder(target_type="continuous").fit(train, truth)
    seen, unseen = (model.transform(part)[:, 0] for part in (train, test))
    return match_distribution(seen, truth, unseen)
