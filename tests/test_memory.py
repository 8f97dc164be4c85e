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


def watched(crawl: Path, output: Path) -> dict[str, Any]:
    """Run a recipe over a crawl and return what its workers took, after each has made a shard."""
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
    return told(phases["pages"], warm_at(rows, 2))["largest"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_do_not_grow_with_the_documents(tmp_path: Path) -> None:
    found = {}
    for shards in (8, 32):
        make_crawl(tmp_path / f"crawl-{shards}", shards, 250)
        found[shards] = watched(tmp_path / f"crawl-{shards}", tmp_path / f"out-{shards}")
    for role in ("run", "worker", "extractor"):
        few, many = (found[shards][role]["peak"] for shards in (8, 32))
        print(f"{role}: {few} MB for 2,000 documents, {many} MB for 8,000")
        assert many < few + 6  # 1 kB kept of each of 6,000 documents more would show; 1 MB more was seen
