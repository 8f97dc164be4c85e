"""Metrics of every stage: one JSON line for each shard that a stage has worked on."""

from __future__ import annotations

import json
import os
import resource
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Measure:
    """What a stage has cost for one shard; the stage itself fills in counts and bytes."""

    stage: str
    shard: str
    time: str = ""
    host: str = ""
    #: wall clock, by the monotonic one: a jump of the machine's time does not show
    seconds: float = 0.0
    #: user and system, of this process and its children
    cpu_seconds: float = 0.0
    #: resident in this process at its highest, and in its children now
    memory_bytes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    documents: int = 0
    error: str | None = None


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children, those that still live included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(ticks for ticks, _ in _children()) / _TICKS


def memory_bytes() -> int:
    """Return the most memory that this process has had, and what its children have now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + sum(memory for _, memory in _children())


def _children() -> Iterator[tuple[int, int]]:
    """Yield CPU ticks and resident bytes of each child that lives; nothing where there is no ``/proc``."""
    for thread in Path("/proc/self/task").glob("*/children"):
        try:
            processes = thread.read_text().split()
        except OSError:
            continue  # the thread has ended
        for process in processes:
            try:
                fields = (Path("/proc") / process / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            yield int(fields[11]) + int(fields[12]), int(fields[21]) * _PAGE


@cache
def _file_name(process: int) -> str:
    return f"{socket.gethostname()}-{process}-{secrets.token_hex(3)}.jsonl"


@contextmanager
def metered(folder: Path | None, stage: str, shard: object = "") -> Iterator[Measure]:
    """Measure a block and add a line to this process's file of metrics.

    Args:
        folder: of the metrics; None measures without writing.
        stage: name of the stage.
        shard: what it works on.

    Yields:
        The measure, for the block to fill in counts and bytes.
    """
    found = Measure(stage, str(shard), host=socket.gethostname())
    started, before = time.monotonic(), cpu_seconds()
    try:
        yield found
    except Exception as error:
        found.error = type(error).__name__
        raise
    finally:
        found.seconds = round(time.monotonic() - started, 4)
        found.cpu_seconds = round(max(cpu_seconds() - before, 0.0), 4)
        found.memory_bytes = memory_bytes()
        found.time = datetime.now(UTC).isoformat(timespec="seconds")
        if folder is not None:
            _append(folder, found)


def _append(folder: Path, measure: Measure) -> None:
    """Add a line. A disk that is full must stop the work itself, with its own message, not this."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _file_name(os.getpid())).open("ab") as stream:
            stream.write(json.dumps(asdict(measure)).encode() + b"\n")
    except OSError:
        return
