"""The limit of memory holds, and a killed run goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fineedu.dedup.keys import KeyColumn, write_key_file
from fineedu.dedup.run import dedup_store
from fineedu.recipe import DedupConfig
from tests.archives import tree_digest
from tests.dedup.stores import documents, make_store, mixed_texts

ROOT = Path(__file__).resolve().parent.parent.parent

CLUSTER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from benchmarks.dedup import cluster
folder, documents, limit = Path(sys.argv[1]), *map(int, sys.argv[2:])
cluster(folder, documents, limit)
"""

#: The same, but writable memory may not grow by more than the setting leaves: touched or not, the kernel refuses it.
NO_MORE_THAN_PLANNED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from benchmarks.dedup import cluster
from fineedu.dedup.memory import Memory
folder, documents, limit, asked = Path(sys.argv[1]), *map(int, sys.argv[2:])
left = limit * 1_000_000 - (Memory(limit) and Memory.used())
data = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (data + left, data + left))
cluster(folder, documents, asked)
"""

LINES = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from fineedu.dedup.lines import frequent_lines
from fineedu.dedup.memory import Memory
from fineedu.recipe import DedupConfig
from fineedu.store import Shard, Store
folder, files, limit = Path(sys.argv[1]), *map(int, sys.argv[2:])
config = DedupConfig(lines={{"documents": 2}}, memory_mb=limit)
found = frequent_lines(Store(folder), [Shard("D", n) for n in range(files)], config, Memory(limit))
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
print(peak, len(found), found.sum())
"""


WHOLE = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from fineedu.dedup.run import dedup_store
from fineedu.recipe import DedupConfig
if __name__ == "__main__":
    folder, limit, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    more = dict(verify={{"at_least": 0.8}}, lines={{"documents": 6}}, substrings={{"bytes": 100}})
    dedup_store(folder, DedupConfig(memory_mb=limit, **more), workers=workers)
    print(int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)
"""


def control_group(limit_mb: int) -> Path:
    """Make a control group whose processes the kernel kills beyond so many megabytes; skip where none can be made."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent, *limits = (
        (first, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        if first.is_dir()
        else (second, "memory.max", "memory.swap.max")
    )
    group = parent / f"fineedu-test-{os.getpid()}-{limit_mb}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of memory can be made here: {error}")
    try:
        (group / limits[0]).write_text(str(limit_mb * 1_000_000))
        if (group / limits[1]).exists():  # no way out into swap
            (group / limits[1]).write_text("0" if parent == second else str(limit_mb * 1_000_000))
    except OSError as error:
        group.rmdir()
        pytest.skip(f"no control group of memory can be made here: {error}")
    if hungry(group, 2 * limit_mb).returncode != -signal.SIGKILL:  # some sandboxes take the number and do not hold it
        group.rmdir()
        pytest.skip("control groups of memory are not enforced here")
    return group


def within(group: Path, command: list[str]) -> list[str]:
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command]


def hungry(group: Path, megabytes: int) -> subprocess.CompletedProcess[bytes]:
    """Run a process of the group that writes to so many megabytes of memory."""
    code = f"block = bytearray(b'x') * ({megabytes} * 1_000_000); print(len(block))"
    return subprocess.run(within(group, [sys.executable, "-c", code]), capture_output=True, timeout=60)


def ran(code: str, *arguments: object, group: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code.format(root=str(ROOT)), *map(str, arguments)]
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    if group is not None:
        command = within(group, command)
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, env=environment)


def least_limit(folder: Path, documents: int) -> int:
    """Return what the refusal of too low a limit asks for."""
    done = ran(CLUSTER, folder, documents, 100)
    assert done.returncode == 1
    told = re.search(rf"memory_mb 100 is too little for {documents:,} documents: it takes ([\d,]+),", done.stderr)
    assert told, done.stderr[-500:]
    return int(told[1].replace(",", ""))


def forget(folder: Path) -> None:
    for path in (folder / "signals").rglob("*.parquet"):
        path.unlink()


