"""The same run on Ray and on Slurm: same bytes, also when a node dies in the middle of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fineedu.engine import run_tasks
from fineedu.errors import FineeduError
from fineedu.recipe import EngineConfig, load_recipe
from tests.archives import numbered_pages, tree_digest, write_warc
from tests.cluster.commands import end, launch
from tests.cluster.slurm import Cluster, slurm_of_tests

SHARDS = 6
# Kernels are compiled once on a fresh machine, which a busy one takes minutes for.
pytestmark = pytest.mark.timeout(900)
SETTINGS = ["--set", "dedup={by: [exact]}", "--set", "signals=[exact, heuristics, edu]"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    for n in range(SHARDS):
        write_warc(folder / f"{n}.warc.gz", numbered_pages(150, f"host{n}.example"))
    return folder


def start(
    archives: Path, output: Path, engine: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    command = ["run", "minimal", "-i", archives, "-o", output, *SETTINGS, "--engine", engine, "--workers", "2"]
    return launch(*command, environment=environment)


@pytest.fixture(scope="module")
def local(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("local") / "out"
    end(start(archives, output, "local"))
    return tree_digest(output)


def until_running(run: subprocess.Popen[str], output: Path) -> None:
    """Wait until the first shards are being made."""
    while not list(output.rglob("progress/*.json")):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from slurm_of_tests(tmp_path_factory.mktemp("slurm"))


@pytest.mark.slow
def test_slurm_gives_the_same_bytes(slurm: Cluster, archives: Path, local: dict[str, bytes], tmp_path: Path) -> None:
    end(start(archives, tmp_path / "out", "slurm", slurm.environment))
    assert tree_digest(tmp_path / "out") == local


@pytest.mark.slow
def test_a_slurm_node_dies(slurm: Cluster, archives: Path, local: dict[str, bytes], tmp_path: Path) -> None:
    run = start(archives, tmp_path / "out", "slurm", slurm.environment)
    until_running(run, tmp_path / "out")
    slurm.kill_node(0)
    end(run)
    assert tree_digest(tmp_path / "out") == local
    assert not list((tmp_path / "out").rglob(".tmp-*"))
    slurm.node(0)


@pytest.mark.slow
def test_a_killed_run_leaves_no_slurm_job_behind_the_next(
    slurm: Cluster, archives: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    run = start(archives, tmp_path / "out", "slurm", slurm.environment)
    until_running(run, tmp_path / "out")
    run.kill()
    run.communicate()
    end(start(archives, tmp_path / "out", "slurm", slurm.environment))
    assert tree_digest(tmp_path / "out") == local


@pytest.mark.slow
def test_what_a_slurm_task_says_reaches_the_user(slurm: Cluster, tmp_path: Path) -> None:
    write_warc(tmp_path / "in" / "a.warc.gz", numbered_pages(2))
    shard = tmp_path / "out/documents/dump=local/00000.parquet"
    end(start(tmp_path / "in", tmp_path / "out", "local"))
    shard.write_bytes(shard.read_bytes()[:-50])
    run = start(tmp_path / "in", tmp_path / "out", "slurm", slurm.environment)
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 2
    assert "00000.parquet is damaged" in errors


Kill = Callable[[int], None]


@pytest.fixture
def ray_cluster() -> Iterator[tuple[str, Kill]]:
    pytest.importorskip("ray", reason="pip install 'fineedu[ray]'")
    command = [sys.executable, str(Path(__file__).with_name("ray_nodes.py")), "3"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as nodes:
        assert nodes.stdin and nodes.stdout
        address = nodes.stdout.readline().strip()

        def kill(number: int) -> None:
            nodes.stdin.write(f"{number}\n")
            nodes.stdin.flush()
            assert nodes.stdout.readline() == "killed\n"

        yield address, kill
        nodes.stdin.close()
        nodes.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [0, 1])
def test_ray_on_three_nodes(
    ray_cluster: tuple[str, Kill], deaths: int, archives: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    address, kill = ray_cluster
    run = start(archives, tmp_path / "out", "ray", {"RAY_ADDRESS": address})
    until_running(run, tmp_path / "out")
    for number in range(deaths):
        kill(number)
    end(run)
    assert tree_digest(tmp_path / "out") == local
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_an_engine_in_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("engine: slurm\n")
    assert load_recipe(path).recipe.engine == EngineConfig(name="slurm")
    with_engine = load_recipe(path).recipe
    path.write_text("engine: {name: ray, cpus: 2, memory_gb: 8}\n")
    assert load_recipe(path).recipe.engine.cpus == 2
    assert load_recipe(path).recipe.hash == with_engine.hash
    path.write_text("engine: spark\n")
    with pytest.raises(FineeduError, match=r"mine\.yaml:1: engine"):
        load_recipe(path)


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FineeduError, match="no sbatch, scontrol, scancel on PATH"):
        run_tasks([], 1, 1, "slurm", tmp_path / "logs")
