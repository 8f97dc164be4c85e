"""``fineedu calibrate``: percentiles of a pool's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CALIBRATE_EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu calibrate out --score edu_score --out percentiles.json[/]\n\n"
    "[dim]fineedu calibrate out --score edu_score --by-language --weight documents[/]\n\n"
    "[dim]fineedu calibrate new-dump --check percentiles.json --action refuse[/]"
)

Source = Annotated[str, typer.Argument(metavar="POOL", help="A store, or parquet files: file, folder or glob.")]
Scores = Annotated[list[str] | None, typer.Option("--score", "-s", help="Score column; repeatable.")]


def calibrate(
    source: Source,
    scores: Scores = None,
    out_path: Annotated[Path, typer.Option("--out", help="Where to write the table.")] = Path("percentiles.json"),
    weight: Annotated[
        str | None,
        typer.Option(help="tokens, bytes or documents; default: tokens where there is n_tokens, else bytes."),
    ] = None,
    by_language: Annotated[bool, typer.Option(help="Percentiles for each language too.")] = False,
    check: Annotated[
        Path | None, typer.Option(help="Compare the pool with this table instead of writing one; exit code 1 on drift.")
    ] = None,
    action: Annotated[str, typer.Option(help="With --check: warn or refuse.")] = "warn",
) -> None:
    """Write the percentiles of score columns over a pool, or check a pool against them."""
    from rich.console import Console

    from fineedu.ensemble.percentiles import calibrate as compute
    from fineedu.ensemble.percentiles import read_table, write_table
    from fineedu.errors import FineeduError
    from fineedu.pool import open_pool

    out = Console()
    pool = open_pool(source)
    if check is not None:
        _check(out, pool, read_table(check), scores, action)
        return
    if not scores:
        raise FineeduError("name at least one score column, e.g. --score edu_score")
    table = compute(pool, scores, unit=weight, by_language=by_language)
    write_table(out_path, table)
    _show(out, table)
    out.print(f"wrote {out_path}", highlight=False, soft_wrap=True, markup=False)


def _show(out: object, table: object) -> None:
    from rich.console import Console
    from rich.table import Table

    from fineedu.ensemble.percentiles import PercentileTable, describe

    assert isinstance(out, Console) and isinstance(table, PercentileTable)
    grid = Table(
        "score", "part", "documents", "missing", "5 %", "50 %", "95 %", "buckets in use", "lightest", "heaviest"
    )
    grid.box, grid.title = None, f"percentiles by {table.unit} ({table.weight_column or 'each document counts 1'})"
    for row in describe(table):
        low, middle, high = (
            min(zip(table.percents, row["thresholds"], strict=True), key=lambda pair: abs(pair[0] - wanted))[1]
            for wanted in (5, 50, 95)
        )
        grid.add_row(
            row["score"],
            row["part"],
            f"{row['documents']:,}",
            f"{row['missing']:,}",
            *(f"{value:.4g}" for value in (low, middle, high)),
            f"{row['buckets']} of {len(table.percents) + 1}",
            f"{row['lightest']:.2%}",
            f"{row['heaviest']:.2%}",
        )
    out.print(grid, highlight=False)
    worst = max(row["error"] for row in describe(table))
    exact = "exact (no score was rounded)" if not worst else f"rounded: no percentile is off by more than {worst:.3%}"
    out.print(f"shares are counts of the whole pool, not estimates; {exact}; pool {table.pool}", highlight=False)


def _check(out: object, pool: object, table: object, scores: list[str] | None, action: str) -> None:
    from rich.console import Console

    from fineedu.ensemble.percentiles import DriftPolicy, PercentileTable, measure_drift
    from fineedu.errors import FineeduError
    from fineedu.pool import Pool

    assert isinstance(out, Console) and isinstance(pool, Pool) and isinstance(table, PercentileTable)
    if action not in ("warn", "refuse"):
        raise FineeduError(f"--action {action}: warn or refuse")
    wanted = scores or list(table.scores)
    for score in wanted:
        table.of(score)
    columns = [*wanted, *([table.weight_column] if table.weight_column else [])]
    found = measure_drift(table, pool.batches(columns), wanted)
    for drift in found:
        out.print(str(drift), highlight=False)
    told = DriftPolicy(action=action).judge(found)
    if told:
        for line in told:
            out.print(f"[yellow]warning:[/] {line}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)
