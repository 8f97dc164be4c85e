"""The limit of memory holds, and a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

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


def clustered(folder: Path, count: int, limit_mb: int, group: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        CLUSTER.format(root=str(ROOT)),
        str(folder),
        str(count),
        str(limit_mb),
    ]
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    if group is not None:
        command = within(group, command)
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_limit_holds_and_changes_nothing(tmp_path: Path) -> None:
    from benchmarks.dedup import SHARD, make_shard, shards_of
    from fineedu.store import Store

    count = 1_200_000
    for shard in shards_of(count):
        make_shard(Store(tmp_path), shard, shard.index * SHARD, SHARD)
    outcomes = []
    for limit in (4000, 350):
        done = clustered(tmp_path, count, limit)
        assert done.returncode == 0, done.stderr[-2000:]
        seconds, peak, *counts = json.loads(done.stdout.splitlines()[-1])
        print(f"limit {limit} MB: {seconds:.1f} s, peak {peak:.0f} MB, {counts}")
        assert peak < limit
        outcomes.append((counts, tree_digest(tmp_path / "signals")))
        for path in (tmp_path / "signals").rglob("*.parquet"):
            path.unlink()
    assert outcomes[0] == outcomes[1]
    done = clustered(tmp_path, count, 100)
    assert done.returncode == 1
    assert "memory_mb 100 is too little for 1,200,000 documents: it takes " in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_the_kernel_has_nothing_to_kill_at_the_limit(tmp_path: Path) -> None:
    """A process that takes more than its group may is killed: with ``memory_mb`` as the group's limit it never is."""
    from benchmarks.dedup import SHARD, make_shard, shards_of
    from fineedu.store import Store

    count = 800_000
    for shard in shards_of(count):
        make_shard(Store(tmp_path), shard, shard.index * SHARD, SHARD)
    groups = [control_group(320)]
    try:
        groups.append(control_group(110))
        done = clustered(tmp_path, count, 320, groups[0])
        assert done.returncode == 0, done.stderr[-2000:]
        for path in (tmp_path / "signals").rglob("*.parquet"):
            path.unlink()
        # The group does bite: a third of it is too little for the same work.
        assert clustered(tmp_path, count, 320, groups[1]).returncode == -signal.SIGKILL
    finally:
        for group in groups:
            group.rmdir()


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
