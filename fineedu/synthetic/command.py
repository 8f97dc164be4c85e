"""``fineedu synthetic``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class _RunByDefault(TyperGroup):
    """A group whose first argument is a recipe where it names no command: ``synthetic X`` is ``synthetic run X``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu synthetic web.yaml --output prevalence[/]\n\n"
    "[dim]fineedu synthetic proxies --input out --output prevalence[/]\n\n"
    "[dim]fineedu synthetic index proxies --input out --index phrases[/]\n\n"
    '[dim]fineedu synthetic count "rich tapestry" --index phrases[/]'
)

app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=EPILOG,
    help="How much of the web is machine-written. [bold]fineedu synthetic RECIPE[/] runs a recipe.",
)

Recipe = Annotated[str, typer.Argument(help="A shipped recipe (see: fineedu synthetic list), or a .yaml file.")]
Input = Annotated[
    str | None, typer.Option("--input", "-i", help="Store, parquet or JSON lines, instead of the recipe's input.path.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override key.key=value; repeatable.")]
Index = Annotated[Path, typer.Option("--index", help="Folder of the phrase index.")]


@app.command(epilog="Example: [dim]fineedu synthetic web.yaml --output prevalence --set input.period=quarter[/]")
def run(
    recipe: Recipe,
    path: Input = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for report, charts and tables; default: the recipe's name."),
    ] = None,
    settings: Settings = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that count; default one a processor.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and what would run.")] = False,
) -> None:
    """Count phrases over dumps, estimate, and write the report. Run it again: what is counted is not read again."""
    import sys

    import yaml
    from rich.console import Console
    from rich.progress import Progress

    from fineedu.synthetic.run import execute, plan

    out = Console()
    planned = plan(recipe, path=path, overrides=settings)
    folder = output or Path(f"synthetic-{planned.recipe.name}")
    if dry_run:
        shown = yaml.safe_dump(planned.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        out.print(shown.rstrip(), highlight=False, markup=False)
        out.print(
            f"\nrecipe hash {planned.recipe.hash}\nwould read {len(planned.source.parts):,} files for "
            f"{len(planned.lexicons.phrases):,} phrases in {len(planned.lexicons.spellings):,} forms\n"
            f"would write to {folder}",
            highlight=False,
            markup=False,
        )
        return
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("counting", total=len(planned.source.parts))
        result = execute(planned, folder, workers=workers, progress=lambda done, _: bar.update(task, completed=done))
    _show(out, result.found)
    out.print(f"\n{result.report}", highlight=False, markup=False, soft_wrap=True)


def _show(out: Any, found: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from fineedu.synthetic.wording import headline, number, too_rare, warnings

    out.print(f"[bold]{escape(headline(found))}[/]", highlight=False)
    for warning in warnings(found):
        out.print(f"[yellow]caution:[/] {escape(warning)}", highlight=False)
    grid = Table("phrase", box=None, title=f"{found.headline}: hits against the trend before", title_justify="left")
    for name in ("before", "after", "expected", "ratio", "95 % interval", "q"):
        grid.add_column(name, justify="right")
    grid.add_column("verdict")
    rows = [row for row in found.tables["phrases"].iter_rows(named=True) if row["lexicon"] == found.headline]
    for row in rows:
        ends = "–" if row["ratio"] is None else f"{number(row['ratio_low'])} to {number(row['ratio_high'])}"
        grid.add_row(
            escape("all of them" if row["phrase"] == "*" else row["phrase"]),
            f"{row['hits_before']:,.0f}",
            f"{row['hits_after']:,.0f}",
            number(row["expected_after"], 1),
            number(row["ratio"]),
            ends,
            number(row["q"], 3),
            row["verdict"],
        )
    out.print(grid, highlight=False)
    for sentence in too_rare(found):
        out.print(escape(sentence), highlight=False)


@app.command(name="list")
def show() -> None:
    """List the recipes and lexicons that ship with the package."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fineedu.assets import asset_dir
    from fineedu.phrases.lexicon import read_lexicon
    from fineedu.synthetic.recipe import load_recipe, shipped_recipes

    out = Console()
    grid = Table("recipe", "what it does", "file", box=None)
    for name, path in shipped_recipes().items():
        grid.add_row(name, escape(load_recipe(name)[0].description), escape(str(path)))
    out.print(grid, highlight=False)
    grid = Table("lexicon", "kind", "phrases", "what it holds", box=None)
    for path in sorted((asset_dir("pipelines") / "lexicons").glob("*.yaml")):
        lexicon = read_lexicon(path.stem)
        grid.add_row(path.stem, lexicon.kind, str(len(lexicon.phrases)), escape(lexicon.description))
    out.print(grid, highlight=False)


@app.command(epilog="Example: [dim]fineedu synthetic index proxies --input out --index phrases[/]")
def index(recipe: Recipe, folder: Index, path: Input = None, settings: Settings = None) -> None:
    """Index all documents of a recipe's input, so that any phrase can be counted later in milliseconds."""
    from rich.console import Console

    from fineedu.synthetic.index import build
    from fineedu.synthetic.run import plan

    out = Console()
    planned = plan(recipe, path=path, overrides=settings)
    with Console(stderr=True).status("indexing") as status:
        size = build(planned.source, folder, progress=lambda told: status.update(f"indexing {told}"))
    out.print(f"{folder}: {size / 1e6:,.1f} MB of text", highlight=False, markup=False, soft_wrap=True)


@app.command(epilog='Example: [dim]fineedu synthetic count "rich tapestry" --index phrases[/]')
def count(
    phrases: Annotated[
        list[str], typer.Argument(metavar="PHRASE...", help="What to count; begins with a letter or digit.")
    ],
    folder: Index,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Count phrases by period in an index: hits, rate with its interval, and documents."""
    import time

    import polars as pl
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fineedu.synthetic.index import PhraseIndex

    out = Console()
    opened = PhraseIndex(folder)
    for phrase in phrases:
        start = time.perf_counter()
        found = opened.count(phrase)
        passed = time.perf_counter() - start
        table = found.table()
        if as_csv:
            typer.echo(table.select(pl.lit(found.phrase).alias("phrase"), pl.all()).write_csv(), nl=False)
            continue
        grid = Table("period", box=None, title=escape(f"{found.phrase} ({passed * 1000:.1f} ms)"), title_justify="left")
        for name in ("hits", "documents", "hosts", "per million words", "95 % interval"):
            grid.add_column(name, justify="right")
        for row in table.iter_rows(named=True):
            grid.add_row(
                row["period"],
                f"{row['hits']:,}",
                f"{row['hit_documents']:,}",
                f"{row['clusters']:,}",
                f"{row['rate']:.2f}",
                f"{row['rate_low']:.2f} to {row['rate_high']:.2f}",
            )
        out.print(grid, highlight=False)
