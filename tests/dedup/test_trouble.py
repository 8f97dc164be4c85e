"""Disk full, shards cut off or swapped, two runs on one folder, hard limits of memory: a clear error, nothing lost."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fineedu.dedup import stage, substrings, verify
from fineedu.dedup.run import dedup_store
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig
from fineedu.store import Store
from tests.archives import tree_digest
from tests.conftest import Cli
from tests.dedup.stores import documents, make_store, mixed_texts

EVERYTHING = DedupConfig.model_validate(
    {
        "by": ["minhash", "exact", "url"],
        "scope": "global",
        "verify": {"at_least": 0.6},
        "lines": {"documents": 2},
        "substrings": {"bytes": 50},
    }
)
PARTS = ("documents", "signals", "dedup/keys", "dedup/spans")
COMMAND = ["dedup", "--by", "minhash", "--by", "exact", "--by", "url", "--scope", "global"]
COMMAND += ["--verify", "0.6", "--lines", "2", "--substrings", "50", "--workers", "1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with everything made."""
    root = tmp_path_factory.mktemp("whole")
    make_store(root, documents(mixed_texts(80)), 20)
    dedup_store(root, EVERYTHING, workers=1)
    return root


def bare(whole: Path, root: Path) -> Path:
    shutil.copytree(whole / "documents", root / "documents", dirs_exist_ok=True)
    return root


def same(whole: Path, root: Path) -> bool:
    return all(tree_digest(root / part) == tree_digest(whole / part) for part in PARTS)


def said(stderr: str) -> str:
    """Leave out what the logging library tells, at length, of log files that it cannot write."""
    return re.sub("--- Logging error.*?--- End of logging error ---", "", " ".join(stderr.split()))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory; skipped where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "fineedu-test", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_with_room_the_run_goes_on(whole: Path, small_disk: Path, cli: Cli) -> None:
    bare(whole, small_disk)
    before = tree_digest(small_disk / "documents")
    used = sum(path.stat().st_size for path in (small_disk / "documents").rglob("*.parquet"))
    told = set()
    for room in (8, 60, 120, 200, 300, 2000):
        size = f"size={(used >> 10) + room}k"
        subprocess.run(["mount", "-o", f"remount,{size}", str(small_disk)], check=True)
        result = cli(*COMMAND, "-o", small_disk)
        assert tree_digest(small_disk / "documents") == before
        if result.returncode == 0:
            break
        message = said(result.stderr)
        assert "Traceback" not in message
        assert re.search(r"No space left|requested and \d+ written", message), message
        told.add(re.sub(r"\W.*", "", message.partition(str(small_disk))[2].lstrip("/")))
    assert result.returncode == 0, result.stderr
    assert told
    assert same(whole, small_disk)


