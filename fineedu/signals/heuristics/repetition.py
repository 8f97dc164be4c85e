"""Kernels for the repetition of lines, paragraphs and word n-grams within one text (Gopher, Rae et al. 2021, A1.1).

A set of strings is an open-addressing table of their 64-bit hashes. The tables are shared by all texts of a batch:
a slot belongs to the current set where its stamp is the current one, so nothing is ever cleared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.signals.heuristics.compiled import inner
from fineedu.signals.heuristics.hashing import BASE, OFFSET, spread

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_SPACE = np.uint64(32)
_NEWLINE = 10


@inner
def find_slot(keys: Any, stamps: Any, stamp: int, mask: Any, key: Any) -> Any:
    """Return the slot of a key, or the free one where it belongs."""
    slot = spread(key) & mask
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return slot


@inner
def table_mask(items: int) -> Any:
    """Return the mask of a table that is half full at most."""
    size = 16
    while size < 2 * items:
        size *= 2
    return np.uint64(size - 1)


@inner
def count_duplicates(
    points: Any, start: int, end: int, shortest: int, keys: Any, stamps: Any, stamp: int
) -> tuple[int, int, int]:
    """Split ``points[start:end]`` at runs of ``shortest`` or more line feeds and count repeated parts.

    Returns:
        Parts, repeated parts, and characters in the repeated ones.
    """
    mask = table_mask(_parts(points, start, end, shortest))
    parts = 0
    repeated = 0
    characters = 0
    i = start
    while i <= end:
        value = _ZERO
        first = i
        stop = end
        following = end + 1
        while i < end:
            if points[i] == _NEWLINE:
                run = i
                while run < end and points[run] == _NEWLINE:
                    run += 1
                if run - i >= shortest:
                    stop = i
                    following = run
                    break
            value = value * BASE + np.uint64(points[i]) + OFFSET
            i += 1
        parts += 1
        slot = find_slot(keys, stamps, stamp, mask, value)
        if stamps[slot] == stamp:
            repeated += 1
            characters += stop - first
        else:
            stamps[slot] = stamp
            keys[slot] = value
        i = following
    return parts, repeated, characters


@inner
def _parts(points: Any, start: int, end: int, shortest: int) -> int:
    """Return an upper bound of the parts: line feeds, and one."""
    found = 1
    for i in range(start, end):
        if points[i] == _NEWLINE:
            found += 1
    return found


@inner
def hash_words(points: Any, spans: Any, words: int, hashes: Any, powers: Any) -> None:
    """Fill in each word's hash, and BASE to the power of its length."""
    for w in range(words):
        value = _ZERO
        power = _ONE
        for i in range(spans[w, 0], spans[w, 1]):
            value = value * BASE + np.uint64(points[i]) + OFFSET
            power *= BASE
        hashes[w] = value
        powers[w] = power


@inner
def top_n_gram(
    n: int, words: int, spans: Any, hashes: Any, powers: Any, grams: Any, counts: Any, slots: Any,
    keys: Any, stamps: Any, stamp: int,
) -> int:  # fmt: skip
    """Return occurrences times length of the most frequent n-gram, words joined by spaces; 0 without any.

    Of several as frequent ones the first counts, as in ``collections.Counter.most_common``. ``grams`` holds the
    (n-1)-grams on entry and the n-grams on return.
    """
    total = words - n + 1
    mask = table_mask(total)
    best = 0
    for i in range(total):
        last = i + n - 1
        grams[i] = (grams[i] * BASE + _SPACE + OFFSET) * powers[last] + hashes[last]
        slot = find_slot(keys, stamps, stamp, mask, grams[i])
        if stamps[slot] != stamp:
            stamps[slot] = stamp
            keys[slot] = grams[i]
            counts[slot] = 0
        counts[slot] += 1
        slots[i] = slot
        best = max(best, counts[slot])
    for i in range(total):
        if counts[slots[i]] == best:
            length = n - 1
            for w in range(i, i + n):
                length += spans[w, 1] - spans[w, 0]
            return best * length
    return 0


@inner
def duplicate_n_grams(
    n: int, words: int, ends: Any, grams: Any, keys: Any, stamps: Any, stamp: int
) -> int:
    """Return the characters in n-grams that were seen before; after one that was, the search goes on behind it.

    ``grams`` are hashes of the n words joined without spaces, ``ends[w]`` the characters of all words before w.
    """
    total = words - n + 1
    mask = table_mask(max(total, 1))
    repeated = 0
    i = 0
    while i < total:
        slot = find_slot(keys, stamps, stamp, mask, grams[i])
        if stamps[slot] == stamp:
            repeated += ends[i + n] - ends[i]
            i += n
        else:
            stamps[slot] = stamp
            keys[slot] = grams[i]
            i += 1
    return repeated


@inner
def extend_grams(n: int, words: int, hashes: Any, powers: Any, grams: Any) -> None:
    """Turn (n-1)-grams, joined without spaces, into n-grams."""
    for i in range(words - n + 1):
        last = i + n - 1
        grams[i] = grams[i] * powers[last] + hashes[last]
