"""Many cells in one pass give what a recipe gives, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from fineedu.ablate import tally
from fineedu.ablate.evaluate import Ablation
from fineedu.ablate.factors import parse_threshold
from fineedu.ablate.lab import Lab, run_ablation
from fineedu.ablate.picks import Copies
from tests.ablate.pools import make_lab, make_pool, one_by_one


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "pool.parquet"
    make_pool(path)
    return path


def check(lab: Lab, found: Ablation) -> None:
    """Hold every figure against documents judged cell by cell."""
    kept = one_by_one(lab)
    for n, documents in enumerate(kept):
        repeat = documents["repeat"].cast(pl.Float64)
        tokens = (documents["text_bytes"] / 4.3).round(mode="half_to_even")
        want = [repeat.sum(), (tokens * repeat).sum(), (documents["text_bytes"] * repeat).sum()]
        np.testing.assert_allclose(found.totals[n, :3], want)
        share, seen, rate = (part[n] if isinstance(part, np.ndarray) else part for part in found.copies or ())
        assert (seen, rate) == (documents.height, 1)
        if documents.height:
            assert share == pytest.approx(1 - documents["exact_key"].n_unique() / documents.height)
    ids = [set(documents["id"]) for documents in kept]
    for a, first in enumerate(ids):
        for b, second in enumerate(ids):
            both = first | second
            assert found.shared[a, b] == len(first & second)
            if both:
                assert found.jaccard[a, b] == pytest.approx(len(first & second) / len(both))
    order = pl.read_parquet(lab.pool.root)["id"]
    for (first_cell, second_cell), rows in zip(found.pairs, found.samples, strict=True):
        only = ids[first_cell] - ids[second_cell]
        assert {order[row] for row in rows} <= only
        assert len(rows) == min(lab.config.samples, len(only))


GRIDS: list[dict[str, Any]] = [
    {"grid": {"select.rules.edu": ["edu_score >= 2", "edu_score > 2.5", "edu_score <= 1.1", "edu_score < 3 OR blocked"]}},
    {
        "set": {"select.rules.edu": "edu_score >= {edu} AND other > {other}"},
        "grid": {
            "edu": [1, 2, 2.5],
            "other": [0.1, 0.5],
            "url": {"out": {"select.rules.url": "NOT blocked"}, "in": {}},
            "dumps": ["D1", ["D1", "D3"]],
        },
    },
    {"set": {"select.by": "edu_score"}, "grid": {"select.top": [{"share": 0.05}, {"share": 0.3}], "select.budget": [None, 4e4]}},
    {
        "cells": {
            "per topic": {"select.by": "edu_score", "select.top": {"share": 0.2, "per": ["topic"]}},
            "per host": {"select.by": "edu_score", "select.cap": {"per": "host", "documents": 3}},
            "mixed": {"select.mixture": {"targets": {"topic": {"law": 0.6, "*": 0.4}}, "max_repeat": 3}},
            "up": {"select.upsample": {"column": "int_score", "repeats": {"3": 1, "4": 2.5}}},
            "rules": {"select.rules.int": "int_score >= 3"},
            "nothing": {"select.rules.int": "int_score >= 77"},
        }
    },
]  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS, ids=["thresholds", "product", "shares", "beyond rules"])
def test_cells_agree_with_the_recipe(pool: Path, tmp_path: Path, grid: dict[str, Any]) -> None:
    lab = make_lab(tmp_path, pool, **grid)
    check(lab, run_ablation(lab))


def test_memory_limits_change_nothing(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab(tmp_path, pool, **GRIDS[1])
    whole = run_ablation(lab)
    monkeypatch.setattr(tally, "MOST_MEMBERSHIPS", 2)
    monkeypatch.setattr("fineedu.pool.POOL_ROWS", 600)
    parts = run_ablation(lab)
    np.testing.assert_array_equal(whole.totals, parts.totals)
    np.testing.assert_array_equal(whole.shared, parts.shared)
    assert whole.samples == parts.samples
    assert whole.copies is not None and parts.copies is not None
    np.testing.assert_array_equal(whole.copies[0], parts.copies[0])
    for one, other in zip(whole.shifts, parts.shifts, strict=True):
        assert dict(zip(one.values, one.tokens[0], strict=True)) == dict(
            zip(other.values, other.tokens[0], strict=True)
        )


def test_order_of_rows_changes_nothing(pool: Path, tmp_path: Path) -> None:
    other = tmp_path / "shuffled.parquet"
    frame = pl.read_parquet(pool).sample(fraction=1, shuffle=True, seed=3)
    frame.write_parquet(other, row_group_size=300)
    found = [run_ablation(make_lab(tmp_path, path, **GRIDS[2])) for path in (pool, other)]
    np.testing.assert_array_equal(found[0].totals, found[1].totals)
    ids = [pl.read_parquet(path)["id"] for path in (pool, other)]
    named = [[[names[row] for row in rows] for rows in one.samples] for one, names in zip(found, ids, strict=True)]
    assert named[0] == named[1]


def test_shifts(pool: Path, tmp_path: Path) -> None:
    lab = make_lab(tmp_path, pool, grid={"select.rules.edu": ["edu_score >= 1", "edu_score >= 3"]})
    found = {shift.property: shift for shift in run_ablation(lab).shifts}
    every = pl.read_parquet(pool).with_columns(tokens=(pl.col("text_bytes") / 4.3).round(mode="half_to_even"))
    chosen = every.filter((pl.col("language") == "en") & (pl.col("edu_score") >= 3))
    for name, column in (("topic", "topic"), ("language", "language")):
        shift = found[name]
        here, whole = (dict(f.group_by(column).agg(pl.col("tokens").sum()).iter_rows()) for f in (chosen, every))
        p, q = ([part.get(value, 0) for value in sorted(whole)] for part in (here, whole))
        assert shift.from_pool[1] == pytest.approx(jensenshannon(p, q, base=2) ** 2)
        told = dict(zip(shift.values, shift.tokens[1], strict=True))
        assert {value: told[value] for value in here} == here
    assert found["host"].documents[1].sum() == found["length"].documents[1].sum() == chosen.height
    assert found["topic"].from_first[0] == 0
    host = chosen["host"].value_counts().sort("count", "host", descending=[True, False])
    told = dict(zip(found["host"].values, found["host"].documents[1], strict=True))
    assert told[host["host"][0]] == host["count"][0]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bound=st.one_of(st.floats(-10, 10).map(lambda x: round(x, 3)), st.integers(-5, 300)),
    op=st.sampled_from([">=", ">", "<", "<="]),
    dtype=st.sampled_from([pl.Float32, pl.Float64, pl.UInt8, pl.Int64]),
    near=st.lists(st.floats(-12, 320, width=32), max_size=5),
)
def test_a_threshold_is_what_polars_says(bound: float, op: str, dtype: Any, near: list[float]) -> None:
    from fineedu.ablate.factors import Clauses

    values = [bound, *near, *(float("nan"), float("inf")), None]
    if dtype in (pl.UInt8, pl.Int64):
        values = [int(v) if v is not None and 0 <= v < 256 else None for v in values]
    column = pl.Series("x", values, dtype=dtype, strict=False)
    sql, schema = f"x {op} {bound}", {"x": dtype()}
    want = column.to_frame().select(pl.sql_expr(sql).fill_null(False).alias("x"))["x"].to_list()
    made = Clauses([{"rule": sql}], schema)
    (part,) = made.parts({"rule": sql})
    got = part.lookup[made.factors[part.factor].codes(column.to_frame())].astype(bool).tolist()
    assert got == want
    assert dtype not in (pl.Float32, pl.Float64) or parse_threshold(sql, schema) is not None


def test_copies_of_a_large_pool_are_estimated(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab(tmp_path, pool, grid={"select.rules.edu": ["edu_score >= 0", "edu_score >= 2"]})
    exact = run_ablation(lab).copies
    monkeypatch.setattr(Copies.__init__, "__defaults__", (500,))
    found = run_ablation(lab).copies
    assert exact is not None and found is not None and found[2] >= 4
    np.testing.assert_allclose(found[0], exact[0], atol=0.06)
