"""Rates with intervals that respect that documents of one host are alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.float64]
_Z = 1.959963984540054
#: below so many hits, after what domains share is taken off, a rate's logarithm is too far from normal
_FEW = 30.0
#: domains that the bootstrap draws one by one; more are first put together at random, which leaves intervals as wide
MAX_CLUSTERS = 20_000


class Rate(NamedTuple):
    """Hits per word, or another ratio of sums, of several groups.

    Attributes:
        value: (n,) ratio; NaN without words.
        low: (n,) lower end of the 95 % interval.
        high: (n,) upper end.
        effect: (n,) design effect: variance over that of hits which fell independently.
    """

    value: Array
    low: Array
    high: Array
    effect: Array


def ratio_rate(hits: Array, words: Array, squares: Array, clusters: Array) -> Rate:
    """Estimate hits per word over domains, by linearisation of the ratio.

    The variance is the sum over domains of (hits - rate * words)², over words² (Cochran 1977, §6.3), times G / (G - 1).
    Intervals are of the logarithm with Student's t of G - 1 degrees; of few hits, of a gamma distribution that has
    the same variance (Korn and Graubard 1998), which for no hit gives the exact upper end of Poisson's.

    Args:
        hits: (n,) sums.
        words: (n,) sums.
        squares: (n,) sums over domains of (hits - rate * words)².
        clusters: (n,) domains.
    """
    from scipy.stats import gamma, t

    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(words > 0, hits / words, np.nan)
        variance = squares / words**2 * np.where(clusters > 1, clusters / (clusters - 1), np.nan)
        poisson = value / words
        effect = np.where(poisson > 0, variance / poisson, 1.0)
        # One domain says nothing of how domains differ: its hits count as if independent, and the table says so.
        wide = np.where(np.isfinite(effect), np.maximum(effect, 1.0), 1.0)
        effective = hits / wide
        quantile = t.ppf(0.975, np.maximum(clusters - 1, 1))
        spread = np.where(clusters > 1, quantile, _Z) / np.sqrt(effective)
        low, high = value * np.exp(-spread), value * np.exp(spread)
        few = effective < _FEW
        scale = np.where(effective > 0, value / effective, 1 / words)
        low = np.where(few, np.where(effective > 0, gamma.ppf(0.025, np.maximum(effective, 1e-9)) * scale, 0.0), low)
        high = np.where(few, gamma.ppf(0.975, effective + 1) * scale, high)
    return Rate(value, np.where(words > 0, low, np.nan), np.where(words > 0, high, np.nan), effect)


def wilson(part: Array, whole: Array, effect: Array) -> tuple[Array, Array]:
    """Return Wilson's 95 % interval of a share (Wilson 1927), documents divided by their design effect."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = whole / np.maximum(np.where(np.isfinite(effect), effect, 1.0), 1.0)
        p = np.where(whole > 0, part / whole, np.nan)
        middle = p + _Z**2 / (2 * n)
        half = _Z * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        low, high = ((middle + sign * half) / (1 + _Z**2 / n) for sign in (-1, 1))
    return np.where(p == 0, 0.0, low), np.where(p == 1, 1.0, high)


_MOMENTS = [
    pl.col("hits", "hit_documents").sum(),
    (pl.col("hits") ** 2).sum().alias("hh"),
    (pl.col("hits") * pl.col("words")).sum().alias("hw"),
    (pl.col("hit_documents") ** 2).sum().alias("pp"),
    (pl.col("hit_documents") * pl.col("documents")).sum().alias("pd"),
]


