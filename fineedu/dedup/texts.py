"""The texts of a shard some at a time, as bytes: whole row groups of long texts would take ten times their size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fineedu.errors import FineeduError
from fineedu.store import BATCH_ROWS

#: bytes of text decoded together, about; and bytes of the compressed file read together
_PIECE, _BUFFER = 2_000_000, 1 << 16
#: memory of a row group while its texts are decoded, by its bytes: a page, and that page compressed; 2.8 were seen
_GROUP_FACTOR = 3


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a documents shard so that what it takes goes back to the system at once.

    Arrow's own allocator keeps 160 MB of what texts of 30 kB took, and 50 MB of those of 3 kB.
    """
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        file = pq.ParquetFile(path, buffer_size=_BUFFER)  # it keeps the pool
    finally:
        pa.set_memory_pool(usual)
    with file:
        yield file


def _text_bytes(file: pq.ParquetFile) -> list[tuple[int, int]]:
    """Return bytes of text and rows of every row group."""
    column = file.schema_arrow.names.index("text")
    groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
    return [(group.column(column).total_uncompressed_size, group.num_rows) for group in groups]


def decoding_bytes(paths: Iterable[Path]) -> int:
    """Return the memory that decoding the texts of any of these shards takes."""
    most = 0
    for path in paths:
        with _opened(path) as file:
            most = max([most, *(size for size, _ in _text_bytes(file))])
    return most * _GROUP_FACTOR


def text_pieces(
    path: Path, groups: Sequence[int] | None = None
) -> Iterator[tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Yield texts of a documents shard: the first's row, their bytes, and (m + 1,) where each begins and ends.

    Args:
        path: the shard.
        groups: its row groups to read; rows count from the first of them on. All when not given.

    Raises:
        FineeduError: the file is missing or damaged.
    """
    row = 0
    try:
        with _opened(path) as file:
            mean = max((size // max(rows, 1) for size, rows in _text_bytes(file)), default=1)
            at_once = min(max(_PIECE // max(mean, 1), 1), BATCH_ROWS)
            for batch in file.iter_batches(at_once, row_groups=groups, columns=["text"], use_threads=False):
                texts = batch.column(0).cast(pa.large_string())
                _, ends, raw = texts.buffers()
                bounds = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
                yield row, np.frombuffer(raw, np.uint8) if raw is not None else np.zeros(0, np.uint8), bounds
                row += len(texts)
    except MemoryError:
        raise  # Arrow's is an ArrowException too, but says nothing of the file
    except (OSError, pa.ArrowException) as error:
        raise FineeduError(f"{path} is damaged ({error}): delete it and run again, it is made anew") from error
