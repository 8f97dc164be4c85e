"""Measures of agreement from counts, each for many resamples at once, and their bootstrap intervals.

Everything here is a function of how many documents fall into each cell, so a bootstrap over documents is a multinomial
draw over the cells: its cost does not grow with the number of documents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SCORE_MEASURES = ("quadratic_kappa", "alpha_ordinal", "alpha_interval", "spearman", "exact", "within_one", "bias")
TOPIC_MEASURES = ("kappa", "alpha_nominal", "exact")
PROPORTIONS = frozenset({"exact", "within_one"})
#: Below so many documents a percentile interval says nothing, and none is given.
MIN_DOCUMENTS = 10
#: Nor is one given where a measure is undefined in more than this share of resamples.
MAX_UNDEFINED = 0.05
#: Resamples measured at a time: draws take 20 MB where 10,000 documents all have different votes.
BATCH = 250


def _ratio(above: Array, below: Array) -> Array:
    """Divide; undefined (NaN) where there is nothing to divide by."""
    small = below <= 1e-12
    return np.where(small, np.nan, above / np.where(small, 1.0, below))


def score_measures(counts: Array, levels: Array) -> dict[str, Array]:
    """Measure how two annotators' scores agree.

    Args:
        counts: (resamples, levels, levels) documents by the first annotator's score and the second's.
        levels: (levels,) the scores, ascending.

    Returns:
        For each of :data:`SCORE_MEASURES` an array (resamples,), NaN where it is undefined (no documents; or one of
        the annotators, or both, without any spread). ``quadratic_kappa``: Cohen (1968), Psychological Bulletin 70:213,
        with weights ``(i - j)**2``; the two alphas: :func:`alpha`; ``spearman``: Pearson correlation of mid-ranks;
        ``bias``: mean of first minus second.
    """
    share = _ratio(counts, counts.sum((1, 2))[:, None, None])
    first, second = share.sum(2), share.sum(1)
    gap = levels[:, None] - levels[None, :]
    mean_first, mean_second = first @ levels, second @ levels
    by_chance = first @ levels**2 + second @ levels**2 - 2 * mean_first * mean_second
    pairs = counts + counts.transpose(0, 2, 1)
    rank_first, rank_second = (part.cumsum(1) - part / 2 - 0.5 for part in (first, second))
    together = np.einsum("rij,ri,rj->r", share, rank_first, rank_second)
    spread = np.sqrt((first * rank_first**2).sum(1) * (second * rank_second**2).sum(1))
    return {
        "quadratic_kappa": 1 - _ratio((share * gap**2).sum((1, 2)), by_chance),
        "alpha_ordinal": alpha(pairs, "ordinal", levels),
        "alpha_interval": alpha(pairs, "interval", levels),
        "spearman": _ratio(together, spread),
        "exact": np.einsum("rii->r", share),
        "within_one": share[:, np.abs(gap) <= 1].sum(1),
        "bias": mean_first - mean_second,
    }


def topic_measures(counts: Array) -> dict[str, Array]:
    """Measure how two annotators' topics agree.

    Args:
        counts: (resamples, topics, topics) documents by the first annotator's topic and the second's.

    Returns:
        For each of :data:`TOPIC_MEASURES` an array (resamples,). ``kappa``: Cohen (1960), Educational and Psychological
        Measurement 20:37.
    """
    share = _ratio(counts, counts.sum((1, 2))[:, None, None])
    exact = np.einsum("rii->r", share)
    by_chance = (share.sum(1) * share.sum(2)).sum(1)
    return {
        "kappa": _ratio(exact - by_chance, 1 - by_chance),
        "alpha_nominal": alpha(counts + counts.transpose(0, 2, 1), "nominal"),
        "exact": exact,
    }


def alpha(coincidences: Array, metric: str, levels: Array | None = None) -> Array:
    """Krippendorff's alpha from coincidence matrices.

    Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, sections C and D: 1 minus the observed over the
    expected disagreement, with the squared difference of values (interval), of their mid-ranks by the matrix' margins
    (ordinal), or 1 for any two different values (nominal).

    Args:
        coincidences: (resamples, values, values), symmetric: for each document and ordered pair of its votes, one over
            its number of votes less one.
        metric: ``nominal``, ``ordinal`` or ``interval``.
        levels: (values,) the values, for ``interval``.

    Returns:
        (resamples,), NaN where all votes are the same.
    """
    margin = coincidences.sum(2)
    total = margin.sum(1)
    if metric == "nominal":
        observed = total - np.einsum("rii->r", coincidences)
        expected = total**2 - (margin**2).sum(1)
    else:
        place = margin.cumsum(1) - margin / 2 if metric == "ordinal" else np.broadcast_to(_given(levels), margin.shape)
        # Centred, both sums of squared differences are moments: sum (x - y)**2 = sum x**2 + sum y**2 - 2 sum xy.
        place = place - _ratio((margin * place).sum(1), total)[:, None]
        square = (margin * place**2).sum(1)
        observed = 2 * (square - np.einsum("rij,ri,rj->r", coincidences, place, place))
        expected = 2 * total * square
    found: Array = 1 - (total - 1) * _ratio(observed, expected)
    return found


def _given(levels: Array | None) -> Array:
    if levels is None:
        raise ValueError("the interval metric needs the levels")
    return levels


def resample(counts: Integers, resamples: int, generator: np.random.Generator) -> Array:
    """Draw bootstrap resamples of documents.

    Args:
        counts: (cells,) documents in each cell, at least one in all.
        resamples: how many.
        generator: where chance comes from.

    Returns:
        (resamples, cells) documents in each cell of each resample.
    """
    total = int(counts.sum())
    return generator.multinomial(total, counts / total, size=resamples).astype(np.float64)


def measure_pair(
    first: Integers, second: Integers, kind: str, levels: Array, resamples: int, generator: np.random.Generator
) -> tuple[dict[str, float], dict[str, Array]]:
    """Measure two annotators on the documents that both have.

    Args:
        first: (documents,) codes of the first annotator's values, positions in ``levels``.
        second: (documents,) codes of the second annotator's.
        kind: ``score`` or ``topic``.
        levels: the scores that codes stand for; of topics only the length counts.
        resamples: of the bootstrap.
        generator: where chance comes from.

    Returns:
        Each measure's value, and its (resamples,) draws.
    """
    size = len(levels)
    cells, counts = np.unique(first * size + second, return_counts=True)

    def measure(drawn: Array) -> dict[str, Array]:
        flat = np.zeros((len(drawn), size * size))
        flat[:, cells] = drawn
        full = flat.reshape(-1, size, size)
        return score_measures(full, levels) if kind == "score" else topic_measures(full)

    return _with_draws(measure, counts, resamples, generator)


def measure_all(
    codes: Integers, kind: str, levels: Array, resamples: int, generator: np.random.Generator
) -> tuple[dict[str, float], dict[str, Array]]:
    """Measure any number of annotators together on the documents that at least two of them have.

    Alphas, ``exact`` and ``within_one`` come from the coincidence matrix, so that every document counts by its number
    of votes; ``exact`` is the chance that two votes on one document are the same. Kappa and Spearman are the plain
    means over the pairs for which they are defined (Light 1971, Psychological Bulletin 76:365). There is no ``bias``.

    Args:
        codes: (documents, annotators) positions in ``levels``, -1 where an annotator has none; every row has two votes
            or more.
        kind: ``score`` or ``topic``.
        levels: the scores that codes stand for; of topics only the length counts.
        resamples: of the bootstrap.
        generator: where chance comes from.

    Returns:
        Each measure's value, and its (resamples,) draws.
    """
    size = len(levels)
    patterns, counts = np.unique(codes, axis=0, return_counts=True)
    pairs = [_pair_cells(patterns, a, b, size) for a in range(codes.shape[1]) for b in range(a)]
    pairs = [pair for pair in pairs if pair.nnz]
    votes = (patterns >= 0).sum(1)
    one_way = sum(pair.multiply(1 / (votes - 1)[:, None]) for pair in pairs).tocsr()
    gap = np.abs(levels[:, None] - levels[None, :])
    single = score_measures if kind == "score" else lambda table, _: topic_measures(table)
    averaged = ("quadratic_kappa", "spearman") if kind == "score" else ("kappa",)
    defined: dict[str, npt.NDArray[np.bool_]] = {}

    def measure(drawn: Array) -> dict[str, Array]:
        half = (drawn @ one_way).reshape(-1, size, size)
        both = half + half.transpose(0, 2, 1)
        share = _ratio(both, both.sum((1, 2))[:, None, None])
        found = {"exact": np.einsum("rii->r", share)}
        if kind == "score":
            found["within_one"] = share[:, gap <= 1].sum(1)
            found |= {f"alpha_{metric}": alpha(both, metric, levels) for metric in ("ordinal", "interval")}
        else:
            found["alpha_nominal"] = alpha(both, "nominal")
        of_pairs = [single((drawn @ pair).reshape(-1, size, size), levels) for pair in pairs]
        for name in averaged:
            values = np.stack([part[name] for part in of_pairs])
            # The first call measures the sample itself: a pair defined there has to be so in a resample, too.
            known = defined.setdefault(name, np.atleast_1d(np.isfinite(values).all(axis=1)))
            found[name] = values[known].mean(0) if known.any() else np.full(len(drawn), np.nan)
        return found

    return _with_draws(measure, counts, resamples, generator)


def _pair_cells(patterns: Integers, first: int, second: int, size: int) -> Any:
    """Sparse (patterns, levels²) ones: in which cell of two annotators' table a pattern falls, if any."""
    from scipy.sparse import csr_array

    rows = np.flatnonzero((patterns[:, first] >= 0) & (patterns[:, second] >= 0))
    cells = patterns[rows, first] * size + patterns[rows, second]
    return csr_array((np.ones(len(rows)), (rows, cells)), shape=(len(patterns), size * size))


