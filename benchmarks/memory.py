"""Memory of a run's processes by role and phase, from ``/proc``: what grows with the documents, and where.

Resident memory counts a shared page once a process, and mapped files too; a sum over ten processes says little. This
reads proportional sizes: of a page that n processes share each has an n-th, and anonymous pages (heap, stacks) stand by
themselves.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

#: Stage of a run's metrics to the phase it belongs to; phases come one after the other, stages of one are mingled.
PHASES = {
    "extract": "pages",
    "signals": "pages",
    "dedup keys": "pages",
    "dedup": "dedup",
    "select": "select",
    "write": "write",
    "report": "report",
}
#: Stage that ends a shard of the phase ``pages``.
_LAST_OF_PAGES = ("dedup keys", "signals")


@dataclass(slots=True)
class Sample:
    """Memory of a command and all below it at one moment, in bytes."""

    #: seconds of the clock, as metrics tell it
    time: float
    #: role to the anonymous memory of each process in it
    anonymous: dict[str, list[int]] = field(default_factory=dict)
    #: proportional size, mapped files included, of all together
    proportional: int = 0

    @property
    def total(self) -> int:
        """Anonymous memory of all processes."""
        return sum(map(sum, self.anonymous.values()))


def _sizes(process: int) -> tuple[int, int]:
    """Return anonymous and whole proportional size; where the kernel does not tell the first, private dirty pages."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return found.get("Pss_Anon", found["Private_Dirty"]), found["Pss"]


def _children(process: int) -> list[int]:
    return [
        int(child)
        for thread in Path(f"/proc/{process}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


def _role(process: int, parent: str | None) -> str:
    """Name a process by its command line and its parent's role."""
    if parent is None:
        return "run"
    command = Path(f"/proc/{process}/cmdline").read_bytes()
    if b"fineedu.extract.worker" in command:
        return "extractor"
    if b"resource_tracker" in command:
        return "tracker"
    return "worker" if parent == "fork server" else "fork server" if b"forkserver" in command else "other"


def sample(process: int) -> Sample:
    """Return the memory of a process and all below it; those that end meanwhile are left out."""
    found = Sample(time.time())
    waiting: list[tuple[int, str | None]] = [(process, None)]
    while waiting:
        current, parent = waiting.pop()
        try:
            role = _role(current, parent)
            waiting += [(child, role) for child in _children(current)]
            anonymous, whole = _sizes(current)
        except (OSError, KeyError):
            continue
        found.anonymous.setdefault(role, []).append(anonymous)
        found.proportional += whole
    return found


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Add samples to a file of JSON lines."""
    with path.open("a") as stream:
        stream.writelines(json.dumps(asdict(one)) + "\n" for one in samples)


def read_samples(path: Path) -> list[Sample]:
    """Read what :func:`write_samples` wrote; a line that broke off is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.endswith("}"):
            found.append(Sample(**json.loads(line)))
    return found


def phase_starts(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return when each phase first began, from the lines of a run's metrics, whose times are whole seconds."""
    found: dict[str, float] = {}
    for row in rows:
        phase = PHASES.get(row["stage"])
        if phase is not None:
            began = datetime.fromisoformat(row["time"]).timestamp() - row["seconds"]
            found[phase] = min(began, found.get(phase, began))
    ordered: dict[str, float] = {}
    for phase in dict.fromkeys(PHASES.values()):
        if phase in found:
            ordered[phase] = max(found[phase], *ordered.values(), 0.0)
    return ordered


def warm_at(rows: Sequence[Mapping[str, Any]], workers: int) -> float:
    """Return when so many shards had their signals or keys: by then workers have loaded models and kernels."""
    for stage in _LAST_OF_PAGES:
        ends = sorted(datetime.fromisoformat(row["time"]).timestamp() for row in rows if row["stage"] == stage)
        if ends:
            return ends[min(workers, len(ends)) - 1]
    return float("-inf")


def by_phase(samples: Iterable[Sample], starts: Mapping[str, float]) -> Iterator[tuple[str, list[Sample]]]:
    """Yield each phase with its samples; the start of the command belongs to the first one."""
    names, samples = list(starts), [one for one in samples if "run" in one.anonymous]
    for name, following in zip(names, [*names[1:], *names[:1]], strict=True):
        low = starts[name] if name != names[0] else float("-inf")
        high = starts[following] if following != names[0] else float("inf")
        yield name, [one for one in samples if low <= one.time < high]


def _megabytes(values: Sequence[int]) -> float:
    return round(statistics.median(values) / 1e6, 1) if values else 0.0


def told(samples: Sequence[Sample], warm: float = float("-inf")) -> dict[str, Any]:
    """Return what a phase's memory was, in megabytes: medians of its first and last third, and its peak.

    Of each role the largest process counts. Samples before ``warm`` are left out of the thirds, not of the peak.
    """
    steady = [one for one in samples if one.time > warm] or samples
    third = max(len(steady) // 3, 1)
    first, last = steady[:third], steady[-third:]
    roles = sorted({role for one in samples for role in one.anonymous})
    return {
        "seconds": round(samples[-1].time - samples[0].time, 1),
        "samples": len(steady),
        "first_third": _megabytes([one.total for one in first]),
        "last_third": _megabytes([one.total for one in last]),
        "peak": round(max(one.total for one in samples) / 1e6, 1),
        "peak_with_files": round(max(one.proportional for one in samples) / 1e6, 1),
        "largest": {
            role: {
                "first_third": _megabytes([max(one.anonymous[role]) for one in first if role in one.anonymous]),
                "last_third": _megabytes([max(one.anonymous[role]) for one in last if role in one.anonymous]),
                "peak": round(max(max(one.anonymous[role]) for one in samples if role in one.anonymous) / 1e6, 1),
            }
            for role in roles
            if role != "tracker"
        },
    }
