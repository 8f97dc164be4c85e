"""Kernels that say how many characters split off a chunk: at its start, at its end, in its middle.

The rules are those of spaCy's English tokenizer (3.8), restated over character classes. A chunk is what
stands between whitespace, ``points[lo:hi]``; every look to the left or right stays inside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner
from fineedu.signals.heuristics.characters import (
    BEFORE_DOT,
    CURRENCY,
    DIGIT,
    ICON,
    LETTER,
    LOWER,
    PREFIX,
    QUOTE,
    SUFFIX,
    UPPER,
)
from fineedu.signals.heuristics.exceptions import IS_UNIT, LONGEST_UNIT
from fineedu.signals.heuristics.hashing import find, hash_span

_NONE = np.uint32(0)
_NO_VALUE = np.uint64(0)


@inner
def _dots_before(points: Any, lo: int, hi: int) -> int:
    """Length of the run of full stops that ends at ``hi``."""
    i = hi
    while i > lo and points[i - 1] == ord("."):
        i -= 1
    return hi - i


@inner
def _dots_from(points: Any, i: int, hi: int) -> int:
    """Length of the run of full stops that starts at ``i``."""
    j = i
    while j < hi and points[j] == ord("."):
        j += 1
    return j - i


@inner
def prefix_length(points: Any, classes: Any, lo: int, hi: int) -> int:
    """Characters to split off the start of a chunk, 0 for none."""
    first = points[lo]
    if classes[lo] & PREFIX:
        return 1
    if first == ord("+"):
        return 0 if lo + 1 < hi and classes[lo + 1] & DIGIT else 1
    if first == ord("."):
        run = _dots_from(points, lo, hi)
        return run if run > 1 else 0
    if first == ord("U") and lo + 2 < hi and points[lo + 1] == ord("S") and points[lo + 2] == ord("$"):
        return 3
    if (first == ord("C") or first == ord("A")) and lo + 1 < hi and points[lo + 1] == ord("$"):
        return 2
    return 0


@inner
def _final_dot(points: Any, classes: Any, lo: int, hi: int) -> int:
    """Suffix length of a chunk that ends in a full stop."""
    run = _dots_before(points, lo, hi)
    if run > 1:
        return run
    if hi - 2 < lo:
        return 0
    before = classes[hi - 2]
    if before & BEFORE_DOT:
        return 1
    if hi - 3 < lo:
        return 0
    if before & UPPER and classes[hi - 3] & UPPER:
        return 1
    degree = points[hi - 2]
    if points[hi - 3] == ord("°") and (degree == ord("F") or degree == ord("C") or degree == ord("K")):
        return 1
    return 0


@inner
def _final_amount(points: Any, classes: Any, lo: int, hi: int, keys: Any, values: Any) -> int:
    """Suffix length of a currency sign or a unit that follows a digit."""
    best = 0
    if classes[hi - 1] & CURRENCY:
        if hi - 2 >= lo and classes[hi - 2] & DIGIT:
            best = 1
        if points[hi - 1] == ord("$") and hi - 3 >= lo:
            letter = points[hi - 2]
            if (letter == ord("C") or letter == ord("A")) and classes[hi - 3] & DIGIT:
                best = 2
            if letter == ord("S") and points[hi - 3] == ord("U") and hi - 4 >= lo and classes[hi - 4] & DIGIT:
                best = 3
        return best
    for length in range(1, LONGEST_UNIT + 1):
        if hi - length - 1 < lo:
            break
        if classes[hi - length - 1] & DIGIT:
            key = hash_span(points, hi - length, hi)
            if find(keys, values, key) & IS_UNIT != _NO_VALUE:
                best = length
    return best


@inner
def suffix_length(points: Any, classes: Any, lo: int, hi: int, keys: Any, values: Any) -> int:
    """Characters to split off the end of a chunk, 0 for none; the longest rule that fits wins."""
    last = points[hi - 1]
    previous = points[hi - 2] if hi - 2 >= lo else _NONE
    if last == ord("."):
        return _final_dot(points, classes, lo, hi)
    if classes[hi - 1] & SUFFIX:
        return 2 if last == ord("…") and previous == ord("…") else 1
    if (last == ord("s") or last == ord("S")) and (previous == ord("'") or previous == ord("’")):
        return 2
    if last == ord("+"):
        return 1 if hi - 2 >= lo and classes[hi - 2] & DIGIT else 0
    return _final_amount(points, classes, lo, hi, keys, values)


@inner
def _hyphen_length(points: Any, classes: Any, i: int, hi: int) -> int:
    """Length of a hyphen or dash at ``i`` that a letter follows."""
    mark = points[i]
    run = 1
    if mark == ord("-"):
        while run < 3 and i + run < hi and points[i + run] == mark:
            run += 1
    elif mark == ord("—"):
        if i + 1 < hi and points[i + 1] == mark:
            run = 2
    elif mark != ord("–") and mark != ord("~"):
        return 0
    if i + run < hi and classes[i + run] & LETTER:
        return run
    return 0


@inner
def infix_length(points: Any, classes: Any, lo: int, i: int, hi: int) -> int:
    """Length of the piece at ``i`` that splits the chunk there, 0 for none."""
    mark = points[i]
    if mark == ord("…") or classes[i] & ICON:
        return 1
    if mark == ord("."):
        run = _dots_from(points, i, hi)
        if run > 1:
            return run
        if i > lo and i + 1 < hi and classes[i - 1] & (LOWER | QUOTE) and classes[i + 1] & (UPPER | QUOTE):
            return 1
        return 0
    if i == lo or i + 1 == hi:
        return 0
    before = classes[i - 1]
    after = classes[i + 1]
    if before & DIGIT and (after & DIGIT or points[i + 1] == ord("-")):
        if mark == ord("+") or mark == ord("-"):
            return 1
        if mark == ord("*") or mark == ord("^"):
            return 1
    if mark == ord(","):
        return 1 if before & LETTER and after & LETTER else 0
    if not before & (LETTER | DIGIT):
        return 0
    if mark == ord(":") or mark == ord("<") or mark == ord(">") or mark == ord("=") or mark == ord("/"):
        return 1 if after & LETTER else 0
    return _hyphen_length(points, classes, i, hi)