def make_documents(folder: Path, count: int) -> None:
    from benchmarks.dedup import SHARD, make_shard, shards_of
    from fineedu.store import Store

    for shard in shards_of(count):
        make_shard(Store(folder), shard, shard.index * SHARD, SHARD)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_limit_holds_and_changes_nothing(tmp_path: Path) -> None:
    """With no more than the refusal asks for, what ``top`` shows stays below it, and not a byte differs."""
    count = 1_200_000
    make_documents(tmp_path, count)
    outcomes = []
    for limit in (4000, least_limit(tmp_path, count)):
        done = ran(CLUSTER, tmp_path, count, limit)
        assert done.returncode == 0, done.stderr[-2000:]
        seconds, peak, *counts = json.loads(done.stdout.splitlines()[-1])
        print(f"limit {limit} MB: {seconds:.1f} s, peak {peak:.0f} MB, {counts}")
        assert peak < limit
        outcomes.append((counts, tree_digest(tmp_path / "signals")))
        forget(tmp_path)
    assert outcomes[0] == outcomes[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_whole_run_with_its_report_keeps_to_what_the_refusal_asks_for(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("pydivsufsort", reason="pip install 'fineedu[substrings]'")
    make_store(tmp_path, documents(mixed_texts(1500)), 500)
    refused = ran(WHOLE, tmp_path, 100, workers)
    told = re.search(r"memory_mb 100 is too little for a run with its report: it takes (\d+)\n", refused.stderr)
    assert told, refused.stderr[-500:]
    assert not (tmp_path / "dedup" / "keys").exists()  # told before anything is signed
    done = ran(WHOLE, tmp_path, told[1], workers)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.splitlines()[-1]) < float(told[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA and /proc are Linux's")
def test_no_byte_is_asked_for_beyond_the_limit(tmp_path: Path) -> None:
    count = 3_000_000
    make_documents(tmp_path, count)
    limit = least_limit(tmp_path, count)
    done = ran(NO_MORE_THAN_PLANNED, tmp_path, count, limit, limit)
    assert done.returncode == 0, done.stderr[-2000:]
    forget(tmp_path)
    # The kernel does refuse: the same work without our limit asks for more.
    done = ran(NO_MORE_THAN_PLANNED, tmp_path, count, limit - 60, 4000)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_the_kernel_has_nothing_to_kill_at_the_limit(tmp_path: Path) -> None:
    """A process that takes more than its group may is killed: with ``memory_mb`` as the group's limit it never is."""
    count = 800_000
    make_documents(tmp_path, count)
    limit = least_limit(tmp_path, count)
    group = control_group(limit)
    try:
        done = ran(CLUSTER, tmp_path, count, limit, group=group)
    finally:
        group.rmdir()
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_what_is_killed_without_the_limit_runs_with_it(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    files, count = 4, 7_000_000
    for number in range(files):
        keys = np.sort(draw.integers(0, 1 << 63, count, dtype=np.uint64))
        keys[::2000] = np.sort(draw.integers(0, 50, count // 2000, dtype=np.uint64) << np.uint64(57))  # lines of many
        path = tmp_path / "dedup" / "lines" / "dump=D" / f"{number:05d}.keys"
        columns = {"line": KeyColumn(np.sort(keys), np.zeros(count, np.uint32))}
        write_key_file(
            path, columns, {"id_hash": np.zeros(1, np.uint64)}, {"fingerprint": "x", "shard": f"D/{number:05d}"}
        )
    group = control_group(380)
    try:
        killed = ran(LINES, tmp_path, files, 4000, group=group)
        done = ran(LINES, tmp_path, files, 380, group=group)
    finally:
        group.rmdir()
    free = ran(LINES, tmp_path, files, 4000)
    assert killed.returncode == -signal.SIGKILL
    assert done.returncode == 0, done.stderr[-2000:]
    assert free.returncode == 0, free.stderr[-2000:]
    assert float(done.stdout.split()[0]) < 380 < float(free.stdout.split()[0])
    assert done.stdout.split()[1:] == free.stdout.split()[1:]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    frame = documents(mixed_texts(400))
    make_store(tmp_path / "whole", frame, 20)
    dedup_store(tmp_path / "whole", DedupConfig(), workers=1)
    make_store(tmp_path / "killed", frame, 20)
    command = [sys.executable, "-m", "fineedu", "dedup", "-o", str(tmp_path / "killed"), "--workers", "1"]
    for seconds in (1.5, 2.0, 2.5, 3.0, 4.0):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert done.returncode == 0, done.stderr
    for part in ("signals", "dedup/keys"):
        assert tree_digest(tmp_path / "killed" / part) == tree_digest(tmp_path / "whole" / part)
    table = pl.read_parquet(tmp_path / "killed" / "signals" / "dedup" / "**" / "*.parquet")
    assert table.height == 400
