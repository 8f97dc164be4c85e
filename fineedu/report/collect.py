"""What the report shows, gathered in one pass over a run, in memory that does not grow with it."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.job import Job
from fineedu.select.decide import joined_batches
from fineedu.select.rules import Rules, Verdict, clauses
from fineedu.store import read_batches

_EXCERPT = 420
_BOUND = re.compile(r"^\s*([A-Za-z_]\w*)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?)\s*$")
_BETWEEN = re.compile(r"^\s*([A-Za-z_]\w*)\s+BETWEEN\s+(-?\d+(?:\.\d+)?)\s+AND\s+(-?\d+(?:\.\d+)?)\s*$", re.IGNORECASE)
#: Length bins: powers of two of UTF-8 bytes of text, 16 bytes to 1 MB.
LENGTH_EDGES = 2 ** np.arange(4, 21)
#: Values kept per numeric column to measure its spread; chosen by the hash of the document's id.
_SPREAD_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Bound:
    """One numeric bound of a rule."""

    rule: str
    column: str
    operator: str
    value: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A document as the report shows it."""

    id: str
    url: str
    title: str
    language: str
    score: float | None
    excerpt: str
    kept: bool
    failed: tuple[Verdict, ...]
    #: for borderline documents: the bound and the document's value
    bound: Bound | None = None
    value: float | None = None


@dataclass(slots=True)
class Findings:
    """Everything the template and the charts need."""

    score_column: str | None
    bounds: list[Bound]
    #: 0 to 5 in steps of 0.1: documents kept and dropped
    scores: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 50), np.int64))
    lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, len(LENGTH_EDGES) + 1), np.int64))
    languages: Counter[tuple[str, bool]] = field(default_factory=Counter)
    hosts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    dumps: Counter[tuple[str, bool]] = field(default_factory=Counter)
    proxy: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    kept: list[Sample] = field(default_factory=list)
    dropped: dict[str, list[Sample]] = field(default_factory=dict)
    borderline: list[Sample] = field(default_factory=list)


def find_bounds(rules: Mapping[str, str]) -> list[Bound]:
    """Return the numeric bounds of a recipe: clauses that compare a column with a number."""
    bounds = []
    for rule, sql in rules.items():
        for clause in clauses(sql):
            if (single := _BOUND.match(clause)) is not None:
                bounds.append(Bound(rule, single[1], single[2], float(single[3])))
            elif (double := _BETWEEN.match(clause)) is not None:
                bounds += [Bound(rule, double[1], ">=", float(double[2])), Bound(rule, double[1], "<=", float(double[3]))]
    return bounds


def _order(document_id: str) -> int:
    """Return a document's place in the draw of samples: the same whatever the layout of the shards."""
    return int.from_bytes(blake2b(document_id.encode(), digest_size=8).digest(), "big")


