"""Deduplication of a run, and of a store by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from datatrove.pipeline.base import PipelineStep

from fineedu.dedup.radius import BlastRadius, blast_radius, check_hosts
from fineedu.dedup.stage import FAMILY, KeyFolder, SignShards, dedup_made_by, deduplicate, minhash_of
from fineedu.engine import EngineName, default_workers, run_tasks
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig
from fineedu.store import Shard, Store, read_json, write_json

if TYPE_CHECKING:
    from fineedu.runner import Plan


class ListShards(PipelineStep):  # type: ignore[misc]
    """Hands each rank its shards."""

    name = "shards"
    type = "fineedu"

    def __init__(self, shards: Sequence[Shard]) -> None:
        super().__init__()
        self.shards = list(shards)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Shard]:
        """Yield the shards of this rank."""
        yield from self.shards[rank::world_size]


def find_duplicates(
    plan: Plan, steps: Sequence[PipelineStep], tasks: int, workers: int, engine: EngineName
) -> BlastRadius:
    """Make a run's shards, their keys and the signals ``dup_*``; the store is locked by the caller.

    Args:
        plan: the run.
        steps: what makes documents and signals of the shards.
        tasks: ranks that share the shards.
        workers: how many run at a time.
        engine: where.

    Raises:
        FineeduError: a host would lose more than ``dedup.max_host_loss``; or anything that stops a stage.
    """
    job = plan.job
    config = job.recipe.dedup
    assert config is not None
    folder = KeyFolder(job.store, config)
    with folder.lock():
        mark = folder.claim()
        run_tasks(
            [*steps, SignShards(folder, mark)], tasks, workers, engine, job.store.run(job.run_id) / "logs" / "shards"
        )
        return _finish(job.store, list(job.shards), config, plan.made_by[FAMILY], plan.owners)


def _finish(
    store: Store, shards: Sequence[Shard], config: DedupConfig, made_by: Mapping[str, Any], owners: Mapping[str, str]
) -> BlastRadius:
    groups = deduplicate(store, shards, config, made_by, owners)
    sizes: Counter[int] = Counter()
    told = [read_json(store.root / "signals" / FAMILY / f"_{group}.json") for group in groups]
    for group in told:
        sizes.update({int(size): count for size, count in group["sizes"].items()})
    bound = config.verify.at_least if config.verify and config.verify.measure == "jaccard" else None
    radius = blast_radius(store, shards, sizes, minhash_of(config), bound, config.host_documents)
    write_json(store.root / "dedup" / "report.json", {"groups": told, **radius.as_json()})
    check_hosts(radius, config.max_host_loss, config.host_documents)
    return radius


def _measured(store: Store) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what made the folders of a store, and its signal columns with their families."""
    marks = {"documents": read_json(store.root / "documents" / "_fingerprint.json")["made_by"]}
    owners: dict[str, str] = {}
    for path in sorted(store.root.glob("signals/*/_fingerprint.json")):
        family = path.parent.name
        shard = next(path.parent.glob("dump=*/*.parquet"), None)
        if family != FAMILY and shard is not None:
            marks[family] = read_json(path)["made_by"]
            owners |= dict.fromkeys((name for name in pl.read_parquet_schema(shard) if name != "id"), family)
    return marks, owners


def dedup_store(
    output: str | Path, config: DedupConfig, *, workers: int | None = None, engine: EngineName = "local"
) -> BlastRadius:
    """Find the duplicates of a store's documents and write them as the signals ``dup_*``. Run again, it goes on.

    Args:
        output: folder of the store.
        config: settings.
        workers: shards signed at a time; default the processors at hand.
        engine: ``local`` or ``ray``.

    Returns:
        What would be removed. It lies in ``dedup/report.json`` of the store too.

    Raises:
        FineeduError: no store there, or one in use; a mistake in the settings; a host would lose too much.
    """
    store = Store(Path(output))
    paths = sorted(store.root.glob("documents/dump=*/*.parquet"))
    if not paths:
        raise FineeduError(f"no documents in {store.root}: make some with `fineedu run RECIPE --output {store.root}`")
    shards = [Shard(path.parent.name.removeprefix("dump="), int(path.stem)) for path in paths]
    marks, owners = _measured(store)
    made_by = dedup_made_by(config, marks, owners)
    folder = KeyFolder(store, config)
    with store.lock(), folder.lock():
        store.claim(f"signals/{FAMILY}", made_by)
        mark = folder.claim()
        steps = [ListShards(shards), SignShards(folder, mark)]
        run_tasks(steps, len(shards), workers or default_workers(), engine, store.root / "dedup" / "logs")
        return _finish(store, shards, config, made_by, owners)
