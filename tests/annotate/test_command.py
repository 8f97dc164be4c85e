"""The commands agree and aggregate."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from fineedu.cli import app
from fineedu.errors import FineeduError
from fineedu.labels import read_labels, write_labels
from fineedu.store import read_facts
from tests.annotate.votes import random_votes


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two annotators in one file, a third in another; the third has hardly any score but 1."""
    votes = random_votes(120, 3, seed=12, topics=6)
    lazy = pl.when(pl.col("annotator") == "a2").then(1.0).otherwise("score")
    votes = votes.with_columns(score=lazy, choice_position=pl.lit(0), n_choices=pl.lit(6))
    parquet, lines = tmp_path / "two.parquet", tmp_path / "third.jsonl"
    write_labels(parquet, votes.filter(pl.col("annotator") != "a2"), {})
    votes.filter(pl.col("annotator") == "a2").select("id", "score", "topic", "annotator").write_ndjson(lines)
    return [parquet, lines]


@pytest.mark.parametrize("width", [80, 100])
def test_agree_prints_tables_that_fit(files: list[Path], monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    arguments = ["agree", *map(str, files), "--by", "topic", "--by", "length", "--confusion", "--resamples", "100"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= width
    for part in ("Annotators", "Agreement on scores", "Agreement on topics by length", "common score", "position bias"):
        assert part in result.output


def test_agree_writes_json_and_is_strict(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["agree", *map(str, files), "--json", str(out), "--resamples", "100", "--strict"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 1
    found = json.loads(out.read_text())
    assert {row["annotator"] for row in found["annotators"]} == {"a0", "a1", "a2"}
    fired = {(alarm["what"], alarm["annotator"]) for alarm in found["alarms"] if alarm["fires"]}
    assert fired == {("common_score", "a2"), ("position_bias", "a0"), ("position_bias", "a1")}
    kappa = [row for row in found["figures"] if row["measure"] == "quadratic_kappa" and row["second"] == "a1"]
    assert kappa[0]["low"] < kappa[0]["value"] < kappa[0]["high"] and kappa[0]["n"] == 120
    assert sum(cell["n"] for cell in found["confusions"] if cell["kind"] == "score") == 360


@pytest.mark.parametrize("method", ["median", "majority", "dawid-skene"])
def test_aggregate_writes_labels(files: list[Path], tmp_path: Path, method: str) -> None:
    out = tmp_path / "labels.parquet"
    arguments = ["aggregate", *map(str, files), "--method", method, "-o", str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "360 votes on 120 documents (120 with several annotators)" in result.output
    labels = read_labels(out)
    assert labels.height == 120 and set(labels["annotator"]) == {method} and set(labels["state"]) == {"ok"}
    assert read_facts(out)["annotators"] == ["a0", "a1", "a2"]


def test_rubric_chooses_votes_and_mistakes_are_told(files: list[Path], tmp_path: Path) -> None:
    out = str(tmp_path / "labels.csv")
    for arguments, message in (
        (["agree", str(files[0]), "--rubric", "none-such"], "no votes by rubric 'none-such'"),
        (["agree", str(files[0]), "--length-edges", "1,many"], "--length-edges needs whole numbers"),
        (["agree", str(tmp_path / "absent.parquet")], "cannot read the labels"),
        (["aggregate", str(files[0]), "-o", out], "ends in .parquet"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, FineeduError) and message in str(result.exception)
