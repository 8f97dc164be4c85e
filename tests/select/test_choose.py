from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids, reshuffle, uniform
from fineedu.recipe import SelectConfig
from fineedu.select.cap import Cap
from fineedu.select.choose import Selector
from fineedu.select.mixture import rake


def pool(n: int = 3000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "id": [f"doc-{seed}-{i}" for i in range(n)],
            "score": np.clip(rng.normal(1.3, 1, n), 0, None).astype(np.float32),
            "bucket": rng.integers(0, 20, n).astype(np.uint8),
            "topic": rng.choice(["science", "sport", "shop"], n, p=[0.2, 0.5, 0.3]),
            "format": rng.choice(["article", "forum"], n, p=[0.7, 0.3]),
            "host": rng.choice([f"h{k}" for k in range(60)], n, p=1 / np.arange(1, 61) / sum(1 / np.arange(1, 61))),
            "text_bytes": rng.lognormal(7, 1, n).astype(np.uint32),
        }
    )


def in_batches(frame: pl.DataFrame, size: int) -> Callable[[Sequence[str]], Iterator[pl.DataFrame]]:
    return lambda columns: iter([part.select(columns) for part in frame.iter_slices(size)])


def choose(frame: pl.DataFrame, size: int = 700, **config: Any) -> tuple[pl.DataFrame, Any]:
    selector = Selector(SelectConfig.model_validate(config), frame.schema)
    cuts, caps = selector.fit(in_batches(frame, size))
    columns = ["id", *selector.columns]
    judged = pl.concat(selector.judge(part.select(columns), cuts, caps) for part in frame.iter_slices(size))
    return frame.hstack(judged), cuts


CONFIGS: list[dict[str, Any]] = [
    {"budget": 300_000},
    {"by": "score", "budget": 1_000_000, "unit": "bytes"},
    {"by": "score", "budget": 200, "unit": "documents", "sample": {"temperature": 0.5}},
    {"by": "score", "top": {"share": 0.1, "per": ["topic"]}, "unit": "documents"},
    {"upsample": {"column": "bucket", "repeats": [0] * 8 + [0.5] * 4 + [1] * 6 + [2.5, 7]}},
    {"mixture": {"targets": {"topic": {"science": 0.5, "sport": 0.25, "shop": 0.25}}}},
    {
        "by": "score",
        "cap": {"per": "host", "documents": 20},
        "top": {"share": 0.8},
        "budget": 400_000,
        "mixture": {
            "targets": {"topic": {"science": 0.6, "*": 0.4}, "format": {"article": 0.5, "forum": 0.5}},
            "max_repeat": 3,
        },
    },
]


@pytest.mark.parametrize("config", CONFIGS)
def test_order_and_shards_change_nothing(config: dict[str, Any]) -> None:
    frame = pool()
    first, _ = choose(frame, 3000, **config)
    shuffled, _ = choose(frame.sample(fraction=1, shuffle=True, seed=4), 171, **config)
    assert first.sort("id").equals(shuffled.sort("id"))
    other, _ = choose(frame, 3000, **config, seed=1)
    random = {"budget", "sample", "upsample", "mixture"} & set(config) and not (
        config.get("by") and "sample" not in config
    )
    if random:
        assert not other["repeat"].equals(first["repeat"])


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 3000))
def test_budget_is_filled_to_the_document(seed: int, budget: int) -> None:
    frame = pool(40, seed)
    rows = frame.sort("score", descending=True)
    try:
        found, cuts = choose(frame, by="score", budget=budget)
    except FineeduError as error:
        assert "less than the first document" in str(error)
        assert rows["text_bytes"][0] > budget
        return
    kept = found.filter("keep").sort("score", descending=True)
    total = int(kept["text_bytes"].sum())
    assert total <= budget and cuts.told["selected"] == total
    if kept.height < 40 and rows["score"].is_unique().all():
        assert kept["id"].to_list() == rows["id"].head(kept.height).to_list()
        assert total + rows["text_bytes"][kept.height] > budget


def test_top_share_by_group_is_plain_python() -> None:
    frame = pool()
    found, _ = choose(frame, by="score", top={"share": 0.1, "per": ["topic", "format"]}, unit="documents")
    for group in found.partition_by("topic", "format"):
        ranked = group.sort("score", descending=True)
        expected = -(-group.height // 10)
        assert ranked["keep"].to_list() == [True] * expected + [False] * (group.height - expected)
    assert set(found.filter(~pl.col("keep"))["reasons"].explode()) == {"select.top"}
    tiny, _ = choose(frame.head(1), by="score", top={"share": 0.01})
    assert tiny["keep"].all()


def test_cap_keeps_the_best_of_each_host() -> None:
    frame = pool().with_columns(host=pl.when(pl.int_range(pl.len()) % 100 == 0).then(None).otherwise("host"))
    found, _ = choose(frame, by="score", cap={"per": "host", "documents": 20})
    best: dict[str | None, list[float]] = defaultdict(list)
    for host, score in frame.select("host", "score").iter_rows():
        best[host].append(score)
    for (host,), group in found.group_by("host"):
        kept = sorted(group.filter("keep")["score"], reverse=True)
        expected = sorted(best[host], reverse=True)  # type: ignore[index]
        assert kept == (expected[:20] if host is not None else expected)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99)), max_size=60), st.integers(1, 5))
