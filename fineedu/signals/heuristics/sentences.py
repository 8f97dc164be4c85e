"""Kernels that measure words and count sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner
from fineedu.signals.heuristics.characters import ALPHABETIC, PUNCTUATION, SENTENCE_END, SYMBOL
from fineedu.signals.heuristics.hashing import BASE, OFFSET, power

_ZERO = np.uint64(0)
_NO_CLASS = np.uint32(0)
_ALL = np.uint32(0xFFFFFFFF)
ENDS_SENTENCE = np.uint8(1)
IS_PUNCTUATION = np.uint8(2)


@inner
def _stop_word(value: Any, stop_words: Any) -> Any:
    """Bit of the stop word with this hash, else 0."""
    bits = np.int64(0)
    for k in range(stop_words.shape[0]):
        bits |= np.int64(stop_words[k] == value) << k
    return bits


@inner
def measure_words(
    points: Any, classes: Any, spans: Any, count: int, stop_words: Any, powers: Any,
    stream: Any, ends: Any, hashes: Any, kinds: Any, out: Any,
) -> None:  # fmt: skip
    """Hash the words and count kinds of them.

    Args:
        points: code points.
        classes: their properties.
        spans: (n, 2) starts and ends of the words.
        count: number of words.
        stop_words: (k,) hashes of stop words, which have two to four letters.
        powers: see ``hashing.small_powers``.
        stream: filled with the hash of all words' characters up to each; room for one more than there are.
        ends: (n + 1,) filled with the words' bounds in ``stream``.
        hashes: filled with the words' hashes.
        kinds: filled with ``ENDS_SENTENCE`` and ``IS_PUNCTUATION``.
        out: [0] words that are not all symbols, [1] their characters, [2] words with a letter,
            [3] different stop words.
    """
    stops = 0
    value = _ZERO
    stream[0] = value
    ends[0] = 0
    n = 0
    for w in range(count):
        start = spans[w, 0]
        length = spans[w, 1] - start
        before = value
        some = _NO_CLASS
        every = _ALL
        for i in range(start, start + length):
            value = value * BASE + np.uint64(points[i]) + OFFSET
            n += 1
            stream[n] = value
            some |= classes[i]
            every &= classes[i]
        ends[w + 1] = n
        hashes[w] = value - before * power(length, powers)
        kinds[w] = _kind(every, length)
        if not every & SYMBOL:
            out[0] += 1
            out[1] += length
        if some & ALPHABETIC:
            out[2] += 1
        if 2 <= length <= 4:
            stops |= _stop_word(hashes[w], stop_words)
    while stops > 0:
        out[3] += stops & 1
        stops >>= 1


@inner
def _kind(every: Any, length: int) -> Any:
    """What the sentence splitter has to know of a word, from the properties all its characters share."""
    kind = np.uint8(0)
    if every & PUNCTUATION:
        kind |= IS_PUNCTUATION
    if length == 1 and every & SENTENCE_END:
        kind |= ENDS_SENTENCE
    return kind


@inner
def _is_word_of_spaces(points: Any, start: int, end: int) -> bool:
    """Whether the whitespace between two words is a word itself to spaCy: all but a single space is."""
    return end > start and not (end - start == 1 and points[start] == ord(" "))


@inner
def count_sentences(points: Any, spans: Any, kinds: Any, first: int, last: int, end: int) -> int:
    """Count sentences in words ``first`` to ``last`` of a line that ends at ``end``.

    A sentence starts at the first word after a sentence-final mark that is neither such a mark nor all
    punctuation (spaCy's sentencizer).
    """
    sentences = 1
    ended = False
    for w in range(first, last):
        if ended and w > first and _is_word_of_spaces(points, spans[w - 1, 1], spans[w, 0]):
            sentences += 1
            ended = False
        if kinds[w] & ENDS_SENTENCE:
            ended = True
        elif ended and not kinds[w] & IS_PUNCTUATION:
            sentences += 1
            ended = False
    if ended and last > first and _is_word_of_spaces(points, spans[last - 1, 1], end):
        sentences += 1
    return sentences
