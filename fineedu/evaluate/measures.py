"""How good scores are against labels, every figure with its interval.

Every measure is written for a matrix of weights, r resamples x n documents, so that a bootstrap is a few matrix
products and cumulated sums instead of a thousand calls. Tests hold them against scikit-learn and SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.evaluate.resample import Array, Estimate, estimate, resamples

#: The rubric's scale, and the levels that can be thresholds on it.
SCALE = (0, 5)
LEVELS = (1, 2, 3, 4, 5)
#: Edges of the reliability bins on the scale; a half is centred on what rounds to a level, and between.
BIN_EDGES = np.arange(0.25, 5, 0.5)
#: Recall values at which the precision/recall curve is drawn.
RECALL_GRID = np.arange(0.05, 1.001, 0.05)
Draws = dict[str, Array]


def rounded(scores: Array) -> Array:
    """Return FineWeb-Edu's integer score: clipped to the scale, halves to even, so that "3" is raw above 2.5."""
    return np.rint(np.clip(scores, *SCALE))


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of the reliability plot: documents whose score lies in it, and what their labels are on average."""

    low: float
    high: float
    n: int
    mean_score: float
    mean_label: Estimate


@dataclass(frozen=True, slots=True)
class Measures:
    """What :func:`measure` found."""

    n: int
    #: rows left out because the label or the score is missing
    missing: int
    #: level to documents labelled that or more
    positives: dict[int, int]
    #: name to estimate, see :func:`measure`
    estimates: dict[str, Estimate]
    reliability: tuple[Bin, ...]
    #: name to its value on each resample, in the order of the resamples
    draws: Draws = field(repr=False, compare=False)

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def as_json(self) -> dict[str, Any]:
        """Return ``n``, ``missing``, ``positives``, the estimates by name, and the reliability bins."""
        bins = [
            {"low": b.low, "high": b.high, "n": b.n, "mean_score": round(b.mean_score, 4)}
            | {"mean_label": b.mean_label.as_json()}
            for b in self.reliability
        ]
        return {
            "n": self.n,
            "missing": self.missing,
            "positives": {str(level): number for level, number in self.positives.items()},
            **{name: found.as_json() for name, found in self.estimates.items()},
            "reliability": bins,
        }


def measure(
    truth: npt.ArrayLike,
    score: npt.ArrayLike,
    *,
    levels: Sequence[int] = LEVELS,
    clusters: npt.NDArray[Any] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> Measures:
    """Measure scores against labels, with 95 % percentile bootstrap intervals.

    Names of the measures:

    - ``spearman``: rank correlation, ties at their mean rank;
    - ``quadratic_kappa``: Cohen's kappa with quadratic weights, of rounded scores and rounded labels (Cohen 1968);
    - ``mae``: mean absolute error of the raw score, in points of the scale;
    - ``calibration_error``: expected calibration error in points: the mean, over documents, of the distance between
      the mean score and the mean label of their reliability bin. It is biased upwards in small samples, and its
      resamples more so: read the interval as an upper one;
    - ``auc_L``, ``average_precision_L``: ranking of documents labelled L or more before the others;
    - ``precision_L_rounded``, ``recall_L_rounded``, ``positive_f1_L_rounded``, ``macro_f1_L_rounded``: the decision
      "rounded score >= L", which is FineWeb-Edu's (for L = 3 a raw score above 2.5). ``positive_f1`` is the F1 of
      the class that is kept; ``macro_f1`` is the mean of that and of the F1 of the rest, and the more flattering by
      far where few documents are positive: FineWeb-Edu's "82 %" is macro, its positive F1 about 0.68. Not
      defined without positives;
    - the same four with ``_raw``: the decision "raw score >= L".

    Args:
        truth: n labels on the scale; a mean of several votes is rounded as scores are where a class is needed.
        score: n raw scores. Rows without a label or a score (NaN) are left out and counted.
        levels: thresholds L.
        clusters: n cluster names for the bootstrap, see :func:`~fineedu.evaluate.resample.resamples`.
        seed: of the bootstrap. Results depend on the order of rows only through it: sort by id before.
        count: resamples.
    """
    labels, scores = np.asarray(truth, np.float64), np.asarray(score, np.float64)
    known = np.isfinite(labels) & np.isfinite(scores)
    named = None if clusters is None else clusters[known]
    sample = _Sample(labels[known], scores[known], levels)
    n = int(known.sum())
    values = {name: float(found[0]) for name, found in sample.measure(np.ones((1, n))).items()}
    chunks = [sample.measure(weights) for weights in resamples(n, count=count, seed=seed, clusters=named)]
    draws = {name: np.concatenate([c[name] for c in chunks]) if chunks else np.zeros(0) for name in values}
    bins = {name for name in values if name.startswith("bin ")}
    return Measures(
        n=n,
        missing=len(known) - n,
        positives={level: int((rounded(labels[known]) >= level).sum()) for level in levels},
        estimates={name: estimate(value, draws[name]) for name, value in values.items() if name not in bins},
        reliability=sample.bins({name: estimate(values[name], draws[name]) for name in bins}),
        draws={name: found for name, found in draws.items() if name not in bins},
    )


def difference(one: Measures, other: Measures, name: str) -> Estimate:
    """Return how far one model's measure lies above another's, on the same documents and resamples.

    Args:
        one: from :func:`measure`.
        other: from :func:`measure` with the same documents, seed and count.
        name: of the measure.

    Raises:
        ValueError: they were not measured on as many documents and resamples.
    """
    if one.n != other.n or len(one.draws[name]) != len(other.draws[name]):
        raise ValueError(f"not measured on the same documents and resamples: {one.n} and {other.n} documents")
    values = [m[name].value for m in (one, other)]
    value = np.nan if None in values else float(np.subtract(*values))  # type: ignore[arg-type]
    return estimate(value, one.draws[name] - other.draws[name])


class _Sample:
    """Labels and scores, sorted and counted once for all resamples.

    Args:
        truth: n labels, finite.
        score: n scores, finite.
        levels: thresholds.
    """

    def __init__(self, truth: Array, score: Array, levels: Sequence[int]) -> None:
        # By score, then label: the order of equal pairs cannot matter.
        self._order = np.lexsort((truth, score))
        self.truth, self.score = truth[self._order], score[self._order]
        self._levels = levels
        self._classes, self._rounded = rounded(self.truth), rounded(self.score)
        self._ties = _Ties(self.score)
        self._truth_order = np.argsort(self.truth, kind="stable")
        self._truth_ties = _Ties(self.truth[self._truth_order])
        self._truth_place = np.argsort(self._truth_order, kind="stable")
        self._bin = np.digitize(np.clip(self.score, *SCALE), BIN_EDGES)
        self._columns = self._sums()

    def _sums(self) -> dict[str, Array]:
        """Return everything whose weighted sum a measure needs."""
        label, guess = self._classes, self._rounded
        columns: dict[str, Any] = {
            "label": label,
            "guess": guess,
            "label2": label**2,
            "guess2": guess**2,
            "product": label * guess,
        }
        columns["error"] = np.abs(self.truth - self.score)
        for level in self._levels:
            positive = label >= level
            columns[f"positive {level}"] = positive
            for cut, chosen in (("rounded", guess >= level), ("raw", self.score >= level)):
                columns[f"chosen {level} {cut}"] = chosen
                columns[f"hit {level} {cut}"] = chosen & positive
        for number in range(len(BIN_EDGES) + 1):
            inside = self._bin == number
            columns[f"in {number}"] = inside
            columns[f"score {number}"] = inside * self.score
            columns[f"truth {number}"] = inside * self.truth
        return {name: np.asarray(column, np.float64) for name, column in columns.items()}

    def measure(self, weights: Array) -> Draws:
        """Return every measure for each row of weights, r x n in the order of the rows given."""
        ordered = weights[:, self._order]
        table = np.stack(list(self._columns.values()), axis=1)
        sums = dict(zip(self._columns, (ordered @ table).T, strict=True))
        size = ordered.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "spearman": self._spearman(ordered),
                "quadratic_kappa": _kappa(sums, size),
                "mae": sums["error"] / size,
                **self._calibration(sums, size),
                **self._ranking(ordered),
                **self._decisions(sums, size),
            }

    def _spearman(self, weights: Array) -> Array:
        ranks = self._ties.ranks(weights)
        others = self._truth_ties.ranks(weights[:, self._truth_order])[:, self._truth_place]
        # The weighted mean of mean ranks is (size + 1) / 2, with ties too.
        middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
        ranks, others = ranks - middle, others - middle
        cross, one, two = (np.einsum("rn,rn,rn->r", weights, a, b) for a, b in
                           ((ranks, others), (ranks, ranks), (others, others)))  # fmt: skip
        flat = (one <= 0) | (two <= 0)
        return np.where(flat, np.nan, np.clip(cross / np.sqrt(one * two), -1, 1))

    def _calibration(self, sums: Draws, size: Array) -> Draws:
        found, error = {}, np.zeros(len(size))
        for number in range(len(BIN_EDGES) + 1):
            error += np.abs(sums[f"score {number}"] - sums[f"truth {number}"])
            found[f"bin {number}"] = sums[f"truth {number}"] / sums[f"in {number}"]
        return {"calibration_error": error / size, **found}

    def _ranking(self, weights: Array) -> Draws:
        """Return areas under the curves; one step a group of equal scores, as scikit-learn counts them."""
        found: Draws = {}
        total, size = self._ties.groups(weights), weights.sum(axis=1, keepdims=True)
        chosen = size - np.cumsum(total, axis=1) + total
        for level in self._levels:
            hits = self._ties.groups(weights * self._columns[f"positive {level}"])
            positive = hits.sum(axis=1, keepdims=True)
            above = positive - np.cumsum(hits, axis=1) + hits
            others = total - hits
            below = np.cumsum(others, axis=1) - others / 2
            found[f"auc_{level}"] = (hits * below).sum(axis=1) / (positive * (size - positive))[:, 0]
            steps = np.divide(hits * above, chosen, out=np.zeros_like(hits), where=chosen > 0)
            found[f"average_precision_{level}"] = steps.sum(axis=1) / positive[:, 0]
        return found

    def _decisions(self, sums: Draws, size: Array) -> Draws:
        found: Draws = {}
        for level in self._levels:
            positive = sums[f"positive {level}"]
            for cut in ("rounded", "raw"):
                chosen, hits = sums[f"chosen {level} {cut}"], sums[f"hit {level} {cut}"]
                rest = size - positive - chosen + hits
                # Without positives the formula says 0 for any false alarm, which measures nothing.
                f1 = np.where(positive > 0, 2 * hits / (positive + chosen), np.nan)
                found |= {
                    f"precision_{level}_{cut}": hits / chosen,
                    f"recall_{level}_{cut}": hits / positive,
                    f"positive_f1_{level}_{cut}": f1,
                    f"macro_f1_{level}_{cut}": (f1 + 2 * rest / (2 * size - positive - chosen)) / 2,
                }
        return found

    def bins(self, means: dict[str, Estimate]) -> tuple[Bin, ...]:
        """Return the reliability bins that hold documents."""
        edges = [SCALE[0], *BIN_EDGES.tolist(), SCALE[1]]
        return tuple(
            Bin(
                float(edges[number]),
                float(edges[number + 1]),
                int((self._bin == number).sum()),
                float(self.score[self._bin == number].mean()),
                means[f"bin {number}"],
            )
            for number in np.unique(self._bin).tolist()
        )


class _Ties:
    """Groups of equal values in a sorted row."""

    def __init__(self, ordered: Array) -> None:
        self._starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, int)
        self._member = np.zeros(len(ordered), int)
        self._member[self._starts[1:]] = 1
        self._member = np.cumsum(self._member)

    def groups(self, weights: Array) -> Array:
        """Return the weight of each group: r x n to r x g."""
        if len(self._starts) in (0, weights.shape[1]):
            return weights
        return np.add.reduceat(weights, self._starts, axis=1)

    def ranks(self, weights: Array) -> Array:
        """Return the mean rank of every row in its resample, r x n."""
        groups = self.groups(weights)
        ranks = np.cumsum(groups, axis=1) - (groups - 1) / 2
        return ranks if groups.shape == weights.shape else ranks[:, self._member]


def _kappa(sums: Draws, size: Array) -> Array:
    """Quadratic kappa from moments: 1 - E[(x - y)^2] / (E[x^2] + E[y^2] - 2 E[x] E[y])."""
    apart = sums["label2"] + sums["guess2"] - 2 * sums["product"]
    expected = sums["label2"] + sums["guess2"] - 2 * sums["label"] * sums["guess"] / size
    # Integers: exact, so that two constant and equal columns give 0 / 0 and not noise.
    return np.where(expected > 0, 1 - apart / expected, np.nan)


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision at each recall: the highest cut that finds at least that share of the positives."""

    level: int
    #: share of positives: the precision of keeping everything
    base_rate: float
    recall: tuple[float, ...]
    precision: tuple[Estimate, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the points."""
        points = zip(self.recall, self.precision, strict=True)
        return {
            "level": self.level,
            "base_rate": round(self.base_rate, 4),
            "points": [{"recall": round(recall, 4), **found.as_json()} for recall, found in points],
        }


def precision_recall(
    truth: Array,
    score: Array,
    level: int,
    *,
    clusters: npt.NDArray[Any] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> Curve | None:
    """Return the precision/recall curve at a level with a pointwise 95 % band; None without both classes.

    Args:
        truth: n labels, finite.
        score: n scores, finite.
        level: documents labelled that or more are positive.
        clusters: n cluster names for the bootstrap.
        seed: of the bootstrap.
        count: resamples.
    """
    order = np.argsort(-score, kind="stable")
    positive = (rounded(truth) >= level)[order].astype(np.float64)
    if not 0 < positive.sum() < len(positive):
        return None
    ties = _Ties(-score[order])

    def at_grid(weights: Array) -> Array:
        hits = np.cumsum(ties.groups(weights * positive), axis=1)
        chosen = np.cumsum(ties.groups(weights), axis=1)
        found = np.full((len(weights), len(RECALL_GRID)), np.nan)
        for row in np.flatnonzero(hits[:, -1] > 0):
            # A billionth below: 0.15 * 20 positives must ask for 3 of them, not 4.
            cut = np.searchsorted(hits[row], RECALL_GRID * hits[row, -1] - 1e-9)
            found[row] = hits[row, cut] / chosen[row, cut]
        return found

    values = at_grid(np.ones((1, len(score))))[0]
    drawn = [at_grid(weights[:, order]) for weights in resamples(len(score), count=count, seed=seed, clusters=clusters)]
    draws = np.concatenate(drawn) if drawn else np.zeros((0, len(RECALL_GRID)))
    found = tuple(estimate(value, draws[:, place]) for place, value in enumerate(values))
    return Curve(level, float(positive.mean()), tuple(RECALL_GRID.tolist()), found)
