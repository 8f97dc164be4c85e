"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from fineedu.job import Job
from fineedu.report import display
from fineedu.report.bounds import Bound
from fineedu.report.charts import Chart, histogram
from fineedu.report.collect import Figures, Plan, collect, plan_report
from fineedu.report.duplicates import duplicates_shown
from fineedu.report.html import write_page
from fineedu.report.samples import Card, Cards
from fineedu.report.selection import beyond_rules
from fineedu.store import read_json

_LANGUAGES, _SITES, _PHRASES, _INPUTS = 12, 10, 12, 20


@dataclass(frozen=True, slots=True)
class Gallery:
    """Sample documents of one fate."""

    #: drop reason; empty for kept documents
    reason: str
    documents: int
    cards: list[Card]


@dataclass(frozen=True, slots=True)
class Borderline:
    """A document beside the bound that decides over it."""

    bound: Bound
    kept: bool
    value: str
    card: Card


def write_report(
    path: Path,
    job: Job,
    schema: Mapping[str, pl.DataType],
    owners: Mapping[str, str],
    manifest: dict[str, Any],
) -> Path:
    """Write the report of a run whose documents, signals and decisions are all there.

    The same store and manifest give the same bytes: no times, no chance.

    Args:
        path: where the HTML file goes.
        job: the run.
        schema: columns of documents and signals, with their types.
        owners: signal column to its family.
        manifest: the run's manifest; its counts are the report's counts.

    Returns:
        ``path``.

    Raises:
        FineeduError: a shard is missing or damaged, or the file cannot be written.
    """
    plan = plan_report(job, schema, owners)
    figures = collect(job, plan)
    cards = _cards(job, owners, plan, figures, manifest["counts"])
    shown = _totals(job, plan, figures, manifest) | _documents(figures, cards, manifest["counts"])
    shown |= (
        duplicates_shown(read_json(job.store.run(job.run_id) / "dedup.json")) if job.recipe.dedup else {"dup": None}
    )
    return write_page(path, Path(__file__).with_name("template.html.j2"), shown | {"manifest": manifest})


def _cards(job: Job, owners: Mapping[str, str], plan: Plan, figures: Figures, counts: Mapping[str, Any]) -> Cards:
    """Read every document that the report shows."""
    samples = [figures.reasons.of(reason) for reason in (figures.reasons.KEPT, *counts["reasons"])]
    borderline = [(shard, row) for *_, shard, row in figures.border.chosen()]
    return Cards(job, owners, plan.rules, plan.scores[:1], [*chain.from_iterable(samples), *borderline])