def test_cap_in_pieces(rows: list[tuple[int, int]], size: int) -> None:
    rows = list(set(rows))
    cap = Cap(size)
    for group, key in rows:
        cap.update(pl.Series([group], dtype=pl.UInt64), pl.Series([key], dtype=pl.UInt64))
    counted = Counter(group for group, _ in rows)
    expected = [
        (group, sorted((k for g, k in rows if g == group), reverse=True)[size - 1])
        for group in sorted(counted)
        if counted[group] > size
    ]
    assert cap.cuts().rows() == expected


def test_sampling_by_score_has_the_wanted_odds() -> None:
    """Drawing one of three documents: chances in proportion to exp(score / temperature)."""
    groups = 2000
    frame = pl.DataFrame(
        {
            "id": [f"{name}{n}" for n in range(groups) for name in "abc"],
            "score": [0.0, 1.0, 2.0] * groups,
            "group": [n for n in range(groups) for _ in "abc"],
            "text_bytes": [1] * (3 * groups),
        }
    )
    found, _ = choose(frame, by="score", sample={"temperature": 2.0}, top={"share": 0.01, "per": ["group"]})
    drawn = Counter(found.filter("keep")["id"].str.head(1).to_list())
    assert drawn.total() == groups
    odds = np.exp(np.array([0.0, 1.0, 2.0]) / 2)
    expected = groups * odds / odds.sum()
    chi = sum((drawn[name] - mean) ** 2 / mean for name, mean in zip("abc", expected, strict=True))
    assert chi < 13.8  # 99.9 % of chi-square with 2 degrees of freedom


def test_upsampling_curve_repeats_by_bucket() -> None:
    repeats = [0.0] * 8 + [0.5] * 4 + [1.0] * 6 + [2.5, 7.0]
    frame = pool(20_000)
    found, _ = choose(frame, upsample={"column": "bucket", "repeats": repeats})
    for (bucket,), group in found.group_by("bucket"):
        wanted = repeats[bucket]  # type: ignore[call-overload]
        assert set(group["repeat"]) <= {int(wanted), int(wanted) + (wanted % 1 > 0)}
        assert group["repeat"].mean() == pytest.approx(wanted, abs=4 * 0.5 / group.height**0.5)
        assert group["keep"].equals((group["repeat"] > 0).alias("keep"))
    assert found.schema["repeat"] == pl.UInt16
    gone = found.filter(~pl.col("keep"))["reasons"].explode()
    assert set(gone) == {"select.upsample"}
    capped, cuts = choose(frame, upsample={"column": "bucket", "repeats": repeats}, budget=500_000)
    spent = (capped["text_bytes"].cast(pl.Int64) * capped["repeat"]).sum()
    assert 480_000 < spent <= 500_000 and spent == cuts.told["selected"]


def test_mixture_hits_its_shares() -> None:
    frame = pool(20_000)
    targets = {"topic": {"science": 0.5, "*": 0.5}, "format": {"article": 0.4, "forum": 0.6}}
    found, cuts = choose(frame, by="score", mixture={"targets": targets, "max_repeat": 3}, budget=8_000_000)
    spent = found.with_columns(mass=pl.col("text_bytes").cast(pl.Int64) * pl.col("repeat"))
    total = spent["mass"].sum()
    assert total == pytest.approx(8_000_000, rel=0.01)
    assert spent.filter(topic="science")["mass"].sum() / total == pytest.approx(0.5, abs=0.01)
    assert spent.filter(format="forum")["mass"].sum() / total == pytest.approx(0.6, abs=0.01)
    assert spent["repeat"].max() <= 3
    assert sum(row["after"] for row in cuts.told["mixture"]) == pytest.approx(1)
    least = spent.filter("keep").group_by("topic", "format").agg(pl.col("score").min())
    assert least["score"].max() > 0.5  # the best of each, not any
    without, _ = choose(frame, mixture={"targets": {"topic": {"science": 1.0}}})
    assert without.filter("keep")["topic"].unique().to_list() == ["science"]
    assert set(without.filter(~pl.col("keep"))["reasons"].explode()) == {"select.mixture:not_wanted"}
    more, cuts = choose(frame, mixture={"targets": targets}, budget=1e12)
    assert "max_repeat 1 allows" in cuts.told["budget_not_reached"]
    assert more["repeat"].max() == 1


