"""Samples to label: the same whatever the layout, fair by weight, within their caps."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fineedu.annotate import sampling
from fineedu.annotate.sampling import sample_documents, write_sample
from fineedu.errors import FineeduError
from fineedu.store import Shard, Store, TableWriter, atomic_open, read_facts


def documents(size: int, hosts: int = 17, seed: int = 0) -> pl.DataFrame:
    draw = random.Random(seed)
    rows = []
    for number in range(size):
        host = f"www.site{int(draw.random() ** 3 * hosts)}.example"
        rows.append(
            {
                "id": f"doc-{seed}-{number}",
                "url": f"http://{host}/{number}",
                "host": host,
                "text": f"Text number {number}.",
                "edu_score": None if draw.random() < 0.05 else min(5.0, draw.expovariate(0.9)),
                "other_score": None if draw.random() < 0.05 else 5 * draw.random(),
                "topic": draw.choice(["science", "games", "law", None]),
            }
        )
    return pl.DataFrame(rows)


def store_of(root: Path, frame: pl.DataFrame, cuts: list[int]) -> Path:
    store = Store(root)
    edges = [0, *sorted({min(cut, frame.height) for cut in cuts}), frame.height]
    for index, (start, end) in enumerate(pairwise(edges)):
        part = frame[start:end]
        shard = Shard("CC-MAIN-2024-10" if index % 2 else "local", index)
        for path, columns in (
            (store.documents(shard), ["id", "url", "host", "text"]),
            (store.signals("edu", shard), ["id", "edu_score"]),
            (store.signals("more", shard), ["id", "other_score", "topic"]),
        ):
            with atomic_open(path) as stream:
                writer = TableWriter(stream, part.select(columns).schema)
                for rows in part.select(columns).iter_slices(50):
                    writer.write(rows)
                writer.close({})
    return root


ARGUMENTS = st.fixed_dictionaries(
    {
        "n": st.integers(30, 90),
        "seed": st.integers(-3, 1_000_000),
        "per_host": st.none() | st.integers(1, 6),
        "allocation": st.sampled_from(["equal", "proportional"]),
        "way": st.sampled_from(
            [
                {"method": "random"},
                {"strata": ["edu_score"]},
                {"strata": ["edu_score:2", "topic"]},
                {"method": "uncertainty", "scores": ["edu_score"], "threshold": 2.5},
                {"method": "uncertainty", "scores": ["edu_score", "other_score"]},
                {"method": "disagreement", "scores": ["edu_score", "other_score"], "strata": ["topic"]},
            ]
        ),
    }
)


def flat(arguments: dict) -> dict:
    return {key: value for key, value in arguments.items() if key != "way"} | arguments["way"]


@settings(max_examples=40)
@given(ARGUMENTS, st.randoms(use_true_random=False), st.integers(7, 400))
def test_order_of_rows_and_size_of_batches_do_not_matter(arguments: dict, draw: random.Random, batch: int) -> None:
    frame = documents(400)
    first = sample_documents(frame, **flat(arguments))
    order = list(range(frame.height))
    draw.shuffle(order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_BATCH", batch)
        shuffled = pl.concat([part.lazy() for part in frame[order].iter_slices(batch)])
        second = sample_documents(shuffled, **flat(arguments))
    assert first.documents.equals(second.documents)
    assert first.strata.equals(second.strata)
    assert first.unscored == second.unscored


@settings(max_examples=40)
@given(ARGUMENTS, st.integers(0, 3))
def test_weights_add_up_and_caps_hold(arguments: dict, seed: int) -> None:
    frame = documents(300, seed=seed)
    sample = sample_documents(frame, **flat(arguments))
    chosen, strata = sample.documents, sample.strata
    cap = arguments["per_host"]
    assert chosen["id"].n_unique() == chosen.height == strata["sampled"].sum() <= arguments["n"]
    assert strata["population"].sum() + sample.unscored == frame.height
    if cap is not None:
        assert max(Counter(chosen["host"]).values()) <= cap
    else:
        assert chosen.height == arguments["n"]
    if "scores" in arguments["way"]:
        assert chosen["weight"].null_count() == chosen.height
    else:
        reached = strata.filter(pl.col("sampled") > 0)
        assert chosen["weight"].sum() == pytest.approx(reached["population"].sum())
        assert sample.unscored == 0
    assert chosen.join(frame, on=["id", "url", "host", "text"]).height == chosen.height


@pytest.mark.parametrize("cuts", [[], [1], [100, 101, 260], [7, 30, 400]])
def test_layout_of_shards_does_not_matter(tmp_path: Path, cuts: list[int]) -> None:
    frame = documents(500)
    arguments = {"n": 60, "seed": 5, "strata": ["edu_score", "topic"], "per_host": 9}
    expected = sample_documents(frame, **arguments)
    found = sample_documents(store_of(tmp_path, frame, cuts), **arguments)
    assert found.documents.equals(expected.documents)
    assert found.strata.equals(expected.strata)


def test_a_host_cap_takes_as_many_as_a_greedy_pick_over_everything() -> None:
    # The picker holds n candidates a stratum; one that holds all of them must pick the same.
    for seed in range(12):
        frame = documents(500, hosts=9, seed=seed)
        arguments = {"seed": seed, "strata": ["edu_score", "topic"], "per_host": 4}
        small = sample_documents(frame, 30, **arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling._Picker, "update", _hold_everything)
            assert small.documents.equals(sample_documents(frame, 30, **arguments).documents)


def _hold_everything(self: sampling._Picker, keys: pl.DataFrame) -> None:
    self._population.update(dict(keys["__stratum"].value_counts().iter_rows()))
    self._held = keys.sort("__stratum", "__priority", "__hash", "id")


def test_equal_shares_show_rare_strata_and_proportional_ones_the_population() -> None:
    frame = pl.DataFrame(
        {
            "id": [f"d{n}" for n in range(1010)],
            "text": ["t"] * 1010,
            "edu_score": [1.2] * 1000 + [4.9] * 10,
        }
    )
    equal = sample_documents(frame, 100).strata
    assert equal.rows() == [("edu_score=1", 1000, 90), ("edu_score=5", 10, 10)]
    proportional = sample_documents(frame, 101, allocation="proportional").strata
    assert proportional["sampled"].to_list() == [100, 1]


def test_weighted_mean_is_that_of_the_population() -> None:
    frame = documents(3000).drop_nulls("edu_score")
    means = []
    for seed in range(60):
        chosen = sample_documents(frame, 120, seed).documents
        means.append((chosen["edu_score"] * chosen["weight"]).sum() / chosen["weight"].sum())
    truth = frame["edu_score"].mean()
    assert sum(means) / len(means) == pytest.approx(truth, abs=0.02)


def test_uncertain_documents_are_the_nearest_and_disagreement_the_widest() -> None:
    frame = documents(400)
    near = sample_documents(frame, 20, method="uncertainty", scores=["edu_score"], threshold=2.5)
    gaps = (frame["edu_score"] - 2.5).abs().drop_nulls().sort()[:20]
    assert sorted((near.documents["edu_score"] - 2.5).abs()) == pytest.approx(gaps.to_list())
    assert near.unscored == frame["edu_score"].null_count()
    wide = sample_documents(frame, 20, method="disagreement", scores=["edu_score", "other_score"])
    spreads = (frame["edu_score"] - frame["other_score"]).abs().drop_nulls().sort(descending=True)[:20]
    found = (wide.documents["edu_score"] - wide.documents["other_score"]).abs()
    assert sorted(found, reverse=True) == pytest.approx(spreads.to_list())


def test_entropy_takes_undecided_classes_and_leaves_out_what_are_no_shares() -> None:
    frame = pl.DataFrame(
        {
            "id": ["even", "sure", "leaning", "negative", "nothing", "missing"],
            "text": ["t"] * 6,
            "p_a": [0.5, 1.0, 0.8, -1.0, 0.0, None],
            "p_b": [0.5, 0.0, 0.2, 2.0, 0.0, 1.0],
        }
    )
    found = sample_documents(frame, 2, method="uncertainty", scores=["p_a", "p_b"])
    assert found.documents["id"].to_list() == ["even", "leaning"]
    assert found.unscored == 3


def test_missing_scores_are_a_stratum_and_buckets_have_no_minus_zero() -> None:
    frame = pl.DataFrame({"id": list("abcde"), "text": ["t"] * 5, "edu_score": [None, float("nan"), -0.3, 0.2, 2.5]})
    strata = sample_documents(frame, 5).strata
    assert strata.rows() == [("edu_score=0", 2, 2), ("edu_score=2", 1, 1), ("edu_score=missing", 2, 2)]
    halves = sample_documents(frame, 5, strata=["edu_score:0.5"]).strata["stratum"].to_list()
    assert halves == ["edu_score=-0.5", "edu_score=0.0", "edu_score=2.5", "edu_score=missing"]


def test_the_choice_is_fixed_for_ever() -> None:
    # A sample that somebody has labelled must be found again years later.
    frame = pl.DataFrame({"id": [f"d{n}" for n in range(100)], "text": ["t"] * 100})
    assert sample_documents(frame, 4, 7, method="random").documents["id"].to_list() == ["d25", "d57", "d60", "d90"]


def test_a_cap_counts_registered_domains() -> None:
    hosts = ["a.shop.co.uk", "b.shop.co.uk", "10.0.0.1", "10.0.0.1", None, None, "other.co.uk"]
    frame = pl.DataFrame({"id": list("abcdefg"), "text": ["t"] * 7, "host": hosts})
    by_host = sample_documents(frame, 7, method="random", per_host=1).documents
    assert by_host["host"].drop_nulls().str.tail(5).sort().to_list() == ["0.0.1", "co.uk", "co.uk"]
    assert by_host["host"].null_count() == 2
    urls = frame.select("id", "text", url=pl.format("https://user@{}:8080/x", "host"))
    assert sample_documents(urls, 7, method="random", per_host=1).documents["id"].equals(by_host["id"])
    domains = frame.with_columns(registered_domain=pl.Series(["s", "s", None, None, None, None, "o"]))
    assert sample_documents(domains, 7, method="random", per_host=1).documents["id"].equals(by_host["id"])


def test_a_document_in_two_shards_is_chosen_once() -> None:
    frame = documents(50)
    chosen = sample_documents(pl.concat([frame, frame]), 50, method="random").documents
    assert chosen["id"].n_unique() == chosen.height == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "best"}, "unknown sampling method 'best'"),
        ({"strata": ["score"]}, "no column score; there: id, url"),
        ({"strata": ["edu_score:0"]}, "no column for strata"),
        ({"method": "disagreement", "scores": ["edu_score"]}, "needs 2 or more score columns"),
        ({"method": "uncertainty", "scores": ["topic"]}, "not numbers"),
        ({"strata": ["weight"]}, "column weight of its own"),
        ({"strata": ["id"]}, "cannot stand for 50 strata"),
        ({"method": "random", "strata": ["topic"]}, "has no strata"),
        ({"method": "random", "scores": ["edu_score"]}, "takes no score columns"),
    ],
)
def test_mistakes_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(FineeduError, match=message):
        sample_documents(documents(50), 10, **arguments)


def test_damaged_and_foreign_stores_are_told(tmp_path: Path) -> None:
    with pytest.raises(FineeduError, match="neither a store"):
        sample_documents(tmp_path, 10)
    root = store_of(tmp_path / "s", documents(50), [20])
    (root / "signals/edu/dump=local/00000.parquet").unlink()
    with pytest.raises(FineeduError, match=r"no column edu_score; .*signals/edu has only 1 of 2 shards"):
        sample_documents(root, 10)


def test_the_file_carries_what_made_it(tmp_path: Path) -> None:
    sample = sample_documents(documents(80), 12, 3)
    write_sample(tmp_path / "s.parquet", sample)
    assert pl.read_parquet(tmp_path / "s.parquet").equals(sample.documents)
    facts = read_facts(tmp_path / "s.parquet")
    assert facts["sample"]["seed"] == 3
    assert sum(row["sampled"] for row in facts["strata"]) == 12


def test_command(tmp_path: Path) -> None:
    import typer

    from fineedu.annotate.sampling_command import sample

    app = typer.Typer()
    app.command()(sample)
    store = store_of(tmp_path / "store", documents(300), [120])
    target = tmp_path / "sample.parquet"
    run = CliRunner().invoke(app, ["-i", str(store), "-o", str(target), "--n", "40", "--per-host", "5"])
    assert run.exit_code == 0, run.output
    assert "edu_score=1" in run.output
    assert pl.read_parquet(target).columns == ["id", "url", "host", "text", "stratum", "weight", "edu_score"]
    run = CliRunner().invoke(
        app, ["-i", str(store), "-o", str(target), "--n", "9", "--method", "uncertainty", "--threshold", "2.5"]
    )
    assert run.exit_code == 0, run.output
    assert "could not be chosen" in run.output
