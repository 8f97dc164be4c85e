"""Generated signals, and cells counted one by one: what the lab must agree with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from fineedu.ablate.config import AblationConfig
from fineedu.ablate.lab import Lab, plan_ablation, set_up
from fineedu.select.choose import Selector

BASE: dict[str, Any] = {"name": "base", "select": {"rules": {"language": "language = 'en'"}}}


def make_pool(path: Path, n: int = 4000, seed: int = 0, groups: int = 512) -> pl.DataFrame:
    """Write n documents in row groups of 512: scores with ties, gaps and NaN, copies, three dumps."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(7, 1, n)
    frame = pl.DataFrame(
        {
            "id": [f"doc-{seed}-{row:06d}" for row in range(n)],
            "host": [f"host{row}.example" for row in np.minimum(rng.pareto(0.7, n) * 2, 500).astype(int)],
            "url": [f"https://host.example/{row}" for row in range(n)],
            "dump": rng.choice(["D1", "D2", "D3"], n),
            "language": rng.choice(["en", "de", "fr"], n, p=[0.7, 0.2, 0.1]),
            "text_bytes": size.astype(np.uint32),
            "n_words": (size / 6).astype(np.uint32),
            "proxy_total": rng.poisson(0.1, n).astype(np.uint32),
            "edu_score": np.round(np.clip(rng.normal(1.8, 1.2, n), 0, 5), 2).astype(np.float32),
            "other": rng.beta(2, 3, n),
            "int_score": rng.integers(0, 6, n).astype(np.uint8),
            "blocked": rng.random(n) < 0.1,
            "topic": rng.choice(["science", "games", "law"], n),
            "exact_key": [f"k{key}" for key in rng.integers(0, n * 2 // 3, n)],
        }
    )
    gaps = rng.random(n) < 0.03
    odd = pl.Series(np.where(rng.random(n) < 0.02, np.nan, frame["edu_score"].to_numpy())).cast(pl.Float32)
    frame = frame.with_columns(edu_score=odd.set(pl.Series(gaps), None))
    frame.write_parquet(path, row_group_size=groups)
    return frame


def make_lab(folder: Path, pool: Path, base: dict[str, Any] | None = None, **settings: Any) -> Lab:
    """Plan an ablation over a pool."""
    recipe = folder / "base.yaml"
    recipe.write_text(yaml.safe_dump(base or BASE))
    config = AblationConfig.model_validate({"name": "test", "base": str(recipe), **settings})
    return plan_ablation(config, pool, output=folder / "out")


def one_by_one(lab: Lab) -> list[pl.DataFrame]:
    """Judge the pool once a cell, with the selection that a recipe runs: the documents kept, with ``repeat``."""
    bench = set_up(lab)
    found = []
    for select in bench.selects:
        selector = Selector(select, bench.signals.schema)
        cuts = selector.fit(bench.signals.batches)
        every = pl.concat(list(bench.signals.batches(list(bench.signals.schema))))
        judged = selector.judge(every, *cuts)
        found.append(every.with_columns(judged["repeat"]).filter(judged["keep"]))
    return found