def _with_draws(
    measure: Any, counts: Integers, resamples: int, generator: np.random.Generator
) -> tuple[dict[str, float], dict[str, Array]]:
    value = {name: float(found[0]) for name, found in measure(counts[None].astype(np.float64)).items()}
    sizes = [min(BATCH, resamples - start) for start in range(0, resamples, BATCH)]
    parts = [measure(resample(counts, size, generator)) for size in sizes]
    return value, {name: np.concatenate([part[name] for part in parts]) if parts else np.zeros(0) for name in value}


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a proportion; (0, 1) of nothing."""
    from scipy.stats import binomtest

    if not total:
        return 0.0, 1.0
    bounds = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    return float(bounds.low), float(bounds.high)


def interval(name: str, value: float, draws: Array, documents: int) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of a measure, or None where it cannot be had.

    None: fewer than :data:`MIN_DOCUMENTS` documents, a measure that is undefined in more than :data:`MAX_UNDEFINED` of
    the resamples, or resamples that are all the same. A proportion of 0 or 1, where every resample is the same, gets
    its Wilson interval.

    How often it covers the truth, in 2,000 simulated samples of a 5 level scale: quadratic kappa 0.916, 0.939 and 0.935
    at 30, 150 and 1,000 documents, ordinal alpha 0.937, 0.947, 0.942, Spearman 0.933, 0.943, 0.940. A proportion near
    1 with a few cases below it does worse: 0.89 for a ``within_one`` of 0.978 at 150 documents.
    """
    fine = draws[np.isfinite(draws)]
    if documents < MIN_DOCUMENTS or not len(draws) or len(fine) < (1 - MAX_UNDEFINED) * len(draws):
        return None
    low, high = np.percentile(fine, [2.5, 97.5])
    if np.ptp(fine) > 1e-12:
        return float(low), float(high)
    if name in PROPORTIONS and (value < 1e-12 or value > 1 - 1e-12):
        return wilson(round(value * documents), documents)
    return None
