"""A whole annotation: its tasks on any executor, its progress, its label file."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from datatrove.pipeline.base import PipelineStep

from fineedu.annotate.budget import Budget, Limits, Price
from fineedu.annotate.cache import AnswerCache
from fineedu.annotate.documents import read_documents
from fineedu.annotate.engines.base import OnDemand
from fineedu.annotate.engines.spec import EngineSpec
from fineedu.annotate.votes import Annotator, Tally, VoteCollector, vote_schema
from fineedu.cluster.slurm import cancel_left
from fineedu.engine import Engine, run_tasks
from fineedu.store import TableWriter, atomic_open, hold, read_batches


@dataclass(frozen=True, slots=True)
class AnnotateJob:
    """What every task of an annotation is told.

    Args:
        files: the documents.
        annotator: who votes.
        engine: what answers.
        output: the label file; beside it lie ``.parts`` while it is made, and the cache.
        cache: folder of the answers paid for.
        price: what tokens cost, None where that is not known.
        limits: what may be used in all; tasks get equal shares.
        limit: only so many documents.
        only: ids of the documents to annotate; None takes all.
    """

    files: tuple[Path, ...]
    annotator: Annotator
    engine: EngineSpec
    output: Path
    cache: Path
    price: Price | None = None
    limits: Limits = field(default_factory=Limits)
    limit: int | None = None
    only: frozenset[str] | None = None

    @property
    def parts(self) -> Path:
        """Folder of what tasks have finished."""
        return self.output.with_name(f"{self.output.name}.parts")

    def __str__(self) -> str:
        return f"{self.annotator.name} on {len(self.files)} files"


@dataclass(frozen=True, slots=True)
class AnnotateResult:
    """What an annotation came to."""

    output: Path
    tally: Tally
    #: the budget ended before the documents did
    spent: bool


class AnnotateDocuments(PipelineStep):  # type: ignore[misc]
    """Collects the votes on a task's share of the documents."""

    name = "annotate"
    type = "fineedu"

    def __init__(self, job: AnnotateJob) -> None:
        super().__init__()
        self.job = job

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Annotate this task's batches; passes nothing on."""
        with self.track_time():
            asyncio.run(_annotate(self.job, rank, world_size))
        yield from ()


def _chosen(job: AnnotateJob, rank: int, world_size: int) -> Iterator[tuple[int, pl.DataFrame]]:
    only = None if job.only is None else pl.Series(sorted(job.only), dtype=pl.String).implode()
    for number, batch in read_documents(job.files, rank, world_size, job.limit):
        yield number, batch if only is None else batch.filter(pl.col("id").is_in(only))


async def _annotate(job: AnnotateJob, rank: int, world_size: int) -> None:
    share = replace(
        job.limits,
        cost=job.limits.cost / world_size if job.limits.cost is not None else None,
        tokens=job.limits.tokens // world_size if job.limits.tokens is not None else None,
    )
    noted = _Notes(job.parts / f"progress-{rank:05d}.json")
    with AnswerCache(job.cache, f"task-{rank:05d}") as cache:
        async with OnDemand(job.engine.make()) as engine:
            collector = VoteCollector(job.annotator, engine, cache, Budget(job.price, share), noted)
            await collector.collect(_chosen(job, rank, world_size), lambda n, votes: _write_part(job, n, votes))
            noted.write(collector.tally, spent=collector.spent)


def _write_part(job: AnnotateJob, number: int, votes: pl.DataFrame) -> None:
    with atomic_open(job.parts / f"{number:06d}.parquet") as stream:
        writer = TableWriter(stream, vote_schema(job.annotator.rubric))
        writer.write(votes)
        writer.close({})


class _Notes:
    """Leaves word of a task's tally, twice a second at most."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0.0

    def __call__(self, tally: Tally) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._last > 0.5:
            self._last = now
            self.write(tally)

    def write(self, tally: Tally, spent: bool = False) -> None:
        temporary = self._path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(tally.as_json() | {"spent": spent}))
        temporary.replace(self._path)


def read_tally(job: AnnotateJob) -> tuple[Tally, bool]:
    """Sum the notes of all tasks; return the sum and whether a task's budget is spent."""
    total, spent = Tally(), False
    for path in job.parts.glob("progress-*.json"):
        try:
            note = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # being replaced at this moment
        spent |= note.pop("spent")
        total.states.update(Counter(note.pop("states")))
        for name, value in note.items():
            setattr(total, name, getattr(total, name) + value)
    return total, spent


def run_annotation(
    job: AnnotateJob,
    tasks: int = 1,
    workers: int = 1,
    executor: Engine = "local",
    watch: Callable[[AnnotateJob], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> AnnotateResult:
    """Annotate, and write the label file.

    Answers are kept as they come, so that a run which was killed pays for nothing twice. The label file has the votes
    in the order of the documents, whatever the number of tasks.

    Args:
        job: what to do.
        tasks: shares of the documents, each with an engine of its own.
        workers: tasks at a time.
        executor: where tasks run.
        watch: entered while they do, to show progress.

    Raises:
        FineeduError: the engine cannot answer, a document file is damaged, or the output cannot be written.
    """
    lock = job.output.with_name(f"{job.output.name}.lock")
    with hold(lock, f"another annotation is writing {job.output}: wait for it, or take another --output"):
        _clear(job.parts)
        with watch(job):
            run_tasks([AnnotateDocuments(job)], tasks, workers, executor, job.parts / "logs")
        tally, spent = read_tally(job)
        _merge(job, tally, spent)
        shutil.rmtree(job.parts)
        lock.unlink(missing_ok=True)
    return AnnotateResult(job.output, tally, spent)


def _clear(parts: Path) -> None:
    """Clear what a killed run has left: a job on a cluster, which would go on asking and paying, and its votes.

    The cache has its answers.
    """
    cancel_left(parts / "logs")
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)


def _merge(job: AnnotateJob, tally: Tally, spent: bool) -> None:
    rubric = job.annotator.rubric
    facts = {
        "rubric": rubric.model_dump(mode="json"),
        "rubric_hash": rubric.hash,
        "annotator": job.annotator.name,
        "engine": job.annotator.engine,
        "samples": job.annotator.samples,
        "complete": not spent and not tally.not_asked,
    }
    with atomic_open(job.output) as stream:
        writer = TableWriter(stream, vote_schema(rubric))
        for part in sorted(job.parts.glob("*.parquet")):
            for votes in read_batches(part):
                writer.write(votes)
        writer.close(facts)
