"""``fineedu plan``: what a run will take, before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

EPILOG = (
    "Examples:\n\n[dim]fineedu plan edu --dump CC-MAIN-2024-10 --cores 512 --prices prices.yaml[/]\n\n"
    "[dim]fineedu plan edu -i crawl/ --json plan.json[/]"
)


def plan(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, or the path of a .yaml file.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="Archive, folder, glob or URL; repeatable.")
    ] = None,
    dump: Annotated[str | None, typer.Option(help="Common Crawl dump to plan for, e.g. CC-MAIN-2024-10.")] = None,
    limit_files: Annotated[int | None, typer.Option(min=1, help="Plan for only so many archives.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override key.key=value; repeatable.")
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Processors of the real run; default: here.")] = None,
    slices: Annotated[int, typer.Option(min=2, help="Places that the sample is taken from.")] = 16,
    sample_mb: Annotated[float, typer.Option(min=0.1, help="Compressed MB of the sample, all slices together.")] = 16.0,
    prices: Annotated[Path | None, typer.Option(help="YAML file of prices, for the cost.")] = None,
    seed: Annotated[int, typer.Option(help="Of the places.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Measure a recipe's stages on a sample here, and tell what all of the input will take."""
    import os

    from rich.console import Console

    from fineedu.engine import default_workers
    from fineedu.extract.inputs import COMMON_CRAWL
    from fineedu.plan.estimate import estimate, load_prices
    from fineedu.plan.sample import find_whole, run_sample

    known = load_prices(prices) if prices else None
    base = os.environ.get("FINEEDU_COMMON_CRAWL", COMMON_CRAWL)
    whole = find_whole(recipe, inputs or [], dump, limit_files, settings or [], base)
    err = Console(stderr=True)
    with err.status(f"measuring {slices} slices of {sample_mb / slices:.3g} MB …"):
        sampled = run_sample(whole, slices, int(sample_mb * 1e6 / slices), seed)
    cores = cores or default_workers()
    found = estimate(whole, sampled, cores)
    Console().print(_told(found, cores, known), highlight=False)
    if json_path:
        from fineedu.store import write_json

        write_json(json_path, _fields(found, cores, known))


def _fields(found: Any, cores: int, prices: Any) -> dict[str, Any]:
    from dataclasses import asdict

    cost = {"currency": prices.currency, **found.cost(prices)} if prices else None
    more = {"written": found.written, "cores": cores, "wall_hours": found.wall_hours(cores), "cost": cost}
    return asdict(found) | more


def _told(found: Any, cores: int, prices: Any) -> Any:
    from rich.console import Group
    from rich.table import Table

    from fineedu.status.command import size, span

    head = Table.grid(padding=(0, 2))
    head.add_row("input", f"{found.archives:,} archives, {size(found.bytes)} compressed")
    head.add_row("measured", f"{size(found.sampled_bytes)} in {found.slices} slices, {span(found.seconds)} of CPU time")
    head.add_row("pages", f"{_round(found.pages)}, documents {_round(found.documents)}, kept {_round(found.kept)}")
    interval = f"95 % interval {_hours(found.low)} to {_hours(found.high)}"
    head.add_row("core-hours", f"[bold]{_hours(found.core_hours)}[/] ({interval})")
    head.add_row("GPU-hours", _hours(found.gpu_hours) if found.gpu_hours else "none: no GPU in the recipe's engine")
    head.add_row("time", f"{span(3600 * found.wall_hours(cores))} on {cores:,} cores like those here, kept busy")
    head.add_row("memory", f"{size(found.memory)} a worker")
    head.add_row("disk", f"{size(found.written)} for the store")
    head.add_row("bottleneck", f"[bold]{found.bottleneck}[/]")
    if prices is not None:
        cost = found.cost(prices)
        parts = ", ".join(f"{name} {value:,.2f}" for name, value in cost.items() if value)
        head.add_row("cost", f"[bold]{sum(cost.values()):,.2f} {prices.currency}[/] ({parts or 'no price given'})")
    table = Table("stage", box=None, pad_edge=False)
    for name in ("core-hours", "share", "read", "written", "runs"):
        table.add_column(name, justify="right")
    for name, stage in found.stages.items():
        share = f"{stage.core_hours / found.core_hours:.1%}"
        runs = "once" if stage.alone else "everywhere"
        table.add_row(name, _hours(stage.core_hours), share, size(stage.read), size(stage.written), runs)
    start = found.core_hours - sum(stage.core_hours for stage in found.stages.values())
    table.add_row("start-up", _hours(start), f"{start / found.core_hours:.1%}", "–", "–", "each worker")
    return Group(head, "", table)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _round(number: float) -> str:
    digits = max(len(str(int(number))) - 3, 0)
    return f"{round(number, -digits):,.0f}"
