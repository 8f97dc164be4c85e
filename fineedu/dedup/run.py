"""Deduplication of a run, and of a store by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from datatrove.pipeline.base import PipelineStep

from fineedu.dedup import lines, substrings
from fineedu.dedup.memory import Memory, give_back
from fineedu.dedup.radius import BlastRadius, blast_radius, check_hosts
from fineedu.dedup.stage import FAMILY, SCHEMA, KeyFolder, SignShards, dedup_made_by, deduplicate, minhash_of
from fineedu.dedup.substring_report import substring_report
from fineedu.engine import Engine, default_workers, run_tasks
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig
from fineedu.remote import open_output
from fineedu.report.duplicates import write_duplicates_page
from fineedu.status.meter import metered
from fineedu.store import Shard, Store, atomic_open, fingerprint, open_store, read_json, write_json

if TYPE_CHECKING:
    from fineedu.runner import Plan


#: memory of the blast radius and of the library that draws its charts: 130 MB more than clustering holds were seen
_REPORT_BYTES = 100_000_000
#: what signing leaves behind where no worker does it; and what the same run differs by from time to time
_SIGNING_BYTES, _SPREAD_BYTES = 100_000_000, 20_000_000


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


def dedup_columns(config: DedupConfig) -> dict[str, dict[str, pl.DataType]]:
    """Return the signal families that deduplication gives, with their columns."""
    found = {FAMILY: SCHEMA} | ({lines.FAMILY: lines.SCHEMA} if config.lines else {})
    return found | ({substrings.FAMILY: substrings.SCHEMA} if config.substrings else {})


def families_made_by(
    config: DedupConfig, made_by: Mapping[str, dict[str, Any]], owners: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return what makes those families.

    Args:
        config: the settings.
        made_by: of the documents and of every signal family.
        owners: signal column to its family.

    Raises:
        FineeduError: settings that do not go together, or a score that is no signal.
    """
    lines.check_lines(config)
    substrings.check_substrings(config)
    found = {FAMILY: dedup_made_by(config, made_by, owners)}
    if config.lines:
        found[lines.FAMILY] = lines.lines_made_by(config, made_by["documents"])
    if config.substrings:
        found[substrings.FAMILY] = substrings.substrings_made_by(config, made_by["documents"])
    return found


@dataclass(frozen=True, slots=True)
class _Work:
    """One deduplication: of what, how, and where it runs."""

    store: Store
    shards: list[Shard]
    config: DedupConfig
    made_by: Mapping[str, dict[str, Any]]
    owners: Mapping[str, str]
    workers: int
    engine: Engine
    logs: Path
    #: where a copy of the report goes that later runs do not change
    folder: Path | None = None
    #: fail where a host would lose too much
    stop: bool = True

    def run(self, steps: Sequence[PipelineStep], tasks: int) -> BlastRadius:
        """Make keys after the given steps, then the signals; the store is locked by the caller."""
        self._check_memory(_SIGNING_BYTES if self.workers == 1 else _SPREAD_BYTES)
        folder = KeyFolder(self.store, self.config)
        metrics = self.logs.parent / "metrics"
        with folder.lock():
            sign: list[PipelineStep] = [SignShards(folder, folder.claim(), metrics)]
            if self.config.lines:
                sign.append(lines.ListLines(self.store, self.config, self.made_by[lines.FAMILY]))
            if self.config.substrings:
                sign.append(substrings.ListAnchors(self.store, self.config, self.made_by[substrings.FAMILY]))
            run_tasks([*steps, *sign], tasks, self.workers, self.engine, self.logs)
            if self.config.lines:
                self._measure_lines(tasks)
            with metered(metrics, "dedup"):
                if self.config.substrings:
                    made = self.made_by[substrings.FAMILY]
                    memory = Memory(self.config.memory_mb)
                    substrings.find_substrings(self.store, self.shards, self.config, made, memory)
                return self._finish()

    def _check_memory(self, later: int = 0) -> None:
        Memory(self.config.memory_mb).need(_REPORT_BYTES + later, "a run with its report", hint="")

    def _finish(self) -> BlastRadius:
        """Write the signals, and what they would remove."""
        store, shards, config = self.store, self.shards, self.config
        self._check_memory()  # again: what has been signed here has left memory behind
        groups = deduplicate(store, shards, config, self.made_by[FAMILY], self.owners)
        told = [read_json(store.root / "signals" / FAMILY / f"_{group}.json") for group in groups]
        give_back()
        sizes: Counter[int] = Counter()
        verified: Counter[str] = Counter()
        for group in told:
            sizes.update({int(size): count for size, count in group["sizes"].items()})
            verified.update(group["verified"] or {})
        bound = config.verify.at_least if config.verify and config.verify.measure == "jaccard" else None
        radius = replace(
            blast_radius(store, shards, sizes, minhash_of(config), bound, config.host_documents),
            verified=dict(verified) if config.verify else None,
            substrings=substring_report(store, shards) if config.substrings else None,
            lines=lines.line_report(store, shards, self._frequent) if config.lines else None,
        )
        report = {"settings": config.model_dump(mode="json"), "groups": told, **radius.as_json()}
        write_json(store.root / "dedup" / "report.json", report)
        page = write_duplicates_page(store.root / "dedup" / "report.html", report)
        if self.folder is not None:
            write_json(self.folder / "dedup.json", report)
        if self.stop:
            check_hosts(radius, config.max_host_loss, config.host_documents, page)
        return radius

    @property
    def _frequent(self) -> Path:
        return self.store.root / "dedup" / "lines" / "frequent.npy"

    def _measure_lines(self, tasks: int) -> None:
        path = self._frequent
        frequent = lines.frequent_lines(self.store, self.shards, self.config, Memory(self.config.memory_mb))
        with atomic_open(path) as stream:
            np.save(stream, frequent)
        mark = fingerprint([self.made_by[lines.FAMILY], sha256(frequent.tobytes()).hexdigest()])
        steps = [ListShards(self.shards), lines.MeasureLines(self.store, self.config, path, mark)]
        run_tasks(steps, tasks, self.workers, self.engine, self.logs.with_name("lines"))


