"""Counts of the phrases of a lexicon: how often each stands in a document."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import ahocorasick_rs
import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from fineedu.assets import asset_dir
from fineedu.errors import FineeduError
from fineedu.kernels.arrow import TextBuffer, text_buffer
from fineedu.signals.base import SignalFamily

_APOSTROPHE = "'"
_CURLY = "’"
_MAX_VARIANTS = 64


class Lexicon(NamedTuple):
    """A list of phrases.

    Attributes:
        prefix: of the column names.
        phrases: in lower case, apostrophes straight.
        digest: of the file's bytes.
    """

    prefix: str
    phrases: tuple[str, ...]
    digest: str

    @property
    def columns(self) -> tuple[str, ...]:
        """One column name per phrase."""
        return tuple(f"{self.prefix}_{_slug(phrase)}" for phrase in self.phrases)


def _slug(phrase: str) -> str:
    return re.sub(r"\W+", "_", phrase.replace(_APOSTROPHE, "")).strip("_")


def lexicon_path(lexicon: str) -> Path:
    """Find a lexicon by name (``pipelines/lexicons/NAME.yaml``) or by path.

    Raises:
        FineeduError: there is no such file.
    """
    folder = asset_dir("pipelines") / "lexicons"
    path = Path(lexicon) if lexicon.endswith((".yaml", ".yml")) else folder / f"{lexicon}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise FineeduError(f"no lexicon at {path}; give a path to a .yaml file or one of: {known}")
    return path


def read_lexicon(lexicon: str) -> Lexicon:
    """Read and check a lexicon.

    Raises:
        FineeduError: no such file, or not a mapping with a ``prefix`` and a list of distinct ``phrases``.
    """
    path = lexicon_path(lexicon)
    content = path.read_bytes()
    try:
        fields = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise FineeduError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("prefix"), str):
        raise FineeduError(f"{path}: expected keys 'prefix' (text) and 'phrases' (list)")
    if fields.get("forms"):
        raise FineeduError(f"{path}: 'forms' are counted by fineedu synthetic only; list every form as a phrase here")
    phrases = fields.get("phrases")
    if not isinstance(phrases, list) or not phrases or not all(isinstance(p, str) and p.strip() for p in phrases):
        raise FineeduError(f"{path}: 'phrases' must be a list of texts that are not empty")
    plain = tuple(" ".join(p.lower().replace(_CURLY, _APOSTROPHE).split()) for p in phrases)
    if not all(phrase.isascii() for phrase in plain):
        raise FineeduError(f"{path}: only ASCII phrases are supported (apostrophes may be curly)")
    read = Lexicon(fields["prefix"], plain, hashlib.blake2b(content, digest_size=16).hexdigest())
    if len({*read.columns}) < len(plain):
        raise FineeduError(f"{path}: two phrases share a column name; remove one of them")
    return read


class _Matcher(NamedTuple):
    """An automaton over all spellings, and what each pattern stands for."""

    automaton: ahocorasick_rs.BytesAhoCorasick
    phrase: npt.NDArray[np.intp]
    word_start: npt.NDArray[np.bool_]
    word_end: npt.NDArray[np.bool_]


@lru_cache(maxsize=8)
def _matcher(phrases: tuple[str, ...]) -> _Matcher:
    spellings = [(k, spelling) for k, phrase in enumerate(phrases) for spelling in _spellings(phrase)]
    patterns = [spelling.encode() for _, spelling in spellings]
    automaton = ahocorasick_rs.BytesAhoCorasick(patterns, matchkind=ahocorasick_rs.MatchKind.Standard)
    return _Matcher(
        automaton,
        np.array([k for k, _ in spellings], np.intp),
        np.array([_is_word(spelling[0]) for _, spelling in spellings]),
        np.array([_is_word(spelling[-1]) for _, spelling in spellings]),
    )


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _spellings(phrase: str) -> list[str]:
    """The phrase with every apostrophe straight or curly."""
    parts = phrase.split(_APOSTROPHE)
    found = [parts[0]]
    for part in parts[1:]:
        found = [left + mark + part for left in found for mark in (_APOSTROPHE, _CURLY)]
        if len(found) > _MAX_VARIANTS:
            raise FineeduError(f"phrase {phrase!r} has too many apostrophes (at most 6)")
    return found


def _lower_ascii(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Lower case of ASCII letters; every byte keeps its place, as full case folding would not allow."""
    return data | (((data - np.uint8(65)) < 26).view(np.uint8) << np.uint8(5))


