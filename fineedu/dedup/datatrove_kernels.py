"""The kernels of datatrove's signatures: spaCy's words, XXH64 of the joined n-grams, minima modulo 2**61 - 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner, kernel
from fineedu.kernels.utf8 import decode
from fineedu.signals.heuristics import split_words

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_ZERO = np.uint64(0)
_WIDTH = np.uint64(64)
_PRIME = np.uint64((1 << 61) - 1)
_S61 = np.uint64(61)
_HIGHEST = np.uint64(0xFFFFFFFFFFFFFFFF)


@inner
def _rotate(value: Any, by: Any) -> Any:
    return (value << by) | (value >> (_WIDTH - by))


@inner
def _read(data: Any, at: int, count: int) -> Any:
    """Read ``count`` bytes, the first the lowest."""
    value = _ZERO
    for i in range(count):
        value |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return value


@inner
def _round(sum_: Any, value: Any) -> Any:
    return _rotate(sum_ + value * _P2, np.uint64(31)) * _P1


@inner
def xxh64(data: Any, start: int, end: int) -> Any:
    """XXH64 of ``data[start:end]``, seed 0 (the xxHash specification, 0.1.1)."""
    at = start
    if end - start >= 32:
        v1 = _P1 + _P2
        v2 = _P2
        v3 = _ZERO
        v4 = _ZERO - _P1
        while at + 32 <= end:
            v1 = _round(v1, _read(data, at, 8))
            v2 = _round(v2, _read(data, at + 8, 8))
            v3 = _round(v3, _read(data, at + 16, 8))
            v4 = _round(v4, _read(data, at + 24, 8))
            at += 32
        h = _rotate(v1, np.uint64(1)) + _rotate(v2, np.uint64(7)) + _rotate(v3, np.uint64(12))
        h += _rotate(v4, np.uint64(18))
        for v in (v1, v2, v3, v4):
            h = (h ^ _round(_ZERO, v)) * _P1 + _P4
    else:
        h = _P5
    h += np.uint64(end - start)
    while at + 8 <= end:
        h = _rotate(h ^ _round(_ZERO, _read(data, at, 8)), np.uint64(27)) * _P1 + _P4
        at += 8
    if at + 4 <= end:
        h = _rotate(h ^ (_read(data, at, 4) * _P1), np.uint64(23)) * _P2 + _P3
        at += 4
    while at < end:
        h = _rotate(h ^ (np.uint64(data[at]) * _P5), np.uint64(11)) * _P1
        at += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@inner
def _encode(point: Any, out: Any, at: int) -> int:
    """Write a code point as UTF-8; returns where the next goes."""
    low = np.uint32(0x3F)
    mark = np.uint32(0x80)
    if point < 0x80:
        out[at] = point
        return at + 1
    if point < 0x800:
        out[at] = np.uint32(0xC0) | point >> np.uint32(6)
        out[at + 1] = mark | (point & low)
        return at + 2
    if point < 0x10000:
        out[at] = np.uint32(0xE0) | point >> np.uint32(12)
        out[at + 1] = mark | (point >> np.uint32(6) & low)
        out[at + 2] = mark | (point & low)
        return at + 3
    out[at] = np.uint32(0xF0) | point >> np.uint32(18)
    out[at + 1] = mark | (point >> np.uint32(12) & low)
    out[at + 2] = mark | (point >> np.uint32(6) & low)
    out[at + 3] = mark | (point & low)
    return at + 4


@inner
def _minima(hashes: Any, count: int, factors: Any, terms: Any, out: Any) -> None:
    """Fill ``out`` with the least ``(hash * factor + term) mod (2**61 - 1)``, products modulo 2**64 as NumPy's."""
    out[:] = _HIGHEST
    for s in range(count):
        for k in range(out.shape[0]):
            value = hashes[s] * factors[k] + terms[k]
            value = (value & _PRIME) + (value >> _S61)
            value = value - _PRIME if value >= _PRIME else value
            out[k] = min(out[k], value)


@kernel
def sign_simplified(data: Any, offsets: Any, tables: Any, n: int, factors: Any, terms: Any) -> Any:
    """Sign texts that have been simplified already.

    Args:
        data: (n_bytes,) uint8, UTF-8 of all texts.
        offsets: (m + 1,) int64.
        tables: of the word splitter.
        n: words of a shingle.
        factors: (p,) uint64.
        terms: (p,) uint64.

    Returns:
        (m, p) uint64 signatures and (m,) int64 shingles of each text; with none it has no signature.
    """
    m = offsets.shape[0] - 1
    longest = 0
    for d in range(m):
        longest = max(longest, offsets[d + 1] - offsets[d])
    points = np.empty(longest, np.uint32)
    classes = np.empty(longest, np.uint32)
    spans = np.empty((longest, 2), np.int32)
    stack = np.empty(longest, np.int32)
    joined = np.empty(2 * longest + 4, np.uint8)
    starts = np.empty(longest + 1, np.int64)
    hashes = np.empty(longest + 1, np.uint64)
    signatures = np.empty((m, factors.shape[0]), np.uint64)
    counts = np.zeros(m, np.int64)
    for d in range(m):
        length = decode(data, offsets[d], offsets[d + 1], tables.classes, points, classes)
        words = split_words(points, classes, 0, length, tables.keys, tables.values, spans, stack)
        at = 0
        for w in range(words):
            starts[w] = at
            for i in range(spans[w, 0], spans[w, 1]):
                at = _encode(points[i], joined, at)
            joined[at] = 32
            at += 1
        starts[words] = at
        counts[d] = max(words - n + 1, 0)
        for s in range(counts[d]):
            hashes[s] = xxh64(joined, starts[s], starts[s + n] - 1)
        _minima(hashes, counts[d], factors, terms, signatures[d])
    return signatures, counts