def find_duplicates(plan: Plan, steps: Sequence[PipelineStep], tasks: int, workers: int, engine: Engine) -> BlastRadius:
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
    assert job.recipe.dedup is not None
    folder = job.store.run(job.run_id)
    work = _Work(
        job.store, list(job.shards), job.recipe.dedup, plan.made_by, plan.owners, workers, engine,
        folder / "logs" / "dedup", folder,
    )  # fmt: skip
    return work.run(steps, tasks)


def _measured(store: Store) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return what made the folders of a store, and its signal columns with their families."""
    marks = {"documents": read_json(store.root / "documents" / "_fingerprint.json")["made_by"]}
    owners: dict[str, str] = {}
    for path in sorted(store.root.glob("signals/*/_fingerprint.json")):
        family = path.parent.name
        shard = next(path.parent.glob("dump=*/*.parquet"), None)
        if family not in (FAMILY, lines.FAMILY, substrings.FAMILY) and shard is not None:
            marks[family] = read_json(path)["made_by"]
            owners |= dict.fromkeys((name for name in pl.read_parquet_schema(shard) if name != "id"), family)
    return marks, owners


def dedup_store(
    output: str | Path,
    config: DedupConfig,
    *,
    workers: int | None = None,
    engine: Engine = "local",
    stop: bool = True,
) -> BlastRadius:
    """Find the duplicates of a store's documents and write them as the signals ``dup_*``. Run again, it goes on.

    Args:
        output: folder of the store.
        config: settings.
        workers: shards signed at a time; default the processors at hand.
        engine: ``local``, ``ray`` or ``slurm``.
        stop: fail where a host would lose more than ``config.max_host_loss``; else the caller looks.

    Returns:
        What would be removed. It lies in ``dedup/report.json`` and ``dedup/report.html`` of the store too.

    Raises:
        FineeduError: no store there, or one in use; a mistake in the settings; a host would lose too much.
    """
    store = open_store(output)
    open_output(output)
    paths = sorted(store.root.glob("documents/dump=*/*.parquet"))
    if not paths:
        raise FineeduError(f"no documents in {store.root}: make some with `fineedu run RECIPE --output {store.root}`")
    shards = [Shard(path.parent.name.removeprefix("dump="), int(path.stem)) for path in paths]
    marks, owners = _measured(store)
    made_by = families_made_by(config, marks, owners)
    logs = store.root / "dedup" / "logs" / "shards"
    work = _Work(store, shards, config, made_by, owners, workers or default_workers(), engine, logs, stop=stop)
    with store.lock():
        for family, made in made_by.items():
            store.claim(f"signals/{family}", made)
        return work.run([ListShards(shards)], len(shards))
