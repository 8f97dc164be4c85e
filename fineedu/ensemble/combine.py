"""Scores to one bucket, score or vote, row by row."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from fineedu.ensemble.percentiles import PercentileTable
from fineedu.ensemble.recipe import BucketEnsemble, MeanEnsemble, VoteEnsemble
from fineedu.errors import FineeduError


def _buckets(frame: pl.DataFrame, scores: list[str], table: PercentileTable) -> pl.DataFrame:
    languages = frame["language"] if table.by_language else None
    return pl.DataFrame([table.bucket(frame[score], languages) for score in scores])


def max_bucket(ensemble: BucketEnsemble, table: PercentileTable, frame: pl.DataFrame) -> pl.DataFrame:
    """Combine as Nemotron-CC does: bucket of each score by its own percentiles, maximum, level.

    The published code takes ``numpy.digitize`` with right-open bins, so a score equal to a threshold is in the upper
    bucket; so it is here.

    Args:
        ensemble: which scores, which levels.
        table: percentiles of each.
        frame: n rows with the scores, and ``language`` where the table has languages.

    Returns:
        n rows of bucket (UInt8) and level (String).
    """
    buckets = _buckets(frame, ensemble.scores, table)
    top = buckets.select(pl.max_horizontal(pl.all()).alias("bucket"))["bucket"]
    if ensemble.missing == "require":
        gap = buckets.select(pl.any_horizontal(pl.all().is_null()).alias("gap"))["gap"]
        top = top.set(gap, None)
    level = pl.lit(None, pl.String)
    for name, lowest in sorted(ensemble.levels.items(), key=lambda item: item[1]):
        level = pl.when(pl.col("bucket") >= lowest).then(pl.lit(name)).otherwise(level)
    return top.to_frame().with_columns(level.alias("level"))


def mean(ensemble: MeanEnsemble, table: PercentileTable | None, frame: pl.DataFrame) -> pl.Series:
    """Combine by a mean, weighted or not.

    Returns:
        n Float32; null where a score is missing, or, with ``missing: ignore``, where all are.
    """
    weights = ensemble.by_score
    values = frame.select(pl.col(list(weights)).cast(pl.Float64).fill_nan(None))
    if ensemble.scale == "bucket":
        if table is None:
            raise FineeduError(f"ensemble {ensemble.name}: scale: bucket needs percentiles")
        values = _buckets(frame, list(weights), table).cast(pl.Float64)
    total = pl.sum_horizontal(pl.col(score) * weight for score, weight in weights.items())
    held = pl.sum_horizontal(pl.col(score).is_not_null() * weight for score, weight in weights.items())
    complete = pl.any_horizontal(pl.all().is_not_null())
    if ensemble.missing == "require":
        complete = pl.all_horizontal(pl.all().is_not_null())
    return values.select(pl.when(complete).then(total / held).cast(pl.Float32).alias("score"))["score"]


def vote(ensemble: VoteEnsemble, conditions: Mapping[str, pl.Expr], frame: pl.DataFrame) -> pl.DataFrame:
    """Count the conditions that hold.

    Args:
        ensemble: how many must.
        conditions: name to Boolean expression.
        frame: n rows.

    Returns:
        n rows of votes (UInt8) and keep: null where a missing value could still turn the decision.
    """
    told = frame.select(expression.alias(name) for name, expression in conditions.items())
    votes = pl.sum_horizontal(pl.all().fill_null(False).cast(pl.UInt8))
    unknown = pl.sum_horizontal(pl.all().is_null().cast(pl.UInt8))
    keep = (
        pl.when(votes >= ensemble.needed)
        .then(pl.lit(True))
        .when(votes + unknown < ensemble.needed)
        .then(pl.lit(False))
        .otherwise(pl.lit(None, pl.Boolean))
    )
    return told.select(votes.cast(pl.UInt8).alias("votes"), keep.alias("keep"))
