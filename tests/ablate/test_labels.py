"""Precision, recall, recommendation and front: against scikit-learn, plain counting and simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_score, recall_score

from fineedu.ablate.config import Recommend
from fineedu.ablate.lab import run_ablation
from fineedu.ablate.labelled import Scores, advise, pareto, score, wilson
from fineedu.errors import FineeduError
from tests.ablate.pools import make_lab, make_pool, one_by_one


def scores_of(keeps: np.ndarray, positive: np.ndarray, count: int = 400, **more: object) -> Scores:
    n = len(positive)
    settings = {"weight": np.ones(n), "strata": ["all"] * n, "weighted": False, "seed": 0, "count": count} | more
    return score(keeps, positive, **settings)  # type: ignore[arg-type]


def test_measures_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    keeps, positive = rng.random((200, 6)) < np.linspace(0.1, 0.9, 6), rng.random(200) < 0.3
    found = scores_of(keeps, positive)
    for cell in range(6):
        assert found.precision[cell].value == pytest.approx(precision_score(positive, keeps[:, cell]))
        assert found.recall[cell].value == pytest.approx(recall_score(positive, keeps[:, cell]))
        assert found.f1[cell].value == pytest.approx(f1_score(positive, keeps[:, cell]))
        assert found.kept[cell] == keeps[:, cell].sum()


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys(hits: int, n: int) -> None:
    hits = min(hits, n)
    ends = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson(hits, n) == pytest.approx((ends.low, ends.high), abs=1e-9)


def test_nothing_kept_is_not_defined() -> None:
    found = scores_of(np.zeros((20, 1), bool), np.arange(20) < 5)
    assert found.precision[0].value is None and found.recall[0].value == 0
    none = scores_of(np.ones((20, 1), bool), np.zeros(20, bool))
    assert none.recall[0].value is None and none.f1[0].value is None and none.precision[0].value == 0


def test_weighted_precision_covers_the_truth() -> None:
    """A stratified sample, ten times denser in one stratum: the weights undo it, and the interval holds 95 %."""
    rng = np.random.default_rng(1)
    sizes, share, kept_share = np.array([9000, 1000]), np.array([0.15, 0.6]), np.array([0.3, 0.9])
    true = (sizes * kept_share * share).sum() / (sizes * kept_share).sum()
    inside, plain, rounds = 0, [], 300
    for at in range(rounds):
        strata = np.repeat([0, 1], 150)
        keeps, positive = rng.random(300) < kept_share[strata], rng.random(300) < share[strata]
        weight = (sizes / 150)[strata]
        found = scores_of(
            keeps[:, None],
            positive,
            weight=weight,
            strata=strata.astype(str).tolist(),
            weighted=True,
            seed=at,
            count=10,
        ).precision[0]
        assert found.value is not None and found.low is not None and found.high is not None
        inside += found.low <= true <= found.high
        plain.append(positive[keeps].mean())
    assert 0.92 <= inside / rounds <= 0.99
    assert abs(np.mean(plain) - true) > 0.1  # without weights it would be another number


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    tokens, precision = np.array([p[0] for p in points], float), np.array([p[1] / 5 for p in points])
    want = [
        not any((t >= tokens[n] and p >= precision[n]) and (t > tokens[n] or p > precision[n]) for t, p in zip(tokens, precision, strict=True))
        for n in range(len(points))
    ]  # fmt: skip
    assert pareto(tokens, precision).tolist() == want
    assert pareto(tokens, np.stack([precision, precision])).tolist() == [want, want]


def test_rules_choose_what_they_say() -> None:
    positive = np.arange(100) < 40
    keeps = np.stack([np.arange(100) < 20, np.arange(100) < 50, np.arange(100) < 90], axis=1)
    found, tokens = scores_of(keeps, positive), np.array([20.0, 50.0, 90.0])

    def chosen(**rule: object) -> int | None:
        return advise(Recommend.model_validate(rule), found, tokens).cell

    assert chosen(rule="most_tokens", precision=0.75) == 1
    assert chosen(rule="most_tokens", precision=0.3) == 2
    assert chosen(rule="most_tokens", precision=1.0) == 0
    assert chosen(rule="budget", tokens=60) == 2
    assert chosen(rule="budget", tokens=1000) is None
    assert chosen(rule="f_beta", beta=0.1) == 0
    assert chosen(rule="f_beta", beta=1) == 1
    sure = advise(Recommend(rule="most_tokens", precision=0.8), found, tokens)
    assert sure.cell == 1 and 0.3 < sure.wins[1] < 0.8 and sure.wins.sum() + sure.none == pytest.approx(1)


def test_few_labels_leave_more_open_than_many() -> None:
    rng = np.random.default_rng(2)
    wins: dict[int, list[float]] = {40: [], 4000: []}
    for n in [40] * 12 + [4000] * 3:
        positive = rng.random(n) < 0.5
        chance = np.where(positive[:, None], 0.8, [0.3, 0.36])
        found = scores_of(rng.random((n, 2)) < chance, positive)
        wins[n].append(float(advise(Recommend(rule="f_beta"), found, np.array([1.0, 2.0])).wins[0]))
    assert min(wins[4000]) > 0.95
    assert 0.5 < float(np.mean(wins[40])) < 0.9


def test_labels_of_a_pool(tmp_path: Path) -> None:
    frame = make_pool(tmp_path / "pool.parquet", 1500)
    votes = frame.head(300).select("id", score=pl.col("other") * 5)
    votes = pl.concat([votes, pl.DataFrame({"id": ["elsewhere"], "score": [3.0]})])
    votes.write_ndjson(tmp_path / "labels.jsonl")
    lab = make_lab(
        tmp_path,
        tmp_path / "pool.parquet",
        grid={"select.rules.other": ["other >= 0.3", "other >= 0.6"]},
        labels={"files": [str(tmp_path / "labels.jsonl")]},
    )
    found = run_ablation(lab)
    assert found.scores is not None and (found.scores.n, found.not_in_pool) == (300, 1)
    positive = set(votes.filter(pl.col("score").round(mode="half_to_even") >= 3)["id"]) - {"elsewhere"}
    for cell, documents in enumerate(one_by_one(lab)):
        chosen = set(documents["id"]) & set(votes["id"])
        assert found.scores.kept[cell] == len(chosen)
        assert found.scores.hits[cell] == len(chosen & positive)
        assert found.scores.recall[cell].value == pytest.approx(len(chosen & positive) / len(positive))


def test_a_sample_without_weights_is_refused(tmp_path: Path) -> None:
    frame = make_pool(tmp_path / "pool.parquet", 600)
    frame.head(10).select("id", score=pl.lit(3)).write_ndjson(tmp_path / "labels.jsonl")
    sample = frame.head(10).select("id", stratum=pl.lit("all"), weight=pl.lit(None, pl.Float64))
    sample.write_parquet(tmp_path / "sample.parquet")
    labels = {"files": [str(tmp_path / "labels.jsonl")], "sample": str(tmp_path / "sample.parquet")}
    lab = make_lab(tmp_path, tmp_path / "pool.parquet", grid={"select.rules.int": ["int_score >= 3"]}, labels=labels)
    with pytest.raises(FineeduError, match="10 labelled documents have no weight"):
        run_ablation(lab)
