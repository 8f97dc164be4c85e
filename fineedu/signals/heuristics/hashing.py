"""The 64-bit string hash of the kernels and the table that looks it up.

A string's hash is the polynomial ``sum((code_point + OFFSET) * BASE**k) mod 2**64``; the hash of a
concatenation follows from its parts: ``hash(a + b) = hash(a) * BASE**len(b) + hash(b)``. That is what makes
ten lengths of n-grams cost one multiplication each. Two different strings are taken for equal with a
probability of about 2**-64 per pair; a text would have to be built on purpose to see it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.kernels.compiled import inner

BASE = np.uint64(0x9E6D62D06F6A9A9B)
OFFSET = np.uint64(0x51AFD7ED558CCD25)
_SPREAD = np.uint64(0xFF51AFD7ED558CCD)
_ZERO = np.uint64(0)
_HALF = np.uint64(32)
_ONE = np.uint64(1)


@inner
def hash_span(points: Any, start: int, end: int) -> Any:
    """Hash ``points[start:end]``."""
    value = _ZERO
    for i in range(start, end):
        value = value * BASE + np.uint64(points[i]) + OFFSET
    return value


@inner
def spread(value: Any) -> Any:
    """Mix the bits so that the low ones depend on all; one to one."""
    value = (value ^ (value >> _HALF)) * _SPREAD
    return value ^ (value >> _HALF)


@inner
def find(keys: Any, values: Any, key: Any) -> Any:
    """Look a hash up in an open-addressing table (power-of-two length, key 0 is a free slot): value or 0."""
    mask = np.uint64(keys.shape[0] - 1)
    slot = spread(key) & mask
    while keys[slot] != _ZERO:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + _ONE) & mask
    return values[slot]


@inner
def power(exponent: int, small: Any) -> Any:
    """``BASE ** exponent``; ``small`` lists the first of them."""
    if exponent < small.shape[0]:
        return small[exponent]
    result = _ONE
    square = BASE
    while exponent > 0:
        if exponent & 1:
            result *= square
        square *= square
        exponent >>= 1
    return result


def small_powers(count: int = 256) -> npt.NDArray[np.uint64]:
    """Return ``BASE ** k`` for the first ``count`` exponents."""
    found = np.full(count, BASE)
    found[0] = _ONE
    return np.multiply.accumulate(found)
