"""Archives on S3: a real server that speaks its protocol, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import Cli
from tests.remote.server import environment, moto


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment with which fsspec finds the server."""
    with moto() as port:
        yield environment(port)


def upload(environment: dict[str, str], folder: Path) -> None:
    script = """
import sys, s3fs
from pathlib import Path
store = s3fs.S3FileSystem()
store.mkdir("crawl")
for path in Path(sys.argv[1]).iterdir():
    store.put_file(str(path), f"crawl/2024/{path.name}")
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], env=os.environ | environment, check=True)


def test_s3_gives_the_documents_of_the_same_files_on_disk(
    cli: Cli, crawl: Path, s3: dict[str, str], tmp_path: Path
) -> None:
    upload(s3, crawl)
    environment = os.environ | s3
    for name, source in (("disk", str(crawl)), ("s3", "s3://crawl/2024/*.warc.gz")):
        done = cli("run", "minimal", "-i", source, "-o", tmp_path / name, "--progress", "json", env=environment)
        assert done.returncode == 0, done.stderr
    here, there = (
        pl.read_parquet(sorted((tmp_path / name / "documents").rglob("*.parquet"))).sort("id")
        for name in ("disk", "s3")
    )
    assert here.height > 50
    assert here.select("id", "url", "text", "language").equals(there.select("id", "url", "text", "language"))


def test_what_is_not_there_is_one_clear_error(cli: Cli, s3: dict[str, str], tmp_path: Path) -> None:
    done = cli("run", "minimal", "-i", "s3://nowhere/x.warc.gz", "-o", tmp_path / "o", env=os.environ | s3)
    assert done.returncode == 2 and "s3://nowhere/x.warc.gz" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()
