from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.ensemble.family import EnsembleSignals
from fineedu.ensemble.percentiles import calibrate, write_table
from fineedu.ensemble.recipe import load_ensemble, shipped_ensembles
from fineedu.errors import FineeduError
from fineedu.pool import open_pool
from fineedu.recipe import Recipe
from fineedu.runner import execute, plan_run
from fineedu.signals.families import made_by, make_family

SCORES = ["one", "two", "three"]


def scores(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=n)
    return pl.DataFrame(
        {
            "one": np.clip(1.5 + quality + rng.normal(size=n), 0, 5).astype(np.float32),  # ties at 0 and 5
            "two": rng.beta(0.3, 3, n).astype(np.float32),
            "three": (1 / (1 + np.exp(-quality))).astype(np.float32),
            "text_bytes": rng.lognormal(7, 1, n).astype(np.int64),
        }
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    scores(4000, 1).write_parquet(tmp_path / "pool.parquet")
    write_table(tmp_path / "percentiles.json", calibrate(open_pool(tmp_path / "pool.parquet"), SCORES))
    return tmp_path / "percentiles.json"


def test_nemotron_cc_is_the_published_algorithm(table: Path) -> None:
    """Read plainly: weighted inverted-CDF percentiles 5, 10, .., 95 of each score, digitize, maximum, five levels."""
    pool, new = scores(4000, 1), scores(3000, 2)
    buckets = []
    for name in SCORES:
        thresholds = np.quantile(
            pool[name].to_numpy(), np.arange(5, 100, 5) / 100, weights=pool["text_bytes"], method="inverted_cdf"
        )
        buckets.append(np.digitize(new[name].to_numpy(), thresholds))
    top = np.max(buckets, axis=0)
    levels = np.select(
        [top == 19, top == 18, top >= 12, top >= 7], ["high", "medium_high", "medium", "medium_low"], "low"
    )
    family = EnsembleSignals("nemotron-cc", scores=SCORES, percentiles=str(table))
    found = family.compute(new)
    assert found.schema == family.schema
    assert found["nemotron_cc_bucket"].to_list() == top.tolist()
    assert found["nemotron_cc_level"].to_list() == levels.tolist()
    assert len(set(levels)) == 5
    again = pickle.loads(pickle.dumps(family)).compute(new)
    assert again.equals(found)


def test_missing_scores_are_a_state(table: Path) -> None:
    gaps = pl.DataFrame({"one": [None, 5.0, None], "two": [0.9, None, None], "three": [0.5, float("nan"), None]})
    strict = EnsembleSignals("nemotron-cc", scores=SCORES, percentiles=str(table)).compute(gaps)
    assert strict["nemotron_cc_bucket"].to_list() == [None, None, None]
    lenient = EnsembleSignals("nemotron-cc", scores=SCORES, percentiles=str(table), missing="ignore").compute(gaps)
    assert lenient["nemotron_cc_bucket"].to_list() == [19, 19, None]
    assert lenient["nemotron_cc_level"].to_list() == ["high", "high", None]


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@given(
    st.lists(st.tuples(*[st.none() | st.floats(-5, 5, width=32)] * 3), min_size=1, max_size=20),
    st.tuples(*[st.floats(0.1, 5)] * 3),
)
def test_means_are_numpys(rows, weights) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(SCORES, pl.Float32), orient="row")
    family = EnsembleSignals(
        "weighted", weights=dict(zip(SCORES, weights, strict=True)), scale="raw", percentiles=None, missing="ignore"
    )
    found = family.compute(frame)["weighted_score"].to_list()
    for row, score in zip(rows, found, strict=True):
        held = [(value, weight) for value, weight in zip(row, weights, strict=True) if value is not None]
        if held:
            values, by = zip(*held, strict=True)
            assert score == pytest.approx(np.average(values, weights=by), abs=1e-4)
        else:
            assert score is None


@given(
    st.lists(st.tuples(*[st.none() | st.floats(0, 1, width=32)] * 3), min_size=1, max_size=20),
    st.sampled_from(["and", "or", "vote"]),
)
def test_votes_are_three_valued(rows, method) -> None:
    settings = {"conditions": {name: f"{name} > 0.5" for name in SCORES}} | (
        {"at_least": 2} if method == "vote" else {}
    )
    family = EnsembleSignals(method, **settings)
    found = family.compute(pl.DataFrame(rows, schema=dict.fromkeys(SCORES, pl.Float32), orient="row"))
    needed = {"and": 3, "or": 1, "vote": 2}[method]
    for row, votes, keep in zip(rows, *found.get_columns(), strict=True):
        yes, unknown = sum(v is not None and v > 0.5 for v in row), row.count(None)
        assert votes == yes
        assert keep is (True if yes >= needed else False if yes + unknown < needed else None)


def test_buckets_can_be_averaged(table: Path) -> None:
    new = scores(500, 4)
    one, two = (
        EnsembleSignals("nemotron-cc", scores=[name], percentiles=str(table)).compute(new)["nemotron_cc_bucket"]
        for name in ("one", "two")
    )
    mean = EnsembleSignals("mean", scores=["one", "two"], percentiles=str(table)).compute(new)["mean_score"]
    assert mean.to_list() == ((one.cast(pl.Float32) + two.cast(pl.Float32)) / 2).to_list()


