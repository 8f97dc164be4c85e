"""Findings as tables: a row a phrase, a period, a corrected flag rate."""

from __future__ import annotations

import numpy as np
import polars as pl

from fineedu.phrases.lexicon import ANY, LexiconSet
from fineedu.synthetic.counterfactual import Excess
from fineedu.synthetic.detector import rogan_gladen
from fineedu.synthetic.period import Span
from fineedu.synthetic.rates import rate_table
from fineedu.synthetic.recipe import DetectorConfig, SyntheticRecipe
from fineedu.synthetic.verdict import judge


def by_period(span: Span, excess: dict[tuple[str, str], Excess]) -> pl.DataFrame:
    """Return the counterfactual of each series by period."""
    frames = [
        pl.DataFrame(
            {
                "period": span.names,
                "middle": span.middles,
                "after": [year >= 0 for year in span.years],
                "expected": found.expected,
                "expected_low": found.low,
                "expected_high": found.high,
                "ratio": found.ratio,
                "ratio_low": found.ratio_low,
                "ratio_high": found.ratio_high,
                "excess_per_million": found.excess,
            }
        ).select(pl.lit(lexicon).alias("lexicon"), pl.lit(phrase).alias("phrase"), pl.all())
        for (lexicon, phrase), found in excess.items()
    ]
    return pl.concat(frames).with_columns(pl.selectors.float().fill_nan(None))


def summary(recipe: SyntheticRecipe, lexicons: LexiconSet, excess: dict[tuple[str, str], Excess]) -> pl.DataFrame:
    """Return a row a series: the pooled ratio, its adjusted p-value, what could have been seen, and the verdict."""
    from scipy.stats import false_discovery_control

    kind = {lexicon.name: lexicon.kind for lexicon in lexicons.lexicons}
    q: dict[tuple[str, str], float] = {}
    for control in (False, True):  # phrases that should not move are no part of the hypotheses
        tested = [
            name
            for name, found in excess.items()
            if name[1] != ANY and np.isfinite(found.p) and (kind[name[0]] == "control") is control
        ]
        adjusted = false_discovery_control([excess[name].p for name in tested]) if tested else []
        q |= dict(zip(tested, (float(value) for value in adjusted), strict=True))
    rows = []
    for name, found in excess.items():
        value = q.get(name, found.p)
        rows.append(
            {
                "lexicon": name[0],
                "phrase": name[1],
                "kind": kind[name[0]],
                "hits_before": found.hits_before,
                "hits_after": found.hits_after,
                "expected_after": found.expected_after,
                "ratio": found.pooled[0],
                "ratio_low": found.pooled[1],
                "ratio_high": found.pooled[2],
                "p": found.p,
                "q": value,
                "dispersion": found.dispersion,
                "slope_per_year": found.slope,
                "detectable": found.detectable,
                "verdict": judge(found, value, fdr=recipe.counterfactual.fdr, rise=recipe.power.rise),
            }
        )
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return frame.with_columns(pl.selectors.float().fill_nan(None))


def detector(cells: pl.DataFrame, config: DetectorConfig) -> pl.DataFrame:
    """Return the corrected share of flagged documents by period."""
    hits = cells.select("period", "cluster", pl.col("flagged").alias("hits"), pl.col("flagged").alias("documents"))
    table = rate_table(cells, hits, ["period"])
    rows = []
    errors = config.model_dump(exclude={"flag"})
    each = cells.group_by("period", "cluster").agg(pl.col("flagged", "documents").sum().cast(pl.Float64))
    share = pl.col("flagged").sum() / pl.col("documents").sum()
    variances = each.group_by("period").agg(
        (
            ((pl.col("flagged") - share * pl.col("documents")) ** 2).sum()
            / pl.col("documents").sum() ** 2
            * pl.len()
            / (pl.len() - 1).clip(1)
        ).alias("variance")
    )
    variance = dict(variances.iter_rows())
    for period, flagged, whole in table.select("period", "hit_documents", "documents").iter_rows():
        rate = flagged / whole
        found = rogan_gladen(rate, max(variance[period], rate * (1 - rate) / whole, 1e-12), **errors)
        rows.append((period, flagged, whole, rate, *found))
    columns = ["period", "flagged", "documents", "flag_rate", "share", "share_low", "share_high", "share_raw"]
    return pl.DataFrame(rows, schema=columns, orient="row")
