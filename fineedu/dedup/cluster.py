"""Keys on disk to clusters, within a limit of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.dedup.keys import PARTS, Array, KeyFile
from fineedu.dedup.memory import Memory
from fineedu.errors import FineeduError
from fineedu.store import Shard

Scope = Literal["dump", "language", "global"]
#: memory of a key while it is sorted: key, row, place in the order, and as much again while a slice is read
_KEY_BYTES = 32
#: least memory that keys are sorted in
_LEAST = 16_000_000
#: memory of a row: its number, and marks
ROW_BYTES = 5
#: and scratch while clusters are numbered
_SCRATCH_BYTES = 4
#: what a row adds later where, as in web text, one in ten begins a cluster
_LIKELY_BYTES = 10


@dataclass(frozen=True, slots=True)
class Part:
    """One key file with its place among all rows."""

    path: Path
    shard: Shard
    base: int
    rows: int
    #: its documents shard is in the store; else only the index remembers them
    here: bool


@dataclass(slots=True)
class Clusters:
    """Which rows belong together.

    Attributes:
        number: (n,) uint32, a row's cluster, ``linking.ALONE`` where no other row is like it.
        sizes: (c,) uint32, rows of each cluster, two or more.
        marks: (n,) uint8, sum of 1 << position of the columns by which a row met another.
        shared: name of a column to the number of neighbouring rows that share a key of it.
    """

    number: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.uint32]
    marks: npt.NDArray[np.uint8]
    shared: dict[str, int]


def lay_out(paths: Iterable[tuple[Path, Shard, bool]]) -> list[Part]:
    """Number the rows of key files one after the other.

    Raises:
        FineeduError: a file is damaged or another shard's, or there are more rows than 32 bits count.
    """
    parts: list[Part] = []
    base = 0
    for path, shard, here in paths:
        file = KeyFile(path)
        if file.facts["shard"] != str(shard):
            raise FineeduError(f"{path} holds the keys of {file.facts['shard']}, not of {shard}: delete it, run again")
        rows = file.rows
        parts.append(Part(path, shard, base, rows, here))
        base += rows
    if base >= 1 << 32:
        raise FineeduError(f"{base:,} documents at once are more than 2**32: take scope dump, one dump a run")
    return parts


def _salt(part: Part, scope: Scope, file: KeyFile, rows: npt.NDArray[np.uint32]) -> Array:
    """Return what makes keys of different scopes differ."""
    if scope == "dump":
        from fineedu.dedup.shingles import hash_strings

        return hash_strings(pl.Series([part.shard.dump]))
    languages = file.section("row/language")
    return np.asarray(languages[rows])


def key_ranges(parts: Sequence[Part], column: str, memory: Memory, held: int) -> Iterator[tuple[int, int, int]]:
    """Cut the range of a column's keys so that the keys of a cut fit in memory.

    Args:
        parts: the key files.
        column: the column.
        memory: the limit.
        held: bytes that other arrays take.

    Yields:
        Keys of the cut, its first first byte, and the one after its last.

    Raises:
        FineeduError: the keys that share one first byte do not fit.
    """
    totals = np.zeros(PARTS, np.int64)
    for part in parts:
        starts: npt.NDArray[np.int64] = KeyFile(part.path).section(f"starts/{column}").astype(np.int64)
        totals += starts[1:] - starts[:-1]
    most = max((memory.budget - held) // _KEY_BYTES, 1)
    start = 0
    while start < PARTS:
        stop, count = start + 1, int(totals[start])
        while stop < PARTS and count + totals[stop] <= most:
            count += int(totals[stop])
            stop += 1
        if count > most:
            memory.need(held + count * _KEY_BYTES, f"the {count:,} keys that share their first byte")
        yield count, start, stop
        start = stop


def link(parts: Sequence[Part], columns: Sequence[str], bits: Sequence[int], scope: Scope, memory: Memory) -> Clusters:
    """Find the rows that share a key of any column, directly or by way of others.

    Column by column, range by range of keys: read, sort, join neighbours. The ranges are as wide as memory allows.

    Args:
        parts: the key files.
        columns: their columns to go by.
        bits: each column's bit in ``Clusters.marks``.
        scope: only rows of one dump, or of one language, are compared; or all.
        memory: the limit.

    Raises:
        FineeduError: the limit is too low for the arrays over rows, or a file is damaged.
    """
    from fineedu.dedup.linking import join_equal, number_clusters, settle

    total = sum(part.rows for part in parts)
    held = total * (ROW_BYTES + _SCRATCH_BYTES)
    if scope == "language":  # what tells the languages of one key file apart
        held += 8 * max((part.rows for part in parts), default=0)
    likely = total * (ROW_BYTES + _LIKELY_BYTES) + _LEAST
    memory.need(held + _LEAST, f"{total:,} documents", likely)
    parent = np.arange(total, dtype=np.uint32)
    marks = np.zeros(total, np.uint8)
    shared: dict[str, int] = {}
    for column, bit in zip(columns, bits, strict=True):
        shared[column] = 0
        for count, start, stop in key_ranges(parts, column, memory, held):
            keys, rows = gather(parts, column, start, stop, count, scope)
            order = np.argsort(keys)
            shared[column] += join_equal(parent, marks, keys, rows, order, np.uint8(1 << bit))
            del keys, rows, order
    settle(parent)
    sizes = number_clusters(parent, np.zeros(total, np.uint32))
    return Clusters(parent, sizes, marks, shared)


def gather(
    parts: Sequence[Part], column: str, start: int, stop: int, count: int, scope: Scope
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Read the keys of a column whose first byte lies in a range, with their rows among all."""
    keys, rows = np.empty(count, np.uint64), np.empty(count, np.uint32)
    at = 0
    for part in parts:
        file = KeyFile(part.path)
        starts = file.section(f"starts/{column}")
        low, high = int(starts[start]), int(starts[stop])
        if low == high:
            continue
        own = file.section(f"rows/{column}", low, high)
        here = slice(at, at + high - low)
        keys[here] = file.section(f"keys/{column}", low, high)
        if scope != "global":
            keys[here] ^= _salt(part, scope, file, own)
        rows[here] = own
        rows[here] += np.uint32(part.base)
        at += high - low
    return keys, rows
