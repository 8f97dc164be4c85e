from __future__ import annotations

import re
import sys
import unicodedata

import numpy as np
import pytest
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from spacy.lang import char_classes
from spacy.lang.en import English
from spacy.pipeline import Sentencizer

from fineedu.signals.heuristics import characters
from fineedu.signals.heuristics.characters import class_table
from fineedu.signals.heuristics.exceptions import LONGEST_LISTED, listed_chunks

EVERY = [chr(point) for point in range(sys.maxunicode + 1)]


def holders(flag: np.uint32) -> set[str]:
    return {chr(point) for point in np.flatnonzero(class_table() & flag)}


@pytest.mark.parametrize(
    ("flag", "test"),
    [
        ("SPACE", str.isspace),
        ("ALPHABETIC", str.isalpha),
        ("DECIMAL", str.isdecimal),
        ("ALPHANUMERIC", str.isalnum),
        ("LINE_BREAK", lambda c: len(f"a{c}b".splitlines()) == 2),
        ("PUNCTUATION", lambda c: unicodedata.category(c).startswith("P")),
    ],
)
def test_a_class_is_what_python_says_of_every_code_point(flag, test):
    assert holders(getattr(characters, flag)) == {c for c in EVERY if test(c)}


def test_symbol_sets_are_those_of_datatrove_and_spacy():
    assert holders(characters.SYMBOL) == PUNCTUATION_SET
    assert holders(characters.TERMINAL) == TERMINAL_PUNCTUATION
    assert holders(characters.SENTENCE_END) == set(Sentencizer.default_punct_chars)


@pytest.mark.filterwarnings("ignore:Possible nested set")
@pytest.mark.parametrize(("flag", "group"), [("LETTER", "ALPHA"), ("LOWER", "ALPHA_LOWER"), ("UPPER", "ALPHA_UPPER")])
def test_letters_are_those_of_spacy_but_for_a_handful(flag, group):
    pattern = re.compile(f"[{getattr(char_classes, group)}]")
    ours = holders(getattr(characters, flag))
    assert len(ours ^ {c for c in EVERY if pattern.match(c)}) <= 10


def test_listed_chunks_are_spacys_exceptions():
    tokenizer = English().tokenizer
    theirs = {
        chunk: tuple(token.text for token in tokenizer(chunk))
        for chunk in English.Defaults.tokenizer_exceptions
        if not chunk.isspace()
    }
    assert listed_chunks() == theirs
    assert max(map(len, theirs)) == LONGEST_LISTED
