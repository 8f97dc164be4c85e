from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.ensemble import family as family_module
from fineedu.ensemble.cascade import fit_bands, fit_cascade, run_cascade, wilson
from fineedu.ensemble.family import EnsembleSignals
from fineedu.ensemble.stack import fit, fit_stack
from fineedu.errors import FineeduError
from fineedu.store import write_json


def labelled(n: int = 400, seed: int = 0, noise: tuple[float, ...] = (1.0, 1.0, 8.0)) -> pl.DataFrame:
    """Scores that see a hidden quality through noise of their own, and labels 0 to 3."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=n)
    columns = {f"s{k}": quality + rng.normal(size=n) * by for k, by in enumerate(noise)}
    label = np.digitize(quality + rng.logistic(size=n) * 0.3, [-0.8, 0.4, 1.2]).astype(float)
    return pl.DataFrame({"id": [str(i) for i in range(n)], **columns, "label": label})


def test_binary_stack_is_scikit_learns() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    table = labelled()
    values = table.select("s0", "s1").to_numpy()
    labels = (table["label"].to_numpy() >= 2).astype(float)
    ours = fit(values, labels, ["s0", "s1"])
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    theirs = linear_model.LogisticRegression(C=1.0, tol=1e-8).fit(standard, labels)
    assert np.allclose(ours.weights, theirs.coef_[0], atol=1e-3)
    assert np.allclose(ours.predict(table).to_numpy(), theirs.predict_proba(standard)[:, 1], atol=1e-3)


def test_stack_gains_where_scores_differ_and_says_so_where_not() -> None:
    model, left_out = fit_stack(
        labelled().with_columns(s0=pl.when(pl.col("id") == "7").then(None).otherwise("s0")), ["s0", "s1", "s2"]
    )
    assert left_out == 1
    assert model.gain is not None and model.gain.low > 0
    assert model.levels == [0, 1, 2, 3] and model.cuts == sorted(model.cuts)
    same, _ = fit_stack(labelled(noise=(0.5, 8.0)), ["s0", "s1"])
    assert same.gain is not None and same.gain.low <= 0 <= same.gain.high
    again, _ = fit_stack(labelled(noise=(0.5, 8.0)).sample(fraction=1, shuffle=True, seed=3), ["s0", "s1"])
    assert again == same


@given(st.integers(0, 50))
def test_stack_never_falls_with_a_score(seed: int) -> None:
    table = labelled(80, seed).with_columns(s1=-pl.col("s1"))  # a score that points the wrong way is left out
    model = fit(table.select("s0", "s1").to_numpy(), table["label"].to_numpy(), ["s0", "s1"])
    assert model.weights[1] == 0
    for column in ("s0", "s1"):
        raised = model.predict(table.with_columns(pl.col(column) + 1))
        assert (raised >= model.predict(table)).all()


def test_stack_mistakes_are_named() -> None:
    with pytest.raises(FineeduError, match="labels are the same"):
        fit_stack(labelled(100).with_columns(label=pl.lit(1.0)), ["s0"])
    with pytest.raises(FineeduError, match="needs 50 or more"):
        fit_stack(labelled(30), ["s0"])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([0.5, 0.8, 0.9, 1.0]),
)
def test_bands_keep_their_word_and_are_the_widest(rows, wanted) -> None:
    cheap, keep = np.array([float(s) for s, _ in rows]), np.array([k for _, k in rows])
    low, high = fit_bands(cheap, keep, wanted, wanted)
    total = keep.sum()

    def lost(edge: float) -> int:
        return int((keep & (cheap < edge)).sum())

    def wrong(edge: float) -> int:
        return int((~keep & (cheap >= edge)).sum())

    allowed = (1 - wanted) * total + 1e-9
    assert low <= high
    assert lost(low) <= allowed
    better = [edge for edge in set(cheap) if edge > low and lost(edge) <= allowed]
    assert not better
    if high > low:
        assert wrong(high) <= allowed
        assert not [edge for edge in set(cheap) if low < edge < high and wrong(edge) <= allowed]


def scored(n: int = 4000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    dear = rng.normal(1.3, 0.9, n)
    return pl.DataFrame(
        {"id": [str(i) for i in range(n)], "cheap": dear + rng.normal(0, 0.4, n), "dear": dear}
    ).with_columns(text=pl.concat_str("id", pl.lit(" words")))


def test_cascade_reaches_what_was_asked_for() -> None:
    bands = fit_cascade(scored(), "cheap", "dear > 2.5 OR (dear > 2 AND cheap > 2)", recall=0.99, precision=0.99)
    held = bands.held_out
    assert held.recall.n > 100 and held.recall.low <= held.recall.share <= held.recall.high
    assert held.recall.share > 0.97 and held.precision.share > 0.97
    assert held.agreement.share > 0.99
    assert held.called.share < 0.35


class Counting:
    def __init__(self, table: pl.DataFrame) -> None:
        self.table, self.read = dict(table.select("text", "dear").iter_rows()), 0

    def score(self, texts: pl.Series) -> np.ndarray:
        self.read += len(texts)
        return np.array([self.table[text] for text in texts])


def test_dear_scorer_reads_only_what_it_can_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = scored()
    bands = fit_cascade(table, "cheap", "dear > 2.5")
    write_json(tmp_path / "bands.json", bands.model_dump(mode="json"))
    family = EnsembleSignals("cascade", bands=str(tmp_path / "bands.json"), dear="edu-fasttext")
    scorer = Counting(table)
    monkeypatch.setattr(family_module, "load_bundle", lambda folder: scorer)
    frame = table.select("cheap", "text").with_columns(
        cheap=pl.when(pl.col("text") == "9 words").then(None).otherwise("cheap")
    )
    found = family.compute(frame)
    assert found.schema == family.schema
    called = found["cascade_called"]
    expected = ((table["cheap"] >= bands.low) & (table["cheap"] < bands.high)) | (table["id"] == "9")
    assert called.equals(expected.alias("cascade_called"))
    assert scorer.read == called.sum() < 0.4 * table.height
    assert found["cascade_score"].is_null().equals((~called).alias("cascade_score"))
    full = table["dear"] > 2.5
    inside = found.filter(called)
    assert inside["cascade_keep"].equals(full.filter(called).alias("cascade_keep"))
    assert (found["cascade_keep"] == full).mean() > 0.985
    # Nothing to ask: the scorer is not even loaded.
    sure = pl.DataFrame({"cheap": [-5.0, bands.high + 1], "text": ["a", "b"]})
    nothing = run_cascade(bands, pl.sql_expr("dear > 2.5"), sure, lambda: pytest.fail("asked"))
    assert nothing["keep"].to_list() == [False, True] if math.isfinite(bands.high) else True


@pytest.mark.parametrize(
    "rule",
    [
        "language = 'en' AND dear > 2.5",
        "(dear + cheap) / 2 > 2 AND language <> 'de'",
        "dear BETWEEN 1 AND 2.5 AND language = 'en'",
        "language = 'en' OR dear > 2.5",
    ],
)
def test_other_conditions_save_calls(rule: str) -> None:
    languages = np.array(["en", "de", None])[np.random.default_rng(1).choice(3, 4000, p=[0.4, 0.4, 0.2])]
    table = scored().with_columns(language=pl.Series(languages, dtype=pl.String))
    bands = fit_cascade(table, "cheap", rule, recall=1, precision=1)
    scorer = Counting(table)
    expression = pl.sql_expr(rule)
    found = run_cascade(bands, expression, table.drop("dear"), lambda: scorer)
    full = table.select(keep=expression)["keep"]
    skipped = table["language"] == ("de" if "OR" not in rule else "en")
    # Where the other conditions decide, the scorer reads nothing and the decision is the rule's own, null for null.
    assert not found["called"].filter(skipped).any() and found["called"].any()
    assert found["keep"].filter(skipped).equals(full.filter(skipped))
    inside = found["called"]
    assert found["keep"].filter(inside).equals(full.filter(inside))
    assert bands.held_out.open.share < 0.7 and scorer.read == inside.sum()


def test_rule_without_the_dear_score() -> None:
    with pytest.raises(FineeduError, match="does not name dear"):
        fit_cascade(scored(), "cheap", "cheap > 2")


def test_share_has_wilsons_interval() -> None:
    stats = pytest.importorskip("scipy.stats")
    for hits, n in ((0, 10), (7, 9), (500, 1000), (30, 30)):
        ours, theirs = wilson(hits, n), stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_command_line(tmp_path: Path, cli) -> None:
    table = labelled(300)
    table.drop("label").join(scored(300), on="id").write_parquet(tmp_path / "pool.parquet")
    with (tmp_path / "labels.jsonl").open("w") as stream:
        for name, label in table.select("id", "label").iter_rows():
            stream.write(json.dumps({"id": name, "score": label, "annotator": "a"}) + "\n")
    done = cli("ensemble", "stack", "pool.parquet", "--labels", "labels.jsonl", "-s", "s0", "-s", "s1")
    assert done.returncode == 0, done.stderr
    assert "gain +" in done.stdout and "n = 300" in done.stdout
    frame = pl.read_parquet(tmp_path / "pool.parquet")
    found = EnsembleSignals("stack", model=str(tmp_path / "stack.json")).compute(frame)
    assert found["stack_score"].is_between(0, 3).all()
    done = cli("ensemble", "cascade", "pool.parquet", "--cheap", "cheap", "--dear", "dear", "--rule", "dear > 2")
    assert done.returncode == 0, done.stderr
    assert "rule depends on the dear score of 100.0%" in done.stdout
    assert "dear scorer ran on" in done.stdout and "is not proven" in done.stdout
    wrong = cli("ensemble", "cascade", "pool.parquet", "--cheap", "cheap", "--dear", "dear", "--rule", "deer > 2")
    assert wrong.returncode == 2 and "did you mean dear" in wrong.stderr
    assert "nemotron-cc" in cli("ensemble", "list").stdout