@given(st.lists(st.floats(0.01, 1), min_size=6, max_size=6), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_raking_is_the_reference_and_keeps_odds(mass, a, b) -> None:
    values = [[x, y] for x in "pq" for y in "rst"]
    targets = {"x": {"p": a, "q": 1 - a}, "y": {"r": b / 2, "s": b / 2, "t": 1 - b}}
    found = rake(values, np.array(mass), targets).reshape(2, 3)
    assert np.allclose(found.sum(axis=1), list(targets["x"].values()), atol=1e-8)
    assert np.allclose(found.sum(axis=0), list(targets["y"].values()), atol=1e-8)
    table = np.array(mass).reshape(2, 3)  # odds ratios are what raking leaves alone
    odds = (table[0, 0] * table[1, 1]) / (table[0, 1] * table[1, 0])
    assert (found[0, 0] * found[1, 1]) / (found[0, 1] * found[1, 0]) == pytest.approx(odds, rel=1e-5)


def test_missing_values_and_rules_have_reasons() -> None:
    frame = pool(100).with_columns(
        score=pl.when(pl.int_range(pl.len()) < 10).then(None).otherwise("score"),
        bucket=pl.when(pl.int_range(pl.len()).is_between(10, 19)).then(None).otherwise("bucket"),
    )
    found, _ = choose(
        frame,
        rules={"topic": "topic = 'sport'"},
        by="score",
        top={"share": 1.0},
        upsample={"column": "bucket", "repeats": {"19": 2}},
    )
    sport = found.filter(topic="sport")
    assert set(sport[:0].columns) == set(found.columns)
    assert all(r == ["topic"] for r in found.filter(pl.col("topic") != "sport")["reasons"].to_list())
    for row in sport.iter_rows(named=True):
        if row["score"] is None:
            assert row["reasons"] == ["select.by:missing"]
        elif row["bucket"] is None:
            assert row["reasons"] == ["select.upsample:missing"]
        elif row["bucket"] != 19:
            assert row["reasons"] == ["select.upsample"]
        else:
            assert (row["keep"], row["repeat"], row["reasons"]) == (True, 2, [])


def test_dice_are_even_and_do_not_tell_of_each_other() -> None:
    ids = pl.Series([f"<{i}>" for i in range(20_000)])
    dice = hash_ids(ids)
    assert dice[:2].tolist() == hash_ids(ids[:2]).tolist() != hash_ids(ids[:2], 1).tolist()
    streams = [uniform(dice), uniform(reshuffle(dice, 1)), uniform(reshuffle(dice, 2)), uniform(hash_ids(ids, 1))]
    for stream in streams:
        counts = np.bincount((stream * 20).astype(int), minlength=20)
        assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # 99.9 % of chi-square with 19 degrees of freedom
    assert np.abs(np.corrcoef(streams) - np.eye(4)).max() < 0.03
    assert hash_ids(pl.Series(["a", None, "", "a"])).tolist()[0] == hash_ids(pl.Series(["a"])).tolist()[0]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"sample": {"temperature": 1}}, "sample needs by"),
        ({"by": "score"}, "say how much to keep"),
        ({"mixture": {"targets": {"topic": {"a": 0.7}}}}, "sum to 1"),
        ({"upsample": {"column": "bucket", "repeats": [-1]}}, "between 0 and 1000"),
        ({"budget": -5}, "greater than 0"),
        ({"top": {"share": 1.5}}, "less than or equal to 1"),
    ],
)
def test_bad_settings(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        SelectConfig.model_validate(config)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"by": "grade", "budget": 5}, "select.by names 'grade'"),
        ({"by": "topic", "budget": 5}, "not a score"),
        ({"unit": "tokens", "budget": 5}, "family tokens, or weigh by bytes instead"),
        ({"budget": 1}, "less than the first document"),
        ({"mixture": {"targets": {"topic": {"art": 1.0}}}}, "none to select|nothing"),
    ],
)
def test_wrong_columns_and_pools(config: dict[str, Any], text: str) -> None:
    if "mixture" in config:
        found, cuts = choose(pool(50), **config)
        assert not found["keep"].any() and cuts.told["selected"] == 0
        with pytest.raises(FineeduError, match="there is none to select"):
            choose(pool(50), mixture={"targets": {"topic": {"art": 0.5, "sport": 0.5}}})
        return
    with pytest.raises(FineeduError, match=text):
        choose(pool(50), **config)
