"""An evaluation on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from fineedu.evaluate.evaluation import Evaluation
from fineedu.evaluate.measures import LEVELS
from fineedu.evaluate.resample import Estimate
from fineedu.evaluate.slices import TOO_FEW, Slice
from fineedu.evaluate.wording import NONE, against, ceiling_words, figure, headline, interval, signed
from fineedu.report.display import clean

_SLICES = 12
#: Columns of a terminal from which on every figure shows its interval.
_WIDE = 116


def print_evaluation(found: Evaluation, console: Console) -> None:
    """Print an evaluation: what was measured, warnings, figures beside the baselines, slices and the ceiling."""
    console.print(Group(*_parts(found, console.width >= _WIDE)), highlight=False)


def _parts(found: Evaluation, wide: bool) -> Iterator[RenderableType]:
    number = found.measures.n
    yield f"\n[bold]{escape(found.model)}[/] against {escape(clean(against(found), 100))}, {number:,} documents\n"
    for warning in found.warnings:
        yield f"[bold yellow]warning:[/] {escape(warning)}\n"
    yield Padding(_counts(found), (0, 0, 1, 0))
    yield Padding(_main(found, wide), (0, 0, 1, 0))
    yield Padding(_levels(found, wide), (0, 0, 1, 0))
    for by, parts in found.slices.items():
        yield Padding(_slices(by, parts, found.threshold, wide), (0, 0, 1, 0))
    yield "[bold]Ceiling[/]"
    for line in ceiling_words(found):
        yield Padding(escape(line), (0, 0, 0, 1))
    if found.learning_curve is not None:
        gain = found.learning_curve.last_gain["spearman"]
        sizes = [point.n_labels for point in found.learning_curve.points]
        yield "\n[bold]More labels[/]"
        yield f" From {sizes[-2]:,} to {sizes[-1]:,} labels Spearman ρ changed by {_signed(gain)}."
    for note in found.notes:
        yield f"[dim]note: {escape(note)}[/]"
    yield (
        f"[dim]In brackets: 95 % bootstrap intervals over {found.unit} ({found.resamples:,} resamples, seed "
        f"{found.seed}). Positive F1 is that of the documents kept; macro F1 averages it with that of the rest, "
        "and flatters.[/]"
    )


def _cell(found: Estimate, wide: bool = True) -> str:
    if found.value is None:
        return f"[dim]{'not defined' if wide else NONE}[/]"
    if not wide:
        return figure(found.value)
    return f"{figure(found.value)} [dim]{escape(interval(found))}[/]"


def _signed(found: Estimate) -> str:
    if found.value is None:
        return "[dim]not defined[/]"
    ends = "" if found.low is None or found.high is None else f"[{signed(found.low)}, {signed(found.high)}]"
    return f"{signed(found.value)} [dim]{escape(ends)}[/]"


def _counts(found: Evaluation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for name, number in found.counts.items():
        style = "bold" if name == "measured" else "bold yellow" if name == "seen in training" and number else ""
        table.add_row(f"{number:,}", name, style=style or ("dim" if not number else ""))
    failed = {name: number for name, number in found.states.items() if name != "ok"}
    if failed:
        told = ", ".join(f"{name} {number:,}" for name, number in failed.items())
        table.add_row(f"{sum(failed.values()):,}", f"votes without a score: {escape(told)}", style="yellow")
    return table


def _main(found: Evaluation, wide: bool) -> Table:
    positives, total = found.measures.positives[found.threshold], found.measures.n
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("measure")
    table.add_column("this model", style="bold", no_wrap=True)
    for name in found.baselines:
        table.add_column(name, no_wrap=True)
    for title, measures in headline(found.threshold):
        share = f" ({positives:,} of {total:,})" if "against" in title else ""
        table.add_row(f"[italic]{title}{share}[/]")
        for name, told in measures:
            cells = [_cell(measured[name], wide) for measured in found.baselines.values()]
            table.add_row(f"  {told}", _cell(found.measures[name]), *cells)
    return table


def _levels(found: Evaluation, wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title="At each threshold", title_justify="left")
    table.title_style = "bold"
    for name, justify in (("≥", "left"), ("labelled", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("positive F1 rounded", "macro F1 rounded", "positive F1 raw", "macro F1 raw"):
        table.add_column(name)
    for level in LEVELS:
        cells = [
            _cell(found.measures[f"{name}_{level}_{kind}"], wide)
            for kind in ("rounded", "raw")
            for name in ("positive_f1", "macro_f1")
        ]
        table.add_row(str(level), f"{found.measures.positives[level]:,}", *cells)
    return table


def _slices(by: str, parts: tuple[Slice, ...], level: int, wide: bool) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=f"By {by}", title_justify="left")
    table.title_style = "bold"
    table.add_column("characters" if by == "length" else by, no_wrap=True)
    for name in ("n", f"≥ {level}"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("Spearman ρ", "MAE", "AUC", "positive F1"):
        table.add_column(name, no_wrap=True)
    names = ("spearman", "mae", f"auc_{level}", f"positive_f1_{level}_rounded")
    few = "[dim]few positives[/]" if wide else f"[dim]{NONE}[/]"
    large = [(part, part.estimates) for part in parts if part.estimates is not None]
    for part, estimates in large[:_SLICES]:
        cells = [_cell(estimates[name], wide or name == "spearman") if name in estimates else few for name in names]
        table.add_row(escape(clean(part.name, 40)), f"{part.n:,}", f"{part.positives:,}", *cells)
    small = [f"{clean(part.name, 40)} {part.n}" for part in parts if part.estimates is None]
    lines: list[RenderableType] = [table]
    if small:
        told = ", ".join(small[:_SLICES]) + (f" and {len(small) - _SLICES} more" if len(small) > _SLICES else "")
        lines.append(f"[dim]too small (fewer than {TOO_FEW} documents): {escape(told)}[/]")
    if len(large) > _SLICES:
        lines.append(f"[dim]and {len(large) - _SLICES} more, in the page[/]")
    return Group(*lines)
