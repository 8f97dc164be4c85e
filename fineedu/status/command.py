"""``fineedu status``: how a run is, from any machine that sees its folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

EPILOG = (
    "Examples:\n\n[dim]fineedu status -o out[/]\n\n[dim]fineedu status edu-1a2b -o out --watch 5[/]\n\n"
    "[dim]fineedu status -o out --format prometheus > /var/lib/node_exporter/fineedu.prom[/]"
)


class StatusFormat(StrEnum):
    """How the status is told."""

    table = "table"
    json = "json"
    prometheus = "prometheus"


def status(
    run_name: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run id, its beginning, or its folder; default: started last.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the store.")] = Path("fineedu-output"),
    style: Annotated[StatusFormat, typer.Option("--format", help="Table, JSON, or Prometheus text.")] = (
        StatusFormat.table
    ),
    watch: Annotated[float | None, typer.Option(min=0.5, help="Show it anew every so many seconds.")] = None,
) -> None:
    """Tell how a run is, while it runs or after: state, progress, and what each stage costs."""
    import time

    from rich.console import Console
    from rich.live import Live

    from fineedu.status.collect import find_run_folder, prometheus, read_status

    folder = find_run_folder(output, run_name)
    found = read_status(folder)
    out = Console()
    if style is StatusFormat.prometheus:
        typer.echo(prometheus(found), nl=False)
    elif style is StatusFormat.json:
        typer.echo(_json(found))
    elif watch is None:
        out.print(_table(found), highlight=False)
    else:
        with Live(_table(found), console=out, auto_refresh=False) as live:
            while found.state == "running":
                time.sleep(watch)
                found = read_status(folder)
                live.update(_table(found), refresh=True)
    if found.state in ("failed", "silent"):
        raise typer.Exit(1)


def _json(found: Any) -> str:
    import json
    from dataclasses import asdict

    told = {name: value for name, value in found.told.items() if name != "weights"}
    progress = found.progress
    fields = told | {"state": found.state, "silent_seconds": round(found.silent, 1)}
    fields |= {"done": progress.done, "pages": progress.pages, "kept": progress.kept, "dropped": dict(progress.dropped)}
    return json.dumps(fields | {"stages": {name: asdict(cost) for name, cost in found.stages.items()}}, indent=2)


def _table(found: Any) -> Any:
    from rich.console import Group
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    color = {"running": "cyan", "finished": "green", "stopped": "yellow"}.get(found.state, "bold red")
    told, progress = found.told, found.progress
    head = Table.grid(padding=(0, 2))
    head.add_row("run", f"[bold]{escape(found.run)}[/]")
    silent = f", last sign of life {span(found.silent)} ago" if found.state in ("running", "silent") else ""
    head.add_row("state", f"[{color}]{found.state}[/]{silent}")
    if told.get("error"):
        head.add_row("error", escape(told["error"]))
    head.add_row("where", escape(f"{told['engine']}, {told['workers']} workers, started by {told['host']}"))
    head.add_row("since", f"{told['started']}, {span(told['seconds'])}{_left(found)}")
    head.add_row("done", ProgressBar(total=1, completed=min(progress.done, 1), width=40))
    head.add_row("", f"{progress.done:.1%}, {progress.pages:,} pages, {progress.kept:,} kept")
    top = ", ".join(f"{reason} {count:,}" for reason, count in progress.dropped.most_common(5))
    head.add_row("dropped", escape(top) or "none")
    table = Table("stage", box=None, pad_edge=False)
    for name in ("shards", "documents", "CPU", "wall", "read", "written", "memory", "errors"):
        table.add_column(name, justify="right")
    for stage, cost in found.stages.items():
        errors = f"[bold red]{cost.errors}[/]" if cost.errors else "0"
        times = (span(cost.cpu_seconds), span(cost.seconds))
        sizes = (size(cost.bytes_read), size(cost.bytes_written), size(cost.memory_bytes))
        documents = f"{cost.documents:,}" if cost.documents else "–"
        table.add_row(stage, f"{cost.shards:,}", documents, *times, *sizes, errors)
    return Group(head, "", table)


def _left(found: Any) -> str:
    done, seconds = found.progress.done, found.told["seconds"]
    if found.state != "running" or not 0.01 < done < 1:
        return ""
    return f", about {span(seconds * (1 - done) / done)} left"


def span(seconds: float) -> str:
    """Return a time as a reader takes it in."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def size(number: float) -> str:
    """Return bytes in the unit that fits; a dash for none."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}" if number else "–"
        number /= 1000
    return f"{number:,.3g} TB"
