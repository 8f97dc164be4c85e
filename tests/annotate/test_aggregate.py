"""One label a document: median, majority, Dawid-Skene."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fineedu.annotate.aggregate import AGGREGATE_SCHEMA, METHODS, aggregate, as_labels
from fineedu.annotate.dawid_skene import dawid_skene
from fineedu.errors import FineeduError
from fineedu.labels import read_labels, write_labels
from tests.annotate.votes import random_votes, votes_of, votes_table


def labels(votes: pl.DataFrame, method: str) -> list[float | None]:
    return aggregate(votes, method)["score"].to_list()


def test_median_and_majority() -> None:
    votes = votes_table({"a": [1, 0, 0, 5], "b": [2, 0, 5, None], "c": [None, 4, 5, None], "d": [None, None, 1, None]})
    assert labels(votes, "median") == [1.5, 0, 3, 5]
    assert labels(votes, "majority") == [1, 0, 5, 5], "of 1 and 2 the lower"
    tied = votes_table({"a": [0], "b": [0], "c": [3], "d": [4], "e": [4]})
    assert labels(tied, "majority") == [4], "of 0 and 4, the nearer to the median 3"


def test_topic_ties_go_to_the_common_topic_then_to_the_first_by_name() -> None:
    votes = votes_table({"a": ["x", "c", "b"], "b": ["b", "d", "b"]}, "topic")
    assert aggregate(votes, "majority")["topic"].to_list() == ["b", "c", "b"]


def test_counts_agreement_and_documents_without_a_valid_vote() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "x", "annotator": "a", "score": 2.0, "topic": "p", "sample": 0},
        {"id": "x", "annotator": "a", "score": 4.0, "topic": "p", "sample": 1},
        {"id": "x", "annotator": "a", "score": 2.0, "topic": "q", "sample": 2},
        {"id": "x", "annotator": "b", "score": 2.0, "topic": "q"},
        {"id": "x", "annotator": "c", "score": 3.0, "topic": "p"},
        {"id": "y", "annotator": "a", "state": "refusal"},
        {"id": "y", "annotator": "b", "state": "invalid", "score": 5.0},
        {"id": "y", "annotator": "c", "state": "refusal"},
    ]
    found = aggregate(votes_of(rows))
    assert found.schema == pl.Schema(AGGREGATE_SCHEMA)
    x, y = found.iter_rows(named=True)
    assert (x["score"], x["topic"], x["n_votes"], x["n_ok"]) == (2, "p", 5, 5), "three samples are one voice"
    assert x["agreement"] == x["topic_agreement"] == pytest.approx(1 / 3)
    assert (y["score"], y["topic"], y["n_votes"], y["n_ok"], y["agreement"]) == (None, None, 3, 0, None)
    written = as_labels(found, votes_of(rows), "median")
    assert written["state"].to_list() == ["ok", "refusal"]
    with pytest.raises(FineeduError, match="no valid vote"):
        aggregate(votes_of(rows[5:]))


@pytest.mark.parametrize("method", METHODS)
def test_results_do_not_depend_on_row_order(method: str) -> None:
    votes = random_votes(60, 3, seed=8, topics=5)
    shuffled = votes.sample(fraction=1, shuffle=True, seed=2)
    assert_frame_equal(aggregate(votes, method), aggregate(shuffled, method), check_exact=True)


@pytest.mark.parametrize("method", METHODS)
def test_written_labels_read_back(tmp_path: Path, method: str) -> None:
    votes = random_votes(40, 2, seed=9, topics=4).with_columns(rubric=pl.lit("edu"), text=pl.lit("a page"))
    found = aggregate(votes, method)
    write_labels(tmp_path / "labels.parquet", as_labels(found, votes, method), {})
    back = read_labels(tmp_path / "labels.parquet")
    assert back["score"].to_list() == found["score"].to_list()
    assert back["topic"].to_list() == found["topic"].to_list()
    assert back["expected_score"].is_not_null().all()
    assert set(back["rubric"]) == {"edu"} and set(back["annotator"]) == {method} and set(back["text"]) == {"a page"}


def plain_dawid_skene(rows: list[tuple[str, str, int]], labels: list[int], steps: int) -> dict[str, dict[int, float]]:
    """Steps 1 to 3 of section 2 of the paper, by loops and without any smoothing."""
    documents, people = sorted({i for i, _, _ in rows}), sorted({k for _, k, _ in rows})
    said: dict[str, list[tuple[str, int]]] = {i: [(k, x) for j, k, x in rows if j == i] for i in documents}
    belief = {i: {q: Counter(x for _, x in said[i])[q] / len(said[i]) for q in labels} for i in documents}
    for _ in range(steps):
        share = {q: sum(belief[i][q] for i in documents) / len(documents) for q in labels}
        error = {}
        for k in people:
            for q in labels:
                votes = {
                    x: sum(belief[i][q] for i in documents for j, y in said[i] if (j, y) == (k, x)) for x in labels
                }
                whole = sum(votes.values())
                error |= {(k, q, x): votes[x] / whole if whole else 0.0 for x in labels}
        for i in documents:
            joint = {q: share[q] * math.prod(error[k, q, x] for k, x in said[i]) for q in labels}
            belief[i] = {q: joint[q] / sum(joint.values()) for q in labels}
    return belief


def test_dawid_skene_is_the_papers_algorithm() -> None:
    # On these votes crowd-kit 1.4.2, run to convergence, gives the same posteriors to 2e-9.
    chance = np.random.default_rng(5)
    true = chance.integers(0, 3, 40)
    skill = {"a": 0.9, "b": 0.8, "c": 0.6, "d": 0.5}
    rows = [
        (f"d{i:02d}", who, int(true[i]) if chance.random() < right else int(chance.integers(0, 3)))
        for i in range(len(true))
        for who, right in skill.items()
        if chance.random() < 0.8
    ]
    votes = votes_of([{"id": i, "annotator": k, "score": float(x)} for i, k, x in rows])
    expected = plain_dawid_skene(rows, [0, 1, 2], 25)
    found = dawid_skene(votes, smoothing=0, max_steps=25, tolerance=0)
    for document, row in zip(found.ids, found.posterior, strict=True):
        assert row == pytest.approx([expected[document][q] for q in (0, 1, 2)], abs=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_the_objective_never_falls_and_it_converges(smoothing: float) -> None:
    found = dawid_skene(random_votes(300, 3, seed=2), smoothing=smoothing)
    assert found.converged
    assert np.diff(found.objective).min() > -1e-7
    assert found.posterior.sum(1) == pytest.approx(1)
    assert found.confusion.sum(2) == pytest.approx(1)


@given(st.integers(0, 1000))
def test_unanimous_votes_stand(seed: int) -> None:
    truth = np.random.default_rng(seed).integers(0, 4, 30).tolist()
    assert labels(votes_table({"a": truth, "b": truth, "c": truth}), "dawid-skene") == truth


@pytest.mark.parametrize("value", ["score", "topic"])
def test_it_recovers_labels_better_than_majority_and_each_annotators_errors(value: str) -> None:
    better, gains = 0, []
    for seed in range(8):
        chance = np.random.default_rng(seed)
        truth = chance.choice(4, 1500, p=[0.2, 0.4, 0.25, 0.15])
        skill = [0.9, 0.85, 0.5, 0.4, 0.4]
        said = {
            f"a{k}": np.where(chance.random(1500) < right, truth, chance.integers(0, 4, 1500))
            for k, right in enumerate(skill)
        }
        names = np.array(["p", "q", "r", "s"]) if value == "topic" else np.arange(4.0)
        votes = votes_table({who: names[vote].tolist() for who, vote in said.items()}, value)
        right = {method: (aggregate(votes, method)[value].to_numpy() == names[truth]).mean() for method in METHODS[1:]}
        gains.append(right["dawid-skene"] - right["majority"])
        better += gains[-1] > 0
        for k, share in enumerate(skill):
            expected = np.full((4, 4), (1 - share) / 4) + share * np.eye(4)
            assert np.abs(dawid_skene(votes, value).confusion[k] - expected).mean() < 0.03
    assert better == 8 and np.mean(gains) > 0.02, gains


def test_with_hardly_any_overlap_labels_keep_their_meaning() -> None:
    truth = np.random.default_rng(3).integers(0, 3, 300).tolist()
    votes = votes_table({"a": truth[:160] + [None] * 140, "b": [None] * 150 + truth[150:]})
    assert labels(votes, "dawid-skene") == truth


def test_rubrics_are_not_mixed() -> None:
    rows = [{"id": "x", "annotator": name, "rubric": name, "score": 1.0} for name in ("edu", "harm")]
    with pytest.raises(FineeduError, match="2 rubrics \\(edu, harm\\): choose one with --rubric"):
        aggregate(votes_of(rows))


def test_unknown_method_and_negative_smoothing_are_told() -> None:
    votes = votes_table({"a": [1.0], "b": [1.0]})
    with pytest.raises(FineeduError, match="median, majority, dawid-skene"):
        aggregate(votes, "mean")
    with pytest.raises(FineeduError, match="smoothing"):
        dawid_skene(votes, smoothing=-1)
