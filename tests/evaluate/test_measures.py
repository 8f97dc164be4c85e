"""Measures against scikit-learn and SciPy, and intervals against simulated truth."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    f1_score,
    mean_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
)

from fineedu.evaluate.measures import BIN_EDGES, RECALL_GRID, difference, measure, precision_recall, rounded
from fineedu.evaluate.resample import Estimate, resamples


def sample(n: int, seed: int = 0, step: float = 0.0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels with the shares of FineWeb-Edu's, and scores that follow them; in steps, so that many are equal."""
    chance = np.random.default_rng(seed)
    truth = chance.choice(6, n, p=[0.12, 0.56, 0.22, 0.07, 0.02, 0.01]).astype(float)
    score = np.clip(truth * 0.7 + 0.4 + chance.normal(0, noise, n), -0.5, 5.5)
    return truth, np.round(score / step) * step if step else score


@pytest.mark.parametrize("step", [0.0, 0.25, 1.0])
def test_values_are_those_of_the_references(step: float) -> None:
    truth, score = sample(1500, seed=3, step=step)
    found = measure(truth, score, count=0)
    value = {name: estimate.value for name, estimate in found.estimates.items()}
    assert value["spearman"] == pytest.approx(spearmanr(truth, score).statistic)
    assert value["quadratic_kappa"] == pytest.approx(cohen_kappa_score(truth, rounded(score), weights="quadratic"))
    assert value["mae"] == pytest.approx(mean_absolute_error(truth, score))
    for level in range(1, 6):
        positive = truth >= level
        assert found.positives[level] == positive.sum()
        assert value[f"auc_{level}"] == pytest.approx(roc_auc_score(positive, score))
        assert value[f"average_precision_{level}"] == pytest.approx(average_precision_score(positive, score))
        for kind, chosen in (("rounded", rounded(score) >= level), ("raw", score >= level)):
            assert value[f"positive_f1_{level}_{kind}"] == pytest.approx(f1_score(positive, chosen))
            assert value[f"macro_f1_{level}_{kind}"] == pytest.approx(f1_score(positive, chosen, average="macro"))
            assert value[f"recall_{level}_{kind}"] == pytest.approx(recall_score(positive, chosen))
            precision = precision_score(positive, chosen, zero_division=np.nan)
            assert (value[f"precision_{level}_{kind}"] or np.nan) == pytest.approx(precision, nan_ok=True)


def test_resampled_values_are_those_of_the_resampled_rows() -> None:
    truth, score = sample(300, seed=4, step=0.25)
    found = measure(truth, score, count=40, seed=9)
    weights = np.concatenate(list(resamples(300, count=40, seed=9)))
    for row in range(40):
        rows = np.repeat(np.arange(300), weights[row].astype(int))
        t, s = truth[rows], score[rows]
        assert found.draws["spearman"][row] == pytest.approx(spearmanr(t, s).statistic)
        assert found.draws["auc_3"][row] == pytest.approx(roc_auc_score(t >= 3, s))
        assert found.draws["average_precision_2"][row] == pytest.approx(average_precision_score(t >= 2, s))
        assert found.draws["macro_f1_3_rounded"][row] == pytest.approx(
            f1_score(t >= 3, rounded(s) >= 3, average="macro")
        )
        kappa = cohen_kappa_score(t, rounded(s), weights="quadratic")
        assert found.draws["quadratic_kappa"][row] == pytest.approx(kappa)
    low, high = np.percentile(found.draws["spearman"], [2.5, 97.5])
    assert (found["spearman"].low, found["spearman"].high) == pytest.approx((low, high))


def test_rounding_is_fineweb_edus() -> None:
    # int(round(max(0, min(score, 5)))): halves to even, so that 2.5 is a 2 and not kept at 3.
    scores = np.array([-1, 0.5, 1.5, 2.5, 2.5001, 3.5, 4.5, 7])
    assert rounded(scores).tolist() == [0, 0, 2, 2, 3, 4, 4, 5]
    truth = np.array([3.0, 3.0, 0.0])
    found = measure(truth, np.array([2.6, 3.1, 2.5]), count=0)
    assert found["recall_3_rounded"].value == 1 and found["precision_3_rounded"].value == 1
    assert found["recall_3_raw"].value == 0.5


