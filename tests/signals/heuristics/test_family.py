"""The family as a caller sees it: types, nulls, independence of neighbours, size."""

from __future__ import annotations

import pickle
import time

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fineedu.errors import FineeduError
from fineedu.signals.heuristics import HeuristicSignals

from .samples import ODD, SAMPLES
from .test_golden import assert_equals_reference, measured

TRICKY = st.sampled_from(
    ["\n", "\n\n", "\r\n", "\x1c", "\u2028", " ", "  ", "...", "…", "•", "-", "#", ".", "'s", "n't",
     "don't",
     "e.g.",
     "[1]", "[edit]", "{", "lorem ipsum", "JavaScript", "use cooKies", "policy", "the", "of", ":)", "3.14", "http://a.bc",
     "x@y.zz", "\x00", "é", "字", "\U0001F600", "(", ")", '"', "！", "5km", "$", "a", "b", "A.B"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=80),
    st.lists(TRICKY, max_size=60).map("".join),
    st.lists(TRICKY, max_size=60).map(" ".join),
)


@settings(max_examples=400, deadline=None)
@given(TEXTS)
def test_any_text_measures_as_the_plain_python_reading(text):
    (row,) = measured([text])
    assert_equals_reference(text, row)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_a_row_does_not_depend_on_its_neighbours(texts):
    assert measured(texts) == [measured([text])[0] for text in texts]


def test_slices_chunks_and_whole_frames_measure_alike():
    family = HeuristicSignals()
    texts = [*SAMPLES, None, *ODD, None]
    frame = pl.DataFrame({"text": texts})
    whole = family.compute(frame)
    chunked = pl.concat([frame[:7], frame[7:20], frame[20:]], rechunk=False)
    assert_frame_equal(family.compute(chunked), whole)
    assert_frame_equal(family.compute(frame[5:30]), whole[5:30])
    assert_frame_equal(family.compute(frame[::-1]), whole[::-1])
    assert_frame_equal(family.compute(chunked[3:40]), whole[3:40])


def test_columns_have_the_types_of_the_schema():
    family = HeuristicSignals()
    for texts in ([], [""], ["some words here."], [None]):
        out = family.compute(pl.DataFrame({"text": texts}, schema={"text": pl.String}))
        assert dict(out.schema) == dict(family.schema)
        assert out.height == len(texts)


def test_a_null_text_is_null_everywhere_and_an_empty_one_only_where_nothing_divides():
    out = HeuristicSignals().compute(pl.DataFrame({"text": [None, ""]}))
    assert all(value is None for value in out.row(0))
    empty = out.row(1, named=True)
    assert {name for name, value in empty.items() if value is None} == {
        name for name, kind in out.schema.items() if kind == pl.Float64
    } - {"dup_para_frac"}
    assert empty["n_words"] == 0
    assert empty["c4_sentences"] == 0


def test_blank_text_has_lines_but_no_words():
    (row,) = measured([" \n\n "])
    assert (row["n_lines"], row["n_words"], row["gopher_mean_word_length"]) == (3, 0, None)
    assert (row["fineweb_line_punct_ratio"], row["fineweb_newline_ratio"]) == (None, None)
    assert row["dup_line_frac"] == 0.5


@pytest.mark.parametrize("frame", [pl.DataFrame({"body": ["x"]}), pl.DataFrame({"text": [1]})])
def test_a_missing_or_wrong_text_column_is_named(frame):
    with pytest.raises(FineeduError, match="text"):
        HeuristicSignals().compute(frame)


def test_an_instance_travels_by_pickle():
    family = pickle.loads(pickle.dumps(HeuristicSignals()))
    assert family.fingerprint == {"family": "heuristics", "version": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["x" * 10_000_000, "(" * 4_000_000, "a\n" * 1_000_000, "a " * 2_000_000, "[1" * 2_000_000,
     "a.B-" * 1_000_000,
     "@a" * 2_000_000, ".;" * 2_000_000],
    ids=lambda text: text[:4],
)  # fmt: skip
def test_huge_documents_take_linear_time(text):
    measured(["warm up"])
    start = time.process_time()
    (row,) = measured([text])
    assert row["n_chars"] == len(text)
    assert time.process_time() - start < 10