class _Nearest:
    """The few items with the smallest keys of a stream."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[Any, ...]] = []

    def offer(self, key: tuple[Any, ...], item: Any) -> None:
        entry = (tuple(-part for part in key), item)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry[0] > self._heap[0][0]:
            heapq.heapreplace(self._heap, entry)

    def worst(self) -> tuple[Any, ...] | None:
        return tuple(-part for part in self._heap[0][0]) if len(self._heap) >= self._size and self._heap else None

    def items(self) -> list[Any]:
        return [entry[1] for entry in sorted(self._heap, key=lambda entry: tuple(-part for part in entry[0]))]


class _Collector:
    def __init__(self, job: Job, schema: Mapping[str, pl.DataType], owners: Mapping[str, str]) -> None:
        self.job, self.schema, self.owners = job, schema, owners
        recipe = job.recipe
        self.rules = Rules(recipe.select.rules, schema)
        self.bounds = [bound for bound in find_bounds(recipe.select.rules) if bound.column in schema]
        self.score = "edu_score" if "edu_score" in schema else None
        self.findings = Findings(self.score, self.bounds)
        size = recipe.report.samples
        self.kept = _Nearest(size)
        self.dropped = {name: _Nearest(size) for rule in recipe.select.rules for name in (rule, f"{rule}:missing")}
        self.near = _Nearest(recipe.report.borderline)
        self.keys: Counter[int] = Counter()

    def spreads(self) -> dict[str, float]:
        """Return each bounded column's interquartile range (or the standard deviation where that is 0)."""
        columns = sorted({bound.column for bound in self.bounds})
        if not columns:
            return {}
        taken: list[pl.DataFrame] = []
        rows = 0
        for shard in self.job.shards:
            for batch in joined_batches(self.job.store, shard, self.owners, columns):
                taken.append(batch.select(columns))
                rows += batch.height
            if rows >= _SPREAD_ROWS:
                break
        sample = pl.concat(taken).cast(pl.Float64) if taken else pl.DataFrame(schema=dict.fromkeys(columns, pl.Float64))
        found = {}
        for column in columns:
            values = sample[column].drop_nulls()
            wide = (values.quantile(0.75) or 0.0) - (values.quantile(0.25) or 0.0) if len(values) else 0.0
            found[column] = wide or float(values.std() or 1.0)  # type: ignore[arg-type]
        return found

    def sample(self, row: dict[str, Any], bound: Bound | None = None) -> Sample:
        verdicts = self.rules.explain(pl.DataFrame([row], schema_overrides={c: self.schema[c] for c in row if c in self.schema}))
        return Sample(
            id=row["id"],
            url=row["url"] or "",
            title=row["title"] or "",
            language=row["language"] or "unknown",
            score=row.get("edu_score"),
            excerpt=row["text"][:_EXCERPT] + (" …" if len(row["text"]) > _EXCERPT else ""),
            kept=row["keep"],
            failed=tuple(verdict for verdict in verdicts if not verdict.holds),
            bound=bound,
            value=None if bound is None else float(row[bound.column]),
        )

    def run(self) -> Findings:
        spreads = self.spreads()
        wanted = ["url", "host", "dump", "language", "title", "text", "text_bytes", *self.rules.columns]
        wanted += [c for c in ("edu_score", "registered_domain", "exact_key") if c in self.schema]
        wanted += [c for c in self.schema if c.startswith("proxy_")]
        columns = list(dict.fromkeys(wanted))
        for shard in self.job.shards:
            decisions = read_batches(self.job.store.decisions(self.job.run_id, shard), ["keep", "reasons"])
            for batch, decision in zip(joined_batches(self.job.store, shard, self.owners, columns), decisions, strict=True):
                frame = batch.hstack(decision)
                self._count(frame)
                self._draw(frame)
                self._draw_borderline(frame, spreads)
        found = self.findings
        found.kept = [self.sample(row) for row in self.kept.items()]
        found.dropped = {name: [self.sample(row) for row in chosen.items()] for name, chosen in self.dropped.items()}
        found.borderline = [self.sample(row, bound) for row, bound in self.near.items()]
        found.duplicates = sum(count - 1 for count in self.keys.values())
        return found

    def _count(self, frame: pl.DataFrame) -> None:
        found = self.findings
        keep = frame["keep"].to_numpy()
        bins = np.searchsorted(LENGTH_EDGES, frame["text_bytes"].to_numpy())
        np.add.at(found.lengths, (keep.astype(int), bins), 1)
        if self.score:
            scored = frame[self.score].is_not_null().to_numpy()
            at = np.clip((frame[self.score].fill_null(0).to_numpy() * 10).astype(int), 0, 49)
            np.add.at(found.scores, (keep[scored].astype(int), at[scored]), 1)
        host = "registered_domain" if "registered_domain" in frame.columns else "host"
        for counter, column in ((found.languages, "language"), (found.hosts, host), (found.dumps, "dump")):
            groups = frame.group_by(pl.col(column).fill_null("unknown"), "keep").len().iter_rows()
            counter.update({(value, kept): count for value, kept, count in groups})
        # Hosts are as many as the web has: only the frequent ones are carried on.
        if len(found.hosts) > 200_000:
            found.hosts = Counter(dict(found.hosts.most_common(50_000)))
        found.proxy.update({c: int(frame[c].sum() or 0) for c in frame.columns if c.startswith("proxy_")})
        if "exact_key" in frame.columns and len(self.keys) < 2_000_000:
            keys = frame.filter("keep")["exact_key"].drop_nulls().str.slice(0, 15).str.to_integer(base=16)
            self.keys.update(keys.to_list())

    def _draw(self, frame: pl.DataFrame) -> None:
        for row in frame.select("id", "keep", "reasons").with_row_index("row").iter_rows(named=True):
            key = (_order(row["id"]),)
            for chosen in [self.kept] if row["keep"] else [self.dropped[reason] for reason in row["reasons"]]:
                worst = chosen.worst()
                if worst is None or key < worst:
                    chosen.offer(key, frame.row(row["row"], named=True))

    def _draw_borderline(self, frame: pl.DataFrame, spreads: Mapping[str, float]) -> None:
        """Offer the documents that one bound alone decides on, the nearest first."""
        alone = frame["reasons"].list.len() <= 1
        for bound in self.bounds:
            distance = (frame[bound.column].cast(pl.Float64) - bound.value).abs() / spreads[bound.column]
            decided = alone & (frame["keep"] | (frame["reasons"].list.first().fill_null("") == bound.rule)) & (distance <= 0.5)
            near = frame.with_columns(distance.alias("_distance")).filter(decided).bottom_k(self.near._size or 1, by="_distance")
            for row in near.iter_rows(named=True):
                self.near.offer((row.pop("_distance"), _order(row["id"] + bound.column)), (row, bound))


def collect(job: Job, schema: Mapping[str, pl.DataType], owners: Mapping[str, str]) -> Findings:
    """Gather what the report of a finished run shows.

    Args:
        job: the run.
        schema: columns of documents and signals.
        owners: signal column to its family.
    """
    return _Collector(job, schema, owners).run()
