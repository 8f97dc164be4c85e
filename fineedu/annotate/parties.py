"""Who voted, and what one annotator says of one document when it voted several times."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

KEYS = ("id", "annotator")


def name_parties(votes: pl.DataFrame) -> pl.DataFrame:
    """Rename annotators that voted by several rubrics, so that answers to different questions are never pooled.

    An annotator with one rubric keeps its name; one with several becomes ``name (rubric)``, with the first 8 digits of
    the rubric's hash behind an ``@`` where two rubrics of it share a name.
    """
    rubric = pl.col("rubric").fill_null("no rubric")
    digits = pl.col("rubric_hash").fill_null("").str.slice(0, 8)
    marked = votes.with_columns(_rubric=rubric, _digits=digits)
    known = marked.select("annotator", "_rubric", "_digits").unique()
    counts = known.group_by("annotator").agg(_rubrics=pl.len())
    same = known.group_by("annotator", "_rubric").agg(_makings=pl.len())
    with_hash = pl.when(pl.col("_makings") > 1).then("@" + pl.col("_digits")).otherwise(pl.lit(""))
    full = pl.format("{} ({}{})", "annotator", "_rubric", with_hash)
    return (
        marked.join(counts, on="annotator", how="left", maintain_order="left")
        .join(same, on=["annotator", "_rubric"], how="left", maintain_order="left")
        .with_columns(annotator=pl.when(pl.col("_rubrics") > 1).then(full).otherwise("annotator"))
        .select(votes.columns)
    )


def valid_scores(votes: pl.DataFrame) -> pl.DataFrame:
    """Return the votes that are ``ok`` and have a finite score."""
    return votes.filter((pl.col("state") == "ok") & pl.col("score").is_finite())


def valid_topics(votes: pl.DataFrame) -> pl.DataFrame:
    """Return the votes that are ``ok`` and have a topic."""
    return votes.filter((pl.col("state") == "ok") & pl.col("topic").is_not_null())


def median_score(votes: pl.DataFrame, keys: Sequence[str] = KEYS) -> pl.DataFrame:
    """Return ``keys`` and the median ``score`` of the valid votes, ordered by keys; half levels may arise."""
    return valid_scores(votes).group_by(*keys).agg(pl.col("score").median()).sort(*keys)


def majority_score(votes: pl.DataFrame, keys: Sequence[str] = KEYS) -> pl.DataFrame:
    """Return ``keys`` and the most frequent ``score`` of the valid votes, ordered by keys.

    Ties go to the score nearest to the median of the votes, then to the lower one.
    """
    valid = valid_scores(votes)
    middle = valid.group_by(*keys).agg(_middle=pl.col("score").median())
    return (
        valid.group_by(*keys, "score")
        .agg(_votes=pl.len())
        .join(middle, on=keys)
        .with_columns(_far=(pl.col("score") - pl.col("_middle")).abs())
        .sort(*keys, "_votes", "_far", "score", descending=[*[False] * len(keys), True, False, False])
        .unique(keys, keep="first", maintain_order=True)
        .select(*keys, "score")
    )


def majority_topic(votes: pl.DataFrame, keys: Sequence[str] = KEYS) -> pl.DataFrame:
    """Return ``keys`` and the most frequent ``topic`` of the valid votes, ordered by keys.

    Ties go to the topic with more votes over all documents given, then to the first one by name.
    """
    valid = valid_topics(votes)
    common = valid.group_by("topic").agg(_common=pl.len())
    return (
        valid.group_by(*keys, "topic")
        .agg(_votes=pl.len())
        .join(common, on="topic")
        .sort(*keys, "_votes", "_common", "topic", descending=[*[False] * len(keys), True, True, False])
        .unique(keys, keep="first", maintain_order=True)
        .select(*keys, "topic")
    )
