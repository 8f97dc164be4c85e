"""The ``fineedu`` command."""

from __future__ import annotations

import errno
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fineedu
from fineedu.ablate import command as ablation
from fineedu.annotate import command as annotate_command
from fineedu.annotate import human_command, sampling_command
from fineedu.annotate.agree_command import aggregate, agree
from fineedu.classify import command as training
from fineedu.dedup.command import dedup
from fineedu.ensemble import command as ensemble
from fineedu.errors import FineeduError
from fineedu.evaluate import command as evaluation
from fineedu.options import Executor, ProgressStyle
from fineedu.plan import command as planning
from fineedu.select import command as selection
from fineedu.status import command as status_command
from fineedu.synthetic import command as synthetic

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Turn web archives into quality-filtered corpora. Score once, cut many.",
)
out = Console()
err = Console(stderr=True)

#: Errors of the machine, not of the program: no room, no handles, no memory, no right to write.
_MACHINE = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.ENOMEM,
    errno.EACCES,
)

DEFAULT_OUTPUT = Path("fineedu-output")

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder or URL (s3://…) of the store.", show_default=True)]
RunName = Annotated[str | None, typer.Option("--run", help="Run id, or its beginning; default: the latest.")]


def _version(asked: bool) -> None:
    if asked:
        out.print(f"fineedu {fineedu.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Turn web archives into quality-filtered corpora. Score once, cut many."""


@app.command(
    epilog="Examples:\n\n"
    "[dim]fineedu run edu --input crawl/*.warc.gz --output out[/]\n\n"
    "[dim]fineedu run edu --dump CC-MAIN-2024-10 --limit-files 2 --output out[/]\n\n"
    '[dim]fineedu run edu -i crawl/ -o out --set "select.rules.edu=edu_score >= 3"[/]'
)
def run(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe (see: fineedu recipes), or the path of a .yaml file.")
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", help="WARC, WET or ARC file, folder, glob or URL; repeatable."),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
    dump: Annotated[str | None, typer.Option(help="Common Crawl dump to read, e.g. CC-MAIN-2024-10.")] = None,
    limit_files: Annotated[int | None, typer.Option(min=1, help="Read only so many archives.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override key.key=value; repeatable.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(min=1, help="Ranks that share the work; default one a shard.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Tasks at a time; default one a processor.")] = None,
    engine: Annotated[Executor | None, typer.Option(help="Where tasks run; default the recipe's, else local.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and what would run.")] = False,
    progress: Annotated[ProgressStyle, typer.Option(help="Bar, lines or JSON lines.")] = ProgressStyle.auto,
) -> None:
    """Run a recipe: extract, signals, select, write, report. Run it again to go on after a stop."""
    from fineedu.progress import show_progress
    from fineedu.runner import execute, plan_run

    plan = plan_run(
        recipe,
        inputs=inputs or [],
        output=output,
        dump=dump,
        limit_files=limit_files,
        overrides=settings or [],
    )
    if dry_run:
        _print_plan(plan)
        return

    def watch(job: Any) -> AbstractContextManager[None]:
        if not all(family.is_compiled for family in plan.families):
            err.print("first run here: kernels are compiled, once, in some 20 s of a core", highlight=False)
        return show_progress(job, progress.value, err)

    try:
        result = execute(plan, tasks=tasks, workers=workers, engine=engine.value if engine else None, watch=watch)
    except KeyboardInterrupt:
        err.print("stopped; run the same command again to go on from here", highlight=False)
        raise typer.Exit(130) from None
    _print_result(result)


def _print_plan(plan: Any) -> None:
    job = plan.job
    out.print(
        yaml.safe_dump(job.recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True).rstrip(),
        highlight=False,
        markup=False,
    )
    size = sum(source.length for source in job.shards.values())
    done = sum(job.store.documents(shard).exists() for shard in job.shards)
    out.print(
        f"\nrecipe hash {job.recipe.hash}, run {job.run_id}\n"
        f"would read {len(job.shards):,} shards ({size / 1e6:,.1f} MB compressed), {done:,} of them extracted already\n"
        f"would write to {job.store.root}",
        highlight=False,
        markup=False,
    )


def _print_result(result: Any) -> None:
    share = f"{result.kept / result.documents:.1%} of documents" if result.documents else "no documents"
    speed = result.pages / result.seconds if result.seconds else 0.0
    table = Table.grid(padding=(0, 2))
    table.add_row("run", result.run_id)
    table.add_row("pages", f"{result.pages:,} in {result.seconds:.1f} s ({speed:.0f} a second)")
    table.add_row("documents", f"{result.documents:,}")
    table.add_row("kept", f"[bold]{result.kept:,}[/] ({share})")
    top = list(result.dropped.items())[:6]
    table.add_row("dropped", escape(", ".join(f"{reason} {count:,}" for reason, count in top)) or "none")
    table.add_row("corpus", escape(str(result.corpus)) if result.kept else "empty: no document fulfils every rule")
    table.add_row("report", escape(str(result.report)))
    if result.kept_at:
        table.add_row("kept at", escape(result.kept_at))
    out.print(table, highlight=False, soft_wrap=True)
    for warning in result.warnings:
        err.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)


@app.command()
def recipes() -> None:
    """List the recipes that ship with the package."""
    from fineedu.recipe import load_recipe, shipped_recipes

    table = Table("recipe", "what it does", "file", box=None)
    for name, path in shipped_recipes().items():
        table.add_row(name, escape(load_recipe(name).recipe.description), escape(str(path)))
    out.print(table, highlight=False)


@app.command(epilog="Example: [dim]fineedu explain 283e41d7-f686-4c3e-b7da-e8d248a100c1 -o out[/]")
def explain(
    document_id: Annotated[str, typer.Argument(help="Id of a document, as in the corpus or the report.")],
    output: Output = DEFAULT_OUTPUT,
    run_name: RunName = None,
) -> None:
    """Print all signals of a document, and which rule dropped it by what value and bound."""
    from fineedu.runs import explain as explain_document
    from fineedu.runs import find_run

    found = explain_document(find_run(output, run_name), document_id)
    text = found.values.pop("text")
    why = f" for {', '.join(found.reasons)}" if found.reasons else ""
    out.print(f"[bold]{'kept' if found.kept else 'dropped'}[/]{escape(why)} in shard {found.shard}", highlight=False)
    rules = Table("", "rule", "clause", "value", box=None, title="rules", title_justify="left")
    for verdict in found.verdicts:
        mark = {True: "[green]holds[/]", False: "[bold red]fails[/]", None: "[bold yellow]missing[/]"}[verdict.holds]
        values = ", ".join(f"{name} = {_shown(value)}" for name, value in verdict.values.items())
        rules.add_row(mark, escape(verdict.rule), escape(verdict.clause), escape(values))
    out.print(rules, highlight=False)
    signals = Table("column", "value", box=None, title="document and signals", title_justify="left")
    for name, value in found.values.items():
        signals.add_row(name, escape(_shown(value)))
    out.print(signals, highlight=False)
    out.print(f"[bold]text[/] ({len(text):,} characters)", highlight=False)
    out.print(_printable(text[:600]) + (" …" if len(text) > 600 else ""), markup=False, highlight=False)


def _printable(text: str) -> str:
    """Make page text safe for a terminal: no escape sequences, no direction overrides."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else _printable(str(value)[:300])


@app.command(epilog="Example: [dim]fineedu diff edu-1a2b3c4d edu-5e6f7a8b -o out[/]")
def diff(
    run_a: Annotated[str, typer.Argument(help="Run id (or its beginning), or a run's folder.")],
    run_b: Annotated[str, typer.Argument(help="The run to compare it with.")],
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Compare two runs: settings, counts, and which documents only one of them keeps, and why."""
    from fineedu.runs import compare, find_run

    found = compare(find_run(output, run_a), find_run(output, run_b))
    settings = Table("setting", run_a, run_b, box=None, title="settings that differ", title_justify="left")
    for name, (old, new) in found.settings.items():
        settings.add_row(name, *(escape(_shown(value) if value is not None else "–") for value in (old, new)))
    out.print(settings if found.settings else "settings: the same", highlight=False)
    counts = Table("count", run_a, run_b, "change", box=None, title="counts", title_justify="left")
    for name, (before, after) in found.counts.items():
        counts.add_row(name, f"{before:,}", f"{after:,}", f"{after - before:+,}")
    out.print(counts, highlight=False)
    union = found.both + found.only_first + found.only_second
    overlap = f"{found.both / union:.1%}" if union else "–"
    out.print(f"kept by both {found.both:,} (Jaccard {overlap})", highlight=False)
    for label, count, reasons in (
        (f"only by {run_a}", found.only_first, found.lost_by_second),
        (f"only by {run_b}", found.only_second, found.lost_by_first),
    ):
        why = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
        out.print(
            f"{label} {count:,}{f'; dropped by the other for: {why}' if why else ''}",
            highlight=False,
            markup=False,
        )


@app.command()
def report(
    run_name: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run id or its beginning; default: the latest.")
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Write a finished run's HTML report anew and print where it lies."""
    from fineedu.report.page import write_report
    from fineedu.runs import find_run

    found = find_run(output, run_name)
    path = found.job.store.run(found.job.run_id) / "report.html"
    write_report(path, found.job, found.schema, found.owners, found.manifest)
    out.print(str(path), highlight=False, markup=False, soft_wrap=True)


app.command(epilog=ensemble.CALIBRATE_EPILOG)(ensemble.calibrate)
app.add_typer(ensemble.app, name="ensemble")
app.add_typer(synthetic.app, name="synthetic")
app.command(epilog=selection.MIX_EPILOG)(selection.mix)
app.command(epilog=training.EPILOG)(training.train)
app.command(epilog=evaluation.EPILOG)(evaluation.evaluate)
app.command(epilog=ablation.EPILOG)(ablation.ablate)
app.command(epilog=planning.EPILOG)(planning.plan)
app.command(epilog=status_command.EPILOG)(status_command.status)


@app.command()
def doctor() -> None:
    """Check the set-up: what is installed, which extras are missing, and how to get them."""
    from fineedu.doctor import check_up

    table = Table("", "part", "state", "to mend it", box=None)
    marks = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "problem": "[bold red]problem[/]"}
    findings = check_up()
    for finding in findings:
        table.add_row(marks[finding.state], escape(finding.part), escape(finding.detail), escape(finding.remedy))
    out.print(table, highlight=False)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


app.command(epilog=annotate_command.EPILOG)(annotate_command.annotate)
app.command(epilog=sampling_command.EPILOG)(sampling_command.sample)
app.command(epilog=human_command.EPILOG)(human_command.label)
app.command(epilog="Example: [dim]fineedu agree llama.parquet panel.jsonl.gz --by length --json out.json[/]")(agree)
app.command(epilog="Example: [dim]fineedu aggregate votes.parquet --method dawid-skene -o labels.parquet[/]")(aggregate)
app.command(epilog="Example: [dim]fineedu dedup -o out --keep newest --verify 0.7[/]")(dedup)


def main() -> None:
    """Run the command line; mistakes end in one clear line and exit code 2."""
    try:
        app()
    except FineeduError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)
    except MemoryError as error:
        told = f"out of memory ({error}). Allow the run more, or give it fewer --workers; run again, it resumes."
        err.print(f"[bold red]error:[/] {escape(told)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        where = f" ({error.filename})" if error.filename else ""
        told = f"{error.strerror}{where}. Mend that and run the same command again: it resumes."
        err.print(f"[bold red]error:[/] {escape(told)}", highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
