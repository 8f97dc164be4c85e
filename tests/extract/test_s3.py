"""Archives on S3: a real server that speaks its protocol, on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import Cli


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment with which fsspec finds the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        yield keys | {"AWS_ENDPOINT_URL": address}
        server.terminate()


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
