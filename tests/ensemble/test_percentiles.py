from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.ensemble.percentiles import DriftPolicy, calibrate, measure_drift, read_table, write_table
from fineedu.errors import FineeduError
from fineedu.pool import find_weight, open_pool
from fineedu.sketch import KeySketch, key_values, sort_keys


def pool(path: Path, frame: pl.DataFrame, files: int = 1):
    path.mkdir()
    for n in range(files):
        frame.gather_every(files, n).write_parquet(path / f"{n}.parquet")
    return open_pool(path)


def scored(n: int = 5000, seed: int = 0, shift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    scores = np.clip(rng.normal(1.3 + shift, 1, n), 0, None).astype(np.float32)  # a tie at 0, as classifiers give
    return pl.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "score": scores,
            "text_bytes": rng.lognormal(7, 1, n).astype(np.uint32),
            "language": rng.choice(["en", "de", "fr"], n, p=[0.6, 0.39, 0.01]),
        }
    ).with_columns(score=pl.when(pl.int_range(pl.len()) % 50 == 0).then(None).otherwise("score"))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_keys_sort_as_their_numbers_and_turn_back(numbers: list[float]) -> None:
    keys = sort_keys(pl.Series(numbers, dtype=pl.Float32)).to_numpy()
    values = np.array(numbers, np.float32)
    assert np.array_equal(key_values(keys), values)
    assert np.array_equal(values[np.argsort(keys, kind="stable")], np.sort(values))


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 9), st.sampled_from("ab")), min_size=1, max_size=80),
    st.integers(1, 6),
    st.integers(4, 40),
    st.sampled_from([[], ["group"]]),
    st.randoms(use_true_random=False),
)
def test_sketch_does_not_depend_on_shards_or_order(rows, parts, cells, groups, random) -> None:
    schema = {"key": pl.UInt64, "weight": pl.Int64, "group": pl.String}
    whole = KeySketch(["weight"], groups, cells)
    whole.update(pl.DataFrame(rows, schema=schema, orient="row"))
    random.shuffle(rows)
    merged = KeySketch(["weight"], groups, cells)
    for n in range(parts):
        part = KeySketch(["weight"], groups, cells)
        part.update(pl.DataFrame(rows[n::parts], schema=schema, orient="row"))
        merged.merge(part)
    assert whole.shift == merged.shift
    assert whole.table.equals(merged.table)
    assert whole.table["weight"].sum() == sum(weight for _, weight, _ in rows)
    distinct = {(key >> whole.shift, group if groups else None) for key, _, group in rows}
    assert whole.table.height == len(distinct) <= cells
    finer = {(key >> (whole.shift - 1), group if groups else None) for key, _, group in rows} if whole.shift else []
    assert not whole.shift or len(finer) > cells  # not a bit more than needed


def test_thresholds_and_buckets_are_numpys(tmp_path: Path) -> None:
    frame = scored()
    table = calibrate(pool(tmp_path / "p", frame), ["score"])
    known = frame.drop_nulls("score")
    values, weights = known["score"].to_numpy(), known["text_bytes"].to_numpy()
    percents = np.arange(5, 100, 5)
    expected = np.quantile(values, percents / 100, weights=weights, method="inverted_cdf")
    found = table.scores["score"]["*"]
    assert (table.unit, table.weight_column) == ("bytes", "text_bytes")
    assert np.array_equal(np.array(found.thresholds, np.float32), expected.astype(np.float32))
    assert (found.missing, found.lost_bits, found.error) == (100, 0, 0.0)
    buckets = table.bucket(frame["score"])
    assert buckets.null_count() == 100
    assert np.array_equal(buckets.drop_nulls().to_numpy(), np.digitize(values, expected))
    mass = np.bincount(buckets.drop_nulls().to_numpy(), weights, 20) / weights.sum()
    assert np.allclose(found.mass, mass, atol=1e-12)
    assert found.mass[0] == 0.0  # a tie at 0 holds more than 5 %: the lowest thresholds collapse, and it is told


def test_layout_of_files_changes_nothing(tmp_path: Path) -> None:
    frame = scored()
    tables = [calibrate(pool(tmp_path / str(n), frame, n), ["score"], by_language=True, cells=600) for n in (1, 3, 7)]
    assert tables[0] == tables[1] == tables[2]
    assert set(tables[0].scores["score"]) == {"*", "en", "de"}  # 50 French pages have no percentiles
    other = calibrate(pool(tmp_path / "other", scored(seed=1)), ["score"])
    assert other.pool != tables[0].pool


