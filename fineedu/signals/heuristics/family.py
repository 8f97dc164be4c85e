"""Every measurement behind the filters of Gopher, C4 and FineWeb, in one pass over a batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.signals.base import SignalFamily
from fineedu.signals.heuristics.characters import ALPHABETIC, SYMBOL, class_table
from fineedu.signals.heuristics.compiled import inner, kernel
from fineedu.signals.heuristics.exceptions import exception_table, hash_text
from fineedu.signals.heuristics.lines import c4_lines, fineweb_lines, gopher_lines, strip_span
from fineedu.signals.heuristics.repetition import (
    count_duplicates,
    duplicate_n_grams,
    extend_grams,
    hash_words,
    top_n_gram,
)
from fineedu.signals.heuristics.words import split_words

_COUNT, _RATIO, _FLAG = pl.UInt32(), pl.Float64(), pl.Boolean()
SIZE_COLUMNS = {"n_chars": _COUNT, "n_words": _COUNT, "n_lines": _COUNT}
GOPHER_COLUMNS = {
    "gopher_words": _COUNT,
    "gopher_mean_word_length": _RATIO,
    "gopher_hash_ratio": _RATIO,
    "gopher_ellipsis_ratio": _RATIO,
    "gopher_bullet_line_ratio": _RATIO,
    "gopher_ellipsis_line_ratio": _RATIO,
    "gopher_alpha_word_ratio": _RATIO,
    "gopher_stop_words": _COUNT,
}
REPETITION_COLUMNS = dict.fromkeys(
    [
        *("dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac"),
        *(f"top_{n}_gram" for n in range(2, 5)),
        *(f"dup_{n}_gram" for n in range(5, 11)),
    ],
    _RATIO,
)
C4_COLUMNS = {
    "c4_lines": _COUNT,
    "c4_lines_long_word": _COUNT,
    "c4_lines_no_terminal": _COUNT,
    "c4_lines_too_few_words": _COUNT,
    "c4_lines_javascript": _COUNT,
    "c4_lines_policy": _COUNT,
    "c4_sentences": _COUNT,
    "c4_lorem_ipsum": _FLAG,
    "c4_curly_bracket": _FLAG,
    "c4_sentences_any_end": _COUNT,
    "c4_lorem_ipsum_any_end": _FLAG,
    "c4_curly_bracket_any_end": _FLAG,
}
FINEWEB_COLUMNS = dict.fromkeys(
    ["fineweb_line_punct_ratio", "fineweb_short_line_ratio", "fineweb_char_dup_ratio", "fineweb_newline_ratio"], _RATIO
)
COLUMNS = SIZE_COLUMNS | GOPHER_COLUMNS | REPETITION_COLUMNS | C4_COLUMNS | FINEWEB_COLUMNS
_GOPHER, _REPETITION = 3, 11
_C4, _FINEWEB = 24, 36
_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")


@cache
def _stop_hashes() -> npt.NDArray[np.uint64]:
    return np.array([hash_text(word) for word in _STOP_WORDS], dtype=np.uint64)


@inner
def _gopher(
    points: Any, classes: Any, start: int, end: int, spans: Any, words: int, hashes: Any, stops: Any, out: Any
) -> None:
    real = 0
    characters = 0
    alphabetic = 0
    found = 0
    for w in range(words):
        symbol = True
        alpha = False
        for i in range(spans[w, 0], spans[w, 1]):
            symbol = symbol and classes[i] & SYMBOL != 0
            alpha = alpha or classes[i] & ALPHABETIC != 0
        alphabetic += alpha
        if not symbol:
            real += 1
            characters += spans[w, 1] - spans[w, 0]
        if spans[w, 1] - spans[w, 0] <= 4:
            for k in range(stops.shape[0]):
                if hashes[w] == stops[k]:
                    found |= 1 << k
    marks = 0
    ellipses = 0
    i = start
    while i < end:
        marks += points[i] == 35
        if points[i] == 0x2026:
            ellipses += 1
        elif i + 2 < end and points[i] == 46 and points[i + 1] == 46 and points[i + 2] == 46:
            ellipses += 1
            i += 2
        i += 1
    out[0] = real
    out[1] = characters / real if real else np.nan
    out[2] = marks / words if words else np.nan
    out[3] = ellipses / words if words else np.nan
    out[6] = alphabetic / words if words else np.nan
    out[7] = 0
    for k in range(stops.shape[0]):
        out[7] += (found >> k) & 1


@inner
def _repetition(
    points: Any, classes: Any, start: int, end: int, spans: Any, words: int, hashes: Any, powers: Any, grams: Any,
    ends: Any, counts: Any, slots: Any, keys: Any, stamps: Any, stamp: int, out: Any,
) -> int:  # fmt: skip
    """Fill in Gopher's repetition measures; return the last stamp used."""
    length = end - start
    first, last = strip_span(classes, start, end)
    parts, repeated, characters = count_duplicates(points, first, last, 2, keys, stamps, stamp + 1)
    out[0] = repeated / parts
    out[1] = characters / length
    parts, repeated, characters = count_duplicates(points, start, end, 1, keys, stamps, stamp + 2)
    out[2] = repeated / parts
    out[3] = characters / length
    stamp += 2
    grams[:words] = hashes[:words]
    for n in range(2, 5):
        stamp += 1
        top = top_n_gram(n, words, spans, hashes, powers, grams, counts, slots, keys, stamps, stamp)
        out[2 + n] = top / length
    ends[0] = 0
    for w in range(words):
        ends[w + 1] = ends[w] + spans[w, 1] - spans[w, 0]
    grams[:words] = hashes[:words]
    for n in range(2, 11):
        extend_grams(n, words, hashes, powers, grams)
        if n >= 5:
            stamp += 1
            out[2 + n] = duplicate_n_grams(n, words, ends, grams, keys, stamps, stamp) / length
    return stamp


