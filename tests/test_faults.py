"""What may go wrong under a run: each ends with one clear line, and the run goes on from there to the same bytes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.archives import numbered_pages, tree_digest, write_warc
from tests.conftest import ROOT

SETTINGS = ["--set", "dedup={by: [exact]}", "--set", "write.format=parquet", "--set", "signals=[exact, heuristics]"]
Limit = Callable[[], None]
# Kernels are compiled once on a fresh machine, which a busy one takes minutes for.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    for n in range(4):
        write_warc(folder / f"{n}.warc.gz", numbered_pages(60, f"host{n}.example"))
    return folder


def start(
    archives: Path, output: Path, *more: str, limit: Limit | None = None, **environment: str
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fineedu", "run", "minimal", "-i", str(archives), "-o", str(output)]
    told = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(
        [*command, *SETTINGS, *more],
        env=told,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def run(archives: Path, output: Path, *more: str, limit: Limit | None = None, **environment: str) -> tuple[int, str]:
    process = start(archives, output, *more, limit=limit, **environment)
    _, errors = process.communicate(timeout=600)
    return process.returncode, errors


@pytest.fixture(scope="module")
def whole(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("whole") / "out"
    assert run(archives, output, "--workers", "2")[0] == 0
    return tree_digest(output)


def assert_clear(code: int, errors: str, *words: str) -> None:
    assert code == 2, errors
    assert "Traceback" not in errors
    told = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(told) == 1, errors
    assert all(word in told[0] for word in words), told[0]


def assert_goes_on(archives: Path, output: Path, whole: dict[str, bytes]) -> None:
    code, errors = run(archives, output, "--workers", "1")
    assert code == 0, errors
    assert tree_digest(output) == whole
    assert not list(output.rglob(".tmp-*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a disk of one's own needs root and mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_disk_full(archives: Path, whole: dict[str, bytes], small_disk: Path, workers: str) -> None:
    code, errors = run(archives, small_disk / "out", "--workers", workers)
    assert_clear(code, errors, "No space left on device", "it resumes")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert_goes_on(archives, small_disk / "out", whole)


@pytest.mark.slow
def test_file_too_large(archives: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    code, errors = run(archives, tmp_path / "out", "--workers", "1", limit=limit)
    assert_clear(code, errors, "File too large")
    assert_goes_on(archives, tmp_path / "out", whole)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only(archives: Path, whole: dict[str, bytes], small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    output = small_disk / "out"
    shutil.rmtree(output, ignore_errors=True)
    assert run(archives, output, "--workers", "1")[0] == 0
    shutil.rmtree(output / "corpus")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, errors = run(archives, output, "--workers", "1")
    assert_clear(code, errors, "cannot write to the output folder", "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert_goes_on(archives, output, whole)


@pytest.mark.slow
@pytest.mark.parametrize("handles", [20, 40, 70])
def test_out_of_file_handles(archives: Path, whole: dict[str, bytes], tmp_path: Path, handles: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (handles, handles))

    code, errors = run(archives, tmp_path / "out", "--workers", "2", limit=limit)
    if code:  # how many are needed depends on the machine: enough of them is no fault
        assert_clear(code, errors, "Too many open files")
    assert_goes_on(archives, tmp_path / "out", whole)


_JUMP = """
import itertools, time
_real, _calls = time.time, itertools.count()
# A year back and an hour on in turn, as when a machine's clock is set while it works.
time.time = lambda: _real() + (-31_536_000, 3_600)[next(_calls) % 2]
"""


@pytest.mark.slow
def test_a_clock_that_jumps(archives: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_JUMP)
    output = tmp_path / "out"
    process = start(archives, output, "--workers", "2", PYTHONPATH=f"{site}:{ROOT}")
    while not list(output.rglob("documents/dump=local/0*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    for number, path in enumerate(sorted(output.rglob("*"))):
        moment = time.time() + (-1) ** number * 10**8
        os.utime(path, (moment, moment))
    code, errors = run(archives, output, "--workers", "2", PYTHONPATH=f"{site}:{ROOT}")
    assert code == 0, errors
    assert tree_digest(output) == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "damage"),
    [
        ("documents", "cut"),
        ("documents", "flipped"),
        ("signals/heuristics", "emptied"),
        ("dedup/keys", "flipped"),
        ("runs/*/decisions", "cut"),
    ],
)
def test_a_corrupt_shard(archives: Path, whole: dict[str, bytes], tmp_path: Path, folder: str, damage: str) -> None:
    output = tmp_path / "out"
    assert run(archives, output, "--workers", "1")[0] == 0
    shard = sorted(output.glob(f"{folder}/dump=local/00002.*"))[0]
    data = bytearray(shard.read_bytes())
    if damage == "flipped":
        for at in range(len(data) // 3, len(data) // 3 + 64):
            data[at] ^= 0xFF
    shard.write_bytes({"cut": data[:-40], "flipped": data, "emptied": b""}[damage])
    # Other settings of what comes behind the damage, so that the shard is read again.
    code, errors = run(archives, output, "--workers", "1", "--set", "select.rules.more=text_bytes > 400")
    if code:
        assert_clear(code, errors, shard.name)
    shard.unlink()
    for stale in (output / "runs").iterdir():
        if len(list((output / "runs").iterdir())) > 1 and not (stale / "manifest.json").is_file():
            shutil.rmtree(stale)
    assert run(archives, output, "--workers", "1")[0] == 0
    name = next(iter(whole)).split("/")[1]
    mine = {path: data for path, data in tree_digest(output).items() if not path.startswith("runs/") or name in path}
    assert {path: data for path, data in mine.items() if path in whole} == whole


@pytest.mark.slow
def test_killed_and_two_at_once(archives: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = start(archives, output, "--workers", "2")
    while not list(output.rglob("documents/dump=local/0*.parquet")):
        assert first.poll() is None
        time.sleep(0.02)
    code, errors = run(archives, output)
    assert_clear(code, errors, "another run is writing to")
    first.kill()
    first.communicate()
    assert_goes_on(archives, output, whole)
