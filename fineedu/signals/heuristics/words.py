"""Kernels that split a text into words, in one pass over its characters.

The steps are those of spaCy's English tokenizer: cut at whitespace, take known chunks ("don't", "e.g.",
":-)") as they are listed, split punctuation off both ends, leave addresses whole, split the rest at inner "
"marks, and
put split-off marks together again where they make up a listed chunk.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner
from fineedu.signals.heuristics.addresses import is_address
from fineedu.signals.heuristics.affixes import infix_length, prefix_length, suffix_length
from fineedu.signals.heuristics.characters import COMPLEX, INFIX, SPACE
from fineedu.signals.heuristics.exceptions import (
    ENDS_SHIFT,
    IS_LISTED,
    LONGEST_LISTED,
    PIECE_BITS,
    PIECE_MASK,
)
from fineedu.signals.heuristics.hashing import BASE, OFFSET, find, hash_span

_NO_VALUE = np.uint64(0)
_NO_CLASS = np.uint32(0)


@inner
def _listed(points: Any, lo: int, hi: int, keys: Any, values: Any) -> Any:
    """Entry of a chunk in the list of exceptions, 0 where it has none."""
    if hi - lo > LONGEST_LISTED:
        return _NO_VALUE
    value = find(keys, values, hash_span(points, lo, hi))
    return value if value & IS_LISTED != _NO_VALUE else _NO_VALUE


@inner
def _emit(spans: Any, count: int, start: Any, end: Any) -> int:
    spans[count, 0] = start
    spans[count, 1] = end
    return count + 1


@inner
def _emit_pieces(spans: Any, count: int, start: Any, entry: Any) -> int:
    """Append the pieces of a listed chunk."""
    pieces = entry & PIECE_MASK
    while pieces != _NO_VALUE:
        length = np.int64(pieces & np.uint64(15))
        count = _emit(spans, count, start, start + length)
        start += length
        pieces >>= PIECE_BITS
    return count


@inner
def _emit_middle(points: Any, classes: Any, lo: int, hi: int, spans: Any, count: int) -> int:
    """Append what is left between prefixes and suffixes, split at its inner marks."""
    seen = _NO_CLASS
    for i in range(lo, hi):
        seen |= classes[i]
    if not seen & INFIX or is_address(points, classes, lo, hi):
        return _emit(spans, count, lo, hi)
    start = lo
    i = lo
    while i < hi:
        length = infix_length(points, classes, lo, i, hi) if classes[i] & INFIX else 0
        if length == 0:
            i += 1
            continue
        if i > lo:
            if i > start:
                count = _emit(spans, count, start, i)
            count = _emit(spans, count, i, i + length)
            start = i + length
        i += length
    return _emit(spans, count, start, hi) if start < hi else count


@inner
def _rejoin(points: Any, keys: Any, values: Any, spans: Any, first: int, count: int) -> int:
    """Replace neighbouring words that make up a listed chunk (":" and ")"), the longest from the left."""
    kept = first
    i = first
    while i < count:
        entry = _NO_VALUE
        stop = i
        ends = _NO_VALUE
        for j in range(i, min(count, i + LONGEST_LISTED)):
            length = spans[j, 1] - spans[i, 0]
            if length > LONGEST_LISTED:
                break
            ends |= np.uint64(1) << np.uint64(length - 1)
            if j > i:
                value = _listed(points, spans[i, 0], spans[j, 1], keys, values)
                if value != _NO_VALUE and value >> ENDS_SHIFT == ends:
                    entry = value
                    stop = j
        if entry == _NO_VALUE:
            kept = _emit(spans, kept, spans[i, 0], spans[i, 1])
            i += 1
        else:
            kept = _emit_pieces(spans, kept, spans[i, 0], entry)
            i = stop + 1
    return kept


@inner
def _split_chunk(
    points: Any, classes: Any, lo: int, hi: int,
    keys: Any, values: Any, spans: Any, stack: Any, first: int,
) -> int:  # fmt: skip
    """Append the words of one chunk; ``stack`` holds the starts of the suffixes, outermost first."""
    count = first
    end = hi
    suffixes = 0
    entry = _NO_VALUE  # the whole chunk is not listed: the caller looked
    while lo < hi and entry == _NO_VALUE:
        before = prefix_length(points, classes, lo, hi)
        if before > 0 and lo + before < hi:
            entry = _listed(points, lo + before, hi, keys, values)
            if entry != _NO_VALUE:
                count = _emit(spans, count, lo, lo + before)
                lo += before
                break
        after = suffix_length(points, classes, lo + before, hi, keys, values) if lo + before < hi else 0
        if after > 0 and hi - after > lo:
            entry = _listed(points, lo, hi - after, keys, values)
            before = 0 if entry != _NO_VALUE else before
        if before + after == 0:
            break
        if before > 0:
            count = _emit(spans, count, lo, lo + before)
            lo += before
        if after > 0:
            hi -= after
            stack[suffixes] = hi
            suffixes += 1
        if entry == _NO_VALUE and lo < hi:
            entry = _listed(points, lo, hi, keys, values)
    if entry != _NO_VALUE:
        count = _emit_pieces(spans, count, lo, entry)
    elif lo < hi:
        count = _emit_middle(points, classes, lo, hi, spans, count)
    while suffixes > 0:
        suffixes -= 1
        stop = end if suffixes == 0 else stack[suffixes - 1]
        count = _emit(spans, count, stack[suffixes], stop)
    # two words are the whole chunk again, which was looked up first
    return _rejoin(points, keys, values, spans, first, count) if count > first + 2 else count


@inner
def split_words(points: Any, classes: Any, start: int, end: int, keys: Any, values: Any, spans: Any, stack: Any) -> int:
    """Split ``points[start:end]`` into words.

    Args:
        points: code points.
        classes: their properties (see ``characters``).
        start: first character.
        end: one past the last.
        keys: hashes of the list of exceptions.
        values: entries of that list.
        spans: (n, 2) int32, filled with the words' starts and ends; room for ``end - start`` rows.
        stack: int32 scratch, room for ``end - start``.

    Returns:
        The number of words.
    """
    count = 0
    i = start
    while i < end:
        if classes[i] & SPACE:
            i += 1
            continue
        chunk = i
        seen = _NO_CLASS
        value = _NO_VALUE
        while i < end and not classes[i] & SPACE:
            seen |= classes[i]
            value = value * BASE + np.uint64(points[i]) + OFFSET
            i += 1
        entry = _NO_VALUE
        if i - chunk <= LONGEST_LISTED:
            entry = find(keys, values, value)
        if entry & IS_LISTED != _NO_VALUE:
            count = _emit_pieces(spans, count, chunk, entry)
        elif seen & COMPLEX:
            count = _split_chunk(
                points, classes, chunk, i, keys, values, spans, stack, count
            )  # fmt: skip
        else:
            count = _emit(spans, count, chunk, i)
    return count
