"""Selections beyond rules, through whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from fineedu.errors import FineeduError
from fineedu.recipe import Recipe
from fineedu.runner import execute, plan_run
from tests.archives import tree_digest


def recipe(**select: object) -> Recipe:
    columns = ["id", "host", "edu_score", "text_bytes", "repeat"]
    return Recipe.model_validate({"name": "t", "signals": ["edu"], "select": select, "write": {"columns": columns}})


def test_a_budget_in_a_run(crawl: Path, tmp_path: Path) -> None:
    chosen = recipe(
        rules={"language": "language = 'en'"}, by="edu_score", budget=12_000, cap={"per": "host", "documents": 15}
    )
    results = [
        execute(plan_run(chosen, inputs=[str(crawl)], output=tmp_path / name), workers=workers, tasks=tasks)
        for name, workers, tasks in (("a", 1, None), ("b", 2, 2))
    ]
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b")
    corpus = pl.read_parquet(results[0].corpus / "**/*.parquet")
    assert 10_000 < corpus["text_bytes"].sum() <= 12_000
    assert corpus["host"].value_counts()["count"].max() <= 15
    manifest = json.loads(results[0].manifest.read_text())
    assert manifest["selection"]["selected"] == corpus["text_bytes"].sum()
    assert {"select.cap", "select.budget"} <= set(manifest["counts"]["reasons"])
    assert manifest["counts"]["kept"] == manifest["counts"]["copies"] == corpus.height
    again = execute(plan_run(chosen, inputs=[str(crawl)], output=tmp_path / "a"), workers=1)
    assert again.kept == results[0].kept


def test_repeats_are_written(crawl: Path, tmp_path: Path, cli) -> None:
    chosen = recipe(upsample={"column": "edu_int_score", "repeats": dict.fromkeys("01234", 1.3) | {"1": 0.5}})
    result = execute(plan_run(chosen, inputs=[str(crawl)], output=tmp_path / "o"), workers=1)
    corpus = pl.read_parquet(result.corpus / "**/*.parquet")
    assert corpus["repeat"].max() > 1
    manifest = json.loads(result.manifest.read_text())
    assert manifest["counts"]["copies"] == corpus["repeat"].sum()
    dropped = pl.read_parquet(tmp_path / "o/runs/*/decisions/**/*.parquet").filter(~pl.col("keep"))
    told = cli("explain", dropped["id"][0], "-o", "o").stdout
    assert "select.upsample" in told
    with pytest.raises(FineeduError, match="add 'repeat'"):
        plan_run(
            Recipe.model_validate(
                {"name": "t", "signals": ["edu"], "select": {"upsample": {"column": "edu_int_score", "repeats": [2]}}}
            ),
            inputs=[str(crawl)],
        )