def _totals(job: Job, plan: Plan, figures: Figures, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows of the run as a whole."""
    counts = manifest["counts"]
    drawn = plan.scores if counts["documents"] else []
    return {
        "recipe": job.recipe,
        "counts": counts,
        "text_bytes": figures.text_bytes,
        "rules": _rules(job, counts),
        "cascades": [(name, told) for name, told in manifest.get("signals", {}).items() if "called" in told],
        "beyond": beyond_rules(job.recipe.select, manifest["selection"], counts),
        "scores": [_score_chart(column, figures, plan) for column in drawn],
        "lengths": _length_chart(figures, plan) if counts["documents"] else None,
        "languages": figures.languages.top(_LANGUAGES),
        "dumps": figures.dumps.top(_LANGUAGES),
        "sites": {by: figures.sites.top(_SITES, by) for by in ("documents", "kept")},
        "sites_error": figures.sites.error,
        "site_name": "registered domain" if plan.site == "registered_domain" else "host",
        "duplicates": figures.duplicates.result(),
        "phrases": _phrases(figures),
        "bounds": plan.bounds,
        "recipe_yaml": yaml.safe_dump(manifest["recipe"], sort_keys=False, allow_unicode=True, width=100),
        "made_by": {part: list(_flat(made)) for part, made in manifest["made_by"].items()},
        "inputs": list(manifest["inputs"].items())[:_INPUTS],
    }


def _documents(figures: Figures, cards: Cards, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows of single documents."""
    return {
        "kept": _gallery(figures, cards, figures.reasons.KEPT, counts["kept"]),
        "dropped": [_gallery(figures, cards, reason, number) for reason, number in counts["reasons"].items()],
        "borderline": list(_borderline(figures, cards)),
    }


def _rules(job: Job, counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return name, SQL and counts of each rule; a missing value fails a rule too."""
    reasons, alone = counts["reasons"], counts["only_reason"]
    return [
        {
            "name": name,
            "sql": sql,
            "fail": reasons.get(name, 0) + reasons.get(f"{name}:missing", 0),
            "missing": reasons.get(f"{name}:missing", 0),
            "alone": alone.get(name, 0) + alone.get(f"{name}:missing", 0),
        }
        for name, sql in job.recipe.select.rules.items()
    ]


def _marks(bounds: Sequence[Bound], column: str) -> list[tuple[float, str]]:
    return [
        (bound.value, f"{bound.clause.rule}: {column} {display.sign(bound.op)} {display.value(bound.value)}")
        for bound in bounds
        if bound.column == column
    ]


def _threshold_note(marks: Sequence[tuple[float, str]]) -> str:
    return f"Dashed: {'; '.join(told for _, told in marks)}." if marks else ""


def _score_chart(column: str, figures: Figures, plan: Plan) -> Chart:
    found, marks = figures.histograms[column], _marks(plan.bounds, column)
    kept, dropped = (int(side) for side in found.counts.sum(axis=1))
    total = display.count(kept + dropped)
    notes = [f"{total} documents: {display.count(kept)} kept, {display.count(dropped)} dropped."]
    if found.missing.sum():
        notes.append(f"No value in {display.count(int(found.missing.sum()))} more.")
    below, above = (int(beyond) for beyond in found.beyond)
    if below or above:
        beyond = [f"{display.count(number)} {side}" for number, side in ((below, "below"), (above, "above")) if number]
        notes.append(f"The outermost bars take in {' and '.join(beyond)} the axis.")
    notes.append(_threshold_note(marks))
    note = " ".join(filter(None, notes))
    svg = histogram(
        found.edges,
        found.counts,
        title=column,
        label=f"Histogram of {column}. {note}",
        marks=marks,
        open_ends=(below > 0, above > 0),
    )
    return Chart(column, svg, note)


def _length_chart(figures: Figures, plan: Plan) -> Chart:
    edges, counts = figures.lengths.trimmed()
    marks = _marks(plan.bounds, "text_bytes")
    note = " ".join(filter(None, ["Bytes of UTF-8 text, eight bins to a power of ten.", _threshold_note(marks)]))
    label = f"Histogram of text length. {note}"
    svg = histogram(edges, counts, title="bytes of text", label=label, marks=marks, log=True)
    return Chart("text length", svg, note)


def _phrases(figures: Figures) -> list[tuple[str, list[int]]]:
    """Return totals first, then the phrases with most hits before the cut."""
    found = [(name, numbers) for name, numbers in figures.phrases.items() if numbers[0] or name.endswith("_total")]
    found.sort(key=lambda item: (not item[0].endswith("_total"), -item[1][0], item[0]))
    return found[:_PHRASES]


def _gallery(figures: Figures, cards: Cards, reason: str, documents: int) -> Gallery:
    rule = reason.removesuffix(":missing")
    return Gallery(reason, documents, [cards.card(shard, row, rule) for shard, row in figures.reasons.of(reason)])


def _borderline(figures: Figures, cards: Cards) -> Iterator[Borderline]:
    for bound, kept, number, shard, row in figures.border.chosen():
        # More digits than elsewhere: what lies just below 2.5 must not read 2.5.
        yield Borderline(bound, kept, f"{number:,.7g}", cards.card(shard, row))


def _flat(made: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings of a making as dotted names and short values."""
    for name, found in made.items():
        if isinstance(found, Mapping):
            yield from _flat(found, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", display.clean(found, 120)


__all__ = ["write_report"]
