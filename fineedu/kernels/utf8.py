"""UTF-8 to code points, inside kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner


@inner
def decode(data: Any, start: int, end: int, table: Any, points: Any, classes: Any) -> int:
    """Decode UTF-8 (known to be valid) and look the characters up.

    Args:
        data: (n_bytes,) uint8.
        start: first byte.
        end: one past the last.
        table: (0x110000,) property of every code point.
        points: filled with the code points; room for ``end - start``.
        classes: filled with their properties; the same room.

    Returns:
        The number of characters.
    """
    count = 0
    i = start
    while i < end:
        byte = np.uint32(data[i])
        if byte < 0x80:
            point = byte
            i += 1
        elif byte < 0xE0:
            point = (byte & np.uint32(0x1F)) << np.uint32(6) | (data[i + 1] & np.uint32(0x3F))
            i += 2
        elif byte < 0xF0:
            point = (
                (byte & np.uint32(0x0F)) << np.uint32(12)
                | (data[i + 1] & np.uint32(0x3F)) << np.uint32(6)
                | (data[i + 2] & np.uint32(0x3F))
            )
            i += 3
        else:
            point = (
                (byte & np.uint32(0x07)) << np.uint32(18)
                | (data[i + 1] & np.uint32(0x3F)) << np.uint32(12)
                | (data[i + 2] & np.uint32(0x3F)) << np.uint32(6)
                | (data[i + 3] & np.uint32(0x3F))
            )
            i += 4
        points[count] = point
        classes[count] = table[point]
        count += 1
    return count
