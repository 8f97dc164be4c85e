from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fineedu.errors import FineeduError
from fineedu.pool import open_pool
from fineedu.select.mix import mix

FRAME = pl.DataFrame(
    {
        "id": list("abcdef"),
        "topic": ["x", "x", "y", None, "y", "x"],
        "score": [0.2, 2.9, 2.1, 1.0, float("nan"), -0.5],
        "text_bytes": [10, 20, 30, 40, 50, 60],
        "repeat": [1, 2, 0, 1, 1, 1],
    }
)


def test_counts_weight_times_repeats(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "p.parquet")
    found = mix(open_pool(tmp_path / "p.parquet"), "topic", "score")
    assert found.table().rows() == [
        ("x", 110 / 200, 60, 10, 0, 40, 0),
        ("y", 50 / 200, 0, 0, 0, 0, 50),
        ("(missing)", 40 / 200, 0, 0, 40, 0, 0),
    ]
    assert found.table().columns == ["row", "share", "-1", "0", "1", "2", "(missing)"]
    assert mix(open_pool(tmp_path / "p.parquet"), "topic", "score", "documents").total == 6


def test_command_line(tmp_path: Path, cli) -> None:
    FRAME.drop("repeat").write_parquet(tmp_path / "p.parquet")
    done = cli("mix", "p.parquet", "--columns", "score", "--out", "mix.csv")
    assert done.returncode == 0, done.stderr
    assert "bytes by topic and score" in done.stdout and "210 bytes (text_bytes) in 6 documents" in done.stdout
    assert pl.read_csv(tmp_path / "mix.csv")["weight"].sum() == 210
    assert "weigh by bytes instead" in cli("mix", "p.parquet", "--columns", "score", "--weight", "tokens").stderr
    many = pl.DataFrame({"topic": ["x"] * 99, "score": np.arange(99.0)})
    many.write_parquet(tmp_path / "m.parquet")
    with pytest.raises(FineeduError, match="name a bucket or a level"):
        mix(open_pool(tmp_path / "m.parquet"), "topic", "score")
