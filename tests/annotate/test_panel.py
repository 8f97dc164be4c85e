from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fineedu.annotate.panel import Router, Seat, disputed, load_panel
from fineedu.errors import FineeduError
from fineedu.labels import read_labels
from tests.annotate.endpoint import Endpoint, serving
from tests.conftest import Cli

SEAT = "{{name: {name}, engine: {{kind: openai, url: '{url}', model: {model}}}}}"


def votes(**scores: list[float | None]) -> pl.DataFrame:
    rows = [
        (name, score, "ok" if score is not None else "invalid") for name, found in scores.items() for score in found
    ]
    schema = {"id": pl.String, "score": pl.Float64, "state": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(topic=pl.lit(None, pl.String))


def test_disputed_are_those_that_spread_or_fail() -> None:
    found = votes(same=[2, 2, 2], near=[2, 3, 2], far=[0, 5, 1], failed=[2, None, 2], none=[None, None])
    seat = Seat.model_validate({"name": "dear", "engine": {"kind": "openai"}})
    assert disputed(found, Router(seat=seat, spread=2.0)) == {"far", "failed", "none"}
    assert disputed(found, Router(seat=seat, spread=1.0, failures=False)) == {"near", "far"}
    topics = found.with_columns(topic=pl.Series(["a", "b"] + ["a"] * (found.height - 2)))
    assert "same" in disputed(topics, Router(seat=seat, spread=9.0, failures=False))
    assert disputed(topics, Router(seat=seat, spread=9.0, failures=False, topics=False)) == set()


def test_the_dear_one_is_asked_only_where_the_cheap_ones_disagree(cli: Cli, tmp_path: Path) -> None:
    documents = tmp_path / "d.parquet"
    pl.DataFrame({"id": [f"d{n:03d}" for n in range(300)], "text": [f"Page {n}." for n in range(300)]}).write_parquet(
        documents
    )
    with serving(Endpoint(scores={"dear": 4})) as server:
        seats = [SEAT.format(name=name, url=server.url, model=name) for name in ("one", "two")]
        router = f"{{spread: 3, seat: {SEAT.format(name='dear', url=server.url, model='dear')}}}"
        panel = tmp_path / "panel.yaml"
        panel.write_text(f"annotators: [{', '.join(seats)}]\nrouter: {router}\naggregate: median\n")
        output = tmp_path / "labels" / "p.parquet"
        arguments = ("annotate", "edu", "-i", documents, "-o", output, "--panel", panel, "--progress", "plain")
        done = cli(*arguments)
        assert done.returncode == 0, done.stderr
        asked = server.answered
        again = cli(*arguments)
        assert again.returncode == 0 and server.answered == asked
    found = read_labels(output)
    assert found["annotator"].value_counts().sort("annotator").rows()[1:] == [("one", 300), ("two", 300)]
    cheap = (
        found.filter(pl.col("annotator") != "dear")
        .group_by("id")
        .agg(spread=pl.col("score").max() - pl.col("score").min())
    )
    expected = set(cheap.filter(pl.col("spread") >= 3)["id"])
    assert 0 < len(expected) < 300 and set(found.filter(annotator="dear")["id"]) == expected
    assert f"{len(expected):,} of 300" in done.stdout
    labels = read_labels(tmp_path / "labels" / "p.labels.parquet")
    assert labels.height == 300 and labels["annotator"].unique().to_list() == ["median"]
    one = found.filter(id=sorted(expected)[0])["score"].median()
    assert labels.filter(id=sorted(expected)[0])["score"][0] == one
    assert sorted(p.name for p in output.parent.iterdir() if not p.name.startswith(".")) == [
        "p.labels.parquet",
        "p.parquet",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("annotators: []", "annotators"),
        ("annotators: [{name: a, engine: {kind: openai}}, {name: a, engine: {kind: openai}}]", "same name"),
        ("annotators: [{name: a, engine: {kind: openai}, samples: 3, temperature: 0}]", "same answer"),
        ("annotators: [{name: a, engine: {kind: gpt}}]", "annotators.0.engine.kind"),
        ("annotators: [{name: a, engine: {kind: openai, api_key: x}}]", "unknown key"),
        ("[", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "panel.yaml"
    path.write_text(text)
    with pytest.raises(FineeduError, match=told):
        load_panel(path)
