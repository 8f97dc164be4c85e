"""Letters of every script: which characters make words, where words end, and how capitals are written."""

from __future__ import annotations

import string
from functools import cache

import numpy as np
import numpy.typing as npt

#: of a table of characters
LETTER, UNSPACED = 1, 2

#: first and last code point of scripts that set no space between words: Thai and Lao, Myanmar, Khmer, kana, Han
_BLOCKS = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@cache
def letters() -> npt.NDArray[np.uint8]:
    """Return for each code point 0, ``LETTER`` (or digit), or ``UNSPACED``: one whose neighbours end no word."""
    table = np.fromiter((chr(point).isalnum() for point in range(0x110000)), np.uint8, 0x110000)
    for first, last in _BLOCKS:
        table[first : last + 1] *= UNSPACED
    return table


def is_bounded(character: str) -> bool:
    """Tell whether a phrase that begins or ends with the character does so at the edge of a word only."""
    return character == "_" or int(letters()[ord(character)]) == LETTER


def cases(phrase: str) -> list[str]:
    """Return the ways a phrase is written, but for the case of ASCII letters, which is ignored everywhere.

    Args:
        phrase: in lower case: as it is, as a sentence or a title begins, and in capitals.
    """
    forms = [phrase, phrase[0].upper() + phrase[1:], phrase.title(), phrase.upper()]
    return list(dict.fromkeys(form.translate(_ASCII_LOWER) for form in forms))
