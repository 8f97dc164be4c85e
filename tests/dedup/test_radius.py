"""What deduplication would take from each host, counted without keeping every batch's counts."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fineedu.dedup import radius
from fineedu.dedup.run import dedup_store
from fineedu.recipe import DedupConfig
from tests.dedup.stores import documents, make_store, mixed_texts


def test_counts_do_not_depend_on_when_they_are_summed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, documents(mixed_texts(120)), 12)
    config = DedupConfig(by=["exact", "minhash"], host_documents=1)
    found = dedup_store(tmp_path, config, workers=1)
    assert found.removed and len(found.hosts) > 1
    for rows, tables in ((1, 1000), (10**6, 1)):
        monkeypatch.setattr(radius, "_PENDING", rows)
        monkeypatch.setattr(radius, "_TABLES", tables)
        assert dedup_store(tmp_path, config, workers=1).as_json() == found.as_json()


def test_tables_are_summed_up_however_small_they_are() -> None:
    """A dump's name in every batch: 10,000 tables of one row were held, and their rows added up for each."""
    hosts = radius._Hosts()
    for _ in range(2500):
        hosts.add(pl.Series(["one", "one"]), pl.Series([True, False]))
    assert len(hosts._pending) <= radius._TABLES
    assert hosts.total().rows() == [("one", 5000, 2500)]
