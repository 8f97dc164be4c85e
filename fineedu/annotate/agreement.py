"""How far annotators agree: by pair and over all, on scores and topics, by topic and by length.

What is compared is one value an annotator and document. Where an annotator voted several times on a document (samples),
that is the median of its valid scores, and its most frequent topic. Votes that are not ``ok`` count as missing. An
annotator that voted by several rubrics is several parties (:func:`fineedu.annotate.parties.name_parties`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.annotate.figures import Array, Integers, interval, measure_all, measure_pair
from fineedu.annotate.parties import (
    majority_topic,
    median_score,
    name_parties,
    valid_scores,
)
from fineedu.errors import FineeduError
from fineedu.store import fingerprint

#: More different scores than this are no rubric's levels: 0 to 5 in halves are 11, 0 to 100 are 101.
MAX_LEVELS = 101
BY = ("topic", "length")

FIGURES_SCHEMA: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "by": pl.String(),
    "group": pl.String(),
    "first": pl.String(),
    "second": pl.String(),
    "measure": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "n": pl.Int64(),
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What :func:`measure_agreement` found.

    Attributes:
        annotators: a row an annotator, by name: ``annotator``, ``votes``, ``ok`` (votes), ``documents`` (with a valid
            vote), ``shared`` (of these, documents that another annotator has, too), ``mean_score``.
        figures: a row a figure: ``kind`` (``score``, ``topic``), ``by`` and ``group`` (null for all documents),
            ``first`` and ``second`` (a pair by name; null for all annotators together), ``measure``, ``value``, ``low``
            and ``high`` (95 % percentile bootstrap over documents), ``n`` (documents). A value that is undefined and an
            interval that cannot be had are null.
        confusions: a row a cell that is not empty: ``kind``, ``first``, ``second``, ``first_value``, ``second_value``
            (scores as numbers in text), ``n``.
    """

    annotators: pl.DataFrame
    figures: pl.DataFrame
    confusions: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Table:
    """Values of one kind as codes: (documents, annotators), -1 where there is none."""

    kind: str
    codes: Integers
    levels: Array
    #: what the codes stand for, as text
    values: list[str]
    names: list[str]


