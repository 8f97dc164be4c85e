"""Our measures and decisions beside datatrove's own filters."""

from __future__ import annotations

import gzip
import json
import math
import random
from itertools import islice

import numpy as np
import polars as pl
import pytest

from fineedu.signals.heuristics import HeuristicSignals
from fineedu.signals.heuristics.measure import word_spans
from fineedu.signals.heuristics.tables import tables

from .reference import FILTERS, c4_measures, datatrove_kept, kept, line_measures, spacy_words, word_measures
from .samples import ODD, SAMPLES

N_PAGES = 1000
MIN_AGREEMENT = 0.98


def our_words(text: str) -> list[str]:
    spans = word_spans(np.frombuffer(text.encode(), np.uint8), tables())
    return [text[start:end] for start, end in spans]


def measured(texts) -> list[dict]:
    return HeuristicSignals().compute(pl.DataFrame({"text": list(texts)}, schema={"text": pl.String})).to_dicts()


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    centre = (successes + z * z / 2) / (n + z * z)
    half = z * math.sqrt(successes * (n - successes) / n + z * z / 4) / (n + z * z)
    return centre - half, centre + half


@pytest.fixture(scope="module")
def pages(real_data) -> dict[str, str]:
    files = ("text/cc-topics-formats.jsonl.gz", "dups/revisions.jsonl.gz", "labels/llama3-70b.jsonl.gz")
    found = {}
    for name, share in zip(files, (700, 200, 100), strict=True):
        with gzip.open(real_data / name, "rt") as stream:
            rows = [json.loads(line) for line in islice(stream, 4000)]
        random.Random(20).shuffle(rows)
        found.update({f"{name}#{k}": row["text"] for k, row in enumerate(rows[:share])})
    return found


def assert_equals_reference(text: str, row: dict) -> None:
    expected = line_measures(text) | c4_measures(text) | word_measures(text, our_words(text))
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("text", [*SAMPLES, *ODD])
def test_every_measure_equals_the_plain_python_reading(text):
    (row,) = measured([text])
    assert_equals_reference(text, row)


@pytest.mark.parametrize("text", SAMPLES)
def test_decisions_on_written_samples_are_datatroves(text):
    (row,) = measured([text])
    assert kept(row) == datatrove_kept(text)


def test_written_samples_fall_on_both_sides_of_every_filter():
    decisions = [datatrove_kept(text) for text in SAMPLES]
    for name in FILTERS:
        assert {decision[name] for decision in decisions} == {True, False}


@pytest.mark.parametrize("text", SAMPLES)
def test_words_of_written_samples_are_spacys(text):
    assert our_words(text) == spacy_words(text)


@pytest.mark.slow
def test_every_measure_equals_the_plain_python_reading_on_real_pages(pages):
    for (key, text), row in zip(pages.items(), measured(pages.values()), strict=True):
        try:
            assert_equals_reference(text, row)
        except AssertionError as error:
            raise AssertionError(f"page {key}") from error


@pytest.mark.slow
def test_decisions_on_real_pages_agree_with_datatrove(pages, capsys):
    assert len(pages) == N_PAGES
    differing: dict[str, list[str]] = {name: [] for name in FILTERS}
    dropped = dict.fromkeys(FILTERS, 0)
    for (key, text), row in zip(pages.items(), measured(pages.values()), strict=True):
        ours, theirs = kept(row), datatrove_kept(text)
        for name in FILTERS:
            dropped[name] += not theirs[name]
            if ours[name] != theirs[name]:
                differing[name].append(key)
    with capsys.disabled():
        for name in FILTERS:
            same = N_PAGES - len(differing[name])
            low, high = wilson(same, N_PAGES)
            always = max(dropped[name], N_PAGES - dropped[name]) / N_PAGES
            print(f"\n{name:16} agreement {same / N_PAGES:.4f} [{low:.4f}, {high:.4f}] n={N_PAGES} "
                  f"(always the same answer: {always:.3f}) differing: {differing[name]}", end="")  # fmt: skip
        print()
    assert all(len(keys) <= (1 - MIN_AGREEMENT) * N_PAGES for keys in differing.values())


@pytest.mark.slow
def test_words_on_real_pages_are_spacys_almost_everywhere(pages):
    differing = [key for key, text in islice(pages.items(), 300) if our_words(text) != spacy_words(text)]
    assert len(differing) <= 3, differing
