"""Excess vocabulary: words whose share of documents jumped (Kobak et al. 2025, arXiv:2406.07016)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.float64]
#: of a word's share, from which on the excess alone makes it one
_LARGE = 0.01
#: standard errors that an excess must exceed to be shown; among 10,000 words 13 do so by chance
_SURE = 3.0


def counterfactual_share(last: Array, before: Array, ahead: float = 2.0) -> Array:
    """Return the share expected had the last change gone on, if it was a rise.

    q = p_last + ahead * max(0, p_last - p_before). Kobak et al. take the years two and three before: ahead is 2.

    Args:
        last: share in the last period before the cut-off.
        before: in the one before that.
        ahead: distance of the target from the last period, in distances between the two.
    """
    return np.asarray(last + ahead * np.maximum(0.0, last - before))


def is_excess(p: Array, q: Array) -> npt.NDArray[np.bool_]:
    """Tell which words are excess words.

    The ratio lies above the line from (1e-4, 2) to (1, 1) in logarithms, or the difference above 0.01.

    Args:
        p: share of documents.
        q: expected share.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log10(p / q)
        line = np.log10(2) - (np.log10(p) + 4) * np.log10(2) / 4
    return np.asarray((ratio > line) | (p - q > _LARGE))


def machine_share(excess: float, with_machine: float, without: float) -> float:
    """Return the share of machine-written documents that an excess stands for.

    From p = (1 - a) q + a m: a = (p - q) / (m - q), which is at least p - q, as m is at most 1.

    Args:
        excess: p - q.
        with_machine: m, share of machine-written documents that have one of the words; 1 gives the least share.
        without: q.
    """
    return excess / (with_machine - without)


class ExcessWords(NamedTuple):
    """Words of one period.

    Attributes:
        period: its name.
        based_on: the two periods that the expectation is from, the earlier first; empty where there are none.
        words: ``word``, ``documents``, ``p``, ``q``, ``excess`` (p - q), ``ratio``, ``is_excess``, ``sure``
            (beyond sampling error), ``kind`` (``style``, ``content``, or ``unlisted``), by falling excess.
        pruned: documents that a word may have lost to bounded memory.
    """

    period: str
    based_on: tuple[str, ...]
    words: pl.DataFrame
    pruned: int


def excess_words(
    frequency: pl.LazyFrame,
    documents: pl.DataFrame,
    years: dict[str, float],
    period: str,
    *,
    minimum: float,
    least_documents: int,
    style: Collection[str],
    content: Collection[str],
    pruned: int = 0,
) -> ExcessWords:
    """Find excess words of a period after the cut-off.

    Shares are (n + 1) / (N + 1), as published. A word counts from ``minimum`` of the period's documents on. Of several
    strata, those that all three periods have count, each with its weight among the documents of the last period before
    the cut-off: a change of the mix makes no excess.

    Args:
        frequency: ``period``, ``stratum``, ``word``, ``documents``.
        documents: ``period``, ``stratum``, ``documents``.
        years: of each period, from the cut-off; negative before.
        period: to look at.
        minimum: share of documents.
        least_documents: and at least so many.
        style: words of style.
        content: words of topics.
        pruned: of the table.
    """
    earlier = sorted((name for name, year in years.items() if year < 0), key=lambda name: years[name])[-2:]
    if len(earlier) < 2:
        return ExcessWords(period, (), pl.DataFrame(), pruned)
    names = [period, *reversed(earlier)]
    counts, shares = _shares(frequency, documents, names)
    ahead = (years[period] - years[names[1]]) / (years[names[1]] - years[names[2]])
    p, q = shares[0], counterfactual_share(shares[1], shares[2], ahead)
    # Sampling error of p and of both shares that q is from; years of a million abstracts have next to none.
    sizes = [float(documents.filter(pl.col("period") == name)["documents"].sum()) for name in names]
    variance = sum(
        factor**2 * share * (1 - share) / size
        for factor, share, size in zip((1.0, 1 + ahead, ahead), shares, sizes, strict=True)
    )
    kind = (
        pl.when(pl.col("word").is_in(list(style)))
        .then(pl.lit("style"))
        .when(pl.col("word").is_in(list(content)))
        .then(pl.lit("content"))
        .otherwise(pl.lit("unlisted"))
    )
    words = counts.with_columns(
        p=pl.Series(p),
        q=pl.Series(q),
        excess=pl.Series(p - q),
        ratio=pl.Series(p / q),
        is_excess=pl.Series(is_excess(p, q)),
        sure=pl.Series((p - q) > _SURE * np.sqrt(variance)),
    ).with_columns(kind.alias("kind"))
    words = words.filter((pl.col("p") >= minimum) & (pl.col("documents") >= least_documents))
    return ExcessWords(
        period, tuple(earlier), words.sort("is_excess", "excess", "word", descending=[True, True, False]), pruned
    )