def test_macro_f1_flatters() -> None:
    # FineWeb-Edu's own table, class 3 or more: 9.26 % positive, precision .763, recall .617.
    hits, alarms, misses, rest = 2677, 832, 1662, 41698
    truth = np.r_[np.full(hits + misses, 3.0), np.full(alarms + rest, 1.0)]
    score = np.r_[np.full(hits, 3.0), np.full(misses, 2.0), np.full(alarms, 3.0), np.full(rest, 1.0)]
    found = measure(truth, score, count=0)
    assert found["positive_f1_3_rounded"].value == pytest.approx(0.682, abs=0.001)
    assert found["macro_f1_3_rounded"].value == pytest.approx(0.827, abs=0.001)


def test_reliability_bins_and_calibration_error() -> None:
    # Labels that are 0 or 5 are a binary outcome: scikit-learn's curve with the same bins, on the scale's 0 to 1.
    chance = np.random.default_rng(1)
    score = chance.random(4000) * 5
    truth = 5.0 * (chance.random(4000) < (score / 5) ** 1.5)
    found = measure(truth, score, count=200)
    share = np.digitize(score, BIN_EDGES) / len(BIN_EDGES) * 0.9 + 0.05  # one value a bin
    means, _ = calibration_curve(truth == 5, share, n_bins=11)
    assert [b.mean_label.value / 5 for b in found.reliability] == pytest.approx(means.tolist())
    assert sum(b.n for b in found.reliability) == 4000
    by_hand = sum(b.n * abs(b.mean_score - b.mean_label.value) for b in found.reliability) / 4000
    assert found["calibration_error"].value == pytest.approx(by_hand)
    assert measure(truth, truth, count=0)["calibration_error"].value == 0


def test_precision_at_recall() -> None:
    truth, score = sample(800, seed=2, step=0.1)
    curve = precision_recall(truth, score, 3, count=100)
    assert curve is not None
    for recall, found in zip(RECALL_GRID, curve.precision, strict=True):
        cuts = [c for c in np.unique(score) if recall_score(truth >= 3, score >= c) >= recall - 1e-9]
        assert found.value == pytest.approx(precision_score(truth >= 3, score >= max(cuts)))
        assert found.low is not None and found.high is not None and found.low <= found.high
    assert curve.base_rate == pytest.approx((truth >= 3).mean())
    assert precision_recall(np.zeros(9), np.arange(9.0), 3) is None


@pytest.mark.slow
def test_intervals_cover() -> None:
    # 95 % intervals of 200 samples hold the value of the population in 90 % of cases or more.
    names = (
        "spearman",
        "auc_2",
        "average_precision_2",
        "positive_f1_2_rounded",
        "macro_f1_2_raw",
        "mae",
        "quadratic_kappa",
    )
    truth, score = sample(200_000, seed=11, noise=0.8)
    goals = measure(truth, score, levels=(2,), count=0)
    covered = dict.fromkeys(names, 0)
    for seed in range(200):
        rows = np.random.default_rng(seed).integers(0, len(truth), 250)
        found = measure(truth[rows], score[rows], levels=(2,), seed=seed, count=200)
        for name in names:
            low, high, goal = found[name].low, found[name].high, goals[name].value
            assert low is not None and high is not None and goal is not None
            covered[name] += low <= goal <= high
    assert all(180 <= hits <= 200 for hits in covered.values()), covered


