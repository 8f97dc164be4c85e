"""A store on S3, by a server that speaks its protocol and by one that has a bad day."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.archives import tree_digest
from tests.conftest import ROOT
from tests.remote.server import Troubles, environment, moto, troubled

pytest.importorskip("s3fs", reason="pip install 'fineedu[s3]'")
SETTINGS = ["--set", "dedup={by: [exact]}", "--set", "write.format=parquet"]
# Kernels are compiled once on a fresh machine, which a busy one takes minutes for.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with moto() as port:
        yield port


def s3(port: int, script: str, *arguments: str) -> str:
    """Run a few lines that use a client ``s3`` of boto3; its threads and warnings stay out of the tests' process."""
    client = "import boto3, json, sys; s3 = boto3.client('s3')\n"
    done = subprocess.run(
        [sys.executable, "-c", client + script, *arguments],
        env=os.environ | environment(port),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def start(source: Path, output: str, work: Path, port: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fineedu", "run", "minimal", "-i", str(source), "-o", output, *SETTINGS, *more]
    told = {**os.environ, **environment(port), "PYTHONPATH": str(ROOT), "FINEEDU_WORK": str(work)}
    return subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(run: subprocess.Popen[str]) -> str:
    _, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors
    return errors


def objects(port: int, bucket: str, folder: Path) -> dict[str, bytes]:
    """Return what a bucket holds, as :func:`tree_digest` tells of a folder."""
    script = """
from pathlib import Path
for page in s3.get_paginator('list_objects_v2').paginate(Bucket=sys.argv[1]):
    for found in page.get('Contents', []):
        path = Path(sys.argv[2]) / found['Key']
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(sys.argv[1], found['Key'], str(path))
"""
    s3(port, script, bucket, str(folder))
    return tree_digest(folder / "store")


@pytest.fixture
def bucket(server: int, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-")[:60].strip("-")
    s3(server, "s3.create_bucket(Bucket=sys.argv[1])", name)
    return str(name)


@pytest.fixture(scope="module")
def local(crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("local")
    finish(start(crawl, str(folder / "out"), folder, 1))
    return tree_digest(folder / "out")


def test_the_same_objects_as_files(
    server: int, bucket: str, crawl: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    url = f"s3://{bucket}/store"
    finish(start(crawl, url, tmp_path / "work", server, "--workers", "2"))
    assert objects(server, bucket, tmp_path / "got") == local
    shutil.rmtree(tmp_path / "work")  # another machine: it brings what is there, and has nothing to do
    finish(start(crawl, url, tmp_path / "work", server))
    (work,) = (tmp_path / "work").iterdir()
    rows = [json.loads(line) for path in work.rglob("metrics/*.jsonl") for line in path.read_text().splitlines()]
    assert "extract" not in {row["stage"] for row in rows}
    assert tree_digest(work) == local


@pytest.mark.slow
def test_a_bad_day(server: int, bucket: str, crawl: Path, local: dict[str, bytes], tmp_path: Path) -> None:
    troubles = Troubles(slow_down=0.25, cut=0.2, listing_delay=3600)
    with troubled(server, troubles) as port:
        url = f"s3://{bucket}/store"
        finish(start(crawl, url, tmp_path / "work", port, "--workers", "2"))
        shutil.rmtree(tmp_path / "work")
        finish(start(crawl, url, tmp_path / "again", port, "--workers", "2"))
        troubles.listing_delay, troubles.cut = 0, 0.5
        finish(start(crawl, url, tmp_path / "third", port, "--workers", "2"))
    assert objects(server, bucket, tmp_path / "got") == local
    assert all(count > 0 for count in troubles.made.values()), troubles.made


@pytest.mark.slow
def test_leftovers_of_multipart_uploads_go(server: int, bucket: str, crawl: Path, tmp_path: Path) -> None:
    begin = "s3.create_multipart_upload(Bucket=sys.argv[1], Key=sys.argv[2])"
    for key in ("store/documents/dump=local/00000.parquet", "elsewhere/mine"):
        s3(server, begin, bucket, key)
    finish(start(crawl, f"s3://{bucket}/store", tmp_path, server))
    listing = "print(json.dumps([u['Key'] for u in s3.list_multipart_uploads(Bucket=sys.argv[1]).get('Uploads', [])]))"
    assert json.loads(s3(server, listing, bucket)) == ["elsewhere/mine"]


Check = Callable[[], Any]


def until(done: Check, run: subprocess.Popen[str]) -> None:
    while not done():
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_and_gone_on_with_from_another_machine(
    server: int, bucket: str, crawl: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    url = f"s3://{bucket}/store"
    run = start(crawl, url, tmp_path / "one", server, "--workers", "1")
    until(lambda: list((tmp_path / "one").rglob("documents/dump=local/0*.parquet")), run)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    finish(start(crawl, url, tmp_path / "two", server))
    assert objects(server, bucket, tmp_path / "got") == local


@pytest.mark.slow
def test_two_runs_on_one_output(server: int, bucket: str, crawl: Path, tmp_path: Path) -> None:
    url = f"s3://{bucket}/store"
    first = start(crawl, url, tmp_path / "one", server, "--workers", "1")
    until(lambda: list((tmp_path / "one").rglob("state.json")), first)
    second = start(crawl, url, tmp_path / "two", server)
    _, errors = second.communicate(timeout=300)
    assert second.returncode == 2
    assert "another run is writing to s3://" in errors and "Traceback" not in errors
    finish(first)
    assert b".lock" not in " ".join(objects(server, bucket, tmp_path / "got")).encode()


@pytest.mark.slow
def test_no_such_bucket_and_no_server(server: int, crawl: Path, tmp_path: Path) -> None:
    run = start(crawl, "s3://there-is-none/store", tmp_path, server)
    _, errors = run.communicate(timeout=600)
    assert run.returncode == 2
    assert "there-is-none" in errors and "Traceback" not in errors
    assert len([line for line in errors.splitlines() if line.startswith("error:")]) == 1
