"""Every hostile archive goes through the whole of extraction: it ends well, and keeps what a perfect reader keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from fineedu.extract.documents import DocumentReader
from fineedu.job import Source
from fineedu.recipe import ExtractConfig
from tests.warc_fixtures import EXPECTED, HOSTILE, big_page

CONFIG = ExtractConfig(page_cpu_seconds=20, page_mb=4)
#: These leave statuses to the recipe: every response with text is a document.
STATUSES_KEPT = {"error_statuses"}


def read(path: Path) -> tuple[int, DocumentReader]:
    reader = DocumentReader(Source(f"file://{path}", path.stat().st_size), "test", CONFIG)
    return sum(batch.height for batch in reader), reader


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_archive(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.warc.gz"
    path.write_bytes(HOSTILE[name]())
    documents, reader = read(path)
    expected = EXPECTED[name]
    assert documents >= expected.least, (documents, expected, reader.dropped)
    if name not in STATUSES_KEPT:
        assert documents <= expected.most, (documents, expected, reader.dropped)
    assert documents + reader.dropped.total() + reader.records.total() > 0


@pytest.mark.slow
def test_a_page_of_100_megabytes_is_cut_and_read(tmp_path: Path) -> None:
    path = tmp_path / "big.warc.gz"
    path.write_bytes(big_page(100))
    documents, reader = read(path)
    assert documents + reader.dropped.total() >= 1
