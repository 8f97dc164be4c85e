"""The bytes of a text column, without a Python string per document."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError


class TextBuffer(NamedTuple):
    """A text column as one run of bytes.

    Attributes:
        data: (n_bytes,) uint8, UTF-8.
        offsets: (n + 1,) int64 into ``data``; a null has length 0.
    """

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]


def text_buffer(column: pl.Series) -> TextBuffer:
    """Lay a String column out as Arrow's large strings; slices and chunks come out the same.

    Raises:
        FineeduError: the column does not hold strings.
    """
    if column.dtype != pl.String:
        raise FineeduError(f"column {column.name!r} has type {column.dtype}, expected String: cast it first")
    if column.is_empty():
        return TextBuffer(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    all_offsets = np.frombuffer(offsets, np.int64)
    window = all_offsets[array.offset : array.offset + len(array) + 1]
    if data is None:  # only empty texts
        return TextBuffer(np.zeros(0, np.uint8), window)
    return TextBuffer(np.frombuffer(data, np.uint8), window)