@kernel
def _measure(
    points: Any, offsets: Any, table: Any, listed: Any, entries: Any, stops: Any, longest: int, out: Any
) -> None:
    """Measure texts ``points[offsets[d]:offsets[d + 1]]`` into the rows of ``out``."""
    room = longest + 1
    classes = np.empty(room, np.uint32)
    line = np.empty(room, np.uint32)
    line_classes = np.empty(room, np.uint32)
    spans = np.empty((room, 2), np.int32)
    line_spans = np.empty((room, 2), np.int32)
    stack = np.empty(room, np.int32)
    hashes = np.empty(room, np.uint64)
    powers = np.empty(room, np.uint64)
    grams = np.empty(room, np.uint64)
    ends = np.empty(room + 1, np.int64)
    slots = np.empty(room, np.int64)
    size = 16
    while size < 2 * room:
        size *= 2
    keys = np.empty(size, np.uint64)
    counts = np.empty(size, np.int32)
    stamps = np.zeros(size, np.int64)
    stamp = 0
    for d in range(offsets.shape[0] - 1):
        text = points[offsets[d] : offsets[d + 1]]
        length = text.shape[0]
        for i in range(length):
            classes[i] = table[text[i]]
        row = out[d]
        words = split_words(text, classes, 0, length, listed, entries, spans, stack)
        hash_words(text, spans, words, hashes, powers)
        lines, bullets, ellipses = gopher_lines(text, classes, 0, length)
        row[0] = length
        row[1] = words
        row[2] = lines
        _gopher(text, classes, 0, length, spans, words, hashes, stops, row[_GOPHER:])
        row[_GOPHER + 4] = bullets / lines if lines else np.nan
        row[_GOPHER + 5] = ellipses / lines if lines else np.nan
        row[_C4:_FINEWEB] = 0
        c4_lines(text, classes, 0, length, listed, entries, line, line_classes, line_spans, stack, row[_C4:])
        row[_REPETITION:_C4] = np.nan
        row[_FINEWEB:] = np.nan
        if length:
            stamp = _repetition(
                text, classes, 0, length, spans, words, hashes, powers, grams, ends, counts, slots,
                keys, stamps, stamp, row[_REPETITION:],
            )  # fmt: skip
        stamp += 1
        lines, terminal, short, repeated, feeds = fineweb_lines(text, classes, 0, length, keys, stamps, stamp)
        if lines:
            row[_FINEWEB] = terminal / lines
            row[_FINEWEB + 1] = short / lines
            row[_FINEWEB + 2] = repeated / (length - feeds)
            row[_FINEWEB + 3] = feeds / words if words else np.nan


class HeuristicSignals(SignalFamily):
    """The numbers behind four filters of datatrove 0.10, as columns; the bounds are the recipe's.

    Gopher's quality and repetition measures (Rae et al. 2021, table A1), C4's line rules (Raffel et al. 2020) and
    FineWeb's own (Penedo et al. 2024). What needs no word splitting equals datatrove's figure to the last bit; words
    and sentences come from our own splitter, see ``words.py``. C4's measures come twice: after its line rules, and
    (``_any_end``) without the one that asks for a terminal mark, which FineWeb leaves out. A ratio of nothing (no
    words, no lines, empty text) is null.
    """

    name: ClassVar[str] = "heuristics"

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns: counts, ratios from 0 up, and flags."""
        return COLUMNS

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Measure a batch; linear in its characters. A null text has null measures."""
        missing = documents["text"].is_null()
        texts = documents["text"].fill_null("")
        lengths = texts.str.len_chars().to_numpy().astype(np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        # One code point a number: the kernels then index characters as Python does.
        points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
        out = np.empty((len(texts), len(COLUMNS)))
        listed, entries = exception_table()
        _measure(points, offsets, class_table(), listed, entries, _stop_hashes(), int(lengths.max(initial=0)), out)
        frame = pl.DataFrame(out, schema=dict.fromkeys(COLUMNS, pl.Float64)).fill_nan(None)
        return frame.select(
            pl.when(~missing).then(pl.col(name).cast(dtype) if dtype != pl.Boolean else pl.col(name) > 0).alias(name)
            for name, dtype in COLUMNS.items()
        )
