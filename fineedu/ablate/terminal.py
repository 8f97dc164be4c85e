"""An ablation on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from fineedu.ablate.evaluate import Ablation
from fineedu.evaluate.resample import Estimate
from fineedu.evaluate.wording import NONE, figure, interval
from fineedu.report.display import count, share

_MOST = 40
#: Columns of a terminal from which on precision and recall show their intervals.
_WIDE = 150


def print_ablation(found: Ablation, console: Console) -> None:
    """Print an ablation: a row a cell, the overlap of few cells, the recommendations with their uncertainty."""
    console.print(Group(*_parts(found, console.width >= _WIDE)), highlight=False)


def _parts(found: Ablation, wide: bool) -> Iterator[RenderableType]:
    about = " (estimated)" if found.estimated_tokens else ""
    yield (
        f"\n[bold]{escape(found.config.name)}[/]: {len(found.cells):,} cells over "
        f"{count(int(found.pool_totals[0]))} documents, {count(int(found.pool_totals[1]))} tokens{about}\n"
    )
    yield Padding(_cells(found, wide), (0, 0, 1, 0))
    if 1 < len(found.cells) <= 10:
        yield Padding(_overlap(found), (0, 0, 1, 0))
    yield from _advice(found)
    for note in found.notes:
        yield f"[dim]note: {escape(note)}[/]"


def _cells(found: Ablation, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("cell", overflow="fold", min_width=14)
    # A narrow terminal shows precision where there are labels; all is in cells.csv.
    full = wide or found.scores is None
    names = ["documents", "tokens", "of tokens", *(["copies", "proxy/M", "shift"] if full else [])]
    names += ["precision", "recall", "F1", "●"] if found.scores is not None else []
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for n in found.shown(_MOST):
        cell = found.cells[n]
        tokens = int(found.totals[n, 1])
        row = [escape(cell.name), count(int(found.shared[n, n])), count(tokens), share(tokens, found.pool_totals[1])]
        row += _further(found, n) if full else []
        if found.scores is not None:
            scores = found.scores
            row += [_estimate(each[n], wide) for each in (scores.precision, scores.recall, scores.f1)]
            row.append("●" if found.front is not None and found.front[n] else "")
        table.add_row(*row)
    if len(found.cells) > _MOST:
        table.caption = f"{len(found.cells) - _MOST:,} more cells: cells.csv"
        table.caption_justify = "left"
    return table


def _further(found: Ablation, n: int) -> list[str]:
    """Return copies, proxy phrases a million words, and the greatest divergence from the pool."""
    bits = [shift.from_pool[n] for shift in found.shifts if not np.isnan(shift.from_pool[n])]
    copies = np.nan if found.copies is None else found.copies[0][n]
    return [_percent(copies), _number(found.proxy_rate[n]), _number(max(bits, default=np.nan), 2)]


def _percent(value: float) -> str:
    return NONE if np.isnan(value) else share(value, 1)


def _number(value: float, digits: int = 1) -> str:
    return NONE if np.isnan(value) else f"{value:,.{digits}f}"


def _estimate(found: Estimate, wide: bool) -> str:
    ends = interval(found)
    return figure(found.value) + (f" [dim]{escape(ends)}[/]" if wide and ends else "")


def _overlap(found: Ablation) -> Table:
    table = Table(box=None, pad_edge=False, title="overlap (Jaccard by documents)", title_justify="left")
    table.add_column("")
    for n in range(len(found.cells)):
        table.add_column(str(n + 1), justify="right", no_wrap=True)
    for n, cell in enumerate(found.cells):
        row = [NONE if np.isnan(value) else f"{value:.2f}" for value in found.jaccard[n]]
        table.add_row(f"{n + 1} {escape(cell.name)}", *row)
    return table


def _advice(found: Ablation) -> Iterator[str]:
    if found.truth is None:
        yield "[dim]no labels, so no precision and no recommendation: --labels FILE[/]"
        return
    if found.scores is None:
        yield (
            f"[bold yellow]none of {found.not_in_pool:,} labelled documents is in this store:[/] no precision. Label "
            "documents of this store (fineedu sample, fineedu annotate), or run the recipe on the labelled ones"
        )
        return
    scores = found.scores
    yield (
        f"{scores.n:,} labelled documents, {scores.positives:,} of them positive ({escape(found.truth.words)}); 95 % "
        f"intervals: {scores.method}; ● no cell has as many tokens at a higher precision"
    )
    if found.not_in_pool:
        yield f"[dim]{found.not_in_pool:,} labelled documents are not in this store[/]"
    for advice in found.advice:
        if advice.cell is None:
            yield f"[bold]{escape(advice.words)}[/]: no cell (nor in {advice.none:.0%} of resamples)"
            continue
        others = [n for n in np.argsort(-advice.wins, kind="stable")[:4] if n != advice.cell and advice.wins[n] >= 0.05]
        rivals = ", ".join(f"{escape(found.cells[n].name)} {advice.wins[n]:.0%}" for n in others[:3])
        yield (
            f"[bold]{escape(advice.words)}[/]: [bold green]{escape(found.cells[advice.cell].name)}[/], chosen in "
            f"{advice.wins[advice.cell]:.0%} of {found.config.resamples:,} resamples of the labels"
            + (f"; else {rivals}" if rivals else "")
            + (f"; none in {advice.none:.0%}" if advice.none >= 0.05 else "")
        )
