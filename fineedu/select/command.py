"""``fineedu mix``: tokens by topic and quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MIX_EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu mix out --rows language --columns edu_score[/]\n\n"
    "[dim]fineedu mix out --where \"language = 'en'\"[/]\n\n"
    "[dim]fineedu mix out/corpus/edu-1a2b3c4d --rows topic --columns nemotron_cc_level --out mix.csv[/]"
)


def mix(
    source: Annotated[str, typer.Argument(metavar="POOL", help="A store, a corpus, or parquet files.")],
    rows: Annotated[str, typer.Option(help="Column of the rows.")] = "topic",
    columns: Annotated[str, typer.Option(help="Column of the quality: bucket, level or score (cut at 1, 2, ...).")] = (
        "edu_int_score"
    ),
    weight: Annotated[
        str | None,
        typer.Option(help="tokens, bytes or documents; default: tokens where there is n_tokens, else bytes."),
    ] = None,
    where: Annotated[str | None, typer.Option(help="SQL over columns: count only documents that fulfil it.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Rows shown, heaviest first.")] = 30,
    out_path: Annotated[Path | None, typer.Option("--out", help="Write all cells as CSV too.")] = None,
) -> None:
    """Print how tokens (or bytes) divide over topic and quality; repeats of a corpus are counted."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fineedu.pool import describe_weight, open_pool
    from fineedu.select.mix import mix as count
    from fineedu.store import atomic_open

    pool = open_pool(source)
    found = count(pool, rows, columns, weight, where)
    wide = found.table()
    total = max(found.total, 1)
    grid = Table(rows, "share", *wide.columns[2:], box=None)
    for column in grid.columns:
        column.no_wrap = True
    grid.title, grid.title_justify = f"{found.weight.unit} by {rows} and {columns}", "left"
    for row in wide.head(most).iter_rows():
        cells = [f"{value / total:.2%}" if value else "–" for value in row[2:]]
        grid.add_row(escape(row[0]), f"{row[1]:.2%}", *cells)
    sums = wide.select(wide.columns[2:]).sum().row(0)
    grid.add_row("all", "100.00%", *(f"{value / total:.2%}" for value in sums), style="bold")
    out = Console()
    # Wider than the terminal it is printed whole: a share that is cut short would be another share.
    Console(width=max(out.width, Console(width=1000).measure(grid).maximum)).print(grid, highlight=False)
    unit = describe_weight(pool, found.weight)
    documents = int(found.cells["documents"].sum())
    out.print(
        f"{found.total:,} {unit} in {documents:,} documents{found.repeated}"
        + (f" of which {where} holds" if where else "")
        + "; counts of all of them, not estimates"
        + (f"; {wide.height - most:,} more rows" if wide.height > most else ""),
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    if out_path is not None:
        with atomic_open(out_path) as stream:
            found.cells.write_csv(stream)
