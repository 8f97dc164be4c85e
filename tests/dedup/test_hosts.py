from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fineedu.dedup import hosts as module
from fineedu.dedup.hosts import HostCounts, named


@pytest.mark.parametrize("pending", [10, 500_000])
def test_counts_are_those_of_plain_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pending: int) -> None:
    monkeypatch.setattr(module, "_PENDING", pending)
    draw = np.random.default_rng(4)
    names = [f"h{n}.example" if n else None for n in np.minimum(draw.geometric(0.01, 4000), 300) % 250]
    keep = draw.random(4000) < 0.7
    counts = HostCounts()
    for start in range(0, 4000, 97):
        counts.add(
            pl.Series(names[start : start + 97], dtype=pl.String), pl.Series(keep[start : start + 97], dtype=pl.Boolean)
        )
    documents, removed = Counter(names), Counter(name for name, stays in zip(names, keep, strict=True) if not stays)
    assert counts.sums == (4000, sum(removed.values()))
    path = tmp_path / "x.parquet"
    pl.DataFrame({"host": names}, schema={"host": pl.String}).write_parquet(path, row_group_size=500)
    most, worst = named([counts.first("removed", 1, 12), counts.first("share", 20, 12)], [path])
    for table, value, chosen in (
        (most, lambda name: removed[name], list(removed)),
        (worst, lambda name: removed[name] / documents[name], [n for n in removed if documents[n] >= 20]),
    ):
        assert table.select("documents", "removed").rows() == [(documents[n], removed[n]) for n in table["host"]]
        assert [value(n) for n in table["host"]] == sorted(map(value, chosen), reverse=True)[:12]


def test_no_documents_at_all() -> None:
    counts = HostCounts()
    assert counts.sums == (0, 0)
    assert not len(counts.first("removed", 1, 100))
