"""Shared fixtures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.archives import html_page, numbered_pages, response, write_warc

# Examples are the same in every run; the first one of a process pays for compiled kernels and loaded models.
hypothesis.settings.register_profile("fineedu", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fineedu")

# A run on Ray must not join the cluster that another test, in another process, is taking apart at this moment.
os.environ["RAY_ADDRESS"] = "local"

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pages and labels; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FINEEDU_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set FINEEDU_DATA)")
    return folder


@pytest.fixture(scope="session")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small archives: 60 English pages, one in German, one empty, one image."""
    folder = tmp_path_factory.mktemp("crawl")
    german = "Die Pflanze nutzt das Licht der Sonne, um aus Wasser und Kohlendioxid Zucker herzustellen. " * 4
    extra = [
        response(html_page(german), "http://schule.example/blatt"),
        response(b"", "http://school.example/nothing"),
        response(b"\xff\xd8", "http://school.example/leaf.jpg", headers="Content-Type: image/jpeg"),
    ]
    for n in range(3):
        records = numbered_pages(20, f"host{n}.example") + (extra if n == 1 else [])
        write_warc(folder / f"part-{n}.warc.gz", records)
    return folder


_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
_FLAGS += ["--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; tests that need one skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("FINEEDU_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("no chromium on PATH (set FINEEDU_CHROMIUM)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run the command as a user does, in a process of its own."""

    def call(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fineedu", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240, **options)  # type: ignore[call-overload, no-any-return]

    return call
