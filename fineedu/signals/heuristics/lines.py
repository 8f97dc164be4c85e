"""Kernels over lines and paragraphs: Gopher's bullets and ellipses, repetition, FineWeb's own rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner
from fineedu.signals.heuristics.characters import LINE_BREAK, SPACE, TERMINAL
from fineedu.signals.heuristics.hashing import BASE, OFFSET
from fineedu.signals.heuristics.repetition import seen_before, table_size

_FREE = np.uint64(0)
SHORT_LINE = 30


@inner
def next_line(points: Any, classes: Any, start: int, end: int) -> tuple[int, int]:
    """End of the line that starts at ``start``, and start of the one after it (``str.splitlines``)."""
    i = start
    while i < end and not classes[i] & LINE_BREAK:
        i += 1
    if i < end and points[i] == ord("\r") and i + 1 < end and points[i + 1] == ord("\n"):
        return i, i + 2
    return i, i + 1


@inner
def stripped(classes: Any, start: int, end: int) -> tuple[int, int]:
    """Bounds of the span without whitespace at its ends (``str.strip``)."""
    while start < end and classes[start] & SPACE:
        start += 1
    while end > start and classes[end - 1] & SPACE:
        end -= 1
    return start, end


@inner
def ends_in_ellipsis(points: Any, start: int, end: int) -> Any:
    """Whether the span ends in three full stops."""
    if end - start < 3:
        return False
    return points[end - 1] == ord(".") and points[end - 2] == ord(".") and points[end - 3] == ord(".")


@inner
def gopher_lines(points: Any, classes: Any, length: int, out: Any) -> None:
    """Count lines, those that start with a bullet, and those that end in an ellipsis, into ``out[0:3]``."""
    start = 0
    while start < length:
        end, following = next_line(points, classes, start, length)
        lo, hi = stripped(classes, start, end)
        out[0] += 1
        if lo < hi:
            out[1] += points[lo] == ord("•") or points[lo] == ord("-")
            out[2] += points[hi - 1] == ord("…") or ends_in_ellipsis(points, lo, hi)
        start = following


@inner
def _count_newlines(points: Any, length: int) -> int:
    count = 0
    for i in range(length):
        count += points[i] == ord("\n")
    return count


@inner
def newline_lines(points: Any, classes: Any, length: int, out: Any) -> None:
    r"""Measure the lines between ``\n``, for two filters that treat empty ones differently.

    Args:
        points: code points.
        classes: their properties.
        length: number of characters.
        out: [0] ``\n`` in the text; [1] lines that are not blank, [2] of these with a terminal mark at the
            end, [3] at most 30 characters long, [4] characters of repeated ones; [5] pieces between runs of
            ``\n`` (empty ones at the text's ends included), [6] repeated ones, [7] their characters.
    """
    newlines = _count_newlines(points, length)
    out[0] = newlines
    table = np.zeros(table_size(newlines + 1), np.uint64)
    start = 0
    while start <= length:
        value = _FREE
        blank = True
        i = start
        while i < length and points[i] != ord("\n"):
            value = value * BASE + np.uint64(points[i]) + OFFSET
            blank = blank and classes[i] & SPACE != 0
            i += 1
        repeated = False
        if i > start:
            repeated = seen_before(table, value)
            out[5] += 1
            out[6] += repeated
            out[7] += (i - start) * repeated
        if not blank:
            out[1] += 1
            out[2] += classes[i - 1] & TERMINAL != 0
            out[3] += i - start <= SHORT_LINE
            out[4] += (i - start) * repeated
        start = i + 1
    if length > 0:
        edges = (points[0] == ord("\n")) + (points[length - 1] == ord("\n") and out[5] > 0)
        if out[5] == 0:  # nothing but newlines: the one run has an empty piece on either side
            edges = 2
        out[5] += edges
        out[6] += edges == 2


@inner
def paragraphs(points: Any, classes: Any, length: int, out: Any) -> None:
    r"""Count pieces of the stripped text between runs of two or more ``\n``.

    ``out``: [0] pieces, [1] repeated ones, [2] their characters.
    """
    start, end = stripped(classes, 0, length)
    breaks = 0
    for i in range(start + 1, end):
        breaks += points[i] == ord("\n") and points[i - 1] == ord("\n")
    if breaks == 0:
        out[0] = 1
        return
    table = np.zeros(table_size(breaks + 1), np.uint64)
    while True:
        value = _FREE
        i = start
        while i < end and not (points[i] == ord("\n") and i + 1 < end and points[i + 1] == ord("\n")):
            value = value * BASE + np.uint64(points[i]) + OFFSET
            i += 1
        out[0] += 1
        if seen_before(table, value):
            out[1] += 1
            out[2] += i - start
        if i >= end:
            return
        while i < end and points[i] == ord("\n"):
            i += 1
        start = i
