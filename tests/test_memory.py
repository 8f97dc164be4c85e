"""Memory of a run does not grow with its documents, and what a worker is told is sent once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datatrove.pipeline.base import PipelineStep

from benchmarks.memory import Sample, by_phase, phase_starts, sample, told, warm_at
from fineedu.engine import run_tasks
from fineedu.status.collect import find_run_folder, read_rows
from tests.archives import PARAGRAPH, html_page, response, write_warc
from tests.conftest import ROOT


class Load:
    """Stands for what a step holds; notes each time that it is copied or arrives in another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with (self.folder / "arrived").open("a") as stream:
            stream.write("x")


class Touch(PipelineStep):  # type: ignore[misc]
    """Leaves a file for each rank."""

    name = "touch"
    type = "test"

    def __init__(self, load: Load) -> None:
        super().__init__()
        self.load = load

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[int]:
        self.stat_update("ranks")
        assert self.stats["ranks"].total == 1  # each rank has statistics of its own
        (self.load.folder / f"rank-{rank}").touch()
        yield rank


@pytest.mark.parametrize("workers", [1, 2])
def test_steps_are_sent_once_a_worker(tmp_path: Path, workers: int) -> None:
    """They hold every shard of a dump: 90,000 tasks that each bring 16 MB took the parent two days."""
    run_tasks([Touch(Load(tmp_path))], 12, workers, "local", tmp_path / "logs")
    assert len(list(tmp_path.glob("rank-*"))) == 12
    arrived = tmp_path / "arrived"
    assert (len(arrived.read_text()) if arrived.exists() else 0) <= (workers if workers > 1 else 0)


def make_crawl(folder: Path, shards: int, pages: int) -> None:
    for shard in range(shards):
        records = [
            response(
                html_page(*[f"Lesson {shard} {page} {part}. {PARAGRAPH}" for part in range(1 + page % 9)]),
                f"http://host{page}.example/{shard}",
            )
            for page in range(pages)
        ]
        write_warc(folder / f"{shard:03d}.warc.gz", records)


def watched(crawl: Path, output: Path, warm: int) -> dict[str, Any]:
    """Run a recipe over a crawl and return what its processes took, by role, after so many shards were made."""
    command = [sys.executable, "-m", "fineedu", "run", "fineweb", "-i", str(crawl), "-o", str(output), "--workers", "2"]
    command += ["--set", "extract.backend=resiliparse", "--set", "dedup={by: [minhash]}"]
    samples: list[Sample] = []
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None:
        samples.append(sample(run.pid))
        time.sleep(0.05)
    assert run.returncode == 0
    rows = list(read_rows(find_run_folder(output, None) / "logs" / "metrics"))
    phases = dict(by_phase(samples, phase_starts(rows)))
    assert list(phases) == ["pages", "dedup", "select", "write", "report"]
    return told(phases["pages"], warm_at(rows, warm))["largest"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_do_not_grow_with_the_documents(tmp_path: Path) -> None:
    """A worker fills its heap within some six shards and stays there, so the later ones are held against each other."""
    make_crawl(tmp_path / "crawl", shards=48, pages=250)
    found = watched(tmp_path / "crawl", tmp_path / "out", warm=16)
    for role in ("run", "worker", "extractor"):
        early, late = found[role]["first_third"], found[role]["last_third"]
        print(f"{role}: {early} MB, then {late} MB")
        # 2 kB kept of each of the 2,700 documents between them would show; workers were seen to move by 1 MB.
        assert late < early + 5
