from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.phrases.matching import find_phrases, make_matcher
from fineedu.synthetic.index import PhraseIndex, build
from fineedu.synthetic.recipe import InputConfig
from fineedu.synthetic.source import open_source
from tests.synthetic.corpus import documents, write

PIECES = [
    "delve",
    "Delves",
    " ",
    "  ",
    "\n",
    "IT’s",
    "it's",
    " important",
    ".",
    "é",
    "字",
    "_",
    "a",
    "9",
    "certainly!",
    "—",
    "Über",
    "ÜBER",
    "über",
    "ДЕЛ",
    "дело в том",
    "值得",
    "注意",
    "ノ",
]
PHRASES = ["delve", "it's important", "a", "certainly!", "9", "delves it's", "s", "über", "über a", "дел", "дело в том"]
PHRASES += ["值得注意", "注", "注意 a", "a值得", "é", "ノ", "9é"]


def open_index(folder, rows, **more):
    source = open_source(InputConfig(path=str(write(folder / "texts.jsonl", rows)), period="year"), folder)
    build(source, folder / "index", **more)
    return PhraseIndex(folder / "index")


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), min_size=1, max_size=6))
def test_counts_equal_those_of_the_pass(tmp_path_factory, texts):
    rows = [
        {"url": f"http://h{k % 2}.example.org/", "date": f"202{k % 3}-01-01", "text": text}
        for k, text in enumerate(texts)
    ]
    index = open_index(tmp_path_factory.mktemp("index"), rows, segment=40)
    matcher = make_matcher(tuple(enumerate(PHRASES)))
    found = find_phrases(text_buffer(pl.Series(texts)), matcher)
    for number, phrase in enumerate(PHRASES):
        cells = index.count(phrase).cells
        mine = found.document[found.phrase == number]
        assert cells["hits"].sum() == len(mine), phrase
        assert cells["hit_documents"].sum() == len(np.unique(mine)), phrase
    assert cells["words"].sum() == found.words.sum() and cells["documents"].sum() == len(texts)


def test_rates_by_period_and_domain(tmp_path):
    index = open_index(tmp_path, documents(rise=4.0), segment=100_000)
    rates = {row["period"]: row for row in index.count("Delve").table().to_dicts()}
    assert list(rates) == [str(year) for year in range(2015, 2026)]
    assert (
        rates["2024"]["rate"] > 2.5 * rates["2020"]["rate"] and rates["2024"]["clusters"] == 1
    )  # one registered domain
    assert index.count("no such phrase").cells["hits"].sum() == 0


def test_built_again_it_is_left_and_another_is_refused(tmp_path):
    index = open_index(tmp_path, documents(hosts=2, per_host=1))
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*.npy"))
    again = open_index(tmp_path, documents(hosts=2, per_host=1))
    assert before == sorted(path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*.npy"))
    assert again.count("delve").cells.equals(index.count("delve").cells)
    source = open_source(InputConfig(path=str(tmp_path / "texts.jsonl"), period="month"), tmp_path)
    with pytest.raises(FineeduError, match="index of other documents"):
        build(source, tmp_path / "index")


def test_clear_errors(tmp_path):
    with pytest.raises(FineeduError, match="no phrase index"):
        PhraseIndex(tmp_path)
    index = open_index(tmp_path, documents(hosts=1, per_host=1))
    with pytest.raises(FineeduError, match="begins with a letter or a digit"):
        index.count("!")
    next((tmp_path / "index").rglob("suffixes.npy")).unlink()
    with pytest.raises(FineeduError, match="damaged"):
        PhraseIndex(tmp_path / "index")
