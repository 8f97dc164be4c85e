"""Alarms, through find_alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from fineedu.annotate.alarms import Alarm, Limits, find_alarms
from tests.annotate.votes import votes_of


def scored(counts: dict[int, int]) -> list[dict[str, Any]]:
    places = [score for score, count in counts.items() for _ in range(count)]
    return [{"id": f"d{n}", "annotator": "a", "score": float(score)} for n, score in enumerate(places)]


def of(alarms: list[Alarm], what: str) -> list[Alarm]:
    return [alarm for alarm in alarms if alarm.what == what]


EVEN = {0: 200, 1: 200, 2: 200, 3: 200, 4: 100, 5: 100}


def test_a_healthy_annotator_raises_none() -> None:
    assert find_alarms(votes_of(scored(EVEN))) == []


def test_a_collapsed_scale_fires() -> None:
    alarms = find_alarms(votes_of(scored({0: 30, 1: 900, 2: 30, 3: 40})))
    (common,) = of(alarms, "common_score")
    bounds = binomtest(900, 1000).proportion_ci(method="wilson")
    assert (common.value, common.low, common.high) == pytest.approx((0.9, bounds.low, bounds.high))
    assert common.limit == 0.8 and common.n == 1000 and common.fires and common.detail == "ok votes with score 1"
    rare = of(alarms, "rare_score")
    assert [alarm.detail[-1] for alarm in rare] == ["4", "5"]
    assert all(alarm.fires and alarm.value == 0 for alarm in rare)


def test_few_votes_only_hint() -> None:
    alarms = find_alarms(votes_of(scored({0: 1, 1: 9})))
    assert {alarm.what for alarm in alarms} == {"rare_score", "common_score"}
    assert not any(alarm.fires for alarm in alarms)


@pytest.mark.parametrize("state", ["invalid", "refusal", "truncated", "error", "abstain"])
def test_failures_fire_and_are_no_scores(state: str) -> None:
    rows = scored(EVEN)
    rows += [{"id": f"f{n}", "annotator": "a", "state": state, "score": 0.0} for n in range(250)]
    (alarm,) = find_alarms(votes_of(rows))
    assert alarm.what == state and alarm.value == pytest.approx(0.2) and alarm.n == 1250 and alarm.fires
    assert find_alarms(votes_of(rows), Limits(**{state: 0.3})) == []


def positioned(weights: np.ndarray[Any, Any], votes: int, seed: int) -> pl.DataFrame:
    chance = np.random.default_rng(seed)
    places = chance.choice(len(weights), votes, p=weights / weights.sum())
    rows = [
        {"id": f"d{n}", "annotator": "a", "topic": "t", "choice_position": int(place), "n_choices": len(weights)}
        for n, place in enumerate(places)
    ]
    return votes_of(rows)


def test_a_favoured_place_in_the_list_fires() -> None:
    weights = np.ones(24)
    weights[0] = 4
    (alarm,) = find_alarms(positioned(weights, 600, seed=1))
    assert alarm.what == "position_bias" and alarm.fires and alarm.value < alarm.limit == 0.001
    assert "bin 1 of 24" in alarm.detail and "4.2% expected" in alarm.detail
    few = positioned(np.array([8.0] * 6 + [1.0] * 18), 60, seed=1)
    (alarm,) = find_alarms(few)
    assert "of 12 holds" in alarm.detail, "neighbouring places share a bin where votes are few"


def test_even_places_raise_no_alarm_more_often_than_the_limit_says() -> None:
    limits = Limits(position_p=0.05)
    false = sum(bool(find_alarms(positioned(np.ones(10), 150, seed), limits)) for seed in range(150))
    assert false <= 15, f"{false} of 150 at a limit of 5 %"


def test_lists_of_several_lengths_are_tested_together() -> None:
    chance = np.random.default_rng(2)
    sizes = chance.choice([4, 7], 700)
    rows = [
        {
            "id": f"d{n}",
            "annotator": "a",
            "topic": "t",
            "choice_position": int(chance.integers(size)),
            "n_choices": int(size),
        }
        for n, size in enumerate(sizes)
    ]
    assert find_alarms(votes_of(rows)) == []
    for row in rows:
        row["choice_position"] = row["n_choices"] - 1
    assert [alarm.what for alarm in find_alarms(votes_of(rows))] == ["position_bias"]


def test_votes_without_positions_are_not_tested() -> None:
    votes = positioned(np.array([1.0, 0.0]), 100, seed=3)
    assert of(find_alarms(votes), "position_bias")
    assert find_alarms(votes.drop("n_choices")) == []
