"""``fineedu annotate``: labels by language models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fineedu.options import Executor, ProgressStyle

if TYPE_CHECKING:
    from fineedu.annotate.panel import Panel, PanelResult
    from fineedu.annotate.run import AnnotateJob, AnnotateResult

EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu annotate edu -i out -o labels/small.parquet --engine llamacpp --model model.gguf[/]\n\n"
    "[dim]fineedu annotate edu-topic -i sample.parquet -o labels/big.parquet --engine vllm --model org/model[/]\n\n"
    "[dim]fineedu annotate edu -i sample.parquet -o labels/api.parquet --engine openai --url https://… --model m "
    "--estimate[/]\n\n"
    "[dim]fineedu annotate edu -i sample.parquet -o labels/panel.parquet --panel panel.yaml --max-cost 20[/]"
)


class EngineKind(StrEnum):
    """What answers."""

    vllm = "vllm"
    vllm_server = "vllm-server"
    openai = "openai"
    llamacpp = "llamacpp"


Inputs = Annotated[
    list[Path] | None,
    typer.Option("--input", "-i", help="A store, a folder or a file with id and text; repeatable."),
]
Kind = Annotated[EngineKind, typer.Option(help="vllm: offline, in a child; vllm-server: started and stopped.")]
VllmArguments = Annotated[list[str] | None, typer.Option("--vllm-arg", help="name=value of vLLM; repeatable.")]
Sample = Annotated[int | None, typer.Option(min=1, help="Only so many, chosen over the scores (see fineedu sample).")]
Injection = Annotated[
    bool, typer.Option("--injection-test", help="Annotate the injection test set and print how far scores move.")
]


def annotate(
    rubric: Annotated[str, typer.Argument(help="A shipped rubric (edu, topic, edu-topic, quality), or a .yaml file.")],
    inputs: Inputs = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Label file, .parquet.")] = Path("labels.parquet"),
    engine: Kind = EngineKind.llamacpp,
    model: Annotated[str | None, typer.Option(help="Model name, folder or GGUF file.")] = None,
    url: Annotated[str | None, typer.Option(help="openai: base address, e.g. http://127.0.0.1:8000/v1.")] = None,
    panel: Annotated[Path | None, typer.Option(help="Panel recipe: several annotators, and a router.")] = None,
    samples: Annotated[int, typer.Option(min=1, max=100, help="Votes a document.")] = 1,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="Instead of the rubric's.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests in flight.")] = None,
    context: Annotated[int | None, typer.Option(min=128, help="Tokens of prompt and answer together.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="llamacpp: CPU threads; 0: its own choice.")] = 0,
    key_variable: Annotated[str, typer.Option(help="openai: variable that holds the key.")] = "OPENAI_API_KEY",
    without: Annotated[str, typer.Option(help="openai: fields to leave out, with commas between.")] = "",
    vllm_python: Annotated[str | None, typer.Option(help="Interpreter that has vLLM.")] = None,
    vllm_arguments: VllmArguments = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many documents.")] = None,
    sample: Sample = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Print tokens, hours and cost, and stop.")] = False,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Dollars at most: a hard stop.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Tokens at most: a hard stop.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Price file; default: annotate/prices.yaml.")] = None,
    injection: Injection = False,
    cache: Annotated[Path | None, typer.Option(help="Folder of answers paid for; default: beside the output.")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Shares of the documents, each with an engine of its own.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Tasks at a time.")] = 1,
    executor: Annotated[Executor, typer.Option(help="Where tasks run.")] = Executor.local,
    progress: Annotated[ProgressStyle, typer.Option(help="Live line, lines or JSON lines.")] = ProgressStyle.auto,
) -> None:
    """Label documents with a language model. Run it again to go on after a stop: no answer is paid for twice."""
    from fineedu.annotate.engines.spec import EngineSpec

    spec = EngineSpec(
        kind=engine.value,
        model=model,
        url=url,
        key_variable=key_variable,
        concurrency=concurrency,
        context=context,
        threads=threads,
        without=tuple(filter(None, without.split(","))),
        vllm_python=vllm_python,
        arguments=_arguments(vllm_arguments or []),
    )
    how = _How(tasks, workers, executor.value, progress.value)
    members = _load_panel(panel) if panel is not None else None
    if members is None:
        spec.check()
    job = _job(rubric, spec, output, cache, prices, samples, temperature, panel is not None)
    job = _with_limits(job, max_cost, max_tokens, limit, prices)
    if injection:
        _run_injection_test(job, how)
        return
    job = _with_documents(job, inputs or [], sample)
    if estimate:
        _print_estimate(job)
    elif members is not None:
        _run_panel(members, job, how)
    else:
        _finish(job, _run(job, how))


class _How:
    """Where tasks run and how progress is shown."""

    def __init__(self, tasks: int, workers: int, executor: str, progress: str) -> None:
        self.tasks, self.workers, self.executor, self.progress = tasks, workers, executor, progress

    def options(self, documents: int) -> dict[str, Any]:
        """Return the keyword arguments of ``run_annotation``."""
        from rich.console import Console

        from fineedu.annotate.watch import show_annotation

        console = Console(stderr=True)

        def watch(job: AnnotateJob) -> Any:
            return show_annotation(job, documents, self.progress, console)  # type: ignore[arg-type]

        return {"tasks": self.tasks, "workers": self.workers, "executor": self.executor, "watch": watch}


def _arguments(given: list[str]) -> dict[str, Any]:
    import yaml

    from fineedu.errors import FineeduError

    found = {}
    for entry in given:
        name, sign, value = entry.partition("=")
        if not sign or not name:
            raise FineeduError(f"--vllm-arg {entry}: expected name=value, e.g. gpu_memory_utilization=0.8")
        found[name.replace("-", "_")] = yaml.safe_load(value)
    return found


def _job(
    rubric: str,
    spec: Any,
    output: Path,
    cache: Path | None,
    prices: Path | None,
    samples: int,
    temperature: float | None,
    panel: bool,
) -> AnnotateJob:
    from fineedu.annotate.budget import find_price
    from fineedu.annotate.rubric import load_rubric
    from fineedu.annotate.run import AnnotateJob
    from fineedu.annotate.votes import Annotator
    from fineedu.errors import FineeduError

    loaded = load_rubric(rubric)
    if temperature is not None:
        sampling = loaded.sampling.model_copy(update={"temperature": temperature})
        loaded = loaded.model_copy(update={"sampling": sampling})
    if samples > 1 and not loaded.sampling.temperature:
        raise FineeduError("several --samples at temperature 0 are the same answer: add --temperature 0.7, say")
    if output.suffix != ".parquet":
        raise FineeduError(f"--output {output}: labels are written as .parquet")
    name = "panel" if panel else spec.name
    return AnnotateJob(
        (),
        Annotator(name, spec.kind, loaded, samples),
        spec,
        output,
        cache or output.parent / ".annotate-cache",
        None if panel else find_price(name, prices),
    )


def _with_limits(
    job: AnnotateJob, cost: float | None, tokens: int | None, limit: int | None, prices: Path | None
) -> AnnotateJob:
    from dataclasses import replace

    from fineedu.annotate.budget import Limits
    from fineedu.errors import FineeduError

    if cost is not None and job.price is None and job.annotator.name != "panel":
        raise FineeduError(
            f"--max-cost: {prices or 'annotate/prices.yaml'} has no price for {job.annotator.name!r}; give --prices"
        )
    return replace(job, limits=Limits(cost, tokens), limit=limit)


def _with_documents(job: AnnotateJob, inputs: list[Path], sample: int | None) -> AnnotateJob:
    from dataclasses import replace

    from fineedu.annotate.documents import find_files

    if sample is not None:
        from fineedu.annotate.sampling import sample_documents, write_sample
        from fineedu.errors import FineeduError

        if len(inputs) != 1:
            raise FineeduError("--sample takes one --input: a store, a folder of parquet files, or one of them")
        chosen = job.output.with_name(f"{job.output.stem}.sample.parquet")
        write_sample(chosen, sample_documents(inputs[0], sample, per_host=3))
        inputs = [chosen]
    return replace(job, files=tuple(find_files(inputs)))


def _run(job: AnnotateJob, how: _How) -> AnnotateResult:
    from fineedu.annotate.documents import count_documents
    from fineedu.annotate.run import run_annotation

    try:
        return run_annotation(job, **how.options(count_documents(job.files, job.limit)))
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to go on: what was answered is kept", err=True)
        raise typer.Exit(130) from None


def _finish(job: AnnotateJob, result: AnnotateResult) -> None:
    """Print what an annotation came to; exit with 1 where the budget ended it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    tally = result.tally
    table = Table.grid(padding=(0, 2))
    table.add_row("annotator", escape(f"{job.annotator.name} on rubric {job.annotator.rubric.name}"))
    table.add_row("documents", f"{tally.documents:,}" + (f", {tally.no_text:,} without text" if tally.no_text else ""))
    table.add_row("votes", f"[bold]{tally.votes:,}[/] ({tally.asked:,} asked, {tally.cached:,} from the cache)")
    shares = (f"{state} {count:,} ({count / tally.votes:.1%})" for state, count in tally.states.most_common())
    table.add_row("states", ", ".join(shares) or "none")
    cost = f", ${tally.cost:,.4f}" if job.price is not None else ""
    table.add_row("tokens", f"{tally.prompt_tokens:,} of prompts, {tally.completion_tokens:,} of answers{cost}")
    table.add_row("labels", escape(str(result.output)))
    Console(highlight=False).print(table, soft_wrap=True)
    if result.spent:
        typer.echo(
            f"stopped at the budget, {tally.not_asked:,} votes not asked for; run again with a larger one to go on",
            err=True,
        )
        raise typer.Exit(1)


