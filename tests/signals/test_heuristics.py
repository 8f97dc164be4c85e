from __future__ import annotations

import gzip
import json
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from datatrove.pipeline.filters.c4_filters import CITATION_REGEX, ELLIPSIS, END_PUNCTUATION, POLICY_SUBSTRINGS
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate, find_top_duplicate, get_n_grams
from datatrove.utils.text import PUNCTUATION_SET
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fineedu.select.rules import Rules
from fineedu.signals.heuristics import HeuristicSignals
from fineedu.signals.heuristics.characters import class_table
from fineedu.signals.heuristics.exceptions import exception_table
from fineedu.signals.heuristics.words import split_words
from fineedu.signals.measure import measure
from tests.signals.datatrove_filters import RULES, exact_figures, filters

FAMILY = HeuristicSignals()


def signals(texts: list[str | None]) -> pl.DataFrame:
    return measure(FAMILY, pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)}))


def words_of(text: str) -> list[str]:
    """Split as the kernels do, through the same function."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    spans, stack = np.empty((len(text) + 1, 2), np.int32), np.empty(len(text) + 1, np.int32)
    count = split_words(points, class_table()[points], 0, len(points), *exception_table(), spans, stack)
    return [text[start:end] for start, end in spans[:count]]


PIECES = [
    "the", "and", "to", "word", "Word", "don't", "e.g.", "3.5", "well-known", "#", "•", "-", "...", "…", ".", "!", "?", "\"", "'",
    " ", " ", " ", "\n", "\n\n", "\n", "\r\n", "\t", "\u2028", "\u00a0", "\x1c", "[12]", "[edit]", "[citation needed]", "[", "]",
    "javascript", "Lorem Ipsum", "{", "use of cookies", "Privacy Policy", "coo\u212aie policy", "é", "文", "。", "x" * 1001, "a b c d",
]  # fmt: skip
prose = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
texts = prose | st.text(max_size=60).map(lambda text: text.encode("utf-8", "ignore").decode())


@settings(max_examples=150)
@given(texts)
def test_figures_without_words_are_datatroves(text: str) -> None:
    found = signals([text]).row(0, named=True)
    expected = exact_figures(text)
    assert {name: found[name] for name in expected} == expected


@settings(max_examples=150)
@given(texts)
def test_word_figures_are_datatroves_on_the_same_words(text: str) -> None:
    found = signals([text]).row(0, named=True)
    words = words_of(text)
    real = [word for word in words if any(c not in PUNCTUATION_SET for c in word)]
    expected: dict[str, float | None] = {
        "n_chars": len(text),
        "n_words": len(words),
        "n_lines": len(text.splitlines()),
        "gopher_words": len(real),
        "gopher_mean_word_length": float(np.mean([len(word) for word in real])) if real else None,
        "gopher_hash_ratio": text.count("#") / len(words) if words else None,
        "gopher_ellipsis_ratio": (text.count("...") + text.count("…")) / len(words) if words else None,
        "gopher_alpha_word_ratio": sum(any(c.isalpha() for c in word) for word in words) / len(words) if words else None,
        "gopher_stop_words": len({"the", "be", "to", "of", "and", "that", "have", "with"} & set(words)),
        "fineweb_newline_ratio": text.count("\n") / len(words) if any(s.strip() for s in text.split("\n")) else None,
    }
    for n in (2, 3, 4):
        grams = get_n_grams(words, n)
        expected[f"top_{n}_gram"] = (find_top_duplicate(grams) if grams else 0) / len(text) if text else None
    for n in range(5, 11):
        expected[f"dup_{n}_gram"] = find_all_duplicate(words, n) / len(text) if text else None
    assert {name: found[name] for name in expected} == expected


def c4_reference(text: str, any_end: bool) -> Counter[str]:
    """C4's line rules in datatrove's order; sentences are left to the other tests."""
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        line = line.strip()
        words = line.split()
        counts["lines"] += 1
        if any(len(word) > 1000 for word in words):
            counts["long_word"] += 1
            continue
        line = CITATION_REGEX.sub("", line)
        if not any_end and (not line.endswith(END_PUNCTUATION) or line.endswith(ELLIPSIS)):
            counts["no_terminal"] += 1
            continue
        if len(words) < 3:
            counts["too_few_words"] += 1
            continue
        lower = line.lower()
        counts["lorem"] += "lorem ipsum" in lower
        if "javascript" in lower:
            counts["javascript"] += 1
            continue
        counts["curly"] += "{" in line
        if any(policy in lower for policy in POLICY_SUBSTRINGS):
            counts["policy"] += 1
            continue
        counts["kept"] += 1
    return counts


@settings(max_examples=150)
@given(texts)
def test_c4_line_rules_are_datatroves(text: str) -> None:
    found = signals([text]).row(0, named=True)
    strict, loose = c4_reference(text, False), c4_reference(text, True)
    assert found["c4_lines"] == strict["lines"]
    for reason in ("long_word", "no_terminal", "too_few_words", "javascript", "policy"):
        assert found[f"c4_lines_{reason}"] == strict[reason], reason
    assert (found["c4_lorem_ipsum"], found["c4_lorem_ipsum_any_end"]) == (strict["lorem"] > 0, loose["lorem"] > 0)
    assert (found["c4_curly_bracket"], found["c4_curly_bracket_any_end"]) == (strict["curly"] > 0, loose["curly"] > 0)
    assert found["c4_sentences"] >= strict["kept"]
    assert found["c4_sentences_any_end"] >= loose["kept"]


@given(st.lists(st.none() | texts, max_size=6), st.integers(0, 6))
def test_rows_do_not_depend_on_their_neighbours(batch: list[str | None], cut: int) -> None:
    whole = signals(batch)
    assert whole.equals(pl.concat([signals(batch[:cut]), signals(batch[cut:])]))
    frame = pl.DataFrame({"text": pl.Series(["padding", *batch, "padding"], dtype=pl.String)})
    assert measure(FAMILY, frame[1:-1]).equals(whole)


def test_hostile_sizes_take_linear_time() -> None:
    many_lines = "line of text\n" * 100_000
    found = signals(["x" * 3_000_000, many_lines, "a " * 1_000_000, "-" * 1_000_000, "." * 1_000_000])
    assert found["n_chars"].to_list() == [3_000_000, 1_300_000, 2_000_000, 1_000_000, 1_000_000]
    assert found["dup_line_frac"][1] > 0.99


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't know, they're here.", "I do n't know , they 're here ."),
        ("Mr. Smith's dog (a well-known one) ran 5km!", "Mr. Smith 's dog ( a well - known one ) ran 5 km !"),
        ("See https://example.org/a-b?c=d, or mail me@example.org.", "See https://example.org/a-b?c=d , or mail me@example.org ."),
        ("Wait... the U.S. price is $3.50 at 10am", "Wait ... the U.S. price is $ 3.50 at 10 am"),
        ("“Quoted,” she said; and/or not.", "“ Quoted , ” she said ; and/or not ."),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert " ".join(words_of(text)) == expected


ENGLISH = [
    "A cell is the smallest unit of life. Every plant is made of cells, and so is every animal. Some living things have only "
    "one cell. Others, like you, have about thirty trillion of them.\nEach cell has a skin that keeps it together. It lets food in "
    "and waste out. Inside it a thick liquid holds the parts that do the work. What does each of them do? Let's see!",
    "Home\nAbout us\nShop\nContact\nHome\nAbout us\nShop\nContact\nRead more...\nRead more...\nRead more...",
    "- item one\n- item two\n- item three\n• item four",
    "To use this site you must turn on JavaScript.\nWe use cookies. See our privacy policy for more.\n{ var x = 1; }",
    "It's 5 o'clock somewhere, isn't it? Dr. Jones (of the U.S.) doesn't think so. " * 12,
    "",
    "   \n\n  ",
    "#### ... #### ...",
    "Lorem ipsum dolor sit amet, consectetur. It goes on. And on. And on. And on again.",
]  # fmt: skip


def agreement(texts: list[str]) -> dict[str, list[int]]:
    """Return the rows on which each filter's decision differs from datatrove's."""
    found = signals(list(texts))
    different = {}
    for name, keep in filters().items():
        ours = Rules({name: RULES[name]}, FAMILY.schema).judge(found)["keep"].to_list()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's mean of no words
            different[name] = [row for row, text in enumerate(texts) if keep(text) != ours[row]]
    return different


def test_decisions_on_our_own_texts() -> None:
    pytest.importorskip("spacy", reason="datatrove needs spaCy to split English words")
    assert agreement(ENGLISH) == dict.fromkeys(RULES, [])


@pytest.mark.slow
def test_decisions_on_real_pages_agree_with_datatrove(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("spacy", reason="datatrove needs spaCy to split English words")
    with gzip.open(real_data / "text" / "cc-topics-formats.jsonl.gz", "rt") as stream:
        rows = [json.loads(line) for line in stream][::11]
    texts = [row["text"] for row in rows]
    figures = signals(texts).to_dicts()
    for text, found in zip(texts, figures, strict=True):
        expected = exact_figures(text)
        assert {name: found[name] for name in expected} == expected
    with capsys.disabled():
        print()
        for name, different in agreement(texts).items():
            share = 1 - len(different) / len(texts)
            low, high = binomtest(len(texts) - len(different), len(texts)).proportion_ci(method="wilson")
            pages = ", ".join(rows[row]["id"] for row in different)
            print(f"{name}: {share:.2%} of {len(texts)} decisions agree (95 % {low:.2%} to {high:.2%}); differ: {pages or 'none'}")
            assert share >= 0.98


def test_real_split_against_spacy_in_words(real_data: Path) -> None:
    spacy = pytest.importorskip("spacy")
    with gzip.open(real_data / "text" / "cc-topics-formats.jsonl.gz", "rt") as stream:
        texts = [json.loads(line)["text"][:5000] for line in stream][::400]
    tokenizer = spacy.blank("en").tokenizer
    same = total = 0
    for text in texts:
        theirs = Counter(word for token in tokenizer(text) if (word := token.text.strip()))
        ours = Counter(words_of(text))
        same += (theirs & ours).total()
        total += max(theirs.total(), ours.total())
    assert re.fullmatch(r"\d+", str(total))
    assert same / total >= 0.99