def test_clusters_widen_the_interval() -> None:
    chance = np.random.default_rng(8)
    hosts = np.repeat(np.arange(60), 20)
    truth = np.repeat(chance.integers(0, 5, 60), 20) + 0.0
    score = truth + np.repeat(chance.normal(0, 1, 60), 20) + chance.normal(0, 0.1, 1200)
    rows, clusters = measure(truth, score), measure(truth, score, clusters=hosts)
    assert rows["mae"].value == clusters["mae"].value
    wide, narrow = (m["mae"].high - m["mae"].low for m in (clusters, rows))  # type: ignore[operator]
    assert wide > 2.5 * narrow
    alone = measure(truth, score, clusters=np.array([f"{n:05d}" for n in range(1200)]))
    assert alone["mae"] == rows["mae"]


def test_difference_is_paired() -> None:
    truth, score = sample(400, seed=6)
    worse = score + np.random.default_rng(1).normal(0, 0.3, 400)
    one, other = measure(truth, score), measure(truth, worse)
    found = difference(one, other, "spearman")
    assert found.low is not None and found.high is not None and one["spearman"].low is not None
    assert found.value == pytest.approx(one["spearman"].value - other["spearman"].value)  # type: ignore[operator]
    assert found.high - found.low < one["spearman"].high - one["spearman"].low  # type: ignore[operator]
    assert difference(one, one, "mae") == Estimate(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same documents"):
        difference(one, measure(truth[:9], score[:9]), "mae")


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 2.5, 3, 5, np.nan]), st.sampled_from([0, 1, 2.5, 3, 9, -4, np.nan, np.inf])), max_size=30),
    st.integers(0, 3),
)  # fmt: skip
def test_anything_can_be_measured(pairs: list[tuple[float, float]], seed: int) -> None:
    truth, score = (np.array([pair[side] for pair in pairs], float) for side in (0, 1))
    found = measure(truth, score, seed=seed, count=20)
    known = np.isfinite(truth) & np.isfinite(score)
    assert (found.n, found.missing) == (known.sum(), (~known).sum())
    for name, estimate in found.estimates.items():
        for number in (estimate.value, estimate.low, estimate.high):
            assert number is None or np.isfinite(number)
        bounded = name not in ("mae", "calibration_error")
        assert estimate.value is None or -1 <= estimate.value <= (1 if bounded else 10)
    t, s = truth[known], score[known]
    if len(set(s)) < 2 or len(set(t)) < 2:
        assert found["spearman"].value is None
    if not 0 < (rounded(t) >= 3).sum() < len(t):
        assert found["auc_3"].value is None
    order = np.random.default_rng(seed).permutation(len(truth))
    again = measure(truth[order], score[order], seed=seed, count=0)
    for name, estimate in found.estimates.items():
        assert again[name].value == (None if estimate.value is None else pytest.approx(estimate.value, abs=1e-12))


def test_undefined_is_none_and_never_zero() -> None:
    constant = measure(np.array([0.0, 1, 2, 3] * 20), np.full(80, 1.0), count=50)
    assert constant["spearman"] == Estimate(None)
    assert constant["auc_3"].value == 0.5
    assert constant["precision_3_rounded"].value is None and constant["recall_3_rounded"].value == 0
    one_class = measure(np.ones(50), np.linspace(0, 5, 50), count=50)
    assert one_class["auc_3"].value is None and one_class["positive_f1_3_rounded"].value is None
    # A single positive is missing from a third of the resamples: that share is told.
    rare = measure(np.r_[np.zeros(60), 3.0], np.linspace(0, 4, 61), count=400)["auc_3"]
    assert rare.value == 1 and rare.undefined == pytest.approx(0.37, abs=0.08)
    assert rare.as_json().keys() == {"value", "low", "high", "undefined"}


def test_same_seed_same_figures() -> None:
    truth, score = sample(500)
    assert measure(truth, score, seed=1) == measure(truth, score, seed=1)
    assert measure(truth, score, seed=1) != measure(truth, score, seed=2)


@pytest.mark.slow
def test_ten_thousand_documents_in_half_a_minute() -> None:
    truth, score = sample(10_000)
    start = time.process_time()
    measure(truth, score)
    # Processor time over two cores; wall time is 2.4 s on an idle machine.
    assert time.process_time() - start < 60
