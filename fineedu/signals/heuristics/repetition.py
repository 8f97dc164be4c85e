"""Kernels that count repeated n-grams of a document (Gopher, arXiv:2112.11446, table A1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner
from fineedu.signals.heuristics.hashing import power, spread

_FREE = np.uint64(0)
_ONE = np.uint64(1)
_TUPLE_SALT = np.uint64(0xD6E8FEB86659FD93)
WINDOW = 16


@inner
def table_size(items: int) -> int:
    """Slots of a hash table for so many items: a power of two, at most half full."""
    size = 16
    while size < 2 * items:
        size *= 2
    return size


@inner
def seen_before(table: Any, key: Any) -> bool:
    """Whether ``key`` is in the set; it is afterwards."""
    key = spread(key) | _ONE
    mask = np.uint64(table.shape[0] - 1)
    slot = (key >> _ONE) & mask
    while table[slot] != _FREE:
        if table[slot] == key:
            return True
        slot = (slot + _ONE) & mask
    table[slot] = key
    return False


@inner
def _count(table: Any, counts: Any, key: Any) -> Any:
    """Slot of ``key`` after counting it once more."""
    key = spread(key) | _ONE
    mask = np.uint64(table.shape[0] - 1)
    slot = (key >> _ONE) & mask
    while table[slot] != _FREE and table[slot] != key:
        slot = (slot + _ONE) & mask
    if table[slot] == _FREE:
        table[slot] = key
        counts[slot] = 0
    counts[slot] += 1
    return np.int64(slot)


@inner
def _tuple_key(hashes: Any, start: int, n: int) -> Any:
    """Hash of n words as a tuple: "ab c" and "a bc" differ."""
    key = spread(hashes[start])
    for i in range(start + 1, start + n):
        key = key * _TUPLE_SALT + spread(hashes[i])
    return key


@inner
def _top_characters(
    hashes: Any, n: int, ends: Any, count: int, table: Any, slots: Any, candidates: Any
) -> Any:  # fmt: skip
    """Characters of all occurrences of the most frequent n-gram, words joined by one space.

    Among equally frequent n-grams the one that occurs first counts, as in ``Counter.most_common(1)``. An
    n-gram can only repeat where its first n-1 words do: ``candidates`` says where, and is narrowed for n+1.
    """
    if count < n:
        return 0
    table[:] = _FREE
    counts = slots[count:]
    best = 1
    first = 0
    for i in range(count - n + 1):
        if candidates[i]:
            slots[i] = _count(table, counts, _tuple_key(hashes, i, n))
    for i in range(count - n + 1):
        if candidates[i]:
            times = counts[slots[i]]
            candidates[i] = times > 1
            if times > best:
                best = times
                first = i
    return (ends[first + n] - ends[first] + n - 1) * best


@inner
def _span_key(stream: Any, start: int, end: int, powers: Any) -> Any:
    """Hash of characters ``start`` to ``end`` of the words written without spaces."""
    return stream[end] - stream[start] * power(end - start, powers)


@inner
def _mark_repeated_windows(
    stream: Any, ends: Any, count: int, powers: Any, table: Any, slots: Any, marks: Any
) -> None:  # fmt: skip
    """Mark the words whose next ``WINDOW`` characters (without spaces) stand after another word too.

    An n-gram of at least that length can only repeat at a marked word, which spares most look-ups.
    """
    table[:] = _FREE
    counts = slots[count:]
    for i in range(count):
        if ends[i] + WINDOW <= ends[count]:
            slots[i] = _count(table, counts, _span_key(stream, ends[i], ends[i] + WINDOW, powers))
    for i in range(count):
        marks[i] = ends[i] + WINDOW <= ends[count] and counts[slots[i]] > 1


@inner
def _duplicate_characters(
    stream: Any, n: int, ends: Any, count: int, powers: Any, table: Any, marks: Any
) -> int:  # fmt: skip
    """Characters in n-grams that occurred before; a counted n-gram is stepped over as a whole.

    The n-grams are compared without the spaces, so "ab c" repeats "a bc".
    """
    table[:] = _FREE
    repeated = 0
    i = 0
    while i < count - n + 1:
        length = ends[i + n] - ends[i]
        if (marks[i] or length < WINDOW) and seen_before(table, _span_key(stream, ends[i], ends[i + n], powers)):
            repeated += length
            i += n
        else:
            i += 1
    return repeated


@inner
def repeated_ngrams(hashes: Any, stream: Any, ends: Any, count: int, powers: Any, out: Any) -> None:
    """Fill ``out`` with top 2-4-gram and duplicate 5-10-gram characters.

    Args:
        hashes: hash of every word.
        stream: hash of all words' characters up to each character.
        ends: (count + 1,) the words' bounds in ``stream``.
        count: number of words.
        powers: see ``hashing.small_powers``.
        out: nine numbers of characters.
    """
    if count < 2:
        return
    table = np.empty(table_size(count), np.uint64)
    slots = np.empty(count + table.shape[0], np.int32)
    marks = np.ones(count, np.bool_)
    for n in range(2, 5):
        out[n - 2] = _top_characters(hashes, n, ends, count, table, slots, marks)
    _mark_repeated_windows(stream, ends, count, powers, table, slots, marks)
    for n in range(5, 11):
        out[n - 2] = _duplicate_characters(stream, n, ends, count, powers, table, marks)
