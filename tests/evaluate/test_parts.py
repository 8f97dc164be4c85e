"""Baselines, duplicates, slices, ceiling and learning curve, each by itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.errors import FineeduError
from fineedu.evaluate.baselines import COMMONEST, HOST, LENGTH, baselines, match_distribution
from fineedu.evaluate.ceiling import ceiling, upper_bound
from fineedu.evaluate.curve import curve_from_scores, learning_curve
from fineedu.evaluate.leakage import (
    assign_folds,
    candidate_pairs,
    duplicate_groups,
    group_names,
    normalised,
    similar_pairs,
    training_overlap,
)
from fineedu.evaluate.measures import measure
from fineedu.evaluate.resample import Estimate
from fineedu.evaluate.slices import length_bucket, slice_measures
from tests.evaluate.conftest import text


def spearman(truth: np.ndarray, score: np.ndarray) -> float:
    value = measure(truth, score, count=0)["spearman"].value
    return float("nan") if value is None else value


def test_baselines_find_what_is_there_and_no_more() -> None:
    chance = np.random.default_rng(3)
    hosts = [f"h{n % 20}" for n in range(600)]
    by_host = chance.integers(0, 5, 20)
    lengths = chance.integers(100, 9000, 600)
    folds = assign_folds([str(n) for n in range(600)], 5)
    noise = chance.integers(0, 5, 600).astype(float)
    from_length = np.clip(lengths // 2000 + chance.integers(0, 2, 600), 0, 5).astype(float)
    from_host = by_host[np.arange(600) % 20].astype(float)
    found = baselines(from_length, lengths, folds, hosts)
    assert spearman(from_length, found[LENGTH]) > 0.8 and abs(spearman(from_length, found[HOST])) < 0.15
    assert (found[LENGTH] >= 3).mean() == pytest.approx((from_length >= 3).mean(), abs=0.05)
    found = baselines(from_host, lengths, folds, hosts)
    assert spearman(from_host, found[HOST]) > 0.9 and abs(spearman(from_host, found[LENGTH])) < 0.15
    # On pure noise a baseline fitted on its own test documents would look good.
    found = baselines(noise, lengths, folds, [f"{n % 200}" for n in range(600)])
    assert all(not spearman(noise, scores) > 0.12 for scores in found.values())
    assert found.keys() == {COMMONEST, LENGTH, HOST}
    assert baselines(noise, lengths, np.zeros(600, int)) == {}


def test_baselines_of_odd_data() -> None:
    folds = np.arange(12) % 3
    for truth in (np.full(12, 2.0), np.arange(12) % 2 * 5.0):
        for lengths in (np.zeros(12), np.arange(12)):
            found = baselines(truth, lengths, folds, [None, "a"] * 6)
            assert all(np.isfinite(scores).all() for scores in found.values())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(0, 9))
def test_matched_predictions_rise_within_the_labels(fitted: list[int], seed: int) -> None:
    truth = np.random.default_rng(seed).integers(0, 6, len(fitted)).astype(float)
    mapped = match_distribution(np.array(fitted, float), truth, np.linspace(-1, 6, 15))
    assert (np.diff(mapped) >= 0).all()
    assert mapped.min() >= truth.min() and mapped.max() <= truth.max()
    if len(set(fitted)) == len(fitted):
        assert sorted(match_distribution(np.array(fitted, float), truth, np.array(fitted, float))) == sorted(truth)


def five_grams(line: str) -> set[tuple[str, ...]]:
    words = line.split()
    return {tuple(words[n : n + 5]) for n in range(max(1, len(words) - 4))} if words else set()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.sampled_from(["", "x", "plant light"])), max_size=12)
)
def test_similar_pairs_are_exactly_those_of_brute_force(made: list[tuple[int, int, str]]) -> None:
    lines = [f"{' '.join(text(seed, 30).split()[:size])} {end}".strip() for seed, size, end in made]
    sets = [five_grams(line) for line in lines]
    expected = {
        (a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        for a in range(len(lines))
        for b in range(a + 1, len(lines))
        if sets[a] and sets[b] and len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= 0.8
    }
    found = {(a, b): jaccard for a, b, jaccard in similar_pairs(pl.Series(lines, dtype=pl.String)).iter_rows()}
    assert found == pytest.approx(expected)


def test_duplicates_whatever_their_dress() -> None:
    base = text(1, 200)
    words = base.split()
    near = " ".join([*words[:100], "inserted", *words[100:]])  # 191 of 206 shingles in common
    far = " ".join(words[n] if n % 9 else "other" for n in range(200))
    dressed = base.upper().replace(" ", ",\n ") + "!"
    texts = pl.Series([base, text(2, 200), dressed, near, far, "", None, "short one", "Short, one."])
    assert normalised(texts)[0] == normalised(texts)[2]
    assert duplicate_groups(texts).tolist() == [0, 1, 0, 0, 4, 5, 6, 7, 7]
    ids = list("abcdefghi")
    assert group_names(ids, texts) == ["a", "b", "a", "a", "e", "f", "g", "h", "h"]
    order = [3, 8, 0, 2, 1, 7, 4, 5, 6]
    assert group_names([ids[n] for n in order], texts[order]) == [group_names(ids, texts)[n] for n in order]
    overlap = training_overlap(
        list("vwxyz"), pl.Series([text(9, 50), dressed, near, far, None]), ["v", "q"], pl.Series([base, ""])
    )
    assert [part.nonzero()[0].tolist() for part in (overlap.same_id, overlap.exact, overlap.near)] == [[0], [1], [2]]
    assert overlap.any.tolist() == [True, True, True, False, False]


def changed(seed: int, share: float) -> str:
    """A text of 200 words, a share of them replaced: 0.01 leaves it similar, 0.2 does not."""
    chance = np.random.default_rng(seed)
    words = text(seed // 3, 200).split()
    return " ".join(word if chance.random() > share else f"other{chance.integers(9)}" for word in words)


def test_minhash_finds_what_the_index_finds() -> None:
    texts = pl.Series([changed(seed, 0.01 if seed % 2 else 0.2) for seed in range(300)]).unique(maintain_order=True)
    exact, found = similar_pairs(texts), candidate_pairs(texts)
    assert len(exact) >= 30
    assert found.equals(exact)
    order = np.random.default_rng(0).permutation(len(texts))
    again = candidate_pairs(texts[order])
    pairs = {tuple(sorted((int(order[a]), int(order[b])))) for a, b in again.select("a", "b").iter_rows()}
    assert pairs == set(exact.select("a", "b").iter_rows())
    assert candidate_pairs(pl.Series(["", "!"])).is_empty()


def test_many_texts_are_still_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    from fineedu.evaluate import leakage

    monkeypatch.setattr(leakage, "EXACT_LIMIT", 10)
    training = [changed(seed, 0.0) for seed in range(0, 60, 3)]
    overlap = training_overlap(
        list("abc"), pl.Series([changed(31, 0.01), training[2], text(999, 80)]), [], pl.Series(training)
    )
    assert [part.nonzero()[0].tolist() for part in (overlap.exact, overlap.near)] == [[1], [0]]
    # A template that all share stays linear, and one group.
    pages = pl.Series([f"{text(5, 300)} page {number}" for number in range(200)])
    assert len(set(duplicate_groups(pages).tolist())) == 1


def test_real_revisions_are_found(real_data: Path) -> None:
    def rows(name: str) -> list[dict]:  # type: ignore[type-arg]
        with gzip.open(real_data / "dups" / name, "rt") as stream:
            return [json.loads(line) for line in stream]

    texts = {row["id"]: row["text"] for row in rows("revisions.jsonl.gz")[:1200]}
    place = {name: number for number, name in enumerate(texts)}
    pairs = [row["meta"] for row in rows("pairs.jsonl.gz") if {row["meta"]["a"], row["meta"]["b"]} <= texts.keys()]
    found = similar_pairs(pl.Series(list(texts.values())))
    near = set(found.select("a", "b").iter_rows())
    assert len(near - set(candidate_pairs(pl.Series(list(texts.values()))).select("a", "b").iter_rows())) <= 1
    alike = [tuple(sorted((place[p["a"]], place[p["b"]]))) for p in pairs if p["jaccard_word5"] >= 0.8]
    unlike = [tuple(sorted((place[p["a"]], place[p["b"]]))) for p in pairs if p["jaccard_word5"] < 0.78]
    assert len(alike) > 300 and len(unlike) > 50
    # Their words keep punctuation, ours do not: a few pairs at the border differ.
    assert sum(pair in near for pair in alike) >= 0.99 * len(alike)
    assert sum(pair in near for pair in unlike) <= 0.03 * len(unlike)


def test_folds_depend_on_nothing_but_the_group() -> None:
    names = [f"host{n % 50}" for n in range(1000)]
    folds = assign_folds(names, 5)
    assert {len({fold for name, fold in zip(names, folds, strict=True) if name == host}) for host in set(names)} == {1}
    assert assign_folds(names[::-1], 5).tolist() == folds[::-1].tolist()
    assert assign_folds(["host7"], 5)[0] == folds[7]
    assert assign_folds(names, 5, seed=1).tolist() != folds.tolist()
    assert np.bincount(assign_folds([str(n) for n in range(5000)], 5)).min() > 900


def test_small_slices_have_no_numbers() -> None:
    chance = np.random.default_rng(0)
    truth = chance.integers(0, 5, 200).astype(float)
    names: list[str | None] = ["big"] * 120 + ["few positives"] * 40 + ["tiny"] * 29 + [None] * 11
    truth[120:160] = chance.integers(0, 2, 40)
    found = {
        part.name: part for part in slice_measures(truth, truth + chance.normal(0, 1, 200), names, level=3, count=50)
    }
    assert list(found) == ["big", "few positives", "tiny", "not told"]
    assert found["tiny"].estimates is None and found["tiny"].as_json() == {
        "name": "tiny",
        "n": 29,
        "positives": int((truth[160:189] >= 3).sum()),
        "too_small": True,
    }
    assert found["big"].estimates is not None and found["big"].estimates["auc_3"].low is not None
    assert found["few positives"].estimates is not None and "auc_3" not in found["few positives"].estimates
    buckets = length_bucket(pl.Series([0, 499, 500, 15_999, 16_000, None]))
    expected = ["under 500", "under 500", "500 to 999", "8,000 to 15,999", "16,000 and more", None]
    assert buckets.to_list() == expected


def test_ceiling_bounds_a_perfect_model() -> None:
    # Two annotators with equal, independent errors: the truth itself reaches the bound and not more.
    chance = np.random.default_rng(2)
    quality = chance.normal(2.5, 1, 3000)
    one, two = (quality + chance.normal(0, 0.7, 3000) for _ in range(2))
    ids = [f"{n:04d}" for n in range(3000)]
    votes = pl.concat(
        pl.DataFrame({"id": ids, "annotator": name, "score": scores, "state": "ok"})
        for name, scores in (("one", one), ("two", two))
    )
    found = ceiling(votes, ["one"], count=200)
    assert found is not None and found.bound is not None and found.main.spearman is not None
    assert (found.main.one, found.main.other, found.main.n, len(found.pairs)) == ("one", "two", 3000, 1)
    assert found.main.spearman.value == pytest.approx(1 / 1.49, abs=0.03)
    assert found.bound.value == pytest.approx(spearman(one, quality), abs=0.02)
    assert found.bound.low is not None and found.bound.high is not None
    assert found.bound.low < spearman(one, quality) < found.bound.high
    assert ceiling(votes.filter(pl.col("annotator") == "one"), ["one"]) is None
    few = ceiling(votes.filter((pl.col("annotator") == "one") | (pl.col("id") < "0020")), ["one"])
    assert few is not None and few.main.n == 20 and few.main.spearman is None and few.bound is None
    assert upper_bound(Estimate(-0.1, -0.3, 0.1)) is None
    assert upper_bound(Estimate(0.25, -0.1, 0.49)) == Estimate(0.5, 0.0, 0.7)


def test_learning_curve_learns_and_holds_out() -> None:
    chance = np.random.default_rng(4)
    features = chance.normal(0, 1, (500, 30))
    truth = np.clip(np.round(2 + features @ chance.normal(0, 0.3, 30)), 0, 5)
    ids = [f"{n:03d}" for n in range(500)]
    groups = [f"g{n // 2}" for n in range(500)]
    calls: list[tuple[int, frozenset[int]]] = []

    def fit_score(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        assert not {groups[n] for n in train} & {groups[n] for n in test}
        calls.append((len(train), frozenset(train.tolist())))
        weights, *_ = np.linalg.lstsq(np.c_[features[train], np.ones(len(train))], truth[train], rcond=None)
        return np.c_[features[test], np.ones(len(test))] @ weights

    found = learning_curve(fit_score, truth, ids, [40, 80, 320, 9999], groups=groups, count=100)
    assert [(point.n_labels, point.n) for point in found.points] == [(40, 500), (80, 500), (320, 500)]
    values = [point.estimates["spearman"].value or 0 for point in found.points]
    assert values == sorted(values) and values[-1] > 0.8
    assert found.last_gain["spearman"].low is not None and found.last_gain["spearman"].low > 0
    for fold in range(5):  # smaller sets are parts of larger ones
        assert calls[fold][1] < calls[5 + fold][1] < calls[10 + fold][1]
    with pytest.raises(FineeduError, match="5 folds leave"):
        learning_curve(fit_score, truth, ids, [9999])
    partly = {10: np.where(np.arange(500) < 400, truth, np.nan), 20: truth}
    assert [point.n for point in curve_from_scores(partly, truth, count=10).points] == [400, 400]