def test_coarse_percentiles_keep_their_word(tmp_path: Path) -> None:
    frame = scored(20_000)
    source = pool(tmp_path / "p", frame)
    exact, coarse = (calibrate(source, ["score"], cells=cells).scores["score"]["*"] for cells in (2**20, 300))
    assert coarse.lost_bits > 10
    assert coarse.error > 0
    known = frame.drop_nulls("score")
    weights = known["text_bytes"].to_numpy()
    buckets = coarse.buckets(known["score"].to_numpy())
    assert np.allclose(coarse.mass, np.bincount(buckets, weights, 20) / weights.sum(), atol=1e-12)
    assert np.abs(np.cumsum(coarse.mass) - np.cumsum(exact.mass)).max() <= coarse.error + 0.05


def test_languages_take_their_own_thresholds(tmp_path: Path) -> None:
    frame = scored().with_columns(score=pl.col("score") + (pl.col("language") == "de") * 10)
    table = calibrate(pool(tmp_path / "p", frame), ["score"], by_language=True, unit="documents")
    buckets = table.bucket(frame["score"], frame["language"])
    german = buckets.filter(frame["language"] == "de").drop_nulls()
    assert 9 <= german.mean() <= 10.1
    assert table.bucket(frame["score"]).filter(frame["language"] == "de").drop_nulls().min() > 9


def test_drift_is_seen_and_refused(tmp_path: Path) -> None:
    table = calibrate(pool(tmp_path / "p", scored()), ["score"])
    same, moved = (measure_drift(table, iter([scored(seed=5, shift=shift)]), ["score"])[0] for shift in (0.0, 0.7))
    assert same.psi < 0.06 and same.ks < 0.08
    assert moved.psi > 0.2 and moved.ks > 0.15
    assert DriftPolicy().judge([same]) == []
    assert "PSI" in DriftPolicy().judge([moved])[0]
    with pytest.raises(FineeduError, match="Calibrate on this pool"):
        DriftPolicy(action="refuse").judge([moved])


def test_drift_of_a_language_is_named(tmp_path: Path) -> None:
    german = pl.col("language") == "de"
    table = calibrate(pool(tmp_path / "p", scored()), ["score"], by_language=True)
    moved = scored(seed=5).with_columns(pl.when(german).then(pl.col("score") + 0.8).otherwise("score"))
    found = {drift.part: drift for drift in measure_drift(table, iter([moved]), ["score"])}
    assert list(found) == ["*", "de", "en"]  # too little French for thresholds of its own
    assert found["en"].psi < 0.1 < 0.25 < found["de"].psi
    assert [str(found["de"]) in line for line in DriftPolicy().judge(list(found.values()))].count(True) == 1
    own = measure_drift(table, iter([scored()]), ["score"])
    assert all(drift.psi == pytest.approx(0, abs=1e-9) and drift.ks < 1e-9 for drift in own)


def test_ks_is_scipys(tmp_path: Path) -> None:
    from scipy.stats import ks_2samp

    old, new = scored(), scored(seed=9, shift=0.4)
    table = calibrate(pool(tmp_path / "p", old), ["score"], unit="documents")
    found = measure_drift(table, iter([new]), ["score"])[0]
    expected = ks_2samp(old["score"].drop_nulls(), new["score"].drop_nulls()).statistic
    assert expected - 0.006 <= found.ks <= expected + 1e-9


def test_table_survives_the_disk_and_mistakes_are_named(tmp_path: Path) -> None:
    source = pool(tmp_path / "p", scored())
    table = calibrate(source, ["score"])
    write_table(tmp_path / "t.json", table)
    assert read_table(tmp_path / "t.json") == table
    for path, text in (
        (tmp_path / "none.json", "no percentile table"),
        (tmp_path / "p" / "0.parquet", "is no percentile"),
    ):
        with pytest.raises(FineeduError, match=text):
            read_table(path)
    with pytest.raises(FineeduError, match="no column 'scores'"):
        calibrate(source, ["scores"])
    with pytest.raises(FineeduError, match="not numbers"):
        calibrate(source, ["language"])
    with pytest.raises(FineeduError, match="weigh by bytes instead"):
        find_weight(list(source.schema), "tokens")
    with pytest.raises(FineeduError, match="ascend"):
        calibrate(source, ["score"], percents=[50, 10])


def test_command_line(tmp_path: Path, cli) -> None:
    pool(tmp_path / "p", scored())
    pool(tmp_path / "q", scored(seed=3, shift=0.8))
    done = cli("calibrate", "p", "--score", "score", "--by-language", "--out", "t.json")
    assert done.returncode == 0, done.stderr
    assert "percentiles by bytes (text_bytes)" in done.stdout and "19/20" in done.stdout
    assert cli("calibrate", "p", "--check", "t.json").returncode == 0
    assert cli("calibrate", "q", "--check", "t.json").returncode == 1
    refused = cli("calibrate", "q", "--check", "t.json", "--action", "refuse")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
