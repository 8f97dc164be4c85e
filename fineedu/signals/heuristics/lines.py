"""Kernels that look at a text line by line: Gopher's bullets and ellipses, C4's line rules, FineWeb's line measures."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.signals.heuristics.characters import DECIMAL, LINE_BREAK, PUNCTUATION, SENTENCE_END, SPACE, TERMINAL
from fineedu.signals.heuristics.compiled import inner
from fineedu.signals.heuristics.repetition import find_slot, table_mask
from fineedu.signals.heuristics.hashing import BASE, OFFSET
from fineedu.signals.heuristics.words import split_words

_ZERO = np.uint64(0)
_LONGEST_WORD = 1000
_SHORT_LINE = 30
_FEWEST_WORDS = 3


def _needle(text: str) -> Any:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


_LOREM = _needle("lorem ipsum")
_JAVASCRIPT = _needle("javascript")
_CITATION_NEEDED = _needle("citation needed]")
_EDIT = _needle("edit]")
_POLICY = (
    _needle("terms of use"),
    _needle("privacy policy"),
    _needle("cookie policy"),
    _needle("uses cookies"),
    _needle("use of cookies"),
    _needle("use cookies"),
)


@inner
def _folded(point: Any) -> Any:
    """Lower-case of what can match a needle: ASCII, and the Kelvin sign, whose lower case is "k"."""
    if 65 <= point <= 90:
        return point + np.uint32(32)
    return np.uint32(107) if point == 0x212A else point


@inner
def _starts_with(points: Any, at: int, end: int, needle: Any, fold: bool) -> bool:
    if end - at < needle.shape[0]:
        return False
    for k in range(needle.shape[0]):
        point = _folded(points[at + k]) if fold else points[at + k]
        if point != needle[k]:
            return False
    return True


@inner
def line_end(points: Any, classes: Any, i: int, end: int) -> tuple[int, int]:
    """Return where the line from ``i`` ends and where the next one starts, as ``str.splitlines`` cuts."""
    while i < end and not classes[i] & LINE_BREAK:
        i += 1
    if i + 1 < end and points[i] == 13 and points[i + 1] == 10:
        return i, i + 2
    return i, i + 1


@inner
def strip_span(classes: Any, start: int, end: int) -> tuple[int, int]:
    """Return the span without whitespace at its ends, as ``str.strip`` cuts."""
    while start < end and classes[start] & SPACE:
        start += 1
    while end > start and classes[end - 1] & SPACE:
        end -= 1
    return start, end


@inner
def ends_in_ellipsis(points: Any, start: int, end: int) -> bool:
    """Whether a span ends in three full stops; see the callers for the single character."""
    return end - start >= 3 and points[end - 1] == 46 and points[end - 2] == 46 and points[end - 3] == 46


@inner
def gopher_lines(points: Any, classes: Any, start: int, end: int) -> tuple[int, int, int]:
    """Return lines, lines that start with a bullet, lines that end in an ellipsis."""
    lines = 0
    bullets = 0
    ellipses = 0
    i = start
    while i < end:
        stop, following = line_end(points, classes, i, end)
        first, last = strip_span(classes, i, stop)
        lines += 1
        if last > first:
            if points[first] == 0x2022 or points[first] == 45:
                bullets += 1
            if points[last - 1] == 0x2026 or ends_in_ellipsis(points, first, last):
                ellipses += 1
        i = following
    return lines, bullets, ellipses


@inner
def fineweb_lines(
    points: Any, classes: Any, start: int, end: int, keys: Any, stamps: Any, stamp: int
) -> tuple[int, int, int, int, int]:
    """Return over lines with something in them: lines, those that end in terminal punctuation, those of at most 30
    characters, characters in repeated lines; and all line feeds of the text.
    """  # noqa: D205
    feeds = 0
    for i in range(start, end):
        if points[i] == 10:
            feeds += 1
    mask = table_mask(feeds + 1)
    lines = 0
    terminal = 0
    short = 0
    repeated = 0
    i = start
    while i <= end:
        first = i
        blank = True
        value = _ZERO
        while i < end and points[i] != 10:
            value = value * BASE + np.uint64(points[i]) + OFFSET
            if not classes[i] & SPACE:
                blank = False
            i += 1
        if not blank:
            lines += 1
            if classes[i - 1] & TERMINAL:
                terminal += 1
            if i - first <= _SHORT_LINE:
                short += 1
            slot = find_slot(keys, stamps, stamp, mask, value)
            if stamps[slot] == stamp:
                repeated += i - first
            else:
                stamps[slot] = stamp
                keys[slot] = value
        i += 1
    return lines, terminal, short, repeated, feeds


@inner
def _without_citations(points: Any, classes: Any, start: int, end: int, line: Any, line_classes: Any) -> int:
    """Copy a line without "[12]", "[]", "[edit]" and "[citation needed]"; return its length."""
    length = 0
    i = start
    while i < end:
        if points[i] == 91:
            j = i + 1
            while j < end and classes[j] & DECIMAL:
                j += 1
            if j < end and points[j] == 93:
                i = j + 1
                continue
            if _starts_with(points, i + 1, end, _EDIT, False):
                i += 1 + _EDIT.shape[0]
                continue
            if _starts_with(points, i + 1, end, _CITATION_NEEDED, False):
                i += 1 + _CITATION_NEEDED.shape[0]
                continue
        line[length] = points[i]
        line_classes[length] = classes[i]
        length += 1
        i += 1
    return length


@inner
def _marks(line: Any, length: int) -> tuple[bool, bool, bool, bool]:
    """Whether a line holds "lorem ipsum", "javascript", a curly bracket, a phrase of cookie and legal notices."""
    lorem = False
    script = False
    curly = False
    policy = False
    for i in range(length):
        point = _folded(line[i])
        if point == 123:
            curly = True
        elif point == 108:
            lorem = lorem or _starts_with(line, i, length, _LOREM, True)
        elif point == 106:
            script = script or _starts_with(line, i, length, _JAVASCRIPT, True)
        elif point == 116:
            policy = policy or _starts_with(line, i, length, _POLICY[0], True)
        elif point == 112:
            policy = policy or _starts_with(line, i, length, _POLICY[1], True)
        elif point == 99:
            policy = policy or _starts_with(line, i, length, _POLICY[2], True)
        elif point == 117:
            policy = policy or _starts_with(line, i, length, _POLICY[3], True)
            policy = policy or _starts_with(line, i, length, _POLICY[4], True)
            policy = policy or _starts_with(line, i, length, _POLICY[5], True)
    return lorem, script, curly, policy


@inner
def _sentences(
    line: Any, classes: Any, length: int, keys: Any, values: Any, spans: Any, stack: Any
) -> int:
    """Count sentences: one ends at a sentence mark that is a word of its own, the next starts behind all punctuation."""
    seen = False
    for i in range(length):
        if classes[i] & SENTENCE_END:
            seen = True
            break
    if not seen:
        return 1
    words = split_words(line, classes, 0, length, keys, values, spans, stack)
    sentences = 1
    seen = False
    for w in range(words):
        first = spans[w, 0]
        last = spans[w, 1]
        if last - first == 1 and classes[first] & SENTENCE_END:
            seen = True
            continue
        if seen:
            punctuation = True
            for i in range(first, last):
                if not classes[i] & PUNCTUATION:
                    punctuation = False
                    break
            if not punctuation:
                sentences += 1
                seen = False
    return sentences


@inner
def _split_at_spaces(classes: Any, start: int, end: int) -> tuple[int, int]:
    """Return how many chunks ``str.split`` gives, and the longest one's length."""
    chunks = 0
    longest = 0
    i = start
    while i < end:
        if classes[i] & SPACE:
            i += 1
            continue
        first = i
        while i < end and not classes[i] & SPACE:
            i += 1
        chunks += 1
        longest = max(longest, i - first)
    return chunks, longest


