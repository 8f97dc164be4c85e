"""A limit of memory that arrays are planned by, before they are made."""

from __future__ import annotations

import ctypes
import io
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fineedu.errors import FineeduError
from fineedu.store import BATCH_ROWS, TableWriter

#: left to batches of documents on their way, once everything is loaded: 20 MB were seen with texts of 3 kB
_RESERVE = 40_000_000
#: a thread of Polars keeps an arena of its own; 0.3 MB were seen
_THREAD = 500_000
#: glibc's number for the size from which an array is a mapping of its own, and goes back to the system when it is freed
_MMAP_THRESHOLD, _MAPPED = -3, 1 << 20

_NARROWER = ", or a narrower scope (dump instead of global)"


@cache
def _load_everything() -> None:
    """Compile the kernels and touch the libraries that clustering uses, so that what they take counts as taken.

    160 MB more than at the start: LLVM 60, kernels 40, Polars' and Arrow's code 30, their threads and buffers.
    """
    from fineedu.dedup import linking
    from fineedu.dedup.shingles import string_keys
    from fineedu.kernels.arrow import text_buffer

    with suppress(AttributeError, OSError):  # glibc's alone; without it freed arrays of 1 to 32 MB are kept
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MAPPED)
    number, marks, keys = np.zeros(2, np.uint32), np.zeros(2, np.uint8), np.zeros(2, np.uint64)
    linking.join_equal(number, marks, keys, number, np.argsort(keys), np.uint8(1))
    linking.settle(number)
    linking.number_clusters(number.copy(), number.copy())
    linking.choose_survivors(
        np.full(2, linking.ALONE), 0, np.zeros((2, 3)), keys, np.zeros((1, 3)), keys, number, keys
    )  # fmt: skip
    texts = text_buffer(pl.Series(["a", "b"]))
    string_keys(texts.data, texts.offsets)
    linking.copy_runs(texts.data, texts.offsets, number, np.zeros(8, np.uint8), np.zeros(3, np.int64), 0)
    frame = pl.DataFrame({"id": [f"{n:040x}" for n in range(BATCH_ROWS)], "value": np.arange(BATCH_ROWS)})
    stream = io.BytesIO()
    writer = TableWriter(stream, dict(frame.schema))
    for _ in range(3):
        writer.write(frame)
    writer.close({})
    table = pl.DataFrame(pq.ParquetFile(io.BytesIO(stream.getvalue())).read_row_group(0, use_threads=False))
    table.filter(pl.col("value") % 2 == 0).sort("id")


def give_back() -> None:
    """Hand memory that is free, but still this process's, back to the system: 100 MB after texts were compared."""
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class Memory:
    """A limit of this process's memory, as ``top`` shows it: resident, with the pages of libraries that others share.

    Args:
        limit_mb: megabytes of resident memory that must not be exceeded.
    """

    def __init__(self, limit_mb: int) -> None:
        self.limit = limit_mb * 1_000_000
        _load_everything()
        give_back()
        #: bytes that arrays may take: the rest of the limit after what is held now and what batches will take
        self.budget = self.limit - self.used() - _RESERVE - _THREAD * pl.thread_pool_size()

    @staticmethod
    def used() -> int:
        """Return the resident memory of this process, bytes."""
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return 350_000_000  # not Linux: what the libraries take there
        return pages * os.sysconf("SC_PAGE_SIZE")

    def need(self, size: int, what: str, likely: int = 0, hint: str = _NARROWER) -> None:
        """Make sure that arrays of so many bytes, all there are at a time, fit.

        Args:
            size: bytes.
            what: what they are of, for the message.
            likely: bytes that later steps are likely to take; the message asks for no less.
            hint: what else would do.

        Raises:
            FineeduError: they do not; says what limit would do.
        """
        if size > self.budget:
            # A tenth of a step more, as what is held now differs by some megabytes from run to run.
            needed = -(-(self.limit + max(size, likely) - self.budget + 5_000_000) // 10_000_000) * 10
            raise FineeduError(
                f"memory_mb {self.limit // 1_000_000:,} is too little for {what}: it takes {needed:,}{hint}"
            )
