"""Precision, recall and F1 of every cell against labels, with what the number of labels leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.ablate.config import LabelConfig, Recommend
from fineedu.errors import FineeduError
from fineedu.evaluate.measures import rounded
from fineedu.evaluate.resample import Estimate, estimate, resamples
from fineedu.evaluate.votes import document_labels
from fineedu.labels import read_labels

Array = npt.NDArray[np.float64]
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Truth:
    """Labelled documents."""

    #: ``id``, ``positive`` (Boolean), ``weight`` and ``stratum``; sorted by id
    table: pl.DataFrame
    #: documents whose votes give no label
    without: int
    #: whether weights make the documents stand for a population
    weighted: bool
    words: str


def read_truth(config: LabelConfig) -> Truth:
    """Read labels, and the sample that the labelled documents were drawn as.

    Raises:
        FineeduError: no labels, several annotators and none chosen, or a sample without weights.
    """
    labelled = document_labels(read_labels(config.files), config.annotator)
    known = labelled.documents.drop_nulls("label")
    positive = rounded(known["label"].to_numpy()) >= config.positive
    table = known.select("id").with_columns(positive=pl.Series(positive), weight=pl.lit(1.0), stratum=pl.lit("all"))
    if config.sample is not None:
        table = _weighted(table, config)
    words = f"labels of {', '.join(labelled.annotators)}, positive from {config.positive} (rounded)"
    return Truth(table, labelled.documents.height - known.height, config.sample is not None, words)


def _weighted(table: pl.DataFrame, config: LabelConfig) -> pl.DataFrame:
    path = config.sample
    try:
        sample = pl.read_parquet(path, columns=["id", "stratum", "weight"])  # type: ignore[arg-type]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FineeduError(
            f"cannot read id, stratum and weight of the sample {path}: {str(error).splitlines()[0]}"
        ) from error
    joined = table.select("id", "positive").join(sample.unique("id", keep="first"), on="id", how="left").sort("id")
    gone = joined["weight"].null_count()
    if gone:
        raise FineeduError(
            f"{gone} labelled documents have no weight in {path}: it is of another sample, or was drawn on purpose "
            "(uncertainty, disagreement), which stands for nothing; leave labels.sample out, and read the figures so"
        )
    return joined.with_columns(pl.col("stratum").fill_null("?"))


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of c cells; draws are (r, c), NaN where a measure is not defined."""

    precision: list[Estimate]
    recall: list[Estimate]
    f1: list[Estimate]
    #: labelled documents that each cell keeps, and the positives among them
    kept: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    n: int
    positives: int
    precision_draws: Array
    recall_draws: Array
    method: str


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927)."""
    if not n:
        return 0.0, 1.0
    share, z = hits / n, _Z
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At 0 and at n one end is 0 or 1 exactly; rounding would put it beyond.
    return (0.0 if hits == 0 else float(middle - half)), (1.0 if hits == n else float(middle + half))


def score(
    keeps: npt.NDArray[np.bool_],
    positive: npt.NDArray[np.bool_],
    weight: Array,
    strata: Sequence[str],
    *,
    weighted: bool,
    seed: int,
    count: int,
) -> Scores:
    """Measure cells against labels.

    Precision and recall have Wilson intervals, which hold at 0 and 1 and for few labels; of a weighted sample with the
    number of labels that would leave as much open if they were drawn without strata and weights (Korn and Graubard
    1998). F1 has a percentile bootstrap within strata.

    Args:
        keeps: (n, c), rows in order of id.
        positive: n.
        weight: n, documents of the pool that each stands for.
        strata: n names of the strata that the sample was drawn in.
        weighted: whether the weights differ.
        seed: of the bootstrap.
        count: resamples.
    """
    n, c = keeps.shape
    kept, wanted = keeps.astype(np.float64), positive.astype(np.float64)
    values = _measure(np.ones((1, n)) * weight, kept, wanted)
    draws = [np.full((0, c), np.nan)] * 3
    if n:
        chunks = [_measure(drawn * weight, kept, wanted) for drawn in _stratified(strata, seed, count)]
        draws = [np.concatenate([chunk[at] for chunk in chunks]) for at in range(3)]
    boot = [[estimate(float(values[at][0, cell]), draws[at][:, cell]) for cell in range(c)] for at in range(3)]
    hits, chosen = (kept * wanted[:, None]).sum(axis=0), kept.sum(axis=0)
    if weighted:
        mass = weight[:, None]
        boot[0] = _weighted_shares(mass * kept, wanted[:, None], strata)
        boot[1] = _weighted_shares(mass * wanted[:, None] * np.ones_like(kept), kept, strata)
    else:
        boot[0] = [_share(hit, n) for hit, n in zip(hits, chosen, strict=True)]
        boot[1] = [_share(hit, float(wanted.sum())) for hit in hits]
    return Scores(
        precision=boot[0],
        recall=boot[1],
        f1=boot[2],
        kept=chosen.astype(np.int64),
        hits=hits.astype(np.int64),
        n=n,
        positives=int(wanted.sum()),
        precision_draws=draws[0],
        recall_draws=draws[1],
        method=("weighted, Wilson at the effective number of labels" if weighted else "Wilson") + "; F1 by bootstrap",
    )


def _share(hits: float, n: float) -> Estimate:
    return Estimate(float(hits / n), *wilson(hits, n)) if n else Estimate(None)


def _weighted_shares(base: Array, yes: Array, strata: Sequence[str]) -> list[Estimate]:
    """Return c shares sum(base * yes) / sum(base) of a stratified sample, with Wilson's interval at the effective n.

    The variance is that of a ratio by linearisation within strata (Cochran 1977, 6.13); where all say yes, or none, it
    is 0 and Kish's number, sum(base)^2 / sum(base^2), stands in.

    Args:
        base: (n, c) weights of what counts at all.
        yes: (n, c) or (n, 1), 1 where it counts as yes.
        strata: n names.
    """
    total = base.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (base * yes).sum(axis=0) / total
        residual = base * (yes - share) / total
        kish = total**2 / (base**2).sum(axis=0)
    variance = np.zeros(len(total))
    member = np.unique(np.asarray(strata, object).astype(str), return_inverse=True)[1]
    for at in range(member.max(initial=-1) + 1):
        part = residual[member == at]
        if len(part) > 1:
            variance += len(part) / (len(part) - 1) * ((part - part.mean(axis=0)) ** 2).sum(axis=0)
    found = []
    for p, spread, size in zip(share, variance, kish, strict=True):
        if np.isnan(p):
            found.append(Estimate(None))
            continue
        n = p * (1 - p) / spread if spread > 0 and 0 < p < 1 else size
        found.append(Estimate(float(p), *wilson(p * n, n)))
    return found


def _measure(weights: Array, kept: Array, wanted: Array) -> tuple[Array, Array, Array]:
    """Return precision, recall and F1, (r, c), for (r, n) weights."""
    hits = weights @ (kept * wanted[:, None])
    chosen = weights @ kept
    positives = (weights @ wanted)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            hits / chosen,
            hits / positives * np.ones_like(hits),
            np.where(positives > 0, 2 * hits / (chosen + positives), np.nan),
        )


def _stratified(strata: Sequence[str], seed: int, count: int) -> list[Array]:
    """Return resamples in which every stratum keeps its size."""
    names, member = np.unique(np.asarray(strata, object).astype(str), return_inverse=True)
    found = np.zeros((count, len(member)))
    for at in range(len(names)):
        rows = np.flatnonzero(member == at)
        drawn = np.concatenate(list(resamples(len(rows), count=count, seed=seed + at)))
        found[:, rows] = drawn
    return [found]


@dataclass(frozen=True, slots=True)
class Advice:
    """What a rule chooses."""

    rule: str
    #: number of the cell; None where none fulfils the rule
    cell: int | None
    #: (c,) share of the bootstrap's resamples in which each cell is chosen
    wins: Array
    #: share in which none is
    none: float
    words: str


def _choose(rule: Recommend, precision: Array, recall: Array, tokens: Array) -> npt.NDArray[np.int64]:
    """Return the chosen cell of each of r rows, -1 where none fulfils the rule; a tie goes to more tokens."""
    if rule.rule == "f_beta":
        square = rule.beta**2
        with np.errstate(invalid="ignore", divide="ignore"):
            value = (1 + square) * precision * recall / (square * precision + recall)
        value = np.where(precision + recall == 0, 0.0, value)
    elif rule.rule == "most_tokens":
        value = np.where(precision >= rule.precision, tokens, np.nan)
    else:
        value = np.where(tokens >= rule.tokens, precision, np.nan)
    order = np.argsort(-tokens, kind="stable")
    ranked = np.where(np.isnan(value), -np.inf, value)[:, order]
    best = order[ranked.argmax(axis=1)]
    return np.where(np.isneginf(ranked.max(axis=1)), -1, best)


def advise(rule: Recommend, scores: Scores, tokens: Array) -> Advice:
    """Choose a cell by a rule, and count how often each would have been chosen on other labels of the same number."""
    values = [
        np.array([[np.nan if e.value is None else e.value for e in each]]) for each in (scores.precision, scores.recall)
    ]
    chosen = int(_choose(rule, values[0], values[1], tokens)[0])
    drawn = _choose(rule, scores.precision_draws, scores.recall_draws, tokens)
    wins = np.bincount(drawn[drawn >= 0], minlength=len(tokens)) / max(len(drawn), 1)
    return Advice(
        rule.rule, None if chosen < 0 else chosen, wins, float(np.mean(drawn < 0)) if len(drawn) else 0.0, rule.words
    )


def pareto(tokens: Array, precision: Array) -> npt.NDArray[np.bool_]:
    """Tell which cells no other one beats: none keeps as many tokens at a precision as high, and more of one of them.

    Args:
        tokens: c.
        precision: (r, c) or (c,), NaN where not defined: such a cell is not on the front.
    """
    rows = np.atleast_2d(np.where(np.isnan(precision), -np.inf, precision))
    order = np.lexsort((np.arange(len(tokens)), -tokens))
    front = np.zeros(rows.shape, bool)
    for at, row in enumerate(rows):
        # Downwards in tokens a cell must be more precise than all with more; of equal tokens the most precise stand.
        ordered = row[order]
        sizes = tokens[order]
        starts = np.flatnonzero(np.concatenate([[True], sizes[1:] != sizes[:-1]]))
        group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(sizes))))
        best = np.maximum.reduceat(ordered, starts)
        before = np.concatenate([[-np.inf], np.maximum.accumulate(best)[:-1]])
        front[at, order] = (ordered == best[group]) & (ordered > before[group])
    return front[0] if precision.ndim == 1 else front