def test_fingerprint_knows_thresholds_and_not_paths(table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.json"
    copy.write_bytes(table.read_bytes())
    marks = [
        EnsembleSignals("nemotron-cc", scores=SCORES, percentiles=str(path), drift={"action": action}).fingerprint
        for path, action in ((table, "warn"), (copy, "refuse"))
    ]
    assert marks[0] == marks[1]
    edu = make_family("edu", {})
    reader = EnsembleSignals("and", conditions={"edu": "edu_score > 2.5"})
    made = made_by([edu, reader])
    assert made["ensemble-and"]["reads"].keys() == {"edu"}
    assert reader.fingerprint != EnsembleSignals("and", conditions={"edu": "edu_score > 2"}).fingerprint


def test_mistakes_are_named(table: Path, tmp_path: Path) -> None:
    cases = [
        ("nemotron", {}, "no ensemble 'nemotron': shipped are"),
        ("nemotron-cc", {"percentiles": str(tmp_path / "none.json")}, "no percentile table"),
        ("nemotron-cc", {"percentiles": str(table), "scores": ["four"]}, "has no score 'four'"),
        ("nemotron-cc", {"percentiles": str(table), "threshold": 3}, "threshold: unknown key"),
        ("nemotron-cc", {"percentiles": str(table), "levels": {"high": 19}}, "begins at 0"),
        ("vote", {"at_least": 9}, "never holds"),
        ("weighted", {"weights": {"a": -1}}, "above 0"),
        ("and", {"conditions": {"a": "b >"}}, "no valid expression"),
        (write(tmp_path / "odd.yaml", "method: magic"), {}, "magic"),
        (write(tmp_path / "list.yaml", "[1]"), {}, "a mapping of settings"),
    ]
    for use, settings, text in cases:
        with pytest.raises(FineeduError, match=text):
            EnsembleSignals(use, **settings)
    for name in shipped_ensembles():
        settings = {"percentiles": "p.json"} if name == "nemotron-cc" else {}
        assert load_ensemble(name, settings).description


def test_two_classifiers_tell_one_score(crawl: Path, tmp_path: Path) -> None:
    signals = [{"classifier": {"model": "edu-minilm"}}, {"classifier": {"model": "edu-fasttext"}}]
    columns = ["id", "edu_minilm_score", "edu_fasttext_score", "both_score"]
    both = write(tmp_path / "both.yaml", f"method: mean\nscores: [{columns[1]}, {columns[2]}]\n")
    mean = {"ensemble": {"use": both}}
    recipe = Recipe.model_validate({"name": "t", "signals": [*signals, mean], "write": {"columns": columns}})
    archive = crawl / "part-0.warc.gz"
    result = execute(plan_run(recipe, inputs=[str(archive)], output=tmp_path / "o"), workers=1)
    corpus = pl.read_parquet(result.corpus / "**/*.parquet")
    first, second = (corpus[name].to_numpy() for name in columns[1:3])
    assert corpus.height == 20 and not np.allclose(first, second)
    np.testing.assert_allclose(corpus["both_score"], (first + second) / 2, rtol=1e-6)


def test_in_a_run(crawl: Path, tmp_path: Path) -> None:
    base = {"name": "t", "write": {"columns": ["id", "edu_score", "nemotron_cc_bucket", "and_keep"]}}
    both = {"and": {"edu": "edu_score > 1", "level": "nemotron_cc_level <> 'low'"}}["and"]

    def recipe(table: str, action: str = "warn") -> Recipe:
        entries = [
            "edu",
            {"ensemble": {"use": "nemotron-cc", "percentiles": table, "drift": {"action": action}}},
            {"ensemble": {"use": "and", "conditions": both}},
        ]
        return Recipe.model_validate(base | {"signals": entries, "select": {"rules": {"and": "and_keep"}}})

    first = Recipe.model_validate({"name": "t", "signals": ["edu"]})
    execute(plan_run(first, inputs=[str(crawl)], output=tmp_path / "o"), workers=1)
    table = calibrate(open_pool(tmp_path / "o"), ["edu_score"])
    write_table(tmp_path / "p.json", table)
    # The edu signals are there already: the ensembles read them from the store.
    result = execute(plan_run(recipe(str(tmp_path / "p.json")), inputs=[str(crawl)], output=tmp_path / "o"), workers=1)
    assert result.warnings == ()
    whole = pl.read_parquet(tmp_path / "o/signals/edu/**/*.parquet")
    assert pl.read_parquet(tmp_path / "o/signals/ensemble-nemotron-cc/**/*.parquet")["nemotron_cc_bucket"].equals(
        table.bucket(whole["edu_score"]).alias("nemotron_cc_bucket")
    )
    corpus = pl.read_parquet(result.corpus / "**/*.parquet")
    assert corpus["and_keep"].all() and 0 < corpus.height < 61
    # Measured together with edu, from the archives: the same.
    fresh = execute(plan_run(recipe(str(tmp_path / "p.json")), inputs=[str(crawl)], output=tmp_path / "f"), workers=1)
    assert pl.read_parquet(fresh.corpus / "**/*.parquet").equals(corpus)

    shifted = table.model_copy(deep=True)
    part = shifted.scores["edu_score"]["*"]
    moved = part.model_copy(
        update={"thresholds": [x + 1 for x in part.thresholds], "values": [x + 1 for x in part.values]}
    )
    shifted.scores["edu_score"]["*"] = moved
    write_table(tmp_path / "s.json", shifted)
    drifted = execute(plan_run(recipe(str(tmp_path / "s.json")), inputs=[str(crawl)], output=tmp_path / "d"), workers=1)
    assert "PSI" in drifted.warnings[0]
    with pytest.raises(FineeduError, match="Calibrate on this pool"):
        execute(
            plan_run(recipe(str(tmp_path / "s.json"), "refuse"), inputs=[str(crawl)], output=tmp_path / "d"), workers=1
        )
    with pytest.raises(FineeduError, match="reads 'edu_score', which no document has and no family before it gives"):
        plan_run(Recipe.model_validate({"name": "t", "signals": [{"ensemble": {"use": "and"}}]}), inputs=[str(crawl)])