def _word_at(data: npt.NDArray[np.uint8], last_byte: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Whether the character that ``last_byte`` belongs to is a letter, digit or underscore.

    Decoded only for the few hits: the character is read from its surroundings of at most four bytes.
    """
    found = np.zeros(len(last_byte), np.bool_)
    for k, i in enumerate(last_byte):
        first = int(i)
        while first > 0 and data[first] & 0xC0 == 0x80:
            first -= 1
        character = bytes(data[first : first + 4]).decode("utf-8", "ignore")[:1]
        found[k] = bool(character) and _is_word(character)
    return found


def count_phrases(buffer: TextBuffer, phrases: tuple[str, ...]) -> npt.NDArray[np.uint32]:
    """Count phrases in every document.

    A hit must not touch a letter, digit or underscore outside, where the phrase itself ends in one. Hits
    that overlap count each; a hit never runs from one document into the next.

    Returns:
        (n documents, n phrases) counts.
    """
    matcher = _matcher(phrases)
    n = len(buffer.offsets) - 1
    base, stop = int(buffer.offsets[0]), int(buffer.offsets[-1])
    data = _lower_ascii(buffer.data[base:stop])
    hits = matcher.automaton.find_matches_as_indexes(data, overlapping=True)
    if not hits:
        return np.zeros((n, len(phrases)), np.uint32)
    pattern, start, end = np.array(hits, np.intp).T
    offsets = buffer.offsets - base
    document = np.searchsorted(offsets, start, side="right") - 1
    inside = end <= offsets[document + 1]
    pattern, start, end, document = pattern[inside], start[inside], end[inside], document[inside]
    touches = np.zeros(len(start), np.bool_)
    left = matcher.word_start[pattern] & (start > offsets[document])
    right = matcher.word_end[pattern] & (end < offsets[document + 1])
    touches[left] |= _word_at(data, start[left] - 1)
    touches[right] |= _word_at(data, end[right])
    cell = document[~touches] * len(phrases) + matcher.phrase[pattern[~touches]]
    counts = np.bincount(cell, minlength=n * len(phrases))
    return counts.reshape(n, len(phrases)).astype(np.uint32)


class PhraseSignals(SignalFamily):
    """How often each phrase of a lexicon stands in the text, and the sum.

    Case is ignored for ASCII letters, apostrophes may be straight or curly, white space must be one space as
    in the phrase. A phrase that ends in a letter or digit is not counted inside a longer word ("delves").

    Args:
        lexicon: name of a file in ``pipelines/lexicons`` (without ``.yaml``), or a path that ends in
            ``.yaml``.

    Raises:
        FineeduError: the lexicon is missing or malformed.
    """

    name: ClassVar[str] = "phrases"
    version: ClassVar[int] = 1

    def __init__(self, lexicon: str = "fineweb-proxy") -> None:
        self.lexicon = read_lexicon(lexicon)

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """One UInt32 column per phrase, then the total."""
        columns = (*self.lexicon.columns, f"{self.lexicon.prefix}_total")
        return {column: pl.UInt32() for column in columns}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The family's version and the lexicon's digest."""
        return {**super().fingerprint, "lexicon": self.lexicon.digest}

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Count the phrases in ``text``; null where the text is null.

        Raises:
            FineeduError: there is no ``text`` column of type String.
        """
        if "text" not in documents.columns:
            raise FineeduError(f"no column 'text' among {documents.columns}: phrases are counted in the text")
        text = documents["text"]
        counts = count_phrases(text_buffer(text), self.lexicon.phrases)
        totals = counts.sum(axis=1, dtype=np.uint32)
        values = dict(zip(self.schema, [*counts.T, totals], strict=True))
        frame = pl.DataFrame(values, schema=dict(self.schema))
        if text.null_count():
            frame = frame.select(pl.when(text.is_not_null()).then(pl.all()))
        return frame
