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
        words: ``word``, ``documents``, ``p``, ``q``, ``excess`` (p - q), ``ratio``, ``is_excess``, ``kind``
            (``style``, ``content``, or ``unlisted``), by falling excess.
        pruned: documents that a word may have lost to bounded memory.
    """

    period: str
    based_on: tuple[str, ...]
    words: pl.DataFrame
    pruned: int


def excess_words(
    frequency: pl.LazyFrame,
    documents: dict[str, int],
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

    Shares are (n + 1) / (N + 1), as published. A word counts from ``minimum`` of the period's documents on.

    Args:
        frequency: ``period``, ``word``, ``documents``.
        documents: of each period.
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
    table = (
        frequency.filter(pl.col("period").is_in(names))
        .group_by("word", "period")
        .agg(pl.col("documents").sum())
        .collect(engine="streaming")
        .pivot(on="period", index="word", values="documents")
    )
    table = table.with_columns(pl.lit(0).alias(name) for name in names if name not in table.columns)
    counts = [table[name].fill_null(0).to_numpy().astype(np.float64) for name in names]
    shares = [(count + 1) / (documents[name] + 1) for count, name in zip(counts, names, strict=True)]
    ahead = (years[period] - years[names[1]]) / (years[names[1]] - years[names[2]])
    p, q = shares[0], counterfactual_share(shares[1], shares[2], ahead)
    kind = (
        pl.when(pl.col("word").is_in(list(style)))
        .then(pl.lit("style"))
        .when(pl.col("word").is_in(list(content)))
        .then(pl.lit("content"))
        .otherwise(pl.lit("unlisted"))
    )
    words = table.select(
        "word",
        documents=pl.Series(counts[0].astype(np.int64)),
        p=pl.Series(p),
        q=pl.Series(q),
        excess=pl.Series(p - q),
        ratio=pl.Series(p / q),
        is_excess=pl.Series(is_excess(p, q)),
    ).with_columns(kind.alias("kind"))
    words = words.filter((pl.col("p") >= minimum) & (pl.col("documents") >= least_documents))
    return ExcessWords(
        period, tuple(earlier), words.sort("is_excess", "excess", "word", descending=[True, True, False]), pruned
    )


def group_excess(
    hit: Array, whole: Array, hit_drawn: Array, whole_drawn: Array, ahead: float
) -> tuple[float, float, float, float]:
    """Return the excess of documents that have any word of a group: a lower bound of the share a model had a hand in.

    Args:
        hit: (3,) documents with one of the words: the period, the last one before the cut-off, and the one before it.
        whole: (3,) documents.
        hit_drawn: (resamples, 3) the same over domains drawn anew.
        whole_drawn: (resamples, 3).
        ahead: as in :func:`counterfactual_share`.

    Returns:
        Excess, its 95 % interval from percentiles, and the expected share.
    """
    p, last, before = (hit + 1) / (whole + 1)
    q = counterfactual_share(last, before, ahead)
    shares = (hit_drawn + 1) / (whole_drawn + 1)
    drawn = shares[:, 0] - counterfactual_share(shares[:, 1], shares[:, 2], ahead)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(p - q), float(low), float(high), float(q)
