"""From votes to one label a document, with what is known of the document; nothing is lost without being counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from fineedu.errors import FineeduError
from fineedu.labels import DOCUMENT_COLUMNS


@dataclass(frozen=True, slots=True)
class Labelled:
    """Documents with the label that a model is measured against."""

    #: ``id``, ``label`` (mean score of the chosen annotators' votes; null where none is valid), ``topic`` (their
    #: commonest), ``n_chars``, ``document_hash``, and those of ``text``, ``url``, ``host``, ``language`` that are
    #: known; sorted by id
    documents: pl.DataFrame
    #: chosen annotator to votes
    annotators: dict[str, int]
    #: state to votes of the chosen annotators; ``ok`` votes that give a topic and no score are ``no score``
    states: dict[str, int]
    #: the chosen annotators' rubric, None where it is not told
    rubric: str | None


def choose_annotators(votes: pl.DataFrame, pattern: str | None) -> list[str]:
    """Return the annotators that a pattern names.

    Args:
        votes: as :func:`fineedu.labels.read_labels` gives them.
        pattern: a name, or a pattern such as ``panel-*``; None takes the only one.

    Raises:
        FineeduError: no annotator fits, or there are several and no pattern.
    """
    counts = dict(votes.group_by("annotator").len().sort("len", "annotator", descending=[True, False]).iter_rows())
    names = ", ".join(f"{name} ({count:,} votes)" for name, count in list(counts.items())[:8])
    names += f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    if pattern is None:
        if len(counts) != 1:
            raise FineeduError(
                f"the labels are by {len(counts)} annotators: {names or 'no votes at all'}. Say which to measure "
                "against, --annotator NAME or a pattern such as 'panel-*'; the others serve for the ceiling"
            )
        return list(counts)
    # A name first: one with brackets in it would not fit itself as a pattern.
    chosen = [pattern] if pattern in counts else sorted(name for name in counts if fnmatchcase(name, pattern))
    if not chosen:
        raise FineeduError(f"no annotator {pattern!r} in the labels: there are {names or 'no votes at all'}")
    return chosen


def document_labels(votes: pl.DataFrame, annotator: str | None = None) -> Labelled:
    """Bring votes to one label a document.

    Args:
        votes: as :func:`fineedu.labels.read_labels` gives them.
        annotator: see :func:`choose_annotators`.

    Raises:
        FineeduError: the annotator is not clear, or the votes follow several rubrics.
    """
    names = choose_annotators(votes, annotator)
    chosen = votes.filter(pl.col("annotator").is_in(names))
    rubrics = chosen["rubric"].drop_nulls().unique().sort().to_list()
    if len(rubrics) > 1:
        raise FineeduError(
            f"the labels of {', '.join(names)} follow {len(rubrics)} rubrics ({', '.join(rubrics[:4])}), whose scores "
            "cannot be compared: give label files of one rubric"
        )
    state = pl.when((pl.col("state") == "ok") & pl.col("score").is_null()).then(pl.lit("no score"))
    chosen = chosen.with_columns(state=state.otherwise("state"))
    valid = chosen.filter(pl.col("state") == "ok")
    told = chosen.filter(pl.col("topic").is_not_null() & pl.col("state").is_in(["ok", "no score"]))
    labels = valid.group_by("id").agg(label=pl.col("score").mean())
    topics = told.group_by("id").agg(topic=pl.col("topic").mode().sort().first())
    # Of the document itself any annotator's row may know more than the chosen one's.
    facts = [name for name in ("n_chars", "document_hash", *DOCUMENT_COLUMNS) if name in votes.columns]
    known = votes.filter(pl.col("id").is_in(chosen["id"].unique().implode()))
    known = known.group_by("id").agg(pl.col(facts).drop_nulls().sort().first())
    documents = known.join(labels, on="id", how="left").join(topics, on="id", how="left").sort("id")
    return Labelled(
        documents=documents.select("id", "label", "topic", *facts),
        annotators=dict(chosen.group_by("annotator").len().sort("annotator").iter_rows()),
        states=dict(chosen.group_by("state").len().sort("len", "state", descending=[True, False]).iter_rows()),
        rubric=rubrics[0] if rubrics else None,
    )


def read_documents(store: Path, ids: Iterable[str]) -> pl.DataFrame:
    """Return what a store knows of documents: ``id``, ``text``, ``url``, ``host``, ``language`` where it has them.

    Raises:
        FineeduError: no store, or a damaged shard.
    """
    shards = sorted((store / "documents").glob("dump=*/*.parquet"))
    if not shards:
        raise FineeduError(f"no documents under {store}: --documents takes the folder that fineedu run wrote to")
    wanted = pl.Series(sorted(set(ids)), dtype=pl.String)
    try:
        table = pl.scan_parquet(shards, hive_partitioning=False)
        columns = [name for name in ("id", *DOCUMENT_COLUMNS) if name in table.collect_schema().names()]
        return table.select(columns).filter(pl.col("id").is_in(wanted.implode())).unique("id", keep="first").collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read the documents of {store}: {str(error).splitlines()[0]}") from error


def add_facts(documents: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Fill in what a store knows of documents where the labels do not."""
    joined = documents.join(facts, on="id", how="left", suffix="_found", maintain_order="left")
    for name in [name for name in facts.columns if name != "id" and f"{name}_found" in joined.columns]:
        joined = joined.with_columns(pl.coalesce(name, f"{name}_found").alias(name)).drop(f"{name}_found")
    if "text" in joined.columns:
        joined = joined.with_columns(n_chars=pl.coalesce("n_chars", pl.col("text").str.len_chars().cast(pl.Int64)))
    return joined


def host_of(documents: pl.DataFrame) -> pl.Series | None:
    """Return the host of each document, from ``host`` or else ``url``; None where no document has one."""
    from_url = pl.col("url").str.extract(r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]+)", 1).str.to_lowercase()
    parts = [pl.col("host")] if "host" in documents.columns else []
    parts += [from_url] if "url" in documents.columns else []
    if not parts:
        return None
    hosts = documents.select(host=pl.coalesce(parts))["host"]
    return None if hosts.null_count() == len(hosts) else hosts