@pytest.mark.parametrize(
    "where",
    ["dedup/keys/", "dedup/lines/", "dedup/substrings/", "signals/dedup/", "signals/substrings/", "report.json"],
)
def test_every_file_that_cannot_be_written_is_named(
    whole: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of the files of a kind meets a full disk; then there is room again."""
    bare(whole, tmp_path)
    replace, seen = Path.replace, []

    def full(self: Path, target: Path) -> Path:
        if where in str(target):
            seen.append(target)
            if len(seen) == (1 if where == "report.json" else 3):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(FineeduError, match=rf"cannot write .*{where}.*No space left on device.*resumes"):
            dedup_store(tmp_path, EVERYTHING, workers=1)
    assert not list(tmp_path.rglob(".tmp-*"))
    dedup_store(tmp_path, EVERYTHING, workers=1)
    assert same(whole, tmp_path)


@pytest.mark.parametrize(("module", "name"), [(verify, "_clustered"), (substrings, "_append")])
def test_scratch_files_on_a_full_disk(
    whole: Path, tmp_path: Path, module: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(whole, tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        with pytest.raises(FineeduError, match=r"cannot write (texts|contexts) to .*No space left.*run the same"):
            dedup_store(tmp_path, EVERYTHING, workers=1)
    dedup_store(tmp_path, EVERYTHING, workers=1)
    assert same(whole, tmp_path)
    assert not list((tmp_path / "dedup" / "work").glob("*"))


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv = ["fineedu", *sys.argv[2:]]
from fineedu.cli import main
main()
"""


def test_a_limit_of_file_size_is_told(whole: Path, tmp_path: Path) -> None:
    """A quota that works where nothing can be mounted."""
    bare(whole, tmp_path)
    command = [sys.executable, "-c", LIMITED, "4000", *COMMAND, "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode in (1, 2), done.stderr
    assert "File too large" in said(done.stderr)
    assert "Traceback" not in said(done.stderr)
    dedup_store(tmp_path, EVERYTHING, workers=1)
    assert same(whole, tmp_path)


@pytest.mark.parametrize("kind", ["documents/dump=D", "signals/dedup/dump=D", "signals/substrings/dump=D"])
@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_a_damaged_shard_is_told(whole: Path, tmp_path: Path, kind: str, harm: str) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    path = tmp_path / kind / "00001.parquet"
    raw = bytearray(path.read_bytes())
    if harm == "cut":
        del raw[-100:]
    else:
        raw[40] ^= 0xFF
    path.write_bytes(raw)
    if kind.startswith("documents"):  # what is read of it: all, for another policy's signals
        shutil.rmtree(tmp_path / "signals")
        shutil.rmtree(tmp_path / "dedup")
    if harm == "flip" and not kind.startswith("documents"):
        with pytest.raises(FineeduError, match="damaged"):
            list(stage.read_batches(path))
        return
    with pytest.raises(FineeduError, match=rf"{kind}/00001.parquet is damaged"):
        dedup_store(tmp_path, EVERYTHING, workers=1)


@pytest.mark.parametrize(
    "kind", ["signals/dedup/dump=D", "dedup/keys/dump=D", "dedup/substrings/dump=D", "dedup/lines/dump=D"]
)
def test_swapped_shards_are_told_or_made_anew(whole: Path, tmp_path: Path, kind: str) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    first, second = sorted((tmp_path / kind).glob("0000*"))[:2]
    first.rename(first.with_suffix(".aside"))
    second.rename(first)
    first.with_suffix(".aside").rename(second)
    try:
        dedup_store(tmp_path, EVERYTHING, workers=1)
    except FineeduError as error:
        assert re.search(r"0000[01]\.(parquet|keys) (does not belong to|holds the keys of)", str(error))
        assert kind.startswith("signals")
        for path in (first, second):
            path.unlink()
        dedup_store(tmp_path, EVERYTHING, workers=1)
    assert same(whole, tmp_path)


def test_swapped_files_of_a_shared_index_are_told(tmp_path: Path) -> None:
    frame = documents(mixed_texts(60), dump=["A"] * 40 + ["B"] * 20)
    config = DedupConfig(scope="global", index=str(tmp_path / "index"))
    for dump in "AB":
        make_store(tmp_path / dump, frame.filter(frame["dump"] == dump), 20)
    dedup_store(tmp_path / "A", config, workers=1)
    for suffix, said in ((".keys", "holds the keys of A/00001, not of A/00000"), (".kept.parquet", "does not belong")):
        folder = tmp_path / "index" / "keys" / "dump=A"
        first, second, aside = (folder / f"{name}{suffix}" for name in ("00000", "00001", "aside"))
        for _ in range(2):  # there, and back again
            first.rename(aside)
            second.rename(first)
            aside.rename(second)
            if said:
                with pytest.raises(FineeduError, match=said):
                    dedup_store(tmp_path / "B", config, workers=1)
            said = ""
    dedup_store(tmp_path / "B", config, workers=1)


def test_a_second_run_on_one_folder_is_refused(whole: Path, tmp_path: Path, cli: Cli) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    with Store(tmp_path).lock():
        result = cli(*COMMAND, "-o", tmp_path)
    assert result.returncode == 2
    assert "another run is writing to" in result.stderr
    assert same(whole, tmp_path)


def test_memory_that_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fineedu import cli

    def refused() -> None:
        raise MemoryError("realloc of size 112640 failed")

    monkeypatch.setattr(cli, "app", refused)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(
        "error: out of memory (realloc of size 112640 failed). Allow the run more"
    )
