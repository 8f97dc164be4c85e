"""Agreement and alarms as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fineedu.annotate.agreement import Agreement
from fineedu.annotate.alarms import Alarm
from fineedu.annotate.figures import MIN_DOCUMENTS

#: measure: heading, and how it is written
COLUMNS = {
    "score": {
        "quadratic_kappa": ("quad.\nkappa", "plain"),
        "alpha_ordinal": ("ordinal\nalpha", "plain"),
        "spearman": ("Spearman", "plain"),
        "exact": ("exact", "percent"),
        "within_one": ("within\n1", "percent"),
        "bias": ("bias", "signed"),
    },
    "topic": {
        "kappa": ("Cohen's\nkappa", "plain"),
        "alpha_nominal": ("nominal\nalpha", "plain"),
        "exact": ("exact", "percent"),
    },
}
#: Confusion matrices of more than so many pairs are printed only when asked for.
FEW_PAIRS = 1


def _number(value: float | None, style: str) -> str:
    if value is None:
        return "–"
    if style == "percent":
        return f"{100 * value:.0f}"
    text = f"{value:+.2f}" if style == "signed" else f"{value:.2f}"
    return text.replace("-", "−").replace("0.", ".", 1)


def _cell(figure: dict[str, Any] | None, style: str) -> Text:
    """Write a value, and its interval below it."""
    if figure is None:
        return Text("")
    value = _number(figure["value"], style) + (" %" if style == "percent" and figure["value"] is not None else "")
    if figure["low"] is None:
        return Text.assemble((value, "bold"))
    low, high = _number(figure["low"], style), _number(figure["high"], style)
    return Text.assemble((value, "bold"), "\n", (f"{low}…{high}" if style == "signed" else f"{low}–{high}", "dim"))


def _empty() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _titled(title: str, *parts: RenderableType) -> Group:
    # A title of the table's own would be broken at the table's width.
    return Group(Text(title, "bold"), *parts)


def printable(name: str) -> str:
    """Make a name safe for a terminal: no escape sequences, no direction overrides."""
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


def _table(heading: str, kind: str, measures: Iterable[str]) -> Table:
    table = _empty()
    table.add_column(heading, overflow="fold", vertical="top")
    table.add_column("n", justify="right", no_wrap=True)
    for measure in measures:
        table.add_column(COLUMNS[kind][measure][0], justify="right", no_wrap=True)
    return table


def _add(table: Table, label: Text, figures: pl.DataFrame, kind: str, measures: Sequence[str], last: bool) -> None:
    rows = {row["measure"]: row for row in figures.iter_rows(named=True)}
    cells = [_cell(rows.get(measure), COLUMNS[kind][measure][1]) for measure in measures]
    table.add_row(label, f"{figures['n'].item(0):,}", *cells, end_section=last)


def agreement_tables(found: Agreement, names: dict[str, str]) -> Iterator[RenderableType]:
    """Yield the tables of scores and of topics: every pair, then all together, then by group.

    Args:
        found: what was measured.
        names: of each annotator, as it is to be shown.
    """
    titles = {"score": "Agreement on scores", "topic": "Agreement on topics"}
    for kind, title in titles.items():
        figures = found.figures.filter(pl.col("kind") == kind)
        whole = figures.filter(pl.col("by").is_null())
        if whole.is_empty():
            continue
        pairs = whole.filter(pl.col("first").is_not_null())
        measures = list(COLUMNS[kind])
        table = _table("pair", kind, measures)
        several = pairs.select("first", "second").unique().height > 1
        parts = list(pairs.group_by("first", "second", maintain_order=True))
        for place, ((first, second), part) in enumerate(parts):
            label = Text(f"{names[str(first)]}\n{names[str(second)]}")
            _add(table, label, part, kind, measures, last=several and place == len(parts) - 1)
        if several:
            _add(table, Text("all\ntogether"), whole.filter(pl.col("first").is_null()), kind, measures, last=False)
        yield _titled(title, table)
        yield from _group_tables(figures, kind, title)


def _group_tables(figures: pl.DataFrame, kind: str, title: str) -> Iterator[RenderableType]:
    """Yield a table a grouping, of all annotators together: pairs within groups are in the JSON file."""
    measures = [measure for measure in COLUMNS[kind] if measure != "bias"]
    grouped = figures.filter(pl.col("by").is_not_null() & pl.col("first").is_null())
    for (by,), part in grouped.group_by("by", maintain_order=True):
        table = _table("topic" if by == "topic" else "characters", kind, measures)
        groups = [rows for _, rows in part.group_by("group", maintain_order=True)]
        large = [rows for rows in groups if rows["n"].item(0) >= MIN_DOCUMENTS]
        for rows in sorted(large, key=lambda rows: -rows["n"].item(0)) if by == "topic" else large:
            _add(table, Text(rows["group"].item(0)), rows, kind, measures, last=False)
        small = len(groups) - len(large)
        left_out = f"{small} with fewer than {MIN_DOCUMENTS} documents: in the file of --json\n"
        parts: list[RenderableType] = [*([table] if large else []), *([Text(left_out, "dim")] if small else [])]
        yield _titled(f"{title} by {by}, all annotators together", *parts)


def annotator_table(found: Agreement, names: dict[str, str]) -> RenderableType:
    """Return the table of annotators."""
    table = _empty()
    table.add_column("annotator", overflow="fold")
    for heading in ("votes", "ok", "documents", "shared", "mean score"):
        table.add_column(heading, justify="right")
    for row in found.annotators.iter_rows(named=True):
        mean = "–" if row["mean_score"] is None else f"{row['mean_score']:.2f}"
        share = f"{100 * row['ok'] / row['votes']:.1f} %"
        counts = [f"{row['votes']:,}", share, f"{row['documents']:,}", f"{row['shared']:,}"]
        table.add_row(Text(names[row["annotator"]]), *counts, mean)
    return _titled("Annotators", table)


def confusion_tables(found: Agreement, names: dict[str, str]) -> Iterator[RenderableType]:
    """Yield a table a pair: a matrix of scores; of topics only the ten most frequent confusions."""
    for (kind, first, second), part in found.confusions.group_by("kind", "first", "second", maintain_order=True):
        a, b = names[str(first)], names[str(second)]
        yield _score_matrix(part, a, b) if kind == "score" else _topic_list(part, a, b)


def _score_matrix(part: pl.DataFrame, first: str, second: str) -> RenderableType:
    levels = sorted({*part["first_value"], *part["second_value"]}, key=float)
    cells = {(a, b): n for a, b, n in part.select("first_value", "second_value", "n").iter_rows()}
    table = _empty()
    for heading in ("", *levels):
        table.add_column(heading, justify="right", min_width=3)
    for a in levels:
        row = [(a, b, cells.get((a, b), 0)) for b in levels]
        table.add_row(
            Text(a, "bold"), *(Text(f"{n:,}" if n else "·", "bold green" if a == b else "") for a, b, n in row)
        )
    return _titled(f"Documents by the score of {first} (rows) and {second} (columns)", table)


def _topic_list(part: pl.DataFrame, first: str, second: str) -> RenderableType:
    differ = part.filter(pl.col("first_value") != pl.col("second_value"))
    title = f"Most frequent confusions of topics, {first} and {second}"
    if differ.is_empty():
        return Text(f"{title}: none\n", "bold")
    table = _empty()
    for heading in (first, second):
        table.add_column(Text(heading), overflow="fold")
    table.add_column("n", justify="right")
    top = differ.sort("n", "first_value", "second_value", descending=[True, False, False]).head(10)
    for a, b, n in top.select("first_value", "second_value", "n").iter_rows():
        table.add_row(Text(a), Text(b), f"{n:,}")
    return _titled(title, table)


def alarm_table(alarms: Sequence[Alarm], names: dict[str, str]) -> RenderableType:
    """Return the table of alarms: those that fire, then the hints."""
    if not alarms:
        return Text("Alarms: none\n", "bold green")
    table = _empty()
    for heading in ("", "alarm", "annotator", "value", "limit", "n", "of what"):
        right = heading in ("value", "limit", "n")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for alarm in sorted(alarms, key=lambda alarm: not alarm.fires):
        mark = Text("fires", "bold red") if alarm.fires else Text("hint", "yellow")
        if alarm.low is None or alarm.high is None:
            value, limit = Text(f"{alarm.value:.1g}", "bold"), f"< {alarm.limit:g}"
        else:
            bounds = (f"{100 * alarm.low:.1f}–{100 * alarm.high:.1f}", "dim")
            value = Text.assemble((f"{100 * alarm.value:.1f} %", "bold"), "\n", bounds)
            limit = f"{'<' if alarm.value < alarm.limit else '>'} {100 * alarm.limit:g} %"
        what = alarm.what.replace("_", " ")
        table.add_row(mark, what, Text(names[alarm.annotator]), value, limit, f"{alarm.n:,}", Text(alarm.detail))
    note = "fires: the whole 95 % interval is beyond the limit; hint: the value is, but it may be chance"
    return _titled("Alarms", table, Padding(Text(note, "dim"), (0, 0, 1, 0)))


def key() -> Text:
    """Explain how tables are to be read."""
    return Text(
        "Below each value its 95 % bootstrap interval over documents; – or none: cannot be had (too few documents, or "
        "no spread). n: documents. bias: mean of the upper annotator minus the lower. all together: kappa and Spearman "
        "are means over pairs.",
        "dim",
    )
