"""One run, read batch by batch into the figures of its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from fineedu.job import Job
from fineedu.report.bounds import Bound, rule_bounds, rule_clauses
from fineedu.report.samples import BorderPicks, ReasonPicks, with_places
from fineedu.report.sketches import DuplicateKeys, Histogram, LogHistogram, Names, RandomRows, spread
from fineedu.select.decide import joined_batches
from fineedu.select.rules import Rules, compile_rule
from fineedu.store import read_batches

#: The signal that a report leads with where a run has it.
_SCORE = "edu_score"
#: Histograms drawn at most; a recipe of heuristics bounds some twenty columns.
_HISTOGRAMS = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """What a report is to count, told from the recipe and the columns there are."""

    schema: Mapping[str, pl.DataType]
    owners: Mapping[str, str]
    rules: Rules
    bounds: list[Bound]
    #: clause name to its expression
    clauses: dict[str, pl.Expr]
    #: numeric columns to draw, the leading one first
    scores: list[str]
    #: ``registered_domain`` or ``host``
    site: str
    exact: bool
    #: counts of single phrases, and the families' totals
    phrases: list[str]

    @property
    def columns(self) -> list[str]:
        """Every column that is read of all documents."""
        wanted = [
            *self.rules.columns,
            *self.scores,
            *self.phrases,
            self.site,
            "dump",
            "language",
            "text_bytes",
        ]
        return list(dict.fromkeys([*wanted, *(["exact_key"] if self.exact else [])]))


def plan_report(job: Job, schema: Mapping[str, pl.DataType], owners: Mapping[str, str]) -> Plan:
    """Choose what to count; works with whatever signals the run has."""
    rules = Rules(job.recipe.select.rules, schema)
    bounds = rule_bounds(job.recipe.select.rules, schema)
    # Sizes have a chart of their own. Without a bounded column, any number that a rule reads will do.
    bounded = [bound.column for bound in bounds if bound.column != "text_bytes"]
    read = [column for column in rules.columns if schema[column].is_numeric() and column != "text_bytes"]
    lead = [_SCORE] if _SCORE in schema else []
    return Plan(
        schema=schema,
        owners=owners,
        rules=rules,
        bounds=bounds,
        clauses={part.name: compile_rule(part.sql, schema) for part in rule_clauses(job.recipe.select.rules)},
        scores=list(dict.fromkeys([*lead, *bounded, *read]))[:_HISTOGRAMS],
        site="registered_domain" if "registered_domain" in schema else "host",
        exact="exact_key" in schema,
        phrases=[column for column, family in owners.items() if family == "phrases" and schema[column].is_integer()],
    )


@dataclass(slots=True)
class Figures:
    """What a run's documents amount to."""

    histograms: dict[str, Histogram]
    reasons: ReasonPicks
    border: BorderPicks
    text_bytes: int = 0
    lengths: LogHistogram = field(default_factory=LogHistogram)
    languages: Names = field(default_factory=Names)
    dumps: Names = field(default_factory=Names)
    sites: Names = field(default_factory=Names)
    duplicates: DuplicateKeys = field(default_factory=DuplicateKeys)
    #: phrase to hits in all documents, in kept ones; and to documents with a hit
    phrases: dict[str, list[int]] = field(default_factory=dict)


def _numbers(job: Job, plan: Plan) -> RandomRows:
    """First pass, over the few numeric columns: ranges and scales."""
    columns = list(dict.fromkeys([*plan.scores, *(bound.column for bound in plan.bounds)]))
    sample = RandomRows(columns)
    if columns:
        for shard in job.shards:
            for batch in joined_batches(job.store, shard, plan.owners, columns):
                sample.update(batch)
    return sample


def _decided(job: Job, plan: Plan) -> Iterator[pl.DataFrame]:
    """Second pass: documents, signals and decisions side by side, with each document's place."""
    for number, shard in enumerate(job.shards):
        row = 0
        decisions = read_batches(job.store.decisions(job.run_id, shard), ["keep", "reasons"])
        for batch, decision in zip(joined_batches(job.store, shard, plan.owners, plan.columns), decisions, strict=True):
            yield with_places(batch.hstack(decision), number, row)
            row += batch.height


def collect(job: Job, plan: Plan) -> Figures:
    """Read the run's columns twice (never its text) and return the figures of all its documents.

    Memory is bounded: counts by bin, counts by name up to a limit, a fixed number of picked rows.

    Raises:
        FineeduError: a shard is missing or damaged.
    """
    sample = _numbers(job, plan)
    config = job.recipe.report
    histograms = {
        column: Histogram(
            sample.values(column),
            [bound.value for bound in plan.bounds if bound.column == column],
            plan.schema[column].is_integer(),
        )
        for column in plan.scores
    }
    scales = {bound.column: spread(sample.values(bound.column)) for bound in plan.bounds}
    figures = Figures(histograms, ReasonPicks(config.samples), BorderPicks(plan.bounds, scales, config.borderline))
    for batch in _decided(job, plan):
        _add(figures, plan, batch)
    return figures


def _add(figures: Figures, plan: Plan, batch: pl.DataFrame) -> None:
    keep = batch["keep"]
    figures.text_bytes += int(batch["text_bytes"].sum())
    figures.lengths.update(batch["text_bytes"], keep)
    figures.languages.update(batch["language"].fill_null("not told"), keep)
    figures.dumps.update(batch["dump"], keep)
    figures.sites.update(batch[plan.site], keep)
    for column, histogram in figures.histograms.items():
        histogram.update(batch[column], keep)
    if plan.exact:
        figures.duplicates.update(batch["exact_key"].filter(keep))
    for column in plan.phrases:
        hits, kept = batch[column], batch[column].filter(keep)
        found = [int(hits.sum()), int(kept.sum()), int((hits > 0).sum()), int((kept > 0).sum())]
        before = figures.phrases.get(column, [0, 0, 0, 0])
        figures.phrases[column] = [old + new for old, new in zip(before, found, strict=True)]
    figures.reasons.update(batch)
    if plan.clauses:
        figures.border.update(batch, batch.select(expression.alias(name) for name, expression in plan.clauses.items()))
