r"""The kernels: from text to MinHash signatures and band keys, one pass over the bytes.

Words are runs of letters, digits, marks and ``_`` in lower case (Python's ``\w+``, with combining marks);
in scripts that write without spaces (Han, kana, Thai, Lao, Khmer, Burmese) every character is a word. Character
n-grams run over the text in lower case with every run of whitespace as one space.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.kernels.arrow import text_buffer
from fineedu.kernels.compiled import inner, kernel

#: Raised whenever the same text would give other signatures.
VERSION = 1

_POINT = np.uint32(0x1FFFFF)
_WORD = np.uint32(1 << 21)
_ALONE = np.uint32(1 << 22)
_SPACE = np.uint32(1 << 23)
_KIND = _WORD | _ALONE
_NO_ENTRY = np.uint32(0)

BASE = np.uint64(0x9E3779B97F4A7C15)
OFFSET = np.uint64(0xD1B54A32D192ED03)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)
_S33 = np.uint64(33)
_S32 = np.uint64(32)
_NONE = np.uint64(0)
_HIGHEST = np.uint32(0xFFFFFFFF)

#: first and last code point of the scripts whose characters stand for words
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x1B000, 0x1B16F),
    (0x20000, 0x33479),
)  # fmt: skip


@cache
def point_table() -> npt.NDArray[np.uint32]:
    """Return (0x110000,) what every code point becomes: its lower case and its kind. Built once, in 0.2 s."""
    table = np.arange(0x110000, dtype=np.uint32)
    # Planes from 4 up hold nothing but variation selectors and private use: separators.
    for point in range(0x33480):
        character = chr(point)
        lower = character.lower()
        value = ord(lower) if len(lower) == 1 else point
        if character.isspace():
            value |= int(_SPACE)
        elif character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M":
            value |= int(_WORD)
        table[point] = value
    for first, last in _UNSPACED:
        words = table[first : last + 1]
        words[(words & _WORD) != 0] |= _ALONE
    return table


@inner
def mix(value: Any) -> Any:
    """Spread 64 bits so that every output bit depends on all (the finalizer of MurmurHash3); one to one."""
    value = (value ^ (value >> _S33)) * _MIX_1
    value = (value ^ (value >> _S33)) * _MIX_2
    return value ^ (value >> _S33)


@inner
def _next_point(data: Any, i: int) -> Any:
    """Decode the code point at byte ``i`` of valid UTF-8: the point and the index of the next."""
    byte = np.uint32(data[i])
    if byte < 0x80:
        return byte, i + 1
    low = np.uint32(0x3F)
    six = np.uint32(6)
    if byte < 0xE0:
        return (byte & np.uint32(0x1F)) << six | (data[i + 1] & low), i + 2
    if byte < 0xF0:
        point = (byte & np.uint32(0x0F)) << six | (data[i + 1] & low)
        return point << six | (data[i + 2] & low), i + 3
    point = (byte & np.uint32(0x07)) << six | (data[i + 1] & low)
    return (point << six | (data[i + 2] & low)) << six | (data[i + 3] & low), i + 4


@inner
def _word_hashes(data: Any, start: int, end: int, table: Any, out: Any) -> Any:
    """Fill ``out`` with a hash of every word; returns their number and the key of the text.

    The key folds words, single spaces and all other characters in their order, so it is the same for texts that
    are equal in lower case with every run of whitespace as one space, at one multiplication a word.
    """
    count = 0
    key = _NONE
    value = _NONE
    waiting = False
    i = start
    while i < end:
        first = i
        entry = _NO_ENTRY
        while i < end:
            point = np.uint32(data[i])
            after = i + 1
            if point >= 0x80:
                point, after = _next_point(data, i)
            entry = table[point]
            if entry & _KIND != _WORD:
                break
            value = value * BASE + np.uint64(entry & _POINT) + OFFSET
            i = after
        if waiting and (i > first or not entry & _SPACE):
            key = key * BASE + OFFSET
            waiting = False
        if i > first:
            out[count] = mix(value)
            key = key * BASE + out[count]
            count += 1
            value = _NONE
        if i < end:
            i = after
            if entry & _SPACE:
                waiting = key != _NONE
            else:
                key = key * BASE + mix(np.uint64(entry & _POINT) + OFFSET)
                if entry & _ALONE:
                    out[count] = mix(np.uint64(entry & _POINT) + OFFSET)
                    count += 1
    return count, mix(key)


@inner
def _plain_points(data: Any, start: int, end: int, table: Any, out: Any) -> int:
    """Fill ``out`` with the code points of the text in lower case, runs of whitespace as one, none at the ends."""
    count = 0
    after_space = True
    i = start
    while i < end:
        point = np.uint32(data[i])
        if point < 0x80:
            i += 1
        else:
            point, i = _next_point(data, i)
        entry = table[point]
        # No branch on spaces: where words end is what a processor cannot foresee.
        space = (entry & _SPACE) != 0
        out[count] = np.uint64(32) if space else np.uint64(entry & _POINT)
        count += not (space and after_space)
        after_space = space
    if count > 0 and after_space:
        count -= 1
    return count


@inner
def _roll(units: Any, count: int, n: int, out: Any) -> Any:
    """Fill ``out`` with the hash of every run of n units; of the whole where there are fewer.

    The two chains of multiplications, of the runs and of the whole, wait for themselves only, so one loop takes both
    at the price of one; the mixing is a loop of its own because it can then go eight at a time. ``units`` is spent.

    Returns:
        How many hashes, and a key of all units in their order.
    """
    if count == 0:
        return 0, _NONE
    n = min(n, count)
    leaving = np.uint64(1)
    for _ in range(n):
        leaving *= BASE
    value = _NONE
    key = np.uint64(count)
    for i in range(n):
        unit = units[i] + OFFSET
        value = value * BASE + unit
        key = key * BASE + unit
    out[0] = np.uint32(mix(value) >> _S32)
    for i in range(n, count):
        unit = units[i] + OFFSET
        value = value * BASE + (unit - (units[i - n] + OFFSET) * leaving)
        key = key * BASE + unit
        units[i - n] = value
    for i in range(count - n):
        out[i + 1] = np.uint32(mix(units[i]) >> _S32)
    return count - n + 1, mix(key)


@inner
def _minima(hashes: Any, count: int, factors: Any, terms: Any, out: Any) -> None:
    """Fill ``out`` with the least ``factor * hash + term (mod 2**32)`` of every permutation.

    Four shingles a pass: the minima are loaded and stored a quarter as often, which doubles the speed.
    """
    out[:] = _HIGHEST
    s = 0
    while s + 4 <= count:
        h0 = hashes[s]
        h1 = hashes[s + 1]
        h2 = hashes[s + 2]
        h3 = hashes[s + 3]
        for k in range(out.shape[0]):
            factor = factors[k]
            v0 = np.uint32(factor * h0 + terms[k])
            v1 = np.uint32(factor * h1 + terms[k])
            v2 = np.uint32(factor * h2 + terms[k])
            v3 = np.uint32(factor * h3 + terms[k])
            out[k] = min(min(out[k], min(v0, v1)), min(v2, v3))
        s += 4
    while s < count:
        for k in range(out.shape[0]):
            out[k] = min(out[k], np.uint32(factors[k] * hashes[s] + terms[k]))
        s += 1


@inner
def _longest(offsets: Any) -> int:
    longest = 0
    for d in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    return longest


@kernel
def sign_batch(data: Any, offsets: Any, table: Any, words: bool, n: int, factors: Any, terms: Any) -> Any:
    """Sign a batch of texts.

    Args:
        data: (n_bytes,) uint8, UTF-8 of all texts.
        offsets: (m + 1,) int64, where each starts and the last ends.
        table: from :func:`point_table`.
        words: shingles are n-grams of words, else of characters.
        n: units of a shingle.
        factors: (p,) uint32, odd.
        terms: (p,) uint32.

    Returns:
        (m, p) uint32 signatures, (m,) int64 shingles of each text (0: it has none, and no signature), and
        (m,) uint64 keys of the texts: equal for texts equal in lower case with whitespace as one space; the keys of
        words and of characters are not comparable.
        Scratch memory is 20 bytes per byte of the longest text.
    """
    m = offsets.shape[0] - 1
    longest = _longest(offsets)
    units = np.empty(longest + 1, np.uint64)
    hashes = np.empty(longest + 1, np.uint32)
    signatures = np.empty((m, factors.shape[0]), np.uint32)
    counts = np.zeros(m, np.int64)
    keys = np.zeros(m, np.uint64)
    for d in range(m):
        start = offsets[d]
        end = offsets[d + 1]
        if words:
            count, keys[d] = _word_hashes(data, start, end, table, units)
        else:
            count = _plain_points(data, start, end, table, units)
        counts[d], key = _roll(units, count, n, hashes)
        if not words:
            keys[d] = key
        _minima(hashes, counts[d], factors, terms, signatures[d])
    return signatures, counts, keys


@kernel
def shingle_hashes(data: Any, start: int, end: int, table: Any, words: bool, n: int) -> Any:
    """Return the 32-bit hashes of one text's shingles, in order, repetitions and all."""
    units = np.empty(end - start + 1, np.uint64)
    hashes = np.empty(end - start + 1, np.uint32)
    if words:
        count, _ = _word_hashes(data, start, end, table, units)
    else:
        count = _plain_points(data, start, end, table, units)
    return hashes[: _roll(units, count, n, hashes)[0]]


