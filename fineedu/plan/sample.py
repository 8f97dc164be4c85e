"""Runs of a recipe over slices of its archives, for what each stage costs."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from fineedu.errors import FineeduError
from fineedu.extract.inputs import dump_paths
from fineedu.job import Job, Source
from fineedu.recipe import EngineConfig, Recipe, load_recipe
from fineedu.runner import Plan, execute, plan_run
from fineedu.status.collect import StageCost, read_costs, read_rows
from fineedu.store import Shard, Store

#: Archives of a dump that are asked for their size and sampled: a HEAD request each.
DUMP_FILES = 24
#: A short slice is a slice's first eighth.
SHORT = 8
_SPLITTABLE = (".warc.gz", ".warc.zst")
#: Stages that work shard by shard, on as many workers as there are; the others run once.
BY_SHARD = ("extract", "signals", "dedup keys", "select", "write")


@dataclass(frozen=True, slots=True)
class Whole:
    """All that a run will read."""

    plan: Plan
    archives: int
    #: compressed bytes
    bytes: float
    shards: float


@dataclass(frozen=True, slots=True)
class Sampled:
    """Costs of three runs: of one tiny slice in a fresh process, of the beginnings of all slices, and of all slices.

    What the third takes more than the second is the cost of bytes; the rest is that of shards.
    """

    cold: dict[str, StageCost]
    short: dict[str, StageCost]
    full: dict[str, StageCost]
    short_bytes: int
    #: bytes and CPU seconds of each slice of the full run
    slices: tuple[tuple[int, float], ...]
    pages: int
    documents: int
    kept: int


def find_whole(
    recipe: str | Path,
    inputs: Sequence[str],
    dump: str | None,
    limit_files: int | None,
    overrides: Sequence[str],
    base: str,
) -> Whole:
    """Lay out the run: everything where inputs are given, a spread of a dump's archives where only it is.

    Raises:
        FineeduError: anything wrong with recipe or inputs.
    """
    config = _alone(load_recipe(recipe, [*overrides]).recipe)
    count = 0
    if not inputs and dump is not None:
        paths = dump_paths(dump, limit_files, base)
        count = len(paths)
        inputs = [paths[number * count // min(DUMP_FILES, count)] for number in range(min(DUMP_FILES, count))]
        limit_files = None
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_run(config, inputs=inputs, output=folder, dump=dump, limit_files=limit_files)
    sizes = {source.url: source.size for source in plan.job.shards.values()}
    if None in sizes.values():
        unknown = next(url for url, size in sizes.items() if size is None)
        raise FineeduError(f"input {unknown}: its size is not told, so nothing can be extrapolated")
    found = sum(size or 0 for size in sizes.values())
    if not found:
        raise FineeduError("the inputs are empty: there is nothing to plan")
    archives = count or len(sizes)
    scale = archives / len(sizes)
    return Whole(plan, archives, found * scale, len(plan.job.shards) * scale)


def _alone(recipe: Recipe) -> Recipe:
    """Return the recipe without what reaches beyond a sample's own store."""
    if recipe.dedup is None:
        return recipe
    dedup = recipe.dedup.model_copy(update={"index": None, "max_host_loss": None})
    return recipe.model_copy(update={"dedup": dedup})


def choose_slices(plan: Plan, count: int, size: int, seed: int) -> list[Source]:
    """Return slices of about ``size`` bytes, evenly spread over the bytes of all archives, the first one random.

    An archive that cannot be read from its middle is taken whole.
    """
    archives = {source.url: source.size or 0 for source in plan.job.shards.values()}
    total = sum(archives.values())
    step = total / count
    start = random.Random(seed).random() * step
    found: dict[tuple[str, int], Source] = {}
    passed, waiting = 0, [int(start + number * step) for number in range(count)]
    for url, length in archives.items():
        while waiting and waiting[0] < passed + length:
            offset = min(waiting.pop(0) - passed, max(length - size, 0))
            whole = not url.endswith(_SPLITTABLE) or length <= size
            source = Source(url, length) if whole else Source(url, length, offset, min(offset + size, length))
            found.setdefault((url, source.start), source)
        passed += length
    return list(found.values())


def run_sample(whole: Whole, count: int, size: int, seed: int) -> Sampled:
    """Run the recipe on slices, one worker, in folders that go away.

    Args:
        whole: from :func:`find_whole`.
        count: slices.
        size: compressed bytes of a slice.
        seed: where the first one begins.

    Raises:
        FineeduError: a run failed, or the sample holds no page.
    """
    slices = choose_slices(whole.plan, count, size, seed)
    short_slices = choose_slices(whole.plan, count, max(size // SHORT, 1), seed)
    # Once in another process: kernels that were never compiled here are, as no worker of a long run will have to.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(_run, whole.plan, short_slices[:1]).result()
    cold, _, _ = _run(whole.plan, short_slices[:1])
    short, _, _ = _run(whole.plan, short_slices)
    full, by_slice, counts = _run(whole.plan, slices)
    if not counts[0]:
        raise FineeduError("the sample holds no page: take a larger --sample-mb")
    lengths = {f"sample/{number:05d}": source.length for number, source in enumerate(slices)}
    return Sampled(
        cold,
        short,
        full,
        sum(source.length for source in short_slices),
        tuple((lengths[shard], by_slice[shard]) for shard in lengths),
        *counts,
    )


def _run(plan: Plan, sources: Sequence[Source]) -> tuple[dict[str, StageCost], dict[str, float], tuple[int, int, int]]:
    with tempfile.TemporaryDirectory(prefix="fineedu-plan-") as folder:
        shards = {Shard("sample", number): source for number, source in enumerate(sources)}
        old = plan.job
        job = Job(Store(Path(folder)), old.run_id, old.recipe, shards, old.marks)
        result = execute(replace(plan, job=job), tasks=1, workers=1, engine=EngineConfig())
        by_slice: dict[str, float] = defaultdict(float)
        for row in read_rows(job.metrics_folder):
            if row["stage"] in BY_SHARD and row["stage"] != "write":
                by_slice[row["shard"]] += row["cpu_seconds"]
        return read_costs(job.metrics_folder), by_slice, (result.pages, result.documents, result.kept)