def rate_table(
    cells: pl.DataFrame, hits: pl.DataFrame, by: Sequence[str], series: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return hits per million words and share of documents, with intervals, by group.

    Args:
        cells: ``cluster``, the columns of ``by``, ``words`` and ``documents``; any number of rows a cluster.
        hits: the same keys and the columns of ``series``, with ``hits`` and ``documents`` that have one; cells without
            a hit need no row.
        by: groups, of which every one that has words gets a row a series.
        series: what is counted apart, a row each: ``lexicon`` and ``phrase``.

    Returns:
        Sorted by series and group: ``words``, ``documents``, ``hits``, ``hit_documents``, ``clusters``, ``rate``,
        ``rate_low``, ``rate_high`` (per million words), ``share``, ``share_low``, ``share_high`` (of documents),
        ``effect`` (design effect of the rate).
    """
    each = cells.group_by([*by, "cluster"]).agg(pl.col("words", "documents").sum().cast(pl.Float64))
    names = [] if series is None else series.columns
    found = hits.group_by([*names, *by, "cluster"]).agg(
        pl.col("hits").sum().cast(pl.Float64), pl.col("documents").sum().cast(pl.Float64).alias("hit_documents")
    )
    found = found.join(each, on=[*by, "cluster"])
    totals = each.group_by(by).agg(
        pl.col("words", "documents").sum(),
        pl.len().alias("clusters"),
        (pl.col("words") ** 2).sum().alias("ww"),
        (pl.col("documents") ** 2).sum().alias("dd"),
    )
    moments = found.group_by([*names, *by]).agg(_MOMENTS)
    if series is not None:
        totals = series.join(totals, how="cross")
    keys = [*names, *by]
    table = totals.join(moments, on=keys, how="left").sort(keys)
    filled = table.with_columns(pl.col("hits", "hit_documents", "hh", "hw", "pp", "pd").fill_null(0.0))
    columns = ("words", "documents", "clusters", "hits", "hit_documents", "ww", "dd", "hh", "hw", "pp", "pd")
    v = {name: filled[name].to_numpy().astype(np.float64) for name in columns}
    with np.errstate(divide="ignore", invalid="ignore"):
        rate, share = v["hits"] / v["words"], v["hit_documents"] / v["documents"]
        # The sum of (hits - rate * words)² over all domains, those without a hit too.
        squares = np.maximum(v["hh"] - 2 * rate * v["hw"] + rate**2 * v["ww"], 0)
        share_squares = np.maximum(v["pp"] - 2 * share * v["pd"] + share**2 * v["dd"], 0)
        correction = np.where(v["clusters"] > 1, v["clusters"] / (v["clusters"] - 1), np.nan)
        spread = v["documents"] * share * (1 - share)
        share_effect = np.where(spread > 0, share_squares * correction / spread, 1.0)
    found_rate = ratio_rate(v["hits"], v["words"], squares, v["clusters"])
    low, high = wilson(v["hit_documents"], v["documents"], share_effect)
    sums = ["words", "documents", "hits", "hit_documents"]
    return filled.select(keys + sums + ["clusters"]).with_columns(
        pl.col(sums).cast(pl.Int64),
        rate=pl.Series(found_rate.value * 1e6),
        rate_low=pl.Series(found_rate.low * 1e6),
        rate_high=pl.Series(found_rate.high * 1e6),
        share=pl.Series(share),
        share_low=pl.Series(low),
        share_high=pl.Series(high),
        effect=pl.Series(found_rate.effect),
    )


def bootstrap(
    cells: pl.DataFrame, periods: Sequence[str], columns: Sequence[str], resamples: int, seed: int
) -> dict[str, Array]:
    """Sum columns by period over domains drawn with replacement; a domain takes all of its periods along.

    Args:
        cells: ``period``, ``cluster`` and the columns.
        periods: in the order wanted.
        columns: to be summed.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        Column to (resamples, periods) sums.
    """
    from scipy.sparse import csr_array

    names = cells["cluster"].unique().sort()
    n = names.len()
    if n > MAX_CLUSTERS:
        group = pl.Series(np.random.default_rng(seed).permutation(n) % MAX_CLUSTERS)
        n = MAX_CLUSTERS
    else:
        group = pl.Series(np.arange(n))
    place = cells.select("period", "cluster", *columns).join(
        pl.DataFrame({"cluster": names, "row": group}), on="cluster", maintain_order="left"
    )
    column = place["period"].replace_strict(list(periods), list(range(len(periods))), return_dtype=pl.Int64)
    chance = np.random.default_rng(seed)
    weights = chance.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    summed = {}
    for name in columns:
        table = csr_array(
            (place[name].to_numpy().astype(np.float64), (column.to_numpy(), place["row"].to_numpy())),
            shape=(len(periods), n),
        )
        summed[name] = np.asarray(table @ weights.T).T
    return summed


def standardised(cells: pl.DataFrame, stratum: str, mix: pl.DataFrame) -> pl.DataFrame:
    """Return the rate by period if every period had the same mix.

    The rate is the sum over strata of weight times the stratum's rate; domains may lie in several strata, so their
    parts are put together before they are squared. A period that lacks a stratum has no such rate.

    Args:
        cells: ``period``, ``cluster``, ``stratum``'s column, ``words``, ``hits``.
        stratum: column of the mix.
        mix: that column and ``weight``, which sums to 1.

    Returns:
        ``period``, ``standardised``, ``standardised_low``, ``standardised_high``, per million words.
    """
    each = cells.group_by("period", stratum, "cluster").agg(pl.col("words", "hits").sum().cast(pl.Float64))
    each = each.sort("period", stratum, "cluster")  # sums of fractions depend on their order
    rates = each.group_by("period", stratum).agg(
        (pl.col("hits").sum() / pl.col("words").sum()).alias("rate"), pl.col("words").sum().alias("total")
    )
    rates = rates.join(mix, on=stratum).filter(pl.col("total") > 0).sort("period", stratum)
    complete = rates.group_by("period").agg(
        pl.len().alias("strata"), (pl.col("rate") * pl.col("weight")).sum().alias("value")
    )
    complete = complete.filter(pl.col("strata") == mix.height)
    parts = each.join(rates, on=["period", stratum], maintain_order="left").with_columns(
        part=pl.col("weight") * (pl.col("hits") - pl.col("rate") * pl.col("words")) / pl.col("total"),
        poisson=pl.col("weight") ** 2 * pl.col("hits") / pl.col("total") ** 2,
    )
    variance = (
        parts.group_by("period", "cluster", maintain_order=True)
        .agg(pl.col("part").sum(), pl.col("poisson").sum())
        .group_by("period")
        .agg((pl.col("part") ** 2).sum().alias("square"), pl.col("poisson").sum(), pl.len().alias("clusters"))
    )
    both = complete.join(variance, on="period").sort("period")
    value, square, poisson, clusters = (
        both[name].to_numpy().astype(np.float64) for name in ("value", "square", "poisson", "clusters")
    )
    # As if all hits had fallen into one stratum with as many hits as give this variance.
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.where(poisson > 0, value**2 / poisson, 0.0)
        words = np.where(hits > 0, hits / value, np.nan)
    found = ratio_rate(hits, words, square * words**2, clusters)
    return both.select("period").with_columns(
        standardised=pl.Series(value * 1e6),
        standardised_low=pl.Series(found.low * 1e6),
        standardised_high=pl.Series(found.high * 1e6),
    )


def fixed_mix(cells: pl.DataFrame, stratum: str, before: pl.Series) -> tuple[pl.DataFrame, float]:
    """Return the mix to hold fixed: words of the periods before the cut-off, in strata that most periods have.

    Args:
        cells: ``period``, the stratum's column, ``words``.
        stratum: the column.
        before: names of the periods before the cut-off.

    Returns:
        The column with ``weight``, and the share of all words that its strata hold.
    """
    periods = cells["period"].n_unique()
    words = cells.filter(pl.col("words") > 0).group_by(stratum, "period").agg(pl.col("words").sum())
    here = pl.col("words").filter(pl.col("period").is_in(before.implode()))
    strata = words.group_by(stratum).agg(
        here.sum().alias("weight"), pl.col("words").sum().alias("all"), pl.len().alias("in")
    )
    total = float(strata["all"].sum())
    kept = strata.filter((pl.col("in") >= 0.9 * periods) & (pl.col("weight") > 0)).sort(stratum)
    covered = float(kept["all"].sum()) / total if total else 0.0
    return kept.select(stratum, pl.col("weight") / pl.col("weight").sum()), covered


def panel(cells: pl.DataFrame) -> pl.DataFrame:
    """Return the cells of clusters that have words in every period."""
    periods = cells["period"].n_unique()
    there = cells.filter(pl.col("words") > 0).group_by("cluster").agg(pl.col("period").n_unique().alias("n"))
    return cells.join(there.filter(pl.col("n") == periods), on="cluster", how="semi")


def concentration(cells: pl.DataFrame) -> pl.DataFrame:
    """Return by period how far single clusters make the hits.

    Returns:
        ``period``, ``top`` (the cluster with most hits), ``top_share`` of the hits, ``effective`` number of clusters
        (1 over the sum of squared shares), ``rate_without`` (per million words, without the top one).
    """
    each = cells.group_by("period", "cluster").agg(pl.col("words", "hits").sum().cast(pl.Float64))
    each = each.sort("period", "hits", "cluster", descending=[False, True, False])
    share = pl.col("hits") / pl.col("hits").sum()
    return each.group_by("period", maintain_order=True).agg(
        pl.when(pl.col("hits").first() > 0).then(pl.col("cluster").first()).first().alias("top"),
        share.max().fill_nan(None).alias("top_share"),
        (1 / (share**2).sum()).fill_nan(None).alias("effective"),
        (
            1e6 * (pl.col("hits").sum() - pl.col("hits").first()) / (pl.col("words").sum() - pl.col("words").first())
        ).alias("rate_without"),
    )