def _print_estimate(job: AnnotateJob) -> None:
    from rich.console import Console
    from rich.table import Table

    from fineedu.annotate.estimate import estimate

    found = estimate(job)
    basis = "by the ratio in this annotator's cached answers" if found.measured else "guessed: 4 characters a token"
    table = Table.grid(padding=(0, 2))
    table.add_row("documents", f"{found.documents:,}")
    table.add_row("votes", f"{found.votes:,}, {found.cached:,} of them in the cache")
    table.add_row(
        "tokens", f"{found.prompt_tokens:,.0f} of prompts, {found.completion_tokens:,.0f} of answers ({basis})"
    )
    table.add_row("cost", f"${found.cost:,.2f}" if found.cost is not None else "no price for this model: give --prices")
    table.add_row("hours", f"{found.hours:,.2f}" if found.hours is not None else "no speed in the price file")
    Console(highlight=False).print(table, soft_wrap=True)


def _load_panel(path: Path) -> Panel:
    from fineedu.annotate.panel import load_panel

    return load_panel(path)


def _run_panel(panel: Panel, job: AnnotateJob, how: _How) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fineedu.annotate.documents import count_documents
    from fineedu.annotate.panel import run_panel

    found: PanelResult = run_panel(panel, job, **how.options(count_documents(job.files, job.limit)))
    table = Table("annotator", "votes", "asked", "cached", "states", box=None)
    for name, result in found.results.items():
        states = ", ".join(f"{state} {count:,}" for state, count in result.tally.states.most_common())
        tally = result.tally
        table.add_row(escape(name), f"{tally.votes:,}", f"{tally.asked:,}", f"{tally.cached:,}", states)
    out = Console(highlight=False)
    out.print(table)
    if found.disputed is not None and found.documents:
        share = found.disputed / found.documents
        out.print(f"disputed: {found.disputed:,} of {found.documents:,} documents ({share:.1%}) went to the router's")
    out.print(f"votes   {found.votes}\nlabels  {found.labels}", markup=False, soft_wrap=True)
    if any(result.spent for result in found.results.values()):
        typer.echo("stopped at the budget; run again with a larger one to go on", err=True)
        raise typer.Exit(1)


def _run_injection_test(job: AnnotateJob, how: _How) -> None:
    from fineedu.annotate.injection_run import print_shift, run_injection_test

    print_shift(run_injection_test(job, **how.options(0)))
