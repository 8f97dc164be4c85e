"""One label a document from the votes of several annotators."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from fineedu.annotate.dawid_skene import DawidSkene, dawid_skene
from fineedu.annotate.parties import (
    KEYS,
    majority_score,
    majority_topic,
    median_score,
    name_parties,
)
from fineedu.errors import FineeduError
from fineedu.labels import LABEL_SCHEMA

METHODS = ("median", "majority", "dawid-skene")

AGGREGATE_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "score": pl.Float64(),
    "topic": pl.String(),
    "n_votes": pl.Int64(),
    "n_ok": pl.Int64(),
    "agreement": pl.Float64(),
    "topic_agreement": pl.Float64(),
    "expected_score": pl.Float64(),
    "posterior": pl.Float64(),
    "topic_posterior": pl.Float64(),
}


def aggregate(
    votes: pl.DataFrame,
    method: str = "median",
    *,
    smoothing: float = 1.0,
    models: dict[str, DawidSkene] | None = None,
) -> pl.DataFrame:
    """Make one label a document.

    Several votes of one annotator on a document are one voice: their median score (``median``) or most frequent score,
    and their most frequent topic. Votes that are not ``ok`` have no voice. Between annotators:

    * ``median``: the median score, halves included; the most frequent topic.
    * ``majority``: the most frequent score (ties: nearest to the median, then the lower) and topic (ties: the more
      common over all documents, then the first by name).
    * ``dawid-skene``: the most probable score and topic under :func:`fineedu.annotate.dawid_skene.dawid_skene`.

    Args:
        votes: one row a vote, as :func:`fineedu.labels.read_labels` returns them.
        method: one of :data:`METHODS`.
        smoothing: of ``dawid-skene``.
        models: of ``dawid-skene``, from :func:`fit` on the same votes, to see them besides; by default they are fitted.

    Returns:
        The columns of :data:`AGGREGATE_SCHEMA`, a row for every document that occurs in votes, by id; without any
        valid vote ``score`` and ``topic`` are null. ``n_votes`` and ``n_ok`` count votes, samples included.
        ``agreement`` is the share of pairs of annotators with the same score, ``topic_agreement`` with the same topic;
        null with fewer than two. ``expected_score`` is the mean of the annotators' scores, with ``dawid-skene`` the
        posterior mean; ``posterior`` and ``topic_posterior`` are null but there.

    Raises:
        FineeduError: an unknown method, votes by rubrics of different names, or no valid vote at all.
    """
    if method not in METHODS:
        raise FineeduError(f"unknown method {method!r}: choose from {', '.join(METHODS)}")
    rubrics = votes["rubric"].drop_nulls().unique().sort().to_list()
    if len(rubrics) > 1:
        raise FineeduError(f"the votes answer {len(rubrics)} rubrics ({', '.join(rubrics)}): choose one with --rubric")
    if method == "dawid-skene" and models is None:
        models = fit(votes, smoothing=smoothing)
    return _label(votes, method, models or {})


def fit(votes: pl.DataFrame, *, smoothing: float = 1.0) -> dict[str, DawidSkene]:
    """Fit the latent model of scores and of topics, as far as votes have them: ``{"score": ..., "topic": ...}``."""
    valid = votes.filter(pl.col("state") == "ok")
    return {
        what: dawid_skene(votes, what, smoothing=smoothing)
        for what in ("score", "topic")
        if valid[what].is_not_null().any()
    }


def _label(votes: pl.DataFrame, method: str, models: dict[str, DawidSkene]) -> pl.DataFrame:
    named = name_parties(votes)
    voices = _voices(named, "score", (median_score if method == "median" else majority_score)(named))
    topics = _voices(named, "topic", majority_topic(named))
    if voices.is_empty() and topics.is_empty():
        raise FineeduError("no valid vote in the labels: nothing to aggregate")
    found = named.group_by("id").agg(n_votes=pl.len(), n_ok=(pl.col("state") == "ok").sum()).sort("id")
    found = found.join(_accord(voices, "score").rename({"accord": "agreement"}), on="id", how="left")
    found = found.join(_accord(topics, "topic").rename({"accord": "topic_agreement"}), on="id", how="left")
    if method == "dawid-skene":
        parts = [_from_model(model, what) for what, model in models.items()]
    else:
        between = median_score if method == "median" else majority_score
        mean = voices.group_by("id").agg(expected_score=pl.col("score").mean())
        parts = [between(voices, ["id"]), majority_topic(topics, ["id"]), mean]
    for part in parts:
        found = found.join(part, on="id", how="left")
    missing = [pl.lit(None, kind).alias(name) for name, kind in AGGREGATE_SCHEMA.items() if name not in found.columns]
    return (
        found.with_columns(missing)
        .select(pl.col(name).cast(kind) for name, kind in AGGREGATE_SCHEMA.items())
        .sort("id")
    )


def _voices(votes: pl.DataFrame, value: str, found: pl.DataFrame) -> pl.DataFrame:
    """Give one value an annotator and document the columns of a vote, so that it can be counted like one."""
    return found.select(*KEYS, value).with_columns(state=pl.lit("ok"))


def _accord(voices: pl.DataFrame, value: str) -> pl.DataFrame:
    """Share of pairs of annotators that say the same of a document; null with fewer than two."""
    same = voices.group_by("id", value).agg(_same=pl.len().cast(pl.Float64))
    pairs = same.group_by("id").agg(_all=pl.col("_same").sum(), _agree=(pl.col("_same") * (pl.col("_same") - 1)).sum())
    share = pl.when(pl.col("_all") > 1).then(pl.col("_agree") / (pl.col("_all") * (pl.col("_all") - 1)))
    return pairs.select("id", accord=share)


def _from_model(model: DawidSkene, what: str) -> pl.DataFrame:
    found = model.consensus()
    if what == "topic":
        return found.rename({"label": "topic", "posterior": "topic_posterior"})
    mean = model.posterior @ np.asarray(model.levels, dtype=np.float64)
    return found.rename({"label": "score"}).with_columns(expected_score=pl.Series(mean))


def as_labels(found: pl.DataFrame, votes: pl.DataFrame, annotator: str) -> pl.DataFrame:
    """Give aggregated labels the columns of :data:`fineedu.labels.LABEL_SCHEMA`, for ``write_labels``.

    Args:
        found: from :func:`aggregate`.
        votes: that it was made from: rubric (where all votes have the same), ``document_hash``, ``n_chars`` and
            ``text`` are taken over.
        annotator: name to write, e.g. the method.

    Returns:
        A row a document. Where no vote was valid, the state is the most frequent failure among the document's votes (of
        equals the first by name), and there is no score. What is not in the schema stands behind it.
    """
    states = (
        votes.filter(pl.col("state") != "ok")
        .group_by("id", "state")
        .agg(_votes=pl.len())
        .sort("id", "_votes", "state", descending=[False, True, False])
        .unique("id", keep="first", maintain_order=True)
        .select("id", "state")
    )
    facts: list[Any] = [pl.col("n_chars").max(), pl.col("document_hash").drop_nulls().min()]
    if "text" in votes.columns:
        facts.append(pl.col("text").drop_nulls().min())
    labelled = pl.col("score").is_not_null() | pl.col("topic").is_not_null()
    kept = (
        found.join(states, on="id", how="left")
        .join(votes.group_by("id").agg(facts), on="id", how="left")
        .with_columns(state=pl.when(labelled).then(pl.lit("ok")).otherwise(pl.col("state").fill_null("invalid")))
        .with_columns(annotator=pl.lit(annotator), sample=pl.lit(0, pl.Int32))
    )
    for name in ("rubric", "rubric_hash"):
        known = votes[name].unique().to_list()
        kept = kept.with_columns(pl.lit(known[0] if len(known) == 1 else None, pl.String).alias(name))
    missing = [pl.lit(None, kind).alias(name) for name, kind in LABEL_SCHEMA.items() if name not in kept.columns]
    kept = kept.with_columns(missing)
    return kept.select(*LABEL_SCHEMA, *[name for name in kept.columns if name not in LABEL_SCHEMA]).sort("id")
