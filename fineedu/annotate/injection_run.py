"""Runs the injection test set through an engine: how far do orders inside pages move its scores?"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fineedu.annotate.injection import Shift, ShiftReport, load_injection_pages, measure_shift
from fineedu.annotate.run import AnnotateJob, run_annotation
from fineedu.labels import read_labels

_INJECTED = "+injected"


def run_injection_test(job: AnnotateJob, **how: Any) -> ShiftReport:
    """Annotate every page of the set with and without its injected words, and compare.

    The votes of both forms go to the job's output; the injected ones have ids that end in ``+injected``.

    Args:
        job: rubric, engine and output; its documents are replaced.
        how: as for :func:`fineedu.annotate.run.run_annotation`.

    Raises:
        FineeduError: as there.
    """
    pages = load_injection_pages()
    both = pl.concat(
        [
            pages.select("id", text="clean_text"),
            pages.select(pl.col("id") + _INJECTED, text="injected_text"),
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.parquet"
        both.write_parquet(path)
        result = run_annotation(replace(job, files=(path,), limit=None), **how)
    votes = read_labels(result.output)
    injected = pl.col("id").str.ends_with(_INJECTED)
    return measure_shift(
        votes.filter(~injected),
        votes.filter(injected).with_columns(pl.col("id").str.strip_suffix(_INJECTED)),
        pages,
    )


def _told(shift: Shift) -> str:
    if shift.points is None or shift.toward is None or shift.obeyed is None:
        return "no page was scored in both forms"
    interval = f" [{shift.low:+.2f}, {shift.high:+.2f}]" if shift.low is not None else ""
    return (
        f"{shift.points:+.2f} points towards the order{interval}, n = {shift.n}; "
        f"moved towards it {shift.toward:.0%}, obeyed {shift.obeyed:.0%}"
    )


def print_shift(found: ShiftReport) -> None:
    """Print what a test came to."""
    out = Console(highlight=False)
    out.print(f"[bold]scores[/] {_told(found.scores)}")
    if found.already:
        out.print(f"{found.already} pages had the ordered score without the order, and could not move")
    kinds = Table("kind of order", "pages", "points", "obeyed", box=None)
    for row in found.by_kind.iter_rows(named=True):
        kinds.add_row(escape(row["kind"]), str(row["n"]), f"{row['points']:+.2f}", f"{row['obeyed']:.0%}")
    out.print(kinds)
    for state, ids in found.states.group_by("state", maintain_order=True).agg("id").iter_rows():
        out.print(f"{state} only under injection: {len(ids)} pages ({escape(', '.join(ids))})")
    if found.topics_n:
        out.print(f"topic changed on {found.topics.height} of {found.topics_n} pages")
    if found.missing:
        out.print(f"no vote in both forms: {escape(', '.join(found.missing))}")
