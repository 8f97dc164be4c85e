"""``fineedu ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fineedu.options import Executor

SHIPPED = "dclm-top-x, dedup-scope, dump-by-dump, edu-thresholds, nemotron-levels"
EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu ablate edu-thresholds -o out --labels labels.jsonl[/]\n\n"
    '[dim]fineedu ablate mine.yaml -o out --set "grid.edu=[2, 2.5, 3]" --dry-run[/]\n\n'
    "[dim]fineedu ablate dump-by-dump -o out --set train.tokens=1000000 --engine slurm --workers 8[/]"
)


def ablate(
    ablation: Annotated[str, typer.Argument(help=f"Shipped: {SHIPPED}; or the path of a .yaml file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the store, or parquet files with the signals.")
    ] = Path("fineedu-output"),
    results: Annotated[
        Path | None, typer.Option(help="Folder for results; default ablations/NAME in the store.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override key=value of the ablation; repeatable.")
    ] = None,
    labels: Annotated[
        list[Path] | None, typer.Option("--labels", "-l", help="Label file to measure precision by; repeatable.")
    ] = None,
    annotator: Annotated[str | None, typer.Option(help="Whose labels: a name, or a pattern for their mean.")] = None,
    train: Annotated[
        bool,
        typer.Option("--train/--no-train", help="Train the models of the ablation's train block."),
    ] = True,
    workers: Annotated[int, typer.Option(min=1, help="Models trained at a time.")] = 1,
    engine: Annotated[Executor | None, typer.Option(help="Where models are trained; default the ablation's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells, and what would be read.")] = False,
) -> None:
    """Compare many filter settings in one pass over the signals, and small models trained on each."""
    from rich.console import Console

    from fineedu.ablate.lab import plan_ablation, run_ablation, set_up
    from fineedu.ablate.page import write_ablation
    from fineedu.ablate.tables import write_tables
    from fineedu.ablate.terminal import print_ablation

    console = Console()
    lab = plan_ablation(
        ablation,
        output,
        output=results,
        overrides=settings or [],
        labels=labels or [],
        annotator=annotator,
        engine=engine.value if engine else None,
    )
    if dry_run:
        _print_cells(lab, console)
        return
    training = train and lab.config.train is not None
    if training:
        from fineedu.ablate.train.run import check_training

        check_training(lab)
    bench = set_up(lab)
    found = run_ablation(lab, bench)
    write_tables(lab.folder, found, lab.pool)
    print_ablation(found, console)
    trained = None
    if training:
        from fineedu.ablate.train.run import print_training, train_cells

        def say(line: str) -> None:
            console.print(line, highlight=False, markup=False)

        trained = train_cells(lab, bench, found, say, workers)
        print_training(trained, console)
    page = write_ablation(lab.folder, found, lab.pool, trained)
    console.print(f"\n{page}", highlight=False, markup=False, soft_wrap=True)


def _print_cells(lab: object, console: object) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fineedu.ablate.lab import Lab

    assert isinstance(lab, Lab) and isinstance(console, Console)
    table = Table("cell", "hash", "settings", box=None)
    for cell in lab.cells:
        told = "; ".join(f"{key}: {value}" for key, value in cell.settings.items())
        table.add_row(escape(cell.name), cell.hash[:8], escape(told))
    console.print(table, highlight=False)
    files = len(next(iter(lab.pool.parts.values())))
    console.print(
        f"{len(lab.cells):,} cells; would read {files:,} shards of {lab.pool.root} and write to {lab.folder}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
