"""How far a run is, on a terminal or as lines."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fineedu.job import Job, read_progress
from fineedu.job import Progress as State

Style = Literal["auto", "rich", "plain", "json"]

#: Seconds between looks at the notes: on a terminal, and between lines of a log.
LIVE_SECONDS, LINE_SECONDS = 0.5, 10.0
#: Looks take a twentieth of the time at most (one at 9,000 notes was seen to take 0.9 s), and come every half minute.
_SHARE, _LONGEST_SECONDS = 1 / 20, 30.0
_REASONS_SHOWN = 6


def _reasons(state: State) -> Text:
    shown = [f"{reason} {count:,}" for reason, count in state.dropped.most_common(_REASONS_SHOWN)]
    more = len(state.dropped) - _REASONS_SHOWN
    return Text(
        "  dropped: " + (" · ".join(shown) + (f" · {more} more" if more > 0 else "") if shown else "none"),
        style="dim",
    )


@contextmanager
def watching(seconds: float, show: Callable[[float], None]) -> Iterator[None]:
    """Call ``show`` with the seconds gone by, every so many seconds until the block ends and once then.

    Less often where ``show`` takes long.
    """
    stop = threading.Event()
    started = time.monotonic()

    def poll() -> None:
        pause = seconds
        while not stop.wait(pause):
            began = time.monotonic()
            show(began - started)
            pause = max(seconds, min((time.monotonic() - began) / _SHARE, _LONGEST_SECONDS))
        show(time.monotonic() - started)

    watcher = threading.Thread(target=poll, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _lines(job: Job, as_json: bool) -> Callable[[float], None]:
    def show(seconds: float) -> None:
        state = read_progress(job)
        speed = state.pages / seconds if seconds else 0.0
        eta = seconds * (1 - state.done) / state.done if state.done else None
        if as_json:
            fields = {
                "run": job.run_id,
                "done": round(state.done, 4),
                "pages": state.pages,
                "kept": state.kept,
            }
            fields |= {
                "pages_per_second": round(speed, 1),
                "eta_seconds": None if eta is None else round(eta),
            }
            line = json.dumps(fields | {"dropped": dict(state.dropped.most_common())})
        else:
            left = "?" if eta is None else f"{eta:.0f} s"
            line = f"{state.done:6.1%}  {state.pages:,} pages  {speed:.0f}/s  kept {state.kept:,}  left {left} "
            line += _reasons(state).plain
        print(line, file=sys.stderr, flush=True)

    return show


@contextmanager
def show_progress(job: Job, style: Style, console: Console) -> Iterator[None]:
    """Show a job's progress until the block ends.

    Args:
        job: the job.
        style: ``rich`` for a bar, ``plain`` or ``json`` for lines on stderr; ``auto`` takes the bar on a terminal.
        console: where the bar goes.
    """
    if style == "auto":
        style = "rich" if console.is_terminal else "plain"
    if style != "rich":
        with watching(LINE_SECONDS, _lines(job, style == "json")):
            yield
        return
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[pages]:,} pages  {task.fields[speed]:.0f}/s  kept {task.fields[kept]:,}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(job.run_id, total=1.0, pages=0, speed=0.0, kept=0)

    def show(seconds: float) -> None:
        state = read_progress(job)
        speed = state.pages / seconds if seconds else 0.0
        bar.update(task, completed=state.done, pages=state.pages, kept=state.kept, speed=speed)
        grid = Table.grid()
        grid.add_row(bar)
        grid.add_row(_reasons(state))
        live.update(grid)

    with Live(bar, console=console, refresh_per_second=4) as live, watching(LIVE_SECONDS, show):
        yield
