"""Findings in sentences, the same in terminal and page."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from fineedu.phrases.lexicon import ANY
from fineedu.synthetic.analysis import Analysis

_FEW_PERIODS = 6


def number(value: float | None, digits: int = 2) -> str:
    """Return a figure, a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"


def times(row: dict[str, Any]) -> str:
    """Return a ratio with its interval."""
    if row["ratio"] is None:
        return "–"
    return f"{number(row['ratio'])} [{number(row['ratio_low'])}, {number(row['ratio_high'])}]"


def headline(found: Analysis) -> str:
    """Return what the headline lexicon shows."""
    row = _row(found, found.headline, ANY)
    cutoff = f"{found.recipe.cutoff:%d %B %Y}".lstrip("0")
    if row["verdict"] in ("no baseline", "too few periods"):
        return f"{row['verdict'].capitalize()} before {cutoff}: {found.headline} has no trend to compare with."
    said = f"After {cutoff} the phrases of {found.headline} stand {times(row)} times as often as the trend before gives"
    return f"{said}: {_meaning(row)}."


def _meaning(row: dict[str, Any]) -> str:
    verdict = str(row["verdict"])
    if verdict == "no change shown":
        return f"no change shown; a rise to {number(row['detectable'])} times would have been seen"
    return {"rose": "they rose", "fell": "they fell"}.get(verdict, verdict)


def _row(found: Analysis, lexicon: str, phrase: str) -> dict[str, Any]:
    table = found.tables["phrases"].filter((pl.col("lexicon") == lexicon) & (pl.col("phrase") == phrase))
    return table.row(0, named=True)


def too_rare(found: Analysis) -> list[str]:
    """Return a sentence for each phrase of the headline that nothing follows from."""
    table = found.tables["phrases"].filter(
        (pl.col("lexicon") == found.headline)
        & (pl.col("phrase") != ANY)
        & (pl.col("verdict") == "too rare to conclude from")
    )
    said = []
    for row in table.iter_rows(named=True):
        hits = f"{row['hits_before']:,.0f} hits before the cut-off, {row['hits_after']:,.0f} after"
        if row["expected_after"] is None:
            why = "there is no trend to compare with"
        else:
            limit = row["detectable"]
            least = f"{number(limit, 1)} times" if limit is not None and limit < 1000 else "1,000 times"
            why = (
                f"only a rise to {least} or more would have been seen with {found.recipe.power.power:.0%} power, and "
                f"the rise that must be visible is {found.recipe.power.rise:g}"
            )
        said.append(f"“{row['phrase']}” alone is too rare here to conclude from: {hits}; {why}.")
    return said


def warnings(found: Analysis) -> list[str]:
    """Return what weakens the headline."""
    said = []
    table = found.tables["phrases"]
    moved = table.filter(
        (pl.col("kind") == "control") & (pl.col("phrase") == ANY) & pl.col("verdict").is_in(["rose", "fell"])
    )
    for row in moved.iter_rows(named=True):
        said.append(
            f"The control {row['lexicon']} {row['verdict']} too, to {times(row)} times its trend: the crawl or the mix "
            "of sources has changed, so a change of other phrases is not evidence"
        )
    if found.robust is not None and found.robust.one_host is not None:
        said.append(
            f"One host makes the trend: without {found.robust.one_host} the ratio's interval goes down to 1 or below"
        )
    crowded = found.tables["concentration"].filter(
        (pl.col("top_share") > 0.5) & pl.col("period").is_in(list(found.span.after))
    )
    if crowded.height:
        said.append(f"A single host has more than half of the hits in {', '.join(crowded['period'])}")
    if found.robust is not None and found.robust.placebos_significant > max(1, 0.2 * len(found.robust.placebos)):
        said.append(
            f"{found.robust.placebos_significant} of {len(found.robust.placebos)} placebo cut-offs look like a change "
            "too: the trend before is not as smooth as the model takes it to be"
        )
    if len(found.span.before) < _FEW_PERIODS:
        said.append(
            f"Only {len(found.span.before)} periods lie before the cut-off: intervals are wide, and a trend a guess"
        )
    return said


def robustness(found: Analysis) -> list[tuple[str, str]]:
    """Return what was varied, and the range of the pooled ratio under it."""
    if found.robust is None:
        return []
    robust = found.robust
    rows = []
    for what, values in (("one phrase left out", robust.by_phrase), ("one host left out", robust.by_cluster)):
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if not finite:
            continue
        low, high = min(finite, key=finite.__getitem__), max(finite, key=finite.__getitem__)
        rows.append((what, f"{number(finite[low])} (without {low}) to {number(finite[high])} (without {high})"))
    if robust.placebos:
        rows.append(
            (
                "placebo cut-offs before",
                f"{', '.join(number(value) for value in robust.placebos)}; {robust.placebos_significant} of "
                f"{len(robust.placebos)} significant at 5 %",
            )
        )
    return rows