@kernel
def fold_bands(signatures: Any, bands: int, rows: int) -> Any:
    """Hash every band of every signature: (m, bands * rows) values to (bands, m) uint64 keys."""
    m = signatures.shape[0]
    keys = np.empty((bands, m), np.uint64)
    for d in range(m):
        for band in range(bands):
            value = np.uint64(band + 1)
            for row in range(band * rows, band * rows + rows):
                value = mix(value * BASE + np.uint64(signatures[d, row]))
            keys[band, d] = value
    return keys


@kernel
def string_keys(data: Any, offsets: Any) -> Any:
    """Hash strings byte by byte: (m,) uint64, the same on every machine and in every version."""
    m = offsets.shape[0] - 1
    keys = np.empty(m, np.uint64)
    for d in range(m):
        value = np.uint64(offsets[d + 1] - offsets[d])
        for i in range(offsets[d], offsets[d + 1]):
            value = value * BASE + np.uint64(data[i]) + OFFSET
        keys[d] = mix(value)
    return keys


def hash_strings(strings: pl.Series) -> npt.NDArray[np.uint64]:
    """Return :func:`string_keys` of a column of m strings."""
    buffer = text_buffer(strings)
    keys: npt.NDArray[np.uint64] = string_keys(buffer.data, buffer.offsets)
    return keys


@kernel
def fold_band_values(values: Any) -> Any:
    """Hash the (m, rows) uint64 values of one band to (m,) keys."""
    keys = np.empty(values.shape[0], np.uint64)
    for d in range(values.shape[0]):
        key = _NONE
        for row in range(values.shape[1]):
            key = mix(key * BASE + values[d, row] + OFFSET)
        keys[d] = key
    return keys
