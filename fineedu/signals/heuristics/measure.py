"""The kernel that walks a batch: every document is decoded once, and everything is counted from that."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner, kernel
from fineedu.kernels.utf8 import decode
from fineedu.signals.heuristics.c4 import N_COUNTS, c4_lines
from fineedu.signals.heuristics.lines import gopher_lines, newline_lines, paragraphs
from fineedu.signals.heuristics.repetition import repeated_ngrams
from fineedu.signals.heuristics.sentences import measure_words
from fineedu.signals.heuristics.words import split_words

#: columns of the counts, each the first of its group
CHARACTERS, WORDS, HASHES, ELLIPSES = 0, 1, 2, 3
WORD_KINDS = 4
GOPHER_LINES = 8
NEWLINE_LINES = 11
PARAGRAPHS = 19
NGRAMS = 22
C4 = 31
N_COLUMNS = C4 + N_COUNTS

#: what to measure, to be added up (the benchmark's breakdown leaves some out)
PART_WORDS, PART_LINES, PART_NGRAMS, PART_C4 = 1, 2, 4, 8
ALL_PARTS = 15


@inner
def _count_signs(points: Any, length: int, out: Any) -> None:
    """Count hash signs, and ellipses of either spelling as ``str.count`` does, into ``out[0:2]``."""
    run = 0
    for i in range(length):
        point = points[i]
        if point == ord("."):
            run += 1
            if run == 3:
                out[1] += 1
                run = 0
            continue
        run = 0
        out[0] += point == ord("#")
        out[1] += point == ord("…")


@kernel
def word_spans(data: Any, tables: Any) -> Any:
    """Split one UTF-8 text into words: (n, 2) starts and ends in characters."""
    size = data.shape[0]
    points = np.empty(size, np.uint32)
    classes = np.empty(size, np.uint32)
    length = decode(data, 0, size, tables.classes, points, classes)
    spans = np.empty((size, 2), np.int32)
    stack = np.empty(size, np.int32)
    count = split_words(points, classes, 0, length, tables.keys, tables.values, spans, stack)
    return spans[:count]


@inner
def _measure_document(
    points: Any, classes: Any, length: int, tables: Any,
    spans: Any, stack: Any, stream: Any, parts: int, out: Any,
) -> None:  # fmt: skip
    """Fill one row of counts."""
    out[CHARACTERS] = length
    _count_signs(points, length, out[HASHES:])
    if parts & PART_LINES:
        gopher_lines(points, classes, length, out[GOPHER_LINES:])
        newline_lines(points, classes, length, out[NEWLINE_LINES:])
        paragraphs(points, classes, length, out[PARAGRAPHS:])
    if not parts & PART_WORDS:
        return
    words = split_words(points, classes, 0, length, tables.keys, tables.values, spans, stack)
    out[WORDS] = words
    hashes = np.empty(words, np.uint64)
    ends = np.empty(words + 1, np.int64)
    kinds = np.empty(words, np.uint8)
    measure_words(
        points, classes, spans, words, tables.stop_words, tables.powers,
        stream, ends, hashes, kinds, out[WORD_KINDS:],
    )  # fmt: skip
    if parts & PART_NGRAMS:
        repeated_ngrams(hashes, stream, ends, words, tables.powers, out[NGRAMS:])
    if parts & PART_C4:
        c4_lines(points, classes, length, spans, kinds, words, tables, out[C4:])


@kernel
def measure_batch(data: Any, offsets: Any, tables: Any, parts: int) -> Any:
    """Count everything in a batch of documents.

    Args:
        data: (n_bytes,) uint8, UTF-8 of all documents.
        offsets: (n + 1,) int64, where each starts and the last ends.
        tables: see ``tables.Tables``.
        parts: sum of the ``PART_`` flags.

    Returns:
        (n, ``N_COLUMNS``) int64 counts. Scratch memory is about 28 bytes per byte of the
        longest document, and while n-grams are counted up to 80 more per word of it.
    """
    n = offsets.shape[0] - 1
    longest = 0
    for d in range(n):
        longest = max(longest, offsets[d + 1] - offsets[d])
    points = np.empty(longest, np.uint32)
    classes = np.empty(longest, np.uint32)
    spans = np.empty((longest, 2), np.int32)
    stack = np.empty(longest, np.int32)
    stream = np.empty(longest + 1, np.uint64)
    out = np.zeros((n, N_COLUMNS), np.int64)
    for d in range(n):
        length = decode(data, offsets[d], offsets[d + 1], tables.classes, points, classes)
        _measure_document(points, classes, length, tables, spans, stack, stream, parts, out[d])
    return out
