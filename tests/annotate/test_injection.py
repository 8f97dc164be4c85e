"""The injection test set, and what it says of annotators that obey, resist, refuse or waver."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import yaml

from fineedu.annotate.injection import load_injection_pages, measure_shift
from fineedu.assets import asset_dir
from fineedu.errors import FineeduError
from fineedu.labels import LABEL_SCHEMA

PAGES = load_injection_pages()


def votes(rows: list[dict[str, object]], samples: int = 1) -> pl.DataFrame:
    base = {"annotator": "model", "rubric": "edu", "rubric_hash": "0", "engine": "fake", "state": "ok"}
    return pl.DataFrame([base | {"sample": n} | row for row in rows for n in range(samples)], schema=LABEL_SCHEMA)


def honest(**changes: dict[str, object]) -> pl.DataFrame:
    rows = PAGES.select("id", pl.col("honest_score").alias("score"), pl.col("expected_topic").alias("topic")).to_dicts()
    return votes([row | changes.get(row["id"], {}) for row in rows])


def obedient() -> pl.DataFrame:
    changes = {}
    for row in PAGES.to_dicts():
        if row["ordered_score"] is not None:
            changes[row["id"]] = {"score": row["ordered_score"]}
        elif row["ordered_topic"]:
            changes[row["id"]] = {"topic": row["ordered_topic"]}
        elif row["ordered_behaviour"] == "refuse":
            changes[row["id"]] = {"state": "refusal", "score": None, "topic": None}
    return honest(**changes)


def test_the_set_is_broad_and_its_pages_are_of_page_length() -> None:
    assert PAGES.height >= 44
    assert min(Counter(PAGES["kind"]).values()) >= 2 and PAGES["kind"].n_unique() >= 20
    assert {"en", "de", "es", "fr"} <= set(PAGES["language"])
    assert PAGES["page"].n_unique() >= 12
    orders = PAGES.select("ordered_score", "ordered_topic", "ordered_behaviour")
    assert orders.select(pl.sum_horizontal(pl.all().is_not_null()) == 1).to_series().all()
    assert PAGES["honest_score"].is_between(0, 5).all() and PAGES["honest_score"].n_unique() >= 5
    assert (PAGES["honest_score"] != PAGES["ordered_score"]).drop_nulls().all()
    for text in (*PAGES["clean_text"], *PAGES["injected_text"]):
        assert 80 <= len(text.split()) <= 400
        assert text == text.strip()


def test_topics_are_those_of_the_taxonomy() -> None:
    known = set(yaml.safe_load((asset_dir("annotate") / "topics.yaml").read_text(encoding="utf-8")))
    named = {*PAGES["expected_topic"].drop_nulls(), *PAGES["ordered_topic"].drop_nulls()}
    assert named <= known and len(named) >= 12
    assert all(text.count(slug) for slug, text in PAGES.select("ordered_topic", "injected").drop_nulls().iter_rows())


def test_the_clean_twin_lacks_the_injected_words_and_nothing_else() -> None:
    for clean, injected, words in PAGES.select("clean_text", "injected_text", "injected").iter_rows():
        before, after = injected.split(words)
        assert clean == before + after
        assert words not in clean
    assert not any("\u200b" in text or "\u202e" in text for text in PAGES["clean_text"])


def test_an_annotator_that_resists_does_not_move() -> None:
    report = measure_shift(honest(), honest())
    assert report.scores.n == PAGES["ordered_score"].count()
    assert (report.scores.points, report.scores.low, report.scores.high) == (0, 0, 0)
    assert (report.scores.toward, report.scores.obeyed, report.already) == (0, 0, 0)
    assert report.states.height == report.topics.height == 0 and report.missing == []
    assert report.topics_n == PAGES["expected_topic"].count()


def test_an_annotator_that_obeys_moves_all_the_way() -> None:
    report = measure_shift(honest(), obedient())
    way = (PAGES["ordered_score"] - PAGES["honest_score"]).abs()
    assert report.scores.points == pytest.approx(way.mean())
    assert report.scores.low is not None and report.scores.high is not None
    assert report.scores.low < report.scores.points < report.scores.high
    assert (report.scores.toward, report.scores.obeyed) == (1, 1)
    assert report.by_kind["points"].is_sorted(descending=True)
    assert set(report.states["state"]) == {"refusal"}
    assert set(report.states["kind"]) == {"order_refuse"} and set(report.states["share"]) == {1.0}
    assert report.topics.select("kind").unique().item() == "topic_steering"
    assert report.topics["injected"].to_list() == report.topics["ordered"].to_list()


def test_moving_away_counts_against_and_what_is_already_there_is_left_out() -> None:
    ordered = PAGES.filter(pl.col("ordered_score") == 5)["id"].to_list()
    clean = honest(**{ordered[0]: {"score": 5}, ordered[1]: {"score": 3}, ordered[2]: {"score": 2}})
    moved = honest(**{ordered[0]: {"score": 1}, ordered[1]: {"score": 1}, ordered[2]: {"score": 4}})
    report = measure_shift(clean, moved)
    assert report.already == 1 and report.scores.n == PAGES["ordered_score"].count() - 1
    found = dict(report.pages.select("id", "moved").iter_rows())
    assert [found[name] for name in ordered[:3]] == [None, -2, 2]


def test_failures_are_states_and_no_scores() -> None:
    first, second, third = PAGES["id"][:3]
    clean = honest(**{first: {"state": "invalid", "score": None, "topic": None}}).filter(pl.col("id") != third)
    injected = honest(
        **{
            first: {"state": "invalid", "score": None, "topic": None},
            second: {"state": "truncated", "score": None, "topic": None},
            third: {"state": "invalid", "score": None, "topic": None},
        }
    )
    report = measure_shift(clean, injected)
    # The first fails in both forms; of the third nothing is known of its clean form.
    assert report.states.select("id", "state").rows() == [(second, "truncated")]
    assert report.missing == [third]
    assert report.pages.filter(pl.col("id").is_in([first, second, third]))["moved"].null_count() == 3


def test_samples_are_averaged_and_rows_may_come_in_any_order() -> None:
    draw = random.Random(1)
    rows = [{"id": name, "score": draw.randint(0, 5), "sample": n} for name in PAGES["id"] for n in range(5)]
    clean, injected = votes(rows[::-1]), votes([row | {"score": draw.randint(0, 5)} for row in rows])
    report = measure_shift(clean, injected)
    again = measure_shift(
        clean.sample(fraction=1, shuffle=True, seed=3), injected.sample(fraction=1, shuffle=True, seed=4)
    )
    assert report.scores == again.scores
    assert report.by_kind.equals(again.by_kind) and report.pages.equals(again.pages)


def test_interval_covers_the_truth() -> None:
    draw = random.Random(5)
    scored = PAGES.filter(pl.col("ordered_score") == 5)["id"].to_list()
    clean = votes([{"id": name, "score": 0.0} for name in scored])
    hits = 0
    for seed in range(40):
        obeys = [draw.random() < 0.3 for _ in scored]
        injected = votes([{"id": name, "score": 5.0 * obey} for name, obey in zip(scored, obeys, strict=True)])
        shift = measure_shift(clean, injected, PAGES, seed).scores
        hits += shift.low <= 1.5 <= shift.high
    assert hits >= 34  # of 40; at 95 % fewer than 34 come once in 300 tries, some more as n is 38


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop("topic"), "need the column topic"),
        (lambda frame: frame.with_columns(id=pl.lit("other")), "no vote is of a page"),
        (lambda frame: frame.with_columns(annotator=pl.col("id")), "of one annotator"),
        (lambda frame: frame.with_columns(rubric_hash=pl.lit("1")), "of one annotator"),
    ],
)
def test_votes_that_cannot_be_compared_are_told(change: object, message: str) -> None:
    with pytest.raises(FineeduError, match=message):
        measure_shift(honest(), change(honest()))  # type: ignore[operator]


def test_damaged_sets_are_told(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    row = {"id": "a", "kind": "direct_order", "text": "one two one", "injected": "one"}
    for content, message in (
        (json.dumps(row), "in its text, once"),
        (json.dumps(row | {"injected": "three"}), "in its text, once"),
        (json.dumps(row | {"injected": "two"}) + "\n" + json.dumps(row), "an id of its own"),
        ("{", "cannot read"),
    ):
        path.write_text(content + "\n")
        with pytest.raises(FineeduError, match=message):
            load_injection_pages(path)
    with pytest.raises(FineeduError, match="cannot read"):
        load_injection_pages(tmp_path / "none.jsonl")
