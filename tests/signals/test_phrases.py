from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fineedu.errors import FineeduError
from fineedu.signals.phrases import PhraseSignals

COLUMNS = (
    "proxy_delve", "proxy_as_a_large_language_model", "proxy_its_important_to_note", "proxy_rich_tapestry",
    "proxy_intertwined", "proxy_certainly", "proxy_dive_into", "proxy_total",
)  # fmt: skip
PHRASES = ("delve", "as a large language model", "it's important to note", "rich tapestry", "intertwined",
           "certainly!", "dive into")  # fmt: skip


def counts(texts, lexicon="fineweb-proxy") -> list[dict]:
    return PhraseSignals(lexicon).compute(pl.DataFrame({"text": list(texts)}, schema={"text": pl.String})).to_dicts()


def spaced(phrase: str) -> str:
    return r"[\t-\r ]+".join(map(re.escape, phrase.split()))


def expected(text: str) -> dict[str, int]:
    """Counts by regular expression; lower-casing only ASCII keeps positions."""
    plain = "".join(c.lower() if c.isascii() else c for c in text.replace("’", "'"))
    found = [
        len(re.findall(rf"(?<!\w){spaced(phrase)}" + ("" if phrase.endswith("!") else r"(?!\w)"), plain))
        for phrase in PHRASES
    ]
    return dict(zip(COLUMNS, [*found, sum(found)], strict=True))


@pytest.mark.parametrize(
    ("text", "column", "count"),
    [
        (
            "We delve. DELVE, Delve; delves delved redelve _delve delve_ delve2 delveé édelve",
            "proxy_delve",
            3,
        ),
        ("delve delve-delve", "proxy_delve", 3),
        ("It's important to note and it’s important to note", "proxy_its_important_to_note", 2),
        ("Certainly! Certainly. certainly!!", "proxy_certainly", 2),
        ("uncertainly! certainly!x", "proxy_certainly", 1),
        ("dive  into dive\ninto", "proxy_dive_into", 2),
        ("字delve", "proxy_delve", 0),
        ("…delve…", "proxy_delve", 1),
    ],
)
def test_phrases_count_at_word_boundaries(text, column, count):
    (row,) = counts([text])
    assert row[column] == row["proxy_total"] == count


def test_a_phrase_does_not_run_from_one_document_into_the_next():
    rows = counts(["del", "ve", "x", "delve", "delve", "", None, "dive ", "into"])
    assert [row["proxy_delve"] for row in rows] == [0, 0, 0, 1, 1, 0, None, 0, 0]
    assert [row["proxy_dive_into"] for row in rows] == [0, 0, 0, 0, 0, 0, None, 0, 0]


PIECES = st.sampled_from(
    [*PHRASES, "it’s important to note", "DELVE", "s", "_", "é", " ", "-", "!", "\n", "字", "9", "dive"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=12).map("".join), min_size=1, max_size=5))
def test_counts_equal_those_of_a_regular_expression(texts):
    assert counts(texts) == [expected(text) for text in texts]


def test_slices_and_chunks_count_alike():
    frame = pl.DataFrame({"text": [f"delve {'into delve ' * k}" for k in range(30)]})
    whole = PhraseSignals().compute(frame)
    chunked = pl.concat([frame[:3], frame[3:19], frame[19:]], rechunk=False)
    assert_frame_equal(PhraseSignals().compute(chunked), whole)
    assert_frame_equal(PhraseSignals().compute(frame[11:17]), whole[11:17])


def test_schema_and_fingerprint_name_the_lexicon(tmp_path):
    family = PhraseSignals()
    assert tuple(family.schema) == COLUMNS
    assert family.compute(pl.DataFrame({"text": []}, schema={"text": pl.String})).schema == family.schema
    other = tmp_path / "mine.yaml"
    other.write_text("prefix: my\nphrases: [he's he’s, a, aa, über]\nforms: {aa: [aaa]}\n", encoding="utf-8")
    assert PhraseSignals(str(other)).fingerprint != family.fingerprint
    (row,) = counts(["a aa he’s he's Über aaa überaus"], str(other))
    assert row == {"my_hes_hes": 1, "my_a": 1, "my_aa": 2, "my_über": 1, "my_total": 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("phrases: [a]", "prefix"), ("prefix: p\nphrases: []", "phrases"),
        ("prefix: p\nphrases: [a, A]", "twice"),
        ("prefix: [", "YAML"), ("prefix: p\nphrases: ['!']", "begins with a letter"), ("- a", "mapping"),
        ("prefix: p\nphrases: [a b, a_b]", "share the column p_a_b"),
    ],
)  # fmt: skip
def test_a_malformed_lexicon_is_named(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FineeduError, match=message) as error:
        PhraseSignals(str(path))
    assert str(path) in str(error.value)


def test_an_unknown_lexicon_lists_the_known_ones():
    with pytest.raises(FineeduError, match="fineweb-proxy"):
        PhraseSignals("nothing-like-it")


def test_a_frame_without_text_is_an_error():
    with pytest.raises(FineeduError, match="text"):
        PhraseSignals().compute(pl.DataFrame({"body": ["x"]}))
