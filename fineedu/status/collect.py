"""From what a run leaves in its folder to figures: state, progress, and the cost of each stage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fineedu.errors import FineeduError
from fineedu.job import Progress, sum_notes
from fineedu.remote import work_folder
from fineedu.status.state import SILENT_SECONDS, state_path

#: Stages in the order in which a document meets them.
ORDER = ("extract", "signals", "dedup keys", "dedup", "select", "write", "report")


@dataclass(slots=True)
class StageCost:
    """What a stage has cost so far, over all machines; times in seconds, sizes in bytes."""

    shards: int = 0
    documents: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    #: of the process that took most
    memory_bytes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """A run as its folder tells it."""

    run: str
    #: running, finished, stopped, failed; or silent: it says running, but has given no sign of life for a minute
    state: str
    told: dict[str, Any]
    progress: Progress
    #: seconds since the last sign of life
    silent: float
    stages: dict[str, StageCost] = field(default_factory=dict)


def find_run_folder(output: str | Path, run: str | None) -> Path:
    """Return the folder of a run, finished or not.

    Args:
        output: folder of the store.
        run: id or its beginning, or the run's folder; None takes the run that was started last.

    Raises:
        FineeduError: no such run, or several fit.
    """
    if run and state_path(Path(run)).is_file():
        return Path(run)
    found = {path.parent.parent: _read(path) for path in work_folder(output).glob("runs/*/logs/state.json")}
    fitting = sorted(
        (folder for folder in found if folder.name.startswith(run or "")),
        key=lambda folder: (found[folder].get("started", ""), folder.name),
    )
    if not fitting:
        raise FineeduError(f"no run {run or ''} in {output}; there: {', '.join(f.name for f in found) or 'none'}")
    exact = [folder for folder in fitting if folder.name == run]
    if run and not exact and len(fitting) > 1:
        raise FineeduError(f"{run!r} fits several runs: {', '.join(folder.name for folder in fitting)}")
    return (exact or fitting)[-1]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_rows(metrics: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of metrics; one that is being written at this moment is left out."""
    for path in sorted(metrics.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):
                yield json.loads(line)


def read_costs(metrics: Path) -> dict[str, StageCost]:
    """Sum the lines of metrics by stage."""
    found: dict[str, StageCost] = {}
    for row in read_rows(metrics):
        cost = found.setdefault(row["stage"], StageCost())
        cost.shards += row["error"] is None
        cost.errors += row["error"] is not None
        cost.memory_bytes = max(cost.memory_bytes, row["memory_bytes"])
        for name in ("documents", "seconds", "cpu_seconds", "bytes_read", "bytes_written"):
            setattr(cost, name, getattr(cost, name) + row[name])
    rank = {stage: number for number, stage in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def read_status(folder: Path) -> Status:
    """Tell how a run is.

    Args:
        folder: the run's folder.

    Raises:
        FineeduError: its state cannot be read.
    """
    told = _read(state_path(folder))
    if not told:
        raise FineeduError(f"{state_path(folder)} cannot be read: is {folder} the folder of a run?")
    updated = datetime.fromisoformat(told["updated"])
    silent = max((datetime.now(UTC) - updated).total_seconds(), 0.0)
    state = "silent" if told["state"] == "running" and silent > SILENT_SECONDS else told["state"]
    progress = sum_notes(folder / "progress", told["weights"])
    return Status(folder.name, state, told, progress, silent, read_costs(folder / "logs" / "metrics"))


_HELP = {
    "shards": "Shards that the stage has made.",
    "documents": "Documents that the stage has worked on.",
    "seconds": "Wall-clock time of the stage, summed over tasks.",
    "cpu_seconds": "CPU time of the stage, children included, summed over tasks.",
    "bytes_read": "Bytes that the stage has read.",
    "bytes_written": "Bytes that the stage has written.",
    "errors": "Shards at which the stage failed.",
}


def prometheus(status: Status) -> str:
    """Return the status in Prometheus' text format, for the textfile collector or any scraper."""
    run = f'run="{_escape(status.run)}"'
    lines: list[str] = []

    def metric(name: str, kind: str, told: str, rows: list[tuple[str, float]]) -> None:
        lines.extend([f"# HELP fineedu_{name} {told}", f"# TYPE fineedu_{name} {kind}"])
        lines.extend(f"fineedu_{name}{{{labels}}} {value:.15g}" for labels, value in rows)

    states = Counter([status.state])
    names = ("running", "finished", "stopped", "failed", "silent")
    metric(
        "run_state",
        "gauge",
        "1 for the state that the run is in.",
        [(f'{run},state="{name}"', states[name]) for name in names],
    )
    metric("run_done_ratio", "gauge", "Share of the run's work that is done.", [(run, status.progress.done)])
    metric("run_silent_seconds", "gauge", "Seconds since the run's last sign of life.", [(run, status.silent)])
    metric("run_pages_total", "counter", "Pages read.", [(run, status.progress.pages)])
    metric("run_kept_total", "counter", "Documents kept.", [(run, status.progress.kept)])
    dropped = sorted(status.progress.dropped.items())
    metric(
        "run_dropped_total",
        "counter",
        "Pages and documents dropped.",
        [(f'{run},reason="{_escape(reason)}"', count) for reason, count in dropped],
    )
    for name, told in _HELP.items():
        rows = [(f'{run},stage="{stage}"', getattr(cost, name)) for stage, cost in status.stages.items()]
        metric(f"stage_{name}_total", "counter", told, rows)
    rows = [(f'{run},stage="{stage}"', cost.memory_bytes) for stage, cost in status.stages.items()]
    metric("stage_memory_bytes", "gauge", "Most memory that a task of the stage has had.", rows)
    return "\n".join(lines) + "\n"


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
