"""The state of a run, kept in its folder while it runs, so that any machine that sees the folder can tell."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fineedu.job import Job
from fineedu.progress import watching

#: Seconds between signs of life, and how many without one make a run count as dead.
BEAT_SECONDS, SILENT_SECONDS = 5.0, 60.0


def state_path(run_folder: Path) -> Path:
    """Return the file that says what a run is doing."""
    return run_folder / "logs" / "state.json"


def _write(path: Path, value: dict[str, Any]) -> None:
    """Replace the file; where the disk is full the run's own writes tell."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(value))
        temporary.replace(path)


@contextmanager
def telling_state(job: Job, engine: str, workers: int) -> Iterator[None]:
    """Keep a run's state file until the block ends: running, then finished, stopped or failed."""
    path = state_path(job.store.run(job.run_id))
    started = time.monotonic()
    state: dict[str, Any] = {
        "state": "running",
        "run": job.run_id,
        "engine": engine,
        "workers": workers,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "shards": len(job.shards),
        "bytes": sum(source.length for source in job.shards.values()),
        "weights": {f"{shard.dump}-{shard.index:05d}": max(source.length, 1) for shard, source in job.shards.items()},
    }

    def beat(seconds: float) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _write(path, state | {"seconds": round(time.monotonic() - started, 1), "updated": now})

    try:
        beat(0)
        with watching(BEAT_SECONDS, beat):
            yield
        state["state"] = "finished"
    except KeyboardInterrupt:
        state["state"] = "stopped"
        raise
    except Exception as error:
        state |= {"state": "failed", "error": str(error) or type(error).__name__}
        raise
    finally:
        beat(0)
