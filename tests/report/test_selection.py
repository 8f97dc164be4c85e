"""What the report tells of a selection beyond rules."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl

from fineedu.recipe import Recipe, SelectConfig
from fineedu.report.selection import beyond_rules
from fineedu.runner import execute, plan_run


def page(crawl: Path, folder: Path, **select: object) -> str:
    recipe = Recipe.model_validate(
        {
            "name": "t",
            "signals": ["edu", "topic", "tokens"],
            "select": select,
            "write": {"columns": ["id", "repeat", "text"]},
        }
    )
    result = execute(plan_run(recipe, inputs=[str(crawl)], output=folder), workers=1)
    return re.sub(r"\s+", " ", result.report.read_text())


def test_report_tells_of_the_selection(crawl: Path, tmp_path: Path) -> None:
    found = page(
        crawl,
        tmp_path,
        unit="tokens",
        by="edu_score",
        cap={"per": "host", "documents": 15},
        upsample={"column": "n_tokens", "curve": {"drop": 0.2, "highest": 3, "mean": 1.5}},
        mixture={"targets": {"language": {"en": 1.0}}, "max_repeat": 2},
        budget=1e9,
    )
    assert 'href="#selection"' in found
    section = found[found.index('<section id="selection">') : found.index('<section id="distributions">')]
    for told in (
        "ranked by edu_score",
        "15 documents of a host at most",
        "had more",
        "the whole pool 1.5 times on average",
        "1,000,000,000 tokens at most",
        "The budget was not reached",
        "max_repeat 2 allows",
        "Mixture of language",
        "Repeats by n_tokens",
        "documents with their repeats",
    ):
        assert told in section, told
    assert "are selected" in found
    plain = page(crawl, tmp_path, rules={"language": "language = 'en'"})
    assert 'id="selection"' not in plain and 'href="#selection"' not in plain


def test_steps_of_other_selections() -> None:
    counts = {"reasons": {"select.top": 3, "select.by:missing": 2}, "copies": 5}
    config = SelectConfig.model_validate(
        {
            "by": "edu_score",
            "sample": {"temperature": 0.5},
            "top": {"share": 0.1, "per": ["topic", "host"]},
            "upsample": {"column": "bucket", "repeats": [0, 2]},
            "budget": 2e6,
        }
    )
    shown = beyond_rules(
        config, {"available": 10, "selected": 5, "unit": "bytes", "rounded_bits": 3, "heaviest_cell": 2}, counts
    )
    assert shown is not None
    steps = {name: (told, dropped) for name, told, dropped in shown["steps"]}
    assert list(steps) == ["by", "upsample", "top", "budget"]
    assert steps["by"][1] == 2 and steps["top"] == ("best 10 % of the bytes of each topic and host", 3)
    assert steps["budget"][0].startswith("2.0 MB at most")
    assert "chances as exp(score / 0.5)" in shown["order"]
    assert [row["repeat"] for row in shown["curve"]] == [0, 2]
    assert ("scores rounded", "by 3 bits: cuts are off by 2") in shown["amounts"]
    assert beyond_rules(SelectConfig(), {}, counts) is None


def test_report_tells_of_a_cascade(crawl: Path, tmp_path: Path) -> None:
    share = {"share": 0.9, "low": 0.8, "high": 0.95, "n": 40}
    bands = {
        "cheap": "edu_score",
        "low": 1.0,
        "high": 3.0,
        "rule": "language = 'en' AND dear > 1.5",
        "trials": [-9.0, 2.0, 9.0],
        "recall": 0.99,
        "precision": 0.99,
        "fitted_on": 40,
        "held_out": dict.fromkeys(["recall", "agreement", "called", "open"], share)
        | {"precision": {"share": float("nan"), "low": 0.0, "high": 1.0, "n": 0}},
    }
    (tmp_path / "bands.json").write_text(json.dumps(bands))
    cascade = {"use": "cascade", "bands": str(tmp_path / "bands.json"), "dear": "edu-fasttext"}
    recipe = Recipe.model_validate({"name": "t", "signals": ["edu", {"ensemble": cascade}]})
    result = execute(plan_run(recipe, inputs=[str(crawl)], output=tmp_path / "o"), workers=1)
    found = json.loads(result.manifest.read_text())["signals"]["ensemble-cascade"]
    columns = pl.read_parquet(tmp_path / "o/signals/ensemble-cascade/**/*.parquet")
    assert found["called"] == columns["cascade_called"].sum() > 0
    assert found["documents"] == columns.height > found["called"]
    page = re.sub(r"\s+", " ", result.report.read_text())
    assert f"read {found['called']} of {found['documents']} documents" in page
    assert "80.0 % to 95.0 %" in page and 'href="#cascades"' in page and "nan %" not in page.lower()
