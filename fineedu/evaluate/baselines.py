"""Trivial models that any classifier must beat: the commonest label, the text's length, the host it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.errors import FineeduError
from fineedu.evaluate.measures import rounded
from fineedu.evaluate.resample import Array

#: Training documents from which on a baseline is fitted; nothing can be learnt from fewer.
_ENOUGH = 20
_INNER = 5
Fit = Callable[[Any, Array, Any], Array]
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
    if find_spec("sklearn") is None:
        raise FineeduError("baselines need scikit-learn: pip install 'fineedu[train]'")
    models: dict[str, Fit] = {COMMONEST: _commonest, LENGTH: partial(_mapped, _by_length)}
    models |= {} if hosts is None else {HOST: partial(_mapped, _by_host)}
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


def _mapped(fit: Fit, train: Any, truth: Array, test: Any) -> Array:
    """Fit, predict, and map; the map is fitted on predictions held out within the training documents."""
    if len(truth) < _ENOUGH or len(np.unique(truth)) < 2:
        return np.full(len(test), truth.mean())
    inner = np.arange(len(truth)) % _INNER
    fitted = np.full(len(truth), np.nan)
    for fold in range(_INNER):
        fitted[inner == fold] = fit(train[inner != fold], truth[inner != fold], train[inner == fold])
    return match_distribution(fitted, truth, fit(train, truth, test))


def _by_length(train: Any, truth: Array, test: Any) -> Array:
    from sklearn.neighbors import KNeighborsRegressor

    # Twice the root: about 40 neighbours of 480 documents, as smooth as a curve by hand.
    model = KNeighborsRegressor(max(1, round(2 * np.sqrt(len(truth)))))
    return np.asarray(model.fit(train, truth).predict(test), np.float64)


def _by_host(train: Any, truth: Array, test: Any) -> Array:
    from sklearn.preprocessing import TargetEncoder

    # Means by host, shrunk to the overall mean by empirical Bayes; an unknown host gets the overall mean.
    model = TargetEncoder(target_type="continuous").fit(train, truth)
    return np.asarray(model.transform(test)[:, 0], np.float64)
