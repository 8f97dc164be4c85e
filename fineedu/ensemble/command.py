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
    from fineedu.pool import Weight, describe_weight, open_pool

    out = Console()
    pool = open_pool(source)
    if check is not None:
        _check(out, pool, read_table(check), scores, action)
        return
    if not scores:
        raise FineeduError("name at least one score column, e.g. --score edu_score")
    table = compute(pool, scores, unit=weight, by_language=by_language)
    write_table(out_path, table)
    _show(out, table, describe_weight(pool, Weight(table.unit, table.weight_column)))
    out.print(f"wrote {out_path}", highlight=False, soft_wrap=True, markup=False)


def _show(out: object, table: object, unit: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from fineedu.ensemble.percentiles import PercentileTable, describe

    assert isinstance(out, Console) and isinstance(table, PercentileTable)
    grid = Table("score", "part", "n", "missing", "5 %", "50 %", "95 %", "in use", "lightest", "heaviest", box=None)
    for column in grid.columns:
        column.no_wrap = True
    grid.title, grid.title_justify = f"percentiles by {unit}", "left"
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
            f"{row['buckets']}/{len(table.percents) + 1}",
            f"{row['lightest']:.2%}",
            f"{row['heaviest']:.2%}",
        )
    # Wider than the terminal it is printed whole: a number that is cut short would be another number.
    Console(width=max(out.width, Console(width=1000).measure(grid).maximum)).print(grid, highlight=False)
    worst = max(row["error"] for row in describe(table))
    exact = "exact (no score was rounded)" if not worst else f"rounded: no percentile is off by more than {worst:.3%}"
    out.print(
        f"shares are counts of the whole pool, not estimates; {exact}; pool {table.pool}",
        highlight=False,
        soft_wrap=True,
    )


def _check(out: object, pool: object, table: object, scores: list[str] | None, action: str) -> None:
    from rich.console import Console

    from fineedu.ensemble.percentiles import DriftPolicy, PercentileTable, drift_columns, measure_drift
    from fineedu.errors import FineeduError
    from fineedu.pool import Pool

    assert isinstance(out, Console) and isinstance(pool, Pool) and isinstance(table, PercentileTable)
    if action not in ("warn", "refuse"):
        raise FineeduError(f"--action {action}: warn or refuse")
    wanted = scores or list(table.scores)
    for score in wanted:
        table.of(score)
    found = measure_drift(table, pool.batches(drift_columns(table, wanted)), wanted)
    for drift in found:
        out.print(str(drift), highlight=False)
    told = DriftPolicy(action=action).judge(found)
    if told:
        for line in told:
            out.print(f"[yellow]warning:[/] {line}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


app = typer.Typer(no_args_is_help=True, help="Combine scores: list ensembles, fit a stack, fit a cascade.")


@app.command(name="list")
def show() -> None:
    """List the ensembles that ship with the package."""
    import yaml
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fineedu.ensemble.recipe import shipped_ensembles

    shipped = shipped_ensembles()
    grid = Table("ensemble", "what it does", box=None)
    for name, path in shipped.items():
        grid.add_row(name, escape(str(yaml.safe_load(path.read_text())["description"])))
    out = Console()
    out.print(grid, highlight=False)
    folder = next(iter(shipped.values())).parent
    out.print(f"files to copy and change: {folder}", highlight=False, soft_wrap=True, markup=False)


@app.command(epilog="Example: [dim]fineedu ensemble stack out --labels labels.parquet -s edu_score -s other_score[/]")
def stack(
    source: Source,
    labels: Annotated[list[Path], typer.Option(help="Label files, parquet or JSON lines; repeatable.")],
    scores: Annotated[list[str], typer.Option("--score", "-s", help="Score column; repeatable.")],
    out_path: Annotated[Path, typer.Option("--out", help="Where to write the stack.")] = Path("stack.json"),
    positive_from: Annotated[
        float | None,
        typer.Option(help="Learn label >= this instead of all levels (the label's scale, not raw scores)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of folds and bootstrap.")] = 0,
) -> None:
    """Learn a combination of scores from labels, with its gain over the best single score."""
    from rich.console import Console

    from fineedu.ensemble.fitting import make_stack
    from fineedu.pool import open_pool

    model, left_out = make_stack(open_pool(source), labels, scores, positive_from, seed, out_path)
    out = Console()
    for name, weight in zip(model.scores, model.weights, strict=True):
        out.print(f"{name}: weight {weight:.3f} on the standardised score", highlight=False)
    left = f"; {left_out:,} labelled documents left out for want of a score" if left_out else ""
    out.print(f"{model.gain}{left}", highlight=False, soft_wrap=True)
    if model.gain is not None and model.gain.low <= 0:
        out.print("the interval holds 0: on these labels the stack is not shown to be better", highlight=False)
    out.print(f"wrote {out_path}", highlight=False, soft_wrap=True, markup=False)


@app.command(
    epilog="Example: [dim]fineedu ensemble cascade out --cheap edu_score --dear edu-minilm "
    "--rule \"language = 'en' AND dear > 2.5\"[/]"
)
def cascade(
    source: Source,
    cheap: Annotated[str, typer.Option(help="Column of the cheap score.")],
    dear: Annotated[str, typer.Option(help="Column of the dear score, or a bundle that scores the sample now.")],
    rule: Annotated[str, typer.Option(help="The full decision: SQL over dear and any columns.")],
    recall: Annotated[float, typer.Option(help="Of what the full ensemble keeps.")] = 0.99,
    precision: Annotated[float, typer.Option(help="1 - wrongly kept / kept by the full ensemble.")] = 0.99,
    size: Annotated[int, typer.Option("--sample", min=20, help="Documents: half to fit, half to measure.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of sample and halves.")] = 0,
    out_path: Annotated[Path, typer.Option("--out", help="Where to write the bands.")] = Path("bands.json"),
) -> None:
    """Fit the scores between which the dear scorer must be asked, and measure recall, precision and calls."""
    from rich.console import Console

    from fineedu.ensemble.fitting import make_bands
    from fineedu.pool import open_pool

    pool = open_pool(source)
    if dear not in pool.schema:  # silence for minutes would look like a program that hangs
        Console(stderr=True).print(f"scoring up to {size:,} documents with {dear}: minutes", highlight=False)
    bands = make_bands(
        pool,
        cheap,
        dear,
        rule,
        recall=recall,
        precision=precision,
        size=size,
        seed=seed,
        path=out_path,
    )
    out, held = Console(), bands.held_out
    out.print(
        f"dear scorer asked where {bands.low:.4g} <= {cheap} < {bands.high:.4g} and the rule depends on its score",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    out.print(f"on the {held.agreement.n:,} documents not fitted on (95 % intervals):", highlight=False)
    for name, found in (
        ("recall", held.recall),
        ("precision", held.precision),
        ("agreement", held.agreement),
        ("rule depends on the dear score of", held.open),
        ("dear scorer ran on", held.called),
    ):
        out.print(f"  {name} {found}", highlight=False)
    if held.recall.low < recall:
        out.print(f"  recall {recall:.0%} is not proven: take a larger --sample, or ask for more", highlight=False)
    out.print(f"wrote {out_path}", highlight=False, soft_wrap=True, markup=False)
