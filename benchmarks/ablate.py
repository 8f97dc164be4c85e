"""A thousand cells over generated signals: python benchmarks/ablate.py --rows 1 10 30 (millions).

Writes signals (without text) as parquet, shards of a million rows, then evaluates 1,000 cells (thresholds on three
columns, a filter on and off) with all that an ablation tells: sizes, overlap of every two cells, shifts by five
properties with a million hosts, copies, proxy rate, 600 labels, samples and the page's binned counts. Told are seconds,
CPU time, and the peak memory of the measuring process (``ru_maxrss``). Figures are of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fineedu.ablate.config import AblationConfig
from fineedu.ablate.lab import plan_ablation, run_ablation

SHARD = 1_000_000
GRID = {
    "edu": [round(1 + 0.2 * n, 2) for n in range(20)],
    "quality": [round(0.1 * n, 2) for n in range(5)],
    "sure": [0.5, 0.65, 0.8, 0.9, 0.95],
    "url": {"blocked out": {"select.rules.url": "NOT url_blocked"}, "any url": {"select.rules.url": None}},
}
SHARES = {"share": [round(0.001 * n, 3) for n in range(1, 1001)]}
BASE = """
name: base
select:
  rules:
    language: language = 'en' AND language_score >= 0.3
"""


def write_shard(folder: Path, number: int, rows: int) -> None:
    """Write one shard: scores, Zipf hosts (a million names), 24 topics and formats, copies, log-normal sizes."""
    rng = np.random.default_rng(number)
    words = rng.integers(0, 2**64, (rows, 2), dtype=np.uint64)
    ids = pl.select(pl.Series(words[:, 0]).cast(pl.String) + "-" + pl.Series(words[:, 1]).cast(pl.String)).to_series()
    host = np.minimum(rng.pareto(0.6, rows) * 3, 1e6).astype(np.uint32)
    size = rng.lognormal(7.5, 1, rows)
    copied = rng.integers(0, rows // 2, rows) + number * rows
    frame = pl.DataFrame(
        {
            "id": ids,
            "host": pl.select(pl.lit("host") + pl.Series(host).cast(pl.String) + ".example").to_series(),
            "language": np.array(["en", "de", "fr", "ja"])[rng.choice(4, rows, p=[0.45, 0.25, 0.2, 0.1])],
            "language_score": rng.beta(9, 1, rows).astype(np.float32),
            "text_bytes": size.astype(np.uint32),
            "n_words": (size / 6).astype(np.uint32),
            "proxy_total": rng.poisson(0.02, rows).astype(np.uint32),
            "edu_score": np.clip(rng.normal(1.3, 0.9, rows), 0, 5).astype(np.float32),
            "quality": rng.beta(2, 5, rows).astype(np.float32),
            "url_blocked": rng.random(rows) < 0.05,
            "topic": np.array([f"t{k}" for k in range(24)])[rng.choice(24, rows)],
            "format": np.array([f"f{k}" for k in range(24)])[rng.choice(24, rows)],
            "exact_key": pl.Series(np.where(rng.random(rows) < 0.2, copied, words[:, 0] >> np.uint64(1))).cast(
                pl.String
            ),
        }
    )
    frame.write_parquet(folder / f"{number:05d}.parquet", compression="zstd", row_group_size=2**17)


def make_config(folder: Path, shares: bool) -> AblationConfig:
    base = folder.parent / "base.yaml"
    base.write_text(BASE)
    settings: dict[str, Any] = {
        "select.rules.edu": "edu_score >= {edu} AND quality >= {quality}",
        "select.rules.sure": "language_score >= {sure}",
    }
    if shares:
        settings = {"select.by": "edu_score", "select.top": {"share": "{share}"}}
    first = pl.read_parquet(folder / "00000.parquet", n_rows=600, columns=["id", "edu_score"])
    noise = np.random.default_rng(0).normal(0, 0.5, first.height)
    labels = folder.parent / "labels.jsonl"
    scored = first.select("id", score=(pl.col("edu_score") + noise).round().clip(0, 5).cast(pl.Int64))
    scored.with_columns(annotator=pl.lit("generated")).write_ndjson(labels)
    return AblationConfig(
        name="benchmark",
        base=str(base),
        set=settings,
        grid=SHARES if shares else GRID,
        labels={"files": [labels]},
    )


def measure(folder: Path, shares: bool) -> dict[str, float]:
    config = make_config(folder, shares)
    started = time.monotonic()
    lab = plan_ablation(config, folder, output=folder.parent / "out")
    planned = time.monotonic() - started
    found = run_ablation(lab)
    seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "rows": float(found.pool_totals[0]),
        "cells": len(found.cells),
        "seconds": seconds,
        "planned": planned,
        "cpu": usage.ru_utime + usage.ru_stime,
        "gb": usage.ru_maxrss / 1e6,
        "query": measure_queries(folder),
    }


def measure_queries(folder: Path, cells: int = 5) -> float:
    """Return the seconds of a Polars query a cell that counts its documents and bytes, and nothing else."""
    started = time.monotonic()
    for n in range(cells):
        rule = f"language = 'en' AND edu_score >= {1 + 0.2 * n} AND quality >= 0.1 AND language_score >= 0.65"
        chosen = pl.scan_parquet(folder / "*.parquet").filter(pl.sql_expr(rule))
        chosen.select(pl.len(), pl.col("text_bytes").sum()).collect(engine="streaming")
    return (time.monotonic() - started) / cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, nargs="+", default=[1, 10], help="millions")
    parser.add_argument("--shares", action="store_true", help="1,000 top shares of one score in place of the grid")
    parser.add_argument("--folder", type=Path, help="where rows are generated; kept and used again")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.shares)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        base = options.folder or Path(temporary)
        for millions in options.rows:
            folder = base / f"{millions:g}" / "rows"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(max(round(millions), 1)):
                if not (folder / f"{number:05d}.parquet").exists():
                    write_shard(folder, number, int(min(millions, 1) * SHARD))
            command = [sys.executable, __file__, "--one", str(folder), *(["--shares"] if options.shares else [])]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
            found = json.loads(done.stdout)
            print(
                f"{millions:g} million rows, {found['cells']:,} cells: {found['seconds']:.1f} s "
                f"({found['planned']:.1f} s of them to resolve the grid; {found['cpu']:.1f} s of CPU time, "
                f"Python's start included), {found['gb']:.2f} GB at most; a Polars query that only counts one cell: "
                f"{found['query']:.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
