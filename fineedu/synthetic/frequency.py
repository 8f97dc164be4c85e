"""How many documents of a period and stratum each word is in, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.kernels.arrow import TextBuffer
from fineedu.kernels.compiled import kernel

#: words of all periods that are held at a time: some 100 MB
ROOM = 2_000_000
SCHEMA: dict[str, pl.DataType] = {
    "period": pl.String(),
    "stratum": pl.String(),
    "word": pl.String(),
    "documents": pl.UInt32(),
}


@kernel
def _unique_words(data: Any, offsets: Any, keys: Any, seen: Any, starts: Any, lengths: Any, rows: Any) -> int:
    """Write the first place of every word in every document: runs of four or more letters a to z, in any case."""
    total = 0
    mask = np.uint64(len(keys) - 1)
    for row in range(len(offsets) - 1):
        first, end = offsets[row], offsets[row + 1]
        i = first
        while i < end:
            start = i
            key = np.uint64(0xCBF29CE484222325)
            while i < end and 97 <= (data[i] | 32) <= 122:
                key = (key ^ np.uint64(data[i] | 32)) * np.uint64(0x100000001B3)
                i += 1
            outside = i < end and (data[i] >= 128 or data[i] == 95 or 48 <= data[i] <= 57)
            if i - start >= 4 and not outside:
                at = (key ^ (key >> np.uint64(31))) & mask
                while seen[at] == row + 1 and keys[at] != key:
                    at = (at + np.uint64(1)) & mask
                if seen[at] != row + 1:
                    seen[at], keys[at] = row + 1, key
                    starts[total], lengths[total], rows[total] = start, i - start, row
                    total += 1
            while i < end and (data[i] >= 128 or data[i] == 95 or 48 <= data[i] <= 57 or 97 <= (data[i] | 32) <= 122):
                i += 1
            if i == start:
                i += 1
    return total


def unique_words(buffer: TextBuffer) -> tuple[npt.NDArray[np.int64], pl.Series]:
    """Return every word of every document once, in lower case.

    A word is four or more letters a to z that touch no other letter, digit or underscore (Kobak et al. 2025).

    Returns:
        Rows, and words, one entry a document and word.
    """
    longest = int(np.diff(buffer.offsets).max(initial=0))
    # A slot is free in a new document by itself, so the table is cleared once a batch and not once a document.
    room = 1 << max(4, (longest // 2).bit_length())
    keys, seen = np.zeros(room, np.uint64), np.zeros(room, np.int64)
    n = len(buffer.data) // 5 + len(buffer.offsets)
    starts, lengths, rows = np.empty(n, np.int64), np.empty(n, np.int32), np.empty(n, np.int64)
    total = _unique_words(buffer.data, buffer.offsets, keys, seen, starts, lengths, rows)
    return rows[:total], _words_at(buffer.data, starts[:total], lengths[:total])


def _words_at(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32]) -> pl.Series:
    """Lay pieces of the buffer side by side as one column."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    # Each byte's place in the buffer: its place in the result, moved by its word's start.
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    joined = data[places] | np.uint8(32)
    array = pa.LargeStringArray.from_buffers(len(starts), pa.py_buffer(offsets), pa.py_buffer(joined))
    column = pl.from_arrow(array)
    assert isinstance(column, pl.Series)
    return column


class FrequencyTable:
    """Document frequency of words by period.

    Where more than ``room`` words are held, the rarest go (lossy counting, Manku and Motwani 2002): the words that
    excess vocabulary looks at are in one of 10,000 documents, far above what is dropped. ``pruned`` is the most
    documents that any word may have lost.
    """

    def __init__(self, room: int = ROOM) -> None:
        self.room, self.pruned = room, 0
        self._held: list[pl.DataFrame] = []

    def add(self, buffer: TextBuffer, periods: pl.Series, strata: pl.Series) -> None:
        """Count the words of a batch; ``periods`` and ``strata`` have one entry a document."""
        rows, words = unique_words(buffer)
        batch = pl.DataFrame({"period": periods.gather(rows), "stratum": strata.gather(rows), "word": words})
        self._held.append(batch.group_by("period", "stratum", "word").agg(pl.len().cast(pl.UInt32).alias("documents")))
        if sum(part.height for part in self._held) > 2 * self.room:
            self._held = [self._prune(self._sum())]

    def _sum(self) -> pl.DataFrame:
        if not self._held:
            return pl.DataFrame(schema=SCHEMA)
        return pl.concat(self._held).group_by(list(SCHEMA)[:3]).agg(pl.col("documents").sum()).select(list(SCHEMA))

    def _prune(self, table: pl.DataFrame) -> pl.DataFrame:
        floor = 0
        while table.height > self.room:
            floor += 1
            table = table.filter(pl.col("documents") > floor)
        self.pruned += floor
        return table

    def finish(self) -> pl.DataFrame:
        """Return the table, sorted."""
        return self._sum().cast(pl.Schema(SCHEMA)).sort(list(SCHEMA)[:3])
