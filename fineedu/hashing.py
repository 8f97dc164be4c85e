"""A hash of document ids that is the same on every machine and in every version: the dice of every random choice."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl


@cache
def _kernel() -> Any:
    """Compile on first use (0.5 s, then cached on disk): 16-byte blocks would not be faster on ids of 36 bytes."""
    import numba

    prime, mix_a, mix_b = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
    s30, s27, s31 = np.uint64(30), np.uint64(27), np.uint64(31)

    def hashes(data: Any, offsets: Any, seed: Any, out: Any) -> None:
        for row in range(len(out)):
            value, word, shift = seed, np.uint64(0), np.uint64(0)
            start, end = offsets[row], offsets[row + 1]
            for at in range(start, end):
                word |= np.uint64(data[at]) << shift
                shift += np.uint64(8)
                if shift == np.uint64(64):
                    value = (value ^ word) * prime
                    value ^= value >> s31
                    word, shift = np.uint64(0), np.uint64(0)
            value = (value ^ word) * prime
            value ^= np.uint64(end - start)
            # The finisher of splitmix64 (Steele, Lea, Flood 2014): every bit depends on all.
            value = (value ^ (value >> s30)) * mix_a
            value = (value ^ (value >> s27)) * mix_b
            out[row] = value ^ (value >> s31)

    try:
        return numba.njit(nogil=True, cache=True)(hashes)
    except RuntimeError:  # nowhere to cache
        return numba.njit(nogil=True)(hashes)


def hash_ids(ids: pl.Series, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Hash strings to evenly spread integers.

    Args:
        ids: n strings; a null hashes as an empty string does.
        seed: another seed gives another, unrelated order.

    Returns:
        n UInt64.
    """
    out = np.zeros(len(ids), np.uint64)
    if len(ids):
        array = ids.cast(pl.String).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        _, offsets, data = array.buffers()
        window = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        content = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
        start = (seed * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) % 2**64
        _kernel()(content, window, np.uint64(start), out)
    return out


def uniform(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Turn hashes into numbers strictly between 0 and 1."""
    spread: npt.NDArray[np.float64] = ((hashes >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
    return spread


def reshuffle(hashes: npt.NDArray[np.uint64], stream: int) -> npt.NDArray[np.uint64]:
    """Turn n hashes into n others that tell nothing of them: another throw of the dice for the same documents."""
    mixed = hashes + np.uint64(stream * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
