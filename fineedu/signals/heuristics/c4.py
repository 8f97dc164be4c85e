"""Kernels for the rules of C4 (arXiv:1910.10683): lines that are dropped, pages that are dropped."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner
from fineedu.signals.heuristics.characters import BRACKET, DECIMAL, RARE, SPACE
from fineedu.signals.heuristics.lines import ends_in_ellipsis, next_line, stripped
from fineedu.signals.heuristics.sentences import count_sentences, measure_words
from fineedu.signals.heuristics.words import split_words

MIN_WORDS = 3
MAX_WORD_LENGTH = 1000
# rows of the phrase table, see ``phrase_table``; "|" stands before the rare letter a search looks for
_LOREM_IPSUM = 0
_JAVASCRIPT = 1
_EDIT = 2
_CITATION_NEEDED = 3
_POLICIES = 4
PHRASES = (
    "lorem i|psum", "|javascript", "|[edit]", "|[citation needed]",
    "terms o|f use", "pri|vacy policy", "coo|kie policy", "uses coo|kies", "use of coo|kies", "use coo|kies",
)  # fmt: skip
_KELVIN = 0x212A
_NO_CLASS = np.uint32(0)

# columns of ``out``; what SENTENCES, LOREM and CURLY count without the rule of the terminal mark stands
# ANY_END to their right
LINES, TOO_LONG, NO_TERMINAL, TOO_FEW, JAVASCRIPT, POLICY = 0, 1, 2, 3, 4, 5
SENTENCES, LOREM, CURLY = 6, 7, 8
ANY_END = 3
N_COUNTS = 12


def phrase_table() -> Any:
    """Return the phrases, one row each: position of the rare letter, length, code points."""
    table = np.zeros((len(PHRASES), 2 + max(map(len, PHRASES))), np.uint32)
    for row, marked in zip(table, PHRASES, strict=True):
        phrase = marked.replace("|", "")
        row[:2] = marked.index("|"), len(phrase)
        row[2 : 2 + len(phrase)] = [ord(character) for character in phrase]
    return table


@inner
def _lower(point: Any) -> Any:
    """Lower case as far as it can matter to the phrases: ASCII, and the Kelvin sign is a k."""
    if ord("A") <= point <= ord("Z"):
        return point + np.uint32(32)
    if point == _KELVIN:
        return np.uint32(ord("k"))
    return point


@inner
def _stands_at(points: Any, i: Any, end: int, phrases: Any, k: int) -> bool:
    """Whether phrase ``k`` starts at ``i``, in any case."""
    length = np.int64(phrases[k, 1])
    if i + length > end:
        return False
    j = 0
    while j < length and _lower(points[i + j]) == phrases[k, 2 + j]:
        j += 1
    return bool(j == length)


@inner
def _find_phrases(points: Any, classes: Any, start: int, end: int, phrases: Any) -> tuple[int, bool]:
    """Which phrases a line holds (one bit per row of the table), and whether it holds a "{"."""
    found = 0
    curly = False
    for i in range(start, end):
        if not classes[i] & RARE:
            continue
        point = _lower(points[i])
        curly = curly or point == ord("{")
        for k in range(phrases.shape[0]):
            rare = np.int64(phrases[k, 0])
            fits = phrases[k, 2 + rare] == point and i - rare >= start
            if fits and _stands_at(points, i - rare, end, phrases, k):
                found |= 1 << k
    return found, curly


@inner
def _citation_end(points: Any, classes: Any, i: int, end: int, phrases: Any) -> Any:
    """End of the Wikipedia-style citation that starts at ``i``, or ``i``."""
    j = i + 1
    while j < end and classes[j] & DECIMAL:
        j += 1
    if j < end and points[j] == ord("]"):
        return j + 1
    for k in range(_EDIT, _CITATION_NEEDED + 1):
        length = np.int64(phrases[k, 1])
        same = i + length <= end
        for n in range(length):
            same = same and points[i + n] == phrases[k, 2 + n]
        if same:
            return i + length
    return i


@inner
def _without_citations(
    points: Any, classes: Any, start: int, end: int, phrases: Any, line: Any, line_classes: Any
) -> int:
    """Copy the span without citations; returns the length of the copy."""
    length = 0
    i = start
    while i < end:
        stop = _citation_end(points, classes, i, end, phrases) if points[i] == ord("[") else i
        if stop > i:
            i = stop
            continue
        line[length] = points[i]
        line_classes[length] = classes[i]
        length += 1
        i += 1
    return length


@inner
def _line_words(classes: Any, start: int, end: int) -> tuple[int, int, bool]:
    """Number of whitespace-separated words, length of the longest, whether there is a "["."""
    count = 0
    longest = 0
    word = start
    bracket = _NO_CLASS
    for i in range(start, end):
        bracket |= classes[i] & BRACKET
        if classes[i] & SPACE:
            count += i > word
            longest = max(longest, i - word)
            word = i + 1
    return count + (end > word), max(longest, end - word), bracket != _NO_CLASS


@inner
def _ends_sentence(points: Any, start: int, end: int) -> Any:
    if end == start or ends_in_ellipsis(points, start, end):
        return False
    last = points[end - 1]
    return (
        last == ord(".") or last == ord("?") or last == ord("!") or last == ord('"') or last == ord("'")
    )  # fmt: skip


@inner
def judge_line(points: Any, classes: Any, start: int, end: int, n_words: int, phrases: Any, out: Any) -> int:
    """Apply the rules after the citations are gone.

    Returns:
        1 if the line is kept only without the rule of the terminal mark, 2 if it is kept with it too, else 0.
    """
    terminal = _ends_sentence(points, start, end)
    if not terminal:
        out[NO_TERMINAL] += 1
    if n_words < MIN_WORDS:
        out[TOO_FEW] += terminal
        return 0
    found, curly = _find_phrases(points, classes, start, end, phrases)
    if found >> _LOREM_IPSUM & 1:
        out[LOREM + ANY_END] = 1
        if terminal:
            out[LOREM] = 1
        return 0
    if found >> _JAVASCRIPT & 1:
        out[JAVASCRIPT] += terminal
        return 0
    if curly:
        out[CURLY + ANY_END] = 1
        if terminal:
            out[CURLY] = 1
        return 0
    if found >> _POLICIES:
        out[POLICY] += terminal
        return 0
    return 2 if terminal else 1


@inner
def c4_lines(
    points: Any, classes: Any, length: int, spans: Any, kinds: Any, n_words: int,
    tables: Any, out: Any,
) -> None:  # fmt: skip
    """Walk the lines of a document and fill ``out`` (see the constants above).

    The words of the document serve for its lines too; only a line that lost a citation is split anew.
    """
    start = 0
    word = 0
    while start < length:
        stop, following = next_line(points, classes, start, length)
        lo, hi = stripped(classes, start, stop)
        start = following
        first = word
        while word < n_words and spans[word, 0] < hi:
            word += 1
        out[LINES] += 1
        count, longest, bracket = _line_words(classes, lo, hi)
        if longest > MAX_WORD_LENGTH:
            out[TOO_LONG] += 1
            continue
        kept = 0
        sentences = 0
        if bracket:
            kept, sentences = _cited_line(points, classes, lo, hi, count, tables, out)
        else:
            kept = judge_line(points, classes, lo, hi, count, tables.phrases, out)
            if kept > 0:
                sentences = count_sentences(points, spans, kinds, first, word, hi)
        if kept == 2:
            out[SENTENCES] += sentences
        if kept > 0:
            out[SENTENCES + ANY_END] += sentences


@inner
def _cited_line(
    points: Any, classes: Any, lo: int, hi: int, count: int,
    tables: Any, out: Any,
) -> tuple[int, int]:  # fmt: skip
    """Judge a line with brackets on a copy without citations: (as ``judge_line``, number of sentences)."""
    size = hi - lo
    line = np.empty(size, np.uint32)
    line_classes = np.empty(size, np.uint32)
    length = _without_citations(points, classes, lo, hi, tables.phrases, line, line_classes)
    kept = judge_line(line, line_classes, 0, length, count, tables.phrases, out)
    if kept == 0:
        return 0, 0
    spans = np.empty((size, 2), np.int32)
    words = split_words(line, line_classes, 0, length, tables.keys, tables.values, spans, np.empty(size, np.int32))
    kinds = np.empty(words, np.uint8)
    measure_words(
        line, line_classes, spans, words, tables.stop_words, tables.powers,
        np.empty(length + 1, np.uint64), np.empty(words + 1, np.int64), np.empty(words, np.uint64), kinds,
        np.zeros(4, np.int64),
    )  # fmt: skip
    return kept, count_sentences(line, spans, kinds, 0, words, length)
