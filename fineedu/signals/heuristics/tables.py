"""The lookup tables that the kernels take as arguments, built once per process."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fineedu.signals.heuristics.c4 import phrase_table
from fineedu.signals.heuristics.characters import class_table
from fineedu.signals.heuristics.exceptions import (
    ENDS_SHIFT,
    IS_LISTED,
    IS_UNIT,
    PIECE_BITS,
    listed_chunks,
    units,
)
from fineedu.signals.heuristics.hashing import BASE, OFFSET, small_powers

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_SPREAD = 0xFF51AFD7ED558CCD
_MASK = (1 << 64) - 1


class Tables(NamedTuple):
    """What the kernels look up.

    Attributes:
        classes: (0x110000,) uint32, properties of every code point.
        keys: (2**k,) uint64, hashes of listed chunks and units; 0 is free.
        values: (2**k,) uint64, their entries.
        stop_words: (n,) uint64 hashes.
        powers: (n,) uint64, see ``hashing.small_powers``.
        phrases: (n, m) uint32, see ``c4.phrase_table``.
    """

    classes: npt.NDArray[np.uint32]
    keys: npt.NDArray[np.uint64]
    values: npt.NDArray[np.uint64]
    stop_words: npt.NDArray[np.uint64]
    powers: npt.NDArray[np.uint64]
    phrases: npt.NDArray[np.uint32]


def _hash(text: str) -> int:
    value = 0
    for character in text:
        value = (value * int(BASE) + ord(character) + int(OFFSET)) & _MASK
    return value


def _first_slot(key: int, size: int) -> int:
    """Python twin of ``hashing.spread``."""
    key = ((key ^ (key >> 32)) * _SPREAD) & _MASK
    return (key ^ (key >> 32)) & (size - 1)


def _lookup(entries: dict[str, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    size = 16
    while size < 4 * len(entries):
        size *= 2
    keys, values = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
    for text, value in entries.items():
        key = _hash(text)
        slot = _first_slot(key, size)
        while keys[slot]:
            slot = (slot + 1) % size
        keys[slot], values[slot] = key, value
    return keys, values


def _entries() -> tuple[dict[str, int], dict[str, int]]:
    chunks: dict[str, int] = {}
    for chunk, pieces in listed_chunks().items():
        lengths = sum(len(piece) << (int(PIECE_BITS) * i) for i, piece in enumerate(pieces))
        chunks[chunk] = lengths | int(IS_LISTED)
    return chunks, {unit: int(IS_UNIT) for unit in units()}


@cache
def tables() -> Tables:
    """Build the tables: about 0.3 s, once per process."""
    from fineedu.signals.heuristics.measure import word_spans

    chunks, measures = _entries()
    stop_words = np.array([_hash(word) for word in STOP_WORDS], np.uint64)
    plain = Tables(class_table(), *_lookup(measures), stop_words, small_powers(), phrase_table())
    for chunk in chunks:
        ends = word_spans(np.frombuffer(chunk.encode(), np.uint8), plain)[:, 1]
        if len(ends) > 1:
            chunks[chunk] |= sum(1 << (int(end) - 1) for end in ends) << int(ENDS_SHIFT)
    overlap = chunks.keys() & measures.keys()
    merged = measures | chunks | {text: chunks[text] | measures[text] for text in overlap}
    keys, values = _lookup(merged)
    return plain._replace(keys=keys, values=values)