@inner
def c4_lines(
    points: Any, classes: Any, start: int, end: int, keys: Any, values: Any,
    line: Any, line_classes: Any, spans: Any, stack: Any, out: Any,
) -> None:  # fmt: skip
    """Fill in C4's measures, ``out`` in the order of ``family.C4_COLUMNS``; the rules in datatrove's order."""
    i = start
    while i < end:
        stop, following = line_end(points, classes, i, end)
        first, last = strip_span(classes, i, stop)
        i = following
        out[0] += 1
        chunks, longest = _split_at_spaces(classes, first, last)
        if longest > _LONGEST_WORD:
            out[1] += 1
            continue
        length = _without_citations(points, classes, first, last, line, line_classes)
        ends = False
        if length > 0:
            mark = line[length - 1]
            ends = mark == 46 or mark == 63 or mark == 33 or mark == 34 or mark == 39
            ends = ends and not ends_in_ellipsis(line, 0, length)
        if not ends:
            out[2] += 1
        if chunks < _FEWEST_WORDS:
            out[3] += ends
            continue
        lorem, script, curly, policy = _marks(line, length)
        if lorem:
            out[10] = 1
            if ends:
                out[7] = 1
        if script:
            out[4] += ends
            continue
        if curly:
            out[11] = 1
            if ends:
                out[8] = 1
        if policy:
            out[5] += ends
            continue
        sentences = _sentences(line, line_classes, length, keys, values, spans, stack)
        out[9] += sentences
        if ends:
            out[6] += sentences
