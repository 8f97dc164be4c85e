from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.phrases.lexicon import combine, plain_phrase, read_lexicon
from fineedu.phrases.matching import find_phrases, make_matcher
from fineedu.synthetic.frequency import FrequencyTable, unique_words

PHRASES = (
    "delve",
    "as a large language model",
    "it's important to note",
    "certainly!",
    "dive into",
    "ai",
    "a",
    "élan"[1:],
)


def counts(texts, phrases=PHRASES):
    found = find_phrases(text_buffer(pl.Series(texts, dtype=pl.String)), make_matcher(tuple(enumerate(phrases))))
    cells = found.document * len(phrases) + found.phrase
    return np.bincount(cells, minlength=len(texts) * len(phrases)).reshape(len(texts), len(phrases))


ALPHABET = st.text(st.sampled_from("aAdDeElLvV !'’\n.é字_9it’s"), max_size=60)
PIECES = st.lists(
    st.sampled_from(
        [*PHRASES, "Delve", "délve", " ", "  ", "\n", "’s", "IT’S important to note", "x", "é", "字", ".", "_"]
    ),
    max_size=20,
)


def test_case_quotes_line_breaks_and_boundaries():
    texts = [
        "Dive\n  into it; DIVE INTO, dive intox",
        "it’s important to note / IT'S IMPORTANT TO NOTE",
        "dive",
        "into",
        None,
        "",
    ]
    found = counts(texts)
    assert found[:, 4].tolist() == [2, 0, 0, 0, 0, 0]  # none runs from one document into the next
    assert found[:, 2].tolist() == [0, 2, 0, 0, 0, 0]


WIDE = ("über", "über alles", "дело", "дел", "élan vital", "值得注意", "注", "ノ", "ai生成", "größe")
UNSPACED = re.compile("[ก-๿ぁ-ヿ㐀-鿿]")


def occurrences(text, phrase):
    """Plainly: every place, every way to write it, and what stands around it."""
    is_letter = [character.isalnum() or character == "_" for character in text]
    forms = {phrase, phrase[0].upper() + phrase[1:], phrase.title(), phrase.upper()}
    lower = re.compile("[A-Z]")
    found = 0
    for form in {lower.sub(lambda match: match[0].lower(), form) for form in forms}:
        pattern = re.escape(form).replace(r"\ ", r"[\t-\r ]+")
        plain = lower.sub(lambda match: match[0].lower(), text.replace("’", "'"))
        for match in re.finditer(f"(?=({pattern}))", plain):
            start, stop = match.span(1)
            open_before = UNSPACED.match(phrase[0]) or start == 0 or not is_letter[start - 1]
            open_after = (
                not phrase[-1].isalnum() or UNSPACED.match(phrase[-1]) or stop == len(text) or not is_letter[stop]
            )
            found += bool(open_before and open_after)
    return found


@settings(max_examples=150)
@given(st.lists(st.one_of(ALPHABET, PIECES.map("".join)), min_size=1, max_size=5))
def test_hits_equal_a_plain_search(texts):
    assert counts(texts).tolist() == [[occurrences(text, phrase) for phrase in PHRASES] for text in texts]


WIDE_PIECES = [
    *WIDE,
    "Über",
    "ÜBER",
    "Дело",
    "ДЕЛО",
    "Élan",
    "ÉLAN VITAL",
    "VITAL",
    "GRÖSSE",
    "意",
    "a",
    "_",
    "é",
    "—",
    "’",
]


@settings(max_examples=200)
@given(st.lists(st.lists(st.sampled_from([*WIDE_PIECES, " ", "\n", "  "]), max_size=16).map("".join), max_size=4))
def test_other_scripts_equal_a_plain_search(texts):
    assert counts(texts, WIDE).tolist() == [[occurrences(text, phrase) for phrase in WIDE] for text in texts]