def measure_agreement(
    votes: pl.DataFrame,
    by: Sequence[str] = (),
    *,
    length_edges: Sequence[int] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Measure the agreement of all annotators that occur in votes.

    Args:
        votes: one row a vote, as :func:`fineedu.labels.read_labels` returns them.
        by: also within groups of documents: ``topic`` (the most frequent topic of all annotators' votes), ``length``.
        length_edges: upper bounds of the length buckets in characters, the last bucket being open; by default the
            terciles of the documents that two annotators or more have.
        resamples: bootstrap resamples; 0 for no intervals.
        seed: of the bootstrap. Results depend on it and the votes, not on the order of rows.

    Raises:
        FineeduError: fewer than two annotators, no document that two of them have, scores that are no rubric's levels,
            an unknown ``by``, or SciPy missing.
    """
    if unknown := set(by) - set(BY):
        raise FineeduError(f"cannot group agreement by {', '.join(sorted(unknown))}: choose from {', '.join(BY)}")
    named = name_parties(votes)
    names = named["annotator"].unique().sort().to_list()
    ids = named.select(pl.col("id").unique().sort())
    if len(names) < 2:
        raise FineeduError(f"agreement needs two annotators or more; found {', '.join(names) or 'none'}")
    tables = [_score_table(named, ids, names), _topic_table(named, ids, names)]
    shared = np.logical_or.reduce([(table.codes >= 0).sum(1) >= 2 for table in tables])
    if not shared.any():
        raise FineeduError(f"no document has valid votes of two annotators ({', '.join(names)}): nothing to compare")
    rows: list[dict[str, object]] = []
    for name, group, mask in [(None, None, shared), *_groups(named, ids, shared, by, length_edges)]:
        for table in tables:
            part = replace(table, codes=table.codes[mask])
            rows += _figures(part, name, group, resamples, seed)
    return Agreement(
        annotators=_summary(named, tables),
        figures=pl.DataFrame(rows, FIGURES_SCHEMA),
        confusions=pl.concat([_confusions(table) for table in tables]),
    )


def _score_table(votes: pl.DataFrame, ids: pl.DataFrame, names: list[str]) -> _Table:
    found = median_score(votes)
    levels = found["score"].unique().sort()
    if len(levels) > MAX_LEVELS:
        raise FineeduError(
            f"found {len(levels)} different scores: agreement is measured on a rubric's levels, so round scores first"
        )
    values = [f"{level:g}" for level in levels]
    return _Table("score", _codes(found, ids, names, "score"), levels.to_numpy().astype(np.float64), values, names)


def _topic_table(votes: pl.DataFrame, ids: pl.DataFrame, names: list[str]) -> _Table:
    found = majority_topic(votes)
    values = found["topic"].unique().sort().to_list()
    return _Table("topic", _codes(found, ids, names, "topic"), np.arange(len(values), dtype=np.float64), values, names)


def _codes(found: pl.DataFrame, ids: pl.DataFrame, names: list[str], value: str) -> Integers:
    """Lay one value an annotator and document out as (documents, annotators) positions among the sorted values."""
    codes = np.full((ids.height, len(names)), -1, dtype=np.int64)
    places = found.select(
        row=pl.col("id").replace_strict(ids["id"], pl.int_range(ids.height, eager=True), return_dtype=pl.Int64),
        column=pl.col("annotator").replace_strict(names, list(range(len(names))), return_dtype=pl.Int64),
        code=pl.col(value).rank("dense").cast(pl.Int64) - 1,
    )
    codes[places["row"].to_numpy(), places["column"].to_numpy()] = places["code"].to_numpy()
    return codes


def _groups(
    votes: pl.DataFrame,
    ids: pl.DataFrame,
    shared: npt.NDArray[np.bool_],
    by: Sequence[str],
    length_edges: Sequence[int] | None,
) -> Iterator[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Yield what groups, the group, and which of the shared documents are in it."""
    if "topic" in by:
        topics = ids.join(majority_topic(votes, ["id"]), on="id", how="left", maintain_order="left")["topic"]
        label = topics.fill_null("(no topic)").to_numpy()
        for group in np.unique(label[shared]):
            yield "topic", str(group), shared & (label == group)
    if "length" in by:
        longest = votes.group_by("id").agg(pl.col("n_chars").max())
        size = ids.join(longest, on="id", how="left", maintain_order="left")["n_chars"]
        known = size.is_not_null().to_numpy() & shared
        chars = size.fill_null(0).to_numpy()
        if length_edges is None:
            length_edges = np.quantile(chars[known], [1 / 3, 2 / 3]).astype(int).tolist() if known.any() else []
        edges = np.unique(np.asarray(length_edges, dtype=np.int64))
        bucket = np.searchsorted(edges, chars)
        for place in range(len(edges) + 1):
            if (mask := known & (bucket == place)).any():
                yield "length", _length_name(edges.tolist(), place), mask
        if (mask := shared & ~known).any():
            yield "length", "(length unknown)", mask


def _length_name(edges: list[int], place: int) -> str:
    if not edges:
        return "all lengths"
    if place == len(edges):
        return f"over {edges[-1]:,}"
    return f"up to {edges[0]:,}" if place == 0 else f"{edges[place - 1] + 1:,} to {edges[place]:,}"


def _figures(
    table: _Table, by: str | None, group: str | None, resamples: int, seed: int
) -> Iterator[dict[str, object]]:
    """Yield the rows of one group of documents: every pair, then all together where two annotators have a document."""

    def chance(*who: str | None) -> np.random.Generator:
        # A stream a figure, by name: another annotator or group beside it leaves its interval as it was.
        return np.random.default_rng(int(fingerprint([seed, table.kind, by, group, *who]), 16))

    head = {"kind": table.kind, "by": by, "group": group}
    for a, first in enumerate(table.names):
        for b, second in enumerate(table.names[a + 1 :], start=a + 1):
            both = table.codes[(table.codes[:, a] >= 0) & (table.codes[:, b] >= 0)]
            if n := len(both):
                found = measure_pair(both[:, a], both[:, b], table.kind, table.levels, resamples, chance(first, second))
                yield from _rows(head | {"first": first, "second": second}, found, n)
    several = table.codes[(table.codes >= 0).sum(1) >= 2]
    if n := len(several):
        found = measure_all(several, table.kind, table.levels, resamples, chance(None))
        yield from _rows(head | {"first": None, "second": None}, found, n)


def _rows(
    head: dict[str, str | None], found: tuple[dict[str, float], dict[str, Array]], n: int
) -> Iterator[dict[str, object]]:
    values, draws = found
    for measure, value in values.items():
        defined = bool(np.isfinite(value))
        low, high = (interval(measure, value, draws[measure], n) if defined else None) or (None, None)
        yield head | {"measure": measure, "value": value if defined else None, "low": low, "high": high, "n": n}


def _summary(votes: pl.DataFrame, tables: Sequence[_Table]) -> pl.DataFrame:
    has = np.logical_or.reduce([table.codes >= 0 for table in tables])
    known = pl.DataFrame(
        {
            "annotator": tables[0].names,
            "documents": has.sum(0),
            "shared": (has & (has.sum(1) >= 2)[:, None]).sum(0),
        }
    )
    cast = votes.group_by("annotator").agg(votes=pl.len(), ok=(pl.col("state") == "ok").sum())
    means = valid_scores(votes).group_by("annotator").agg(mean_score=pl.col("score").mean())
    return (
        known.join(cast, on="annotator", how="left")
        .join(means, on="annotator", how="left")
        .select("annotator", "votes", "ok", "documents", "shared", "mean_score")
        .sort("annotator")
    )


def _confusions(table: _Table) -> pl.DataFrame:
    """Count the cells of every pair's table over all documents."""
    rows = []
    for a, first in enumerate(table.names):
        for b, second in enumerate(table.names[a + 1 :], start=a + 1):
            both = table.codes[(table.codes[:, a] >= 0) & (table.codes[:, b] >= 0)]
            cells, counts = np.unique(both[:, [a, b]], axis=0, return_counts=True)
            rows += [
                (table.kind, first, second, table.values[x], table.values[y], n)
                for (x, y), n in zip(cells.tolist(), counts.tolist(), strict=True)
            ]
    schema = ["kind", "first", "second", "first_value", "second_value"]
    return pl.DataFrame(rows, {**dict.fromkeys(schema, pl.String()), "n": pl.Int64()}, orient="row")
