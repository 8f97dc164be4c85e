"""A combination of scores learned from labels: ordinal (or binary) logistic regression with weights that never fall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids
from fineedu.store import read_model

Floats = npt.NDArray[np.float64]
_FOLDS = 5
_RESAMPLES = 1000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gain(_Strict):
    """How much better than the best single score, on documents that the fit has not seen."""

    #: Spearman's rank correlation with the label, or the area under the ROC curve
    metric: Literal["spearman", "auc"]
    documents: int
    stack: float
    #: of the single score that was best on the other folds
    best_single: float
    single: str
    gain: float
    #: 95 % bootstrap interval of the gain over documents (percentile, 1,000 resamples, seeded)
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.metric} {self.stack:.3f} against {self.best_single:.3f} of the best single score ({self.single}): "
            f"gain {self.gain:+.3f} (95 % interval {self.low:+.3f} to {self.high:+.3f}, n = {self.documents:,}, "
            f"{_FOLDS}-fold cross-validation)"
        )


class StackModel(_Strict):
    """A fitted combination: P(label >= levels[k + 1]) = sigmoid(sum(w * (x - center) / scale) - cuts[k])."""

    format: Literal["fineedu-stack-1"] = "fineedu-stack-1"
    scores: list[str]
    center: list[float]
    scale: list[float]
    #: never below 0: a higher score never lowers the result
    weights: list[float]
    cuts: list[float]
    levels: list[float]
    gain: Gain | None = None

    def predict(self, frame: pl.DataFrame) -> pl.Series:
        """Return the expected label of n rows (for two levels 0 and 1: the probability); null where a score is."""
        values = frame.select(pl.col(self.scores).cast(pl.Float64).fill_nan(None))
        missing = values.select(pl.any_horizontal(pl.all().is_null()).alias("gap"))["gap"]
        found = self._expected(values.fill_null(0).to_numpy())
        return pl.Series("score", found, dtype=pl.Float32).set(missing, None)

    def _expected(self, values: Floats) -> Floats:
        line = (values - np.array(self.center)) / np.array(self.scale) @ np.array(self.weights)
        above = _sigmoid(line[:, None] - np.array(self.cuts)[None, :])
        expected: Floats = self.levels[0] + above @ np.diff(self.levels)
        return expected


def _sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)); by tanh, which neither overflows nor needs SciPy where a stack is only applied."""
    found: Floats = 0.5 * (1 + np.tanh(values / 2))
    return found


def _negative_log_likelihood(
    parameters: Floats, values: Floats, classes: npt.NDArray[np.intp], size: int, penalty: float
) -> tuple[float, Floats]:
    """Proportional odds (McCullagh 1980) with an L2 penalty on the weights; parameters are weights, first cut, gaps."""
    width = values.shape[1]
    weights, cuts = parameters[:width], np.cumsum(parameters[width:])
    line = values @ weights
    padded = np.concatenate([[-np.inf], cuts, [np.inf]])
    lower, upper = _sigmoid(line - padded[classes]), _sigmoid(line - padded[classes + 1])
    chance = np.maximum(lower - upper, 1e-300)
    slope_low, slope_high = lower * (1 - lower), upper * (1 - upper)
    to_line = (slope_low - slope_high) / chance
    to_cut = np.bincount(classes, -slope_low / chance, size)[1:] + np.bincount(classes, slope_high / chance, size)[:-1]
    gradient = -np.concatenate([values.T @ to_line, np.cumsum(to_cut[::-1])[::-1]])
    gradient[:width] += penalty * weights
    return float(-np.log(chance).sum() + penalty / 2 * (weights**2).sum()), gradient


def fit(values: Floats, labels: Floats, scores: Sequence[str], penalty: float = 1.0) -> StackModel:
    """Fit on (n, k) scores without gaps and n labels.

    Args:
        values: scores.
        labels: at least two levels; any numbers.
        scores: names of the k columns.
        penalty: L2 on standardised weights, as scikit-learn's ``1 / C``.

    Raises:
        FineeduError: one level only, a value that is not finite, or no SciPy.
    """
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise FineeduError("fitting a stack needs SciPy: pip install 'fineedu[train]'") from error
    levels, classes = np.unique(labels, return_inverse=True)
    if len(levels) < 2:
        raise FineeduError(f"all {len(labels)} labels are the same: nothing to learn from")
    center, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    standard = (values - center) / scale
    share = np.clip(np.cumsum(np.bincount(classes))[:-1] / len(labels), 1e-6, 1 - 1e-6)
    cuts = np.log(share / (1 - share))
    width = values.shape[1]
    start = np.concatenate([np.full(width, 0.5), cuts[:1], np.diff(cuts)])
    bounds = [(0.0, None)] * width + [(None, None)] + [(1e-4, None)] * (len(cuts) - 1)
    found = minimize(
        _negative_log_likelihood,
        start,
        args=(standard, classes, len(levels), penalty),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-6},
    )
    if not np.isfinite(found.fun):
        raise FineeduError("the stack cannot be fitted: a score or a label is not finite")
    return StackModel(
        scores=list(scores),
        center=center.tolist(),
        scale=scale.tolist(),
        weights=found.x[:width].tolist(),
        cuts=np.cumsum(found.x[width:]).tolist(),
        levels=levels.tolist(),
    )