def test_phrases_of_other_scripts():
    texts = [
        "Überdies: über, ÜBER und übermorgen.",
        "В этом ДЕЛО; дело-то делом.",
        "请值得注意的是，注。",
        "用ai生成的",
    ]
    found = counts(texts, WIDE)
    assert found[0].tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert found[1].tolist() == [0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
    assert found[2].tolist() == [0, 0, 0, 0, 0, 1, 2, 0, 0, 0]
    assert found[3].tolist() == [0] * 10  # an ASCII letter is the beginning of a word, and 用 stands before it


def test_words_are_runs_without_white_space():
    texts = ["one two\tthree\n\nfour", "  ", "it's — here", ""]
    buffer = text_buffer(pl.Series(texts))
    assert find_phrases(buffer, make_matcher(((0, "x"),))).words.tolist() == [len(text.split()) for text in texts]


def test_many_hits_do_not_overflow():
    assert counts(["ai " * 5000, "ai"])[:, 5].tolist() == [5000, 1]


def test_inflections_count_as_their_phrase():
    lexicons = combine([read_lexicon("style"), read_lexicon("control")])
    number = lexicons.phrases.index("delve")
    found = find_phrases(
        text_buffer(pl.Series(["She delves, delved; delving redelve"])), make_matcher(lexicons.spellings)
    )
    assert found.phrase.tolist() == [number] * 3


def test_shipped_lexicons_are_sound():
    for name in ("fineweb-proxy", "style", "control", "common-ten", "content"):
        lexicon = read_lexicon(name)
        assert all(plain_phrase(form) == form for _, form in lexicon.spellings())
    assert len(read_lexicon("fineweb-proxy").phrases) == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prefix: x\nphrases: [a b, A  b]", "lexicon.yaml:2: phrases: 'a b' stands there twice"),
        ("prefix: x\nphrases: [yes]", "True is not text"),
        ("prefix: x\nphrases: ['!']", "begins with a letter or a digit"),
        ("prefix: x\nphrases: [a]\nkinds: style", "lexicon.yaml:3: kinds: unknown key"),
        ("prefix: x\nphrases: [a]\nforms: {b: [bs]}", "lexicon.yaml:3: forms.b: is none of the phrases"),
        ("prefix: x", "phrases: is needed"),
        ("- a", "mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_lexicon_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "lexicon.yaml"
    path.write_text(text)
    with pytest.raises(FineeduError, match=re.escape(message)):
        read_lexicon(str(path))


@settings(max_examples=100)
@given(st.lists(st.one_of(ALPHABET, st.text(max_size=40)), min_size=1, max_size=4))
def test_unique_words_equal_a_regular_expression(texts):
    rows, words = unique_words(text_buffer(pl.Series(texts, dtype=pl.String)))
    expected = set()
    for row, text in enumerate(texts):
        # ASCII letters only are made lower; any other character from 128 on is a neighbour that joins words.
        plain = "".join(c.lower() if c.isascii() else c for c in text)
        expected |= {
            (row, word)
            for word in re.findall(r"(?<![a-z0-9_\u0080-\U0010ffff])[a-z]{4,}(?![a-z0-9_\u0080-\U0010ffff])", plain)
        }
    assert sorted(zip(rows.tolist(), words.to_list(), strict=True)) == sorted(expected)


def test_document_frequency_in_bounded_memory():
    rng = np.random.default_rng(0)
    vocabulary = np.array(["".join(rng.choice(list("abcdefghij"), 7)) for _ in range(4000)])
    chances = 1 / np.arange(1, 4001)
    texts = [" ".join(rng.choice(vocabulary, 60, p=chances / chances.sum())) for _ in range(800)]
    exact, small = FrequencyTable(), FrequencyTable(room=1500)
    for start in range(0, 800, 50):
        batch = texts[start : start + 50]
        for table in (exact, small):
            table.add(text_buffer(pl.Series(batch)), pl.Series(["2024"] * 50), pl.Series([""] * 50))
    truth = {word: sum(word in set(text.split()) for text in texts) for word in vocabulary[:50]}
    found = dict(exact.finish().select("word", "documents").iter_rows())
    assert {word: found.get(word, 0) for word in truth} == truth and exact.pruned == 0
    pruned = dict(small.finish().select("word", "documents").iter_rows())
    assert small.pruned > 0 and len(pruned) < len(found)
    assert all(0 <= number - pruned.get(word, 0) <= small.pruned for word, number in found.items())
