"""Bounds, sketches and display: the report's parts against plain recomputation."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from fineedu.report.bounds import rule_bounds, rule_clauses
from fineedu.report.charts import histogram
from fineedu.report.display import clean, share, value
from fineedu.report.sketches import DuplicateKeys, Histogram, LogHistogram, Names, RandomRows, spread

SCHEMA = {"a": pl.Float32(), "b": pl.Int64(), "language": pl.String(), "odd name": pl.Float64()}


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("a >= 2.5", [("a", ">=", 2.5)]),
        ("a >= 2.5 AND b < 10", [("a", ">=", 2.5), ("b", "<", 10.0)]),
        ("((a > -1e3) AND (language = 'en'))", [("a", ">", -1000.0)]),
        ("10 >= b", [("b", "<=", 10.0)]),
        ("b BETWEEN 2 AND 7 AND a<.5", [("b", ">=", 2.0), ("b", "<=", 7.0), ("a", "<", 0.5)]),
        ('"odd name" > 1', [("odd name", ">", 1.0)]),
        ("(a > 1) OR (b > 2)", []),
        ("NOT (a > 1)", []),
        ("language > 3", []),
        ("a + b > 3", []),
        ("language = 'a > 5 AND b > 1'", []),
    ],
)
def test_bounds_are_read_from_clauses(sql: str, found: list[tuple[str, str, float]]) -> None:
    assert [(bound.column, bound.op, bound.value) for bound in rule_bounds({"rule": sql}, SCHEMA)] == found


def test_clauses_keep_their_rule() -> None:
    parts = rule_clauses({"one": "(a > 1 AND (b > 2 OR b < 0))", "two": "a < 9"})
    assert [part.name for part in parts] == ["one: a > 1", "one: b > 2 OR b < 0", "two: a < 9"]


@given(st.text(max_size=300), st.integers(1, 60))
def test_clean_text_is_short_and_holds_no_controls(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert len(shown) <= limit + 1
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    shown.encode()


def test_shares_never_round_to_none_or_all() -> None:
    assert [share(1, 10**6), share(10**6 - 1, 10**6), share(0, 5), share(5, 5), share(0, 0)] == [
        "< 0.1 %",
        "> 99.9 %",
        "0.0 %",
        "100.0 %",
        "–",
    ]


def test_values_as_shown() -> None:
    told = [value(v) for v in (None, True, 2.0, 2.50001, 1234567, 12345.6, float("nan"), "x")]
    assert told == ["missing", "true", "2", "2.5", "1,234,567", "12,346", "nan", "x"]


def test_names_are_exact_up_to_their_size_and_bounded_beyond() -> None:
    random = np.random.default_rng(5)
    drawn = [f"n{n}" for n in random.zipf(1.3, 20_000).clip(max=5000)]
    keep = random.random(len(drawn)) < 0.3
    before, after = Counter(drawn), Counter(n for n, k in zip(drawn, keep, strict=True) if k)
    exact, small = Names(), Names(size=100)
    for start in range(0, len(drawn), 1024):
        names, kept = pl.Series(drawn[start : start + 1024]), pl.Series(keep[start : start + 1024])
        exact.update(names, kept)
        small.update(names, kept)
    assert exact.error == 0 and small.error > 0
    assert [(n, d) for n, d, _ in exact.top(5)] == sorted(before.items(), key=lambda item: (-item[1], item[0]))[:5]
    for name, documents, kept in small.top(10):
        assert before[name] - small.error <= documents <= before[name]
        assert after[name] - small.error <= kept <= after[name]


def test_duplicates_are_exact_when_all_keys_fit() -> None:
    sketch = DuplicateKeys()
    sketch.update(pl.Series(["a", "b", "a", None]))
    sketch.update(pl.Series(["c", "a", "b"]))
    found = sketch.result()
    assert found is not None
    assert (found.n, found.shared, found.surplus, found.margin) == (6, 5 / 6, 0.5, 0.0)
    assert DuplicateKeys().result() is None


def test_sampled_duplicates_cover_the_truth() -> None:
    """20 sets of keys of known surplus; 95 % intervals should cover about 19 (15 or fewer: p < 0.003)."""
    covered = 0
    for seed in range(20):
        keys = np.random.default_rng(seed).integers(0, 12_000, 20_000)
        sketch = DuplicateKeys(size=500)
        for start in range(0, len(keys), 1000):
            sketch.update(pl.Series([f"{seed}-{key}" for key in keys[start : start + 1000]]))
        truth, found = 1 - len(np.unique(keys)) / len(keys), sketch.result()
        assert found is not None and 0 < found.n < len(keys) and found.margin > 0
        covered += abs(found.surplus - truth) <= found.margin
    assert covered >= 16


def test_histogram_loses_nothing_and_cuts_at_thresholds() -> None:
    random = np.random.default_rng(1)
    values = np.concatenate([random.gamma(2, 1, 5000), [2.5, 1e9, 0.0]])
    series = pl.Series([*values.tolist(), None, float("nan")])
    keep = series.fill_nan(None).fill_null(0) >= 2.5
    found = Histogram(values, [2.5], whole=False)
    found.update(series, keep)
    assert found.counts.sum() + found.missing.sum() == len(series)
    assert found.missing.tolist() == [0, 2] and found.beyond[1] >= 1
    below = found.edges[1:] <= 2.5
    assert found.counts[0][below].sum() == 0
    assert found.counts[1][found.edges[:-1] >= 2.5].sum() == 0


@pytest.mark.parametrize("sample", [np.zeros(0), np.zeros(3), np.array([7.0]), np.array([-3.0, 1e12])])
def test_histogram_of_odd_samples(sample: np.ndarray) -> None:
    found = Histogram(sample, [], whole=True)
    found.update(pl.Series(sample.astype(np.int64)), pl.Series([True] * len(sample), dtype=pl.Boolean))
    assert found.counts.sum() == len(sample)
    assert 1 <= len(found.edges) - 1 <= 60
    assert spread(sample) > 0


def test_log_histogram_counts_all() -> None:
    found = LogHistogram()
    found.update(pl.Series([0, 1, 9, 10, 99_999_999_999], dtype=pl.UInt64), pl.Series([True] * 4 + [False]))
    edges, counts = found.trimmed()
    assert counts.sum(axis=1).tolist() == [4, 1]
    assert edges[0] == 1 and len(edges) == counts.shape[1] + 1


def test_random_rows_do_not_depend_on_batches() -> None:
    frame = pl.DataFrame({"id": [f"d{i}" for i in range(9000)], "a": np.arange(9000.0)})
    whole, cut = RandomRows(["a"]), RandomRows(["a"])
    whole.update(frame)
    for part in frame.reverse().iter_slices(700):
        cut.update(part)
    assert sorted(whole.values("a")) == sorted(cut.values("a"))
    assert len(whole.values("a")) == 4096


def test_picture_is_one_labelled_element_with_a_tooltip_a_bar() -> None:
    svg = histogram(
        np.array([0.0, 1.0, 2.0]),
        np.array([[0, 2], [3, 1]]),
        title="score",
        label='all & "sundry" <b>',
        marks=[(1.0, "rule: score ≥ 1")],
    )
    root = etree.fromstring(str(svg))
    assert root.get("role") == "img" and root.get("aria-label") == 'all & "sundry" <b>'
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(titles) == sorted(
        [
            "1 to 2: 2 kept, 1 dropped",
            "1 to 2: 2 kept, 1 dropped",
            "0 to 1: 0 kept, 3 dropped",
            "rule: score ≥ 1",
        ]
    )
    assert not root.xpath("//@id | //@*[starts-with(name(), 'on')]")
    assert "var(--kept)" in svg and "var(--dropped)" in svg