def fit_stack(
    table: pl.DataFrame, scores: Sequence[str], *, positive_from: float | None = None, seed: int = 0
) -> tuple[StackModel, int]:
    """Fit a stack on labelled documents and measure its gain by cross-validation.

    Args:
        table: ``id``, ``label`` and the scores, one row a document; rows with a gap are left out.
        scores: columns.
        positive_from: learn ``label >= positive_from`` instead of the levels.
        seed: of folds and bootstrap.

    Returns:
        The model of all rows with its gain, and the number of rows left out.

    Raises:
        FineeduError: too few documents, or labels that are all the same.
    """
    columns = [*scores, "label"]
    known = table.with_columns(pl.col(columns).cast(pl.Float64).fill_nan(None)).drop_nulls(columns).sort("id")
    if known.height < 10 * _FOLDS:
        raise FineeduError(f"{known.height} documents have a label and all scores: a stack needs {10 * _FOLDS} or more")
    values, labels = known.select(scores).to_numpy(), known["label"].to_numpy()
    if positive_from is not None:
        labels = (labels >= positive_from).astype(np.float64)
    # By rank of the hash, so that folds are of one size and do not depend on the order of rows.
    folds = hash_ids(known["id"], seed).argsort().argsort() % _FOLDS
    combined, single = np.zeros(len(labels)), np.zeros(len(labels))
    chosen: list[int] = []
    metric: Literal["spearman", "auc"] = "auc" if len(np.unique(labels)) == 2 else "spearman"
    for fold in range(_FOLDS):
        train, held = folds != fold, folds == fold
        model = fit(values[train], labels[train], scores)
        combined[held] = model._expected(values[held])
        each = [_metric(metric, values[train, k], labels[train]) for k in range(len(scores))]
        chosen.append(int(np.argmax(each)))
        single[held] = _ranks(values[train, chosen[-1]], values[held, chosen[-1]])
    best = max(set(chosen), key=chosen.count)
    if len(set(chosen)) == 1:
        single = values[:, best]
    gain = _gain(metric, combined, single, labels, scores[best], seed)
    return fit(values, labels, scores).model_copy(update={"gain": gain}), table.height - known.height


def _ranks(train: Floats, held: Floats) -> Floats:
    """Put values on the scale of their share in the training folds, so that folds with other scores can be joined."""
    shares: Floats = np.searchsorted(np.sort(train), held) / len(train)
    return shares


def _metric(metric: str, scores: Floats, labels: Floats) -> float:
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    if metric == "auc":
        positive = labels == labels.max()
        n, m = int(positive.sum()), int((~positive).sum())
        return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")
    other = rankdata(labels)
    if ranks.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(ranks, other)[0, 1])


def _gain(
    metric: Literal["spearman", "auc"], stack: Floats, single: Floats, labels: Floats, name: str, seed: int
) -> Gain:
    rng = np.random.default_rng(seed)
    found = np.empty(_RESAMPLES)
    for at in range(_RESAMPLES):
        rows = rng.integers(len(labels), size=len(labels))
        found[at] = _metric(metric, stack[rows], labels[rows]) - _metric(metric, single[rows], labels[rows])
    low, high = np.nanquantile(found, [0.025, 0.975])
    ours, theirs = _metric(metric, stack, labels), _metric(metric, single, labels)
    return Gain(
        metric=metric,
        documents=len(labels),
        stack=ours,
        best_single=theirs,
        single=name,
        gain=ours - theirs,
        low=float(low),
        high=float(high),
    )


def read_stack(path: Path) -> StackModel:
    """Read a model that ``fineedu ensemble stack`` wrote.

    Raises:
        FineeduError: missing, or not one.
    """
    return read_model(
        path, StackModel, f"no stack at {path}: fit one with fineedu ensemble stack", f"{path} is no stack of fineedu"
    )
