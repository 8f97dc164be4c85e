"""``fineedu status``: of a run that goes on, of one that has ended, and of one that was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fineedu.errors import FineeduError
from fineedu.progress import watching
from fineedu.status.collect import find_run_folder, prometheus, read_status
from fineedu.status.meter import metered
from tests.conftest import ROOT, Cli


@pytest.fixture(scope="module")
def finished(crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("status") / "out"
    command = [sys.executable, "-m", "fineedu", "run", "minimal", "-i", str(crawl), "-o", str(output), "--workers", "2"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return output


def test_a_finished_run(finished: Path) -> None:
    status = read_status(find_run_folder(finished, None))
    assert status.state == "finished"
    assert (status.progress.done, status.progress.pages) == (1.0, 63)
    assert list(status.stages) == ["extract", "signals", "select", "write", "report"]
    extract = status.stages["extract"]
    assert (extract.shards, extract.documents, extract.errors) == (3, 61, 0)
    assert extract.cpu_seconds > 0.05 and extract.memory_bytes > 1e7
    stored = sum(path.stat().st_size for path in (finished / "documents").rglob("*.parquet"))
    assert extract.bytes_written == stored


def test_prometheus_text_is_what_prometheus_reads(finished: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    text = prometheus(read_status(find_run_folder(finished, None)))
    found = {family.name: family for family in parser.text_string_to_metric_families(text)}
    samples = {sample.labels["stage"]: sample.value for sample in found["fineedu_stage_documents"].samples}
    assert samples["extract"] == 61
    assert {s.labels["state"]: s.value for s in found["fineedu_run_state"].samples}["finished"] == 1


def test_the_command(cli: Cli, finished: Path) -> None:
    table = cli("status", "-o", finished, env={"COLUMNS": "120", "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)})
    assert table.returncode == 0, table.stderr
    assert all(word in table.stdout for word in ("finished", "extract", "100.0%", "63 pages"))
    told = json.loads(cli("status", "-o", finished, "--format", "json").stdout)
    assert (told["state"], told["pages"], told["stages"]["extract"]["documents"]) == ("finished", 63, 61)
    assert "fineedu_run_done_ratio" in cli("status", "-o", finished, "--format", "prometheus").stdout
    missing = cli("status", "nothing", "-o", finished)
    assert missing.returncode == 2 and "no run nothing" in missing.stderr


def test_a_run_that_goes_on_and_is_killed(crawl: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "fineedu", "run", "minimal", "-i", str(crawl), "-o", str(output)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    while not list(output.glob("runs/*/logs/state.json")):
        assert run.poll() is None
        time.sleep(0.01)
    folder = find_run_folder(output, None)
    assert read_status(folder).state == "running"
    run.kill()
    run.wait()
    path = folder / "logs" / "state.json"
    told = json.loads(path.read_text())
    told["updated"] = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    path.write_text(json.dumps(told))
    assert read_status(folder).state == "silent"
    told["updated"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()  # a clock that runs ahead
    path.write_text(json.dumps(told))
    assert read_status(folder).silent == 0


def test_a_failed_run_says_why(crawl: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("run", "minimal", "-i", crawl, "-o", tmp_path / "out", "--workers", "1").returncode == 0
    shard = tmp_path / "out/documents/dump=local/00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert cli("run", "minimal", "-i", crawl, "-o", tmp_path / "out", "--workers", "1").returncode == 2
    found = cli("status", "-o", tmp_path / "out", env={"COLUMNS": "200", "PATH": "/bin", "PYTHONPATH": str(ROOT)})
    assert found.returncode == 1
    assert "failed" in found.stdout and "00001.parquet is damaged" in found.stdout


def test_a_stage_that_fails_is_counted(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(FineeduError), metered(tmp_path, "extract", "a/00000"):
        raise FineeduError("no")
    with metered(tmp_path, "extract", "a/00000") as cost:
        cost.documents = 3
    rows = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert [(row["error"], row["documents"]) for row in rows] == [("FineeduError", 0), (None, 3)]


def test_a_slow_look_is_taken_less_often() -> None:
    looks: list[float] = []

    def show(seconds: float) -> None:
        looks.append(seconds)
        time.sleep(0.05)

    with watching(0.01, show):
        time.sleep(0.7)  # the first look asks for a pause of a second
    assert len(looks) == 2
