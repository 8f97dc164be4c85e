"""The kernels of exact substrings: anchors that equal windows share, contexts cut out, starts of repeated windows.

A window is ``length`` bytes of one text. Its anchor is the k-gram with the least hash in it, the leftmost of equal
ones (Schleimer et al., Winnowing, 2003), so equal windows have equal anchors at the same place, and only the
surroundings of anchors that occur twice can hold a repeated window.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.dedup.shingles import BASE, OFFSET, mix
from fineedu.kernels.compiled import inner, kernel

#: Stands between contexts: no byte of UTF-8.
SEPARATOR = np.uint8(0xFF)


@inner
def _document_anchors(
    data: Any, start: int, end: int, k: int, window: int, leaving: Any, ring: Any, places: Any, out: Any, at: Any,
    count: int,
) -> int:  # fmt: skip
    """Append the anchors of one text; ``ring`` and ``places`` hold the candidates, hashes ascending."""
    mask = ring.shape[0] - 1
    head = 0
    tail = 0
    last = -1
    value = np.uint64(0)
    for i in range(start, end):
        value = value * BASE + np.uint64(data[i]) + OFFSET
        if i - start >= k:
            value -= (np.uint64(data[i - k]) + OFFSET) * leaving
        first = i - k + 1
        if first < start:
            continue
        hashed = mix(value)
        while tail > head and ring[(tail - 1) & mask] > hashed:
            tail -= 1
        ring[tail & mask] = hashed
        places[tail & mask] = first
        tail += 1
        if first - start + 1 < window:
            continue
        if places[head & mask] <= first - window:
            head += 1
        if places[head & mask] != last:
            last = places[head & mask]
            out[count] = ring[head & mask]
            at[count] = last
            count += 1
    return count


@kernel
def anchors(data: Any, offsets: Any, length: int, k: int, salts: Any) -> Any:
    """Return the anchors of all windows of a batch of texts.

    Args:
        data: (n_bytes,) uint8.
        offsets: (m + 1,) int64, where each text starts and the last ends.
        length: bytes of a window; a shorter text has none.
        k: bytes of a k-gram, at most ``length``.
        salts: (m,) uint64, what tells scopes apart.

    Returns:
        (a,) uint64 keys and (a,) int64 places in ``data``; places ascend. On usual text one in ``(length - k) / 2``
        bytes is an anchor, at most all are.
    """
    window = length - k + 1
    leaving = np.uint64(1)
    for _ in range(k):
        leaving *= BASE
    size = 0
    for d in range(offsets.shape[0] - 1):
        size += max(offsets[d + 1] - offsets[d] - length + 1, 0)
    out = np.empty(size, np.uint64)
    at = np.empty(size, np.int64)
    room = 1
    while room <= window:
        room *= 2
    ring = np.empty(room, np.uint64)
    places = np.empty(room, np.int64)
    count = 0
    for d in range(offsets.shape[0] - 1):
        if offsets[d + 1] - offsets[d] < length:
            continue
        first = count
        count = _document_anchors(
            data, offsets[d], offsets[d + 1], k, window, leaving, ring, places, out, at, count
        )  # fmt: skip
        for n in range(first, count):
            out[n] ^= salts[d]
    return out[:count].copy(), at[:count].copy()


@kernel
def mark_repeated(keys: Any, order: Any) -> Any:
    """Return (n,) bool, the keys that are there more than once; ``order`` is that in which they ascend."""
    twice = np.zeros(keys.shape[0], np.bool_)
    for i in range(1, order.shape[0]):
        if keys[order[i]] == keys[order[i - 1]]:
            twice[order[i]] = True
            twice[order[i - 1]] = True
    return twice


@kernel
def merge_overlapping(starts: Any, stops: Any) -> Any:
    """Merge runs that overlap; those that only touch stay apart, so that no run leaves its text.

    Args:
        starts: (n,) int64, ascending.
        stops: (n,) int64.

    Returns:
        (m,) starts and (m,) stops.
    """
    left = np.empty(starts.shape[0], np.int64)
    right = np.empty(starts.shape[0], np.int64)
    count = 0
    for n in range(starts.shape[0]):
        if count > 0 and starts[n] < right[count - 1]:
            right[count - 1] = max(right[count - 1], stops[n])
        else:
            left[count] = starts[n]
            right[count] = stops[n]
            count += 1
    return left[:count].copy(), right[:count].copy()


@kernel
def cut(data: Any, starts: Any, lengths: Any) -> Any:
    """Return the runs of ``data`` one after the other, a separator after each: uint8."""
    out = np.empty(lengths.sum() + lengths.shape[0], np.uint8)
    at = 0
    for n in range(starts.shape[0]):
        for i in range(starts[n], starts[n] + lengths[n]):
            out[at] = data[i]
            at += 1
        out[at] = SEPARATOR
        at += 1
    return out


@inner
def _agreeing(data: Any, order: Any, length: int) -> Any:
    """Mark the windows that equal the one before them in the suffix array: (n,) bool by place.

    In order of places the agreement with the one before falls by one at most (Kärkkäinen, Manzini, Puglisi, Permuted
    Longest-Common-Prefix Array, 2009), so every byte is compared about once.
    """
    n = order.shape[0]
    before = np.empty(n, order.dtype)
    if n > 0:
        before[order[0]] = -1
    for k in range(1, n):
        before[order[k]] = order[k - 1]
    agree = np.zeros(n, np.bool_)
    same = 0
    for i in range(n):
        j = before[i]
        if j < 0:
            same = 0
            continue
        most = min(length, n - max(i, j))
        while same < most and data[i + same] == data[j + same] and data[i + same] != SEPARATOR:
            same += 1
        agree[i] = same >= length
        same = max(same - 1, 0)
    return agree


@kernel
def repeated_windows(data: Any, order: Any, length: int) -> Any:
    """Mark where windows start that stand more than once.

    Args:
        data: (n,) uint8, contexts with separators.
        order: (n,) int32 or int64, its suffix array.
        length: bytes of a window.

    Returns:
        (n,) uint8: 0, or 1 for the first of equal windows, or 2 for a later one.
    """
    agree = _agreeing(data, order, length)
    marks = np.zeros(data.shape[0], np.uint8)
    first = 0
    for n in range(1, order.shape[0] + 1):
        if n < order.shape[0] and agree[order[n]]:
            continue
        if n - first > 1:
            least = order[first]
            for k in range(first, n):
                marks[order[k]] = 2
                least = min(least, order[k])
            marks[least] = 1
        first = n
    return marks


@kernel
def spans_of(marks: Any, length: int, least: int) -> Any:
    """Return the starts and stops, int64, of the runs that windows with a mark of ``least`` or more cover."""
    starts = np.empty(marks.shape[0] // 2 + 1, np.int64)
    stops = np.empty(marks.shape[0] // 2 + 1, np.int64)
    count = 0
    for i in range(marks.shape[0]):
        if marks[i] < least:
            continue
        if count > 0 and i <= stops[count - 1]:
            stops[count - 1] = i + length
        else:
            starts[count] = i
            stops[count] = i + length
            count += 1
    return starts[:count].copy(), stops[:count].copy()