def _shares(frequency: pl.LazyFrame, documents: pl.DataFrame, names: list[str]) -> tuple[pl.DataFrame, list[Array]]:
    """Return each word with the first period's documents, and its share of documents in each period at one mix."""
    factors = mix_factors(documents, names)
    sums = frequency.join(factors.lazy(), on=["period", "stratum"]).group_by("word", "period", "stratum", "factor")
    counted = sums.agg(pl.col("documents").sum()).collect(engine="streaming").sort("word", "period", "stratum")
    table = (
        counted.group_by("word", "period", maintain_order=True)
        .agg(pl.col("documents").sum().alias("n"), (pl.col("documents") * pl.col("factor")).sum().alias("weighted"))
        .pivot(on="period", index="word", values=["n", "weighted"])
    )
    missing = [f"{kind}_{name}" for kind in ("n", "weighted") for name in names]
    table = table.with_columns(pl.lit(0.0).alias(name) for name in missing if name not in table.columns)
    table = table.with_columns(pl.col(missing).fill_null(0))
    size = float(factors["size"].max()) if factors.height else 0.0  # type: ignore[arg-type]
    shares = [(table[f"weighted_{name}"].to_numpy().astype(np.float64) + 1) / (size + 1) for name in names]
    return table.select("word", pl.col(f"n_{names[0]}").cast(pl.Int64).alias("documents")), shares


def mix_factors(documents: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Return what a document of each period and stratum counts, so that all periods have one mix.

    Args:
        documents: ``period``, ``stratum``, ``documents``.
        names: the period, the last one before the cut-off, and the one before it.

    Returns:
        ``period``, ``stratum``, ``factor``, and ``size``: the documents that each period then stands for.
    """
    there = documents.filter(pl.col("period").is_in(names) & (pl.col("documents") > 0))
    common = there.group_by("stratum").agg(pl.col("period").n_unique().alias("n")).filter(pl.col("n") == len(names))
    there = there.join(common, on="stratum", how="semi")
    base = there.filter(pl.col("period") == names[1]).select("stratum", pl.col("documents").alias("base"))
    sized = there.join(base, on="stratum").with_columns(factor=pl.col("base") / pl.col("documents"))
    return sized.select("period", "stratum", "factor", size=pl.lit(float(base["base"].sum())))


def group_excess(
    hit: Array, whole: Array, hit_drawn: Array, whole_drawn: Array, ahead: float
) -> tuple[float, float, float, float]:
    """Return the excess of documents that have any word of a group: a lower bound of the share a model had a hand in.

    Args:
        hit: (3, strata) documents with one of the words: of the period, the last one before the cut-off, and the one
            before that.
        whole: (3, strata) documents.
        hit_drawn: (resamples, 3, strata) the same over domains drawn anew.
        whole_drawn: (resamples, 3, strata).
        ahead: as in :func:`counterfactual_share`.

    Returns:
        Excess, its 95 % interval from percentiles, and the expected share; NaN where no stratum is in all three.
    """
    common = (whole > 0).all(0)
    if not common.any():
        return (float("nan"),) * 4
    weight = whole[1, common] / whole[1, common].sum()

    def share(part: Array, of: Array) -> Array:
        return np.asarray((((part + 0.5) / (of + 1))[..., common] * weight).sum(-1))

    p, last, before = share(hit, whole)
    q = counterfactual_share(last, before, ahead)
    drawn = share(hit_drawn, whole_drawn)
    excess = drawn[:, 0] - counterfactual_share(drawn[:, 1], drawn[:, 2], ahead)
    low, high = np.percentile(excess, [2.5, 97.5])
    return float(p - q), float(low), float(high), float(q)
