"""Selection over generated signals: python benchmarks/selection.py --rows 1 10 100 (millions).

Writes documents and signals columns (without text) as parquet, shards of a million rows, then measures finding the cuts
and judging every document, with the reading of the files: seconds, CPU time (which a shared machine's other load moves
less), and the peak memory of its own process (``ru_maxrss``). The heaviest recipe takes a pass for the cap, one for
the other thresholds, and one to judge. Figures are of this machine.
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

import numpy as np
import polars as pl

from fineedu.pool import open_pool
from fineedu.recipe import SelectConfig
from fineedu.select.choose import Selector

SHARD = 1_000_000
RECIPES: dict[str, dict[str, object]] = {
    "rules only": {"rules": {"language": "language = 'en' AND language_score >= 0.65", "edu": "edu_score > 2.5"}},
    "budget by score": {"by": "edu_score", "budget": 0.1},
    "top 10 % per topic": {"by": "edu_score", "top": {"share": 0.1, "per": ["topic"]}},
    "top 10 % per host": {"by": "edu_score", "top": {"share": 0.1, "per": ["host"]}},
    "sampled by score to a budget": {"by": "edu_score", "sample": {"temperature": 0.5}, "budget": 0.1},
    "upsampling curve": {"upsample": {"column": "bucket", "repeats": [0] * 8 + [0.5] * 4 + [1] * 6 + [3, 7]}},
    "curve fitted to the pool": {"upsample": {"column": "bucket", "curve": {"drop": 0.4, "highest": 7, "mean": 1}}},
    "mixture of topics and formats": {
        "mixture": {
            "targets": {"topic": {"t1": 0.3, "t2": 0.3, "*": 0.4}, "format": {"f0": 0.5, "*": 0.5}},
            "max_repeat": 2,
        }
    },
    "all at once": {
        "rules": {"language": "language = 'en' AND language_score >= 0.65"},
        "by": "edu_score",
        "cap": {"per": "host", "documents": 1000},
        "top": {"share": 0.5, "per": ["topic"]},
        "mixture": {"targets": {"topic": {"t1": 0.3, "t2": 0.3, "*": 0.4}}},
        "budget": 0.02,
    },
}


def write_shard(folder: Path, number: int, rows: int) -> None:
    """Write one shard: scores with a tie at 0, Zipf hosts (a million names), 24 topics, log-normal sizes."""
    rng = np.random.default_rng(number)
    words = rng.integers(0, 2**64, (rows, 2), dtype=np.uint64)
    ids = pl.select(pl.Series(words[:, 0]).cast(pl.String) + "-" + pl.Series(words[:, 1]).cast(pl.String)).to_series()
    host = np.minimum(rng.pareto(0.6, rows) * 3, 1e6).astype(np.uint32)
    frame = pl.DataFrame(
        {
            "id": ids,
            "host": pl.select(pl.lit("host") + pl.Series(host).cast(pl.String) + ".example").to_series(),
            "language": np.array(["en", "de", "fr", "ja"])[rng.choice(4, rows, p=[0.45, 0.25, 0.2, 0.1])],
            "language_score": rng.beta(9, 1, rows).astype(np.float32),
            "text_bytes": rng.lognormal(7.5, 1, rows).astype(np.uint32),
            "edu_score": np.clip(rng.normal(1.3, 0.9, rows), 0, 5).astype(np.float32),
            "bucket": rng.integers(0, 20, rows).astype(np.uint8),
            "topic": np.array([f"t{k}" for k in range(24)])[rng.choice(24, rows)],
            "format": np.array([f"f{k}" for k in range(24)])[rng.choice(24, rows)],
        }
    )
    frame.write_parquet(folder / f"{number:05d}.parquet", compression="zstd", row_group_size=2**17)


def measure(folder: Path, name: str) -> dict[str, float]:
    """Select with one recipe; budgets are given as a share of all bytes."""
    settings = dict(RECIPES[name])
    pool = open_pool(folder)
    rows = sum(pl.scan_parquet(folder / "*.parquet").select(pl.len()).collect().to_series())
    if "budget" in settings:
        settings["budget"] = float(settings["budget"]) * rows * 2980  # type: ignore[arg-type]
    selector = Selector(SelectConfig.model_validate(settings), pool.schema)
    started = time.monotonic()
    cuts, caps = selector.fit(pool.batches)
    fitted = time.monotonic() - started
    kept = copies = 0
    for batch in pool.batches(["id", *selector.columns]):
        judged = selector.judge(batch, cuts, caps)
        kept += int(judged["keep"].sum())
        copies += int(judged["repeat"].cast(pl.Int64).sum())
    return {
        "rows": rows,
        "passes": selector.passes + 1,
        "fit": fitted,
        "seconds": time.monotonic() - started,
        "kept": kept,
        "copies": copies,
        "rounded_bits": cuts.shift,
        "cpu": time.process_time(),
        "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, nargs="+", default=[1, 10], help="millions")
    parser.add_argument("--recipe", nargs="*", default=list(RECIPES))
    parser.add_argument("--folder", type=Path, help="where rows are generated; kept and used again")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.folder, options.one)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        base = options.folder or Path(temporary)
        for millions in options.rows:
            folder = base / f"{millions:g}"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(max(round(millions), 1)):
                if not (folder / f"{number:05d}.parquet").exists():
                    write_shard(folder, number, int(min(millions, 1) * SHARD))
            for name in options.recipe:
                command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
                found = json.loads(done.stdout)
                print(
                    f"{millions:g} million, {name}: {found['seconds']:.1f} s in {found['passes']} passes "
                    f"({found['cpu']:.1f} s of CPU time with the start of Python), {found['gb']:.2f} GB, "
                    f"kept {found['kept']:,} ({found['copies']:,} with repeats), {found['rounded_bits']} bits rounded",
                    flush=True,
                )


if __name__ == "__main__":
    main()
