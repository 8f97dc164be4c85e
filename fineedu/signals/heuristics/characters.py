"""What the kernels know of a character: one 32-bit set of properties per Unicode code point."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

# Python's own reading of a character (what str.isspace, str.splitlines, ... say)
SPACE = np.uint32(1 << 0)
LINE_BREAK = np.uint32(1 << 1)
ALPHABETIC = np.uint32(1 << 2)
DECIMAL = np.uint32(1 << 3)
PUNCTUATION = np.uint32(1 << 4)  # Unicode category P*
# datatrove's sets
SYMBOL = np.uint32(1 << 5)
TERMINAL = np.uint32(1 << 6)
# the word and sentence splitter's sets
SENTENCE_END = np.uint32(1 << 7)
LETTER = np.uint32(1 << 8)
LOWER = np.uint32(1 << 9)
UPPER = np.uint32(1 << 10)
DIGIT = np.uint32(1 << 11)
PREFIX = np.uint32(1 << 12)  # split off at the start of a chunk, whatever follows
SUFFIX = np.uint32(1 << 13)  # split off at the end of a chunk, whatever precedes
ICON = np.uint32(1 << 14)
QUOTE = np.uint32(1 << 15)
CURRENCY = np.uint32(1 << 16)
BEFORE_DOT = np.uint32(1 << 17)  # a full stop after it ends the word
HOST = np.uint32(1 << 18)
ALPHANUMERIC = np.uint32(1 << 19)
COMPLEX = np.uint32(1 << 20)  # a chunk with one of these needs the full splitter
INFIX = np.uint32(1 << 21)  # may split a chunk in the middle
# triggers of the phrase searches of C4: the letters marked in its list, and brackets
RARE = np.uint32(1 << 22)
BRACKET = np.uint32(1 << 23)

N_CODE_POINTS = 0x110000

_LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"

# datatrove.utils.text.PUNCTUATION (0.10), as sorted code points
_SYMBOLS = (
    "0-8 b-1f 21-2f 3a-40 5b-60 7b-9f ab b4 bb 2013-2014 2019 201c-201e 2026 2236 2501 25ba 3001-3002 "
    "3008-300d "
    "3010-3011 ff01 ff05 ff08-ff09 ff0c ff0e ff11 ff1a-ff1b ff1f ff5e"
)
# Sentence-final marks of all scripts that spaCy's sentencizer and datatrove share ...
_SENTENCE_ENDS = (
    "21 2e 3f 589 61f 6d4 700-702 7f9 964-965 104a-104b 1362 1367-1368 166e 1735-1736 1803 1809 1944-1945 "
    "1aa8-1aab 1b5a-1b5b 1b5e-1b5f 1c3b-1c3c 1c7e-1c7f 203c-203d 2047-2049 2e2e 2e3c 3002 a4ff a60e-a60f "
    "a6f3 a6f7 "
    "a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f aaf0-aaf1 abeb fe52 fe56-fe57 ff01 ff0e ff1f ff61 "
    "10a56-10a57 "
    "11047-11048 110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 "
    "1144b-1144c "
    "115c2-115c3 115c9-115d7 11641-11642 1173c-1173e 11a42-11a43 11a9b-11a9c 11c41-11c42 16a6e-16a6f 16af5 "
    "16b37-16b38 16b44 1bc9f 1da88"
)
# ... and those only datatrove has
_MORE_TERMINALS = (
    "61d-61e 837 839 83d-83e 17d4-17d6 17d9-17da 1b7d-1b7e 2e53-2e54 10f55-10f59 10f86-10f89 11944 11946 "
    "11ef7-11ef8 11f43-11f44 16e98"
)
# Letters to spaCy's English rules: Latin, Greek and Cyrillic letters, and whole blocks of the scripts
# without case
_LETTERS = (
    "41-5a 61-7a c0-d6 d8-f6 f8-1bf 1c4-2af 386 388-38a 38c 38e-38f 391-3a9 3ac-3af 3b1-3c9 3cc-3ce "
    "400-401 403-40a "
    "40c-40d 410-451 453-45a 45c-45d 490-491 496-497 4a2-4a3 4ae-4af 4ba-4bb 4d8-4d9 4e8-4e9 591-5f4 620-64a "
    "66e-6d5 6e5-6ff 750-77f 8a0-8bd 900-9ff b80-cff d80-dff 1100-137f 1d00-1d25 1d6b-1d77 1d79-1d9a "
    "1e00-1eff "
    "2c60-2c7b 2c7e-2c7f 2e80-2fdf 2ff0-30ff 31c0-31ef 3200-4dbf 4e00-9fff a722-a76f a771-a787 a78b-a78e "
    "a790-a7b9 "
    "a7fa ab30-ab5a ab60-ab64 ac00-d7af f900-faff fb1d-fbb1 fbd3-fd3d fd50-fdc7 fdf0-fdfb fe30-fe4f "
    "fe70-fefc "
    "ff21-ff3a ff41-ff5a 1ee00-1eebb 1f200-1f2ff 20000-2a6df 2a700-2ebef 2f800-2fa1f"
)
# symbols younger than the Unicode 11 that spaCy's list of symbols stops at (emoji of 2019 and later)
_YOUNG_SYMBOLS = (
    "621 166d 2b97 2bc9 2bff 2e50-2e51 32ff fd40-fd4f fdcf fdfe-fdff 1019c 11fd5-11ff1 1cf50-1cfc3 "
    "1d1e9-1d1ea 1e14f "
    "1ed2e 1f10d-1f10f 1f16c-1f16f 1f1ad 1f6d5-1f6df 1f6fa-1f6fc 1f7e0-1f7f0 1f8b0-1f8b1 1f90c-1f90f 1f93f "
    "1f971-1f972 1f977-1f979 1f97b 1f9a3-1f9af 1f9ba-1f9bf 1f9c3-1f9cf 1fa00-1fa53 1fa70-1faff 1fb00-1fbff"
)
_MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉\u2329\u232a⟦⟧"
_CURRENCIES = "$£€¥฿₽﷼₴₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₵₶₷₸₹₺₻₼₾₿"
# the classes of the splitter's regular expressions swallow the "|" and "(?:)" of their own source
_BEFORE_DOT = "0123456789%²-+|" + _MARKS + "(?:)" + _QUOTES


def _ranges(spec: str) -> npt.NDArray[np.int64]:
    parts = []
    for item in spec.split():
        first, _, last = item.partition("-")
        parts.append(np.arange(int(first, 16), int(last or first, 16) + 1))
    return np.concatenate(parts)


def symbol_points() -> npt.NDArray[np.int64]:
    """Return the code points of datatrove's ``PUNCTUATION``, ascending."""
    return _ranges(_SYMBOLS)


def _points(characters: str) -> npt.NDArray[np.int64]:
    return np.fromiter(map(ord, characters), np.int64, len(characters))


def _where(flags: Iterable[bool], count: int) -> npt.NDArray[np.bool_]:
    return np.fromiter(flags, np.bool_, count)


@cache
def class_table() -> npt.NDArray[np.uint32]:
    """Return the properties of all 0x110000 code points, built from this Python's own Unicode data.

    Takes about 0.2 s once per process. Everything above plane 3 but the tags of plane 14 is without
    properties in every Unicode version so far, so only the planes in use are asked for.
    """
    table = np.zeros(N_CODE_POINTS, np.uint32)
    used = "".join(map(chr, range(0x40000)))
    low = table[: len(used)]
    for flag, test in (
        (SPACE, str.isspace),
        (ALPHABETIC, str.isalpha),
        (DECIMAL, str.isdecimal),
        (ALPHANUMERIC, str.isalnum),
    ):
        low[_where(map(test, used), len(used))] |= flag
    category = np.fromiter(map(unicodedata.category, used), "U2", len(used))
    low[np.char.startswith(category, "P")] |= PUNCTUATION
    low[category == "So"] |= ICON
    table[_ranges(_YOUNG_SYMBOLS)] &= ~ICON
    _mark_letters(table, _where(map(str.isupper, used), len(used)) | (category == "Lt"),
                  _where(map(str.islower, used), len(used)))  # fmt: skip
    _mark_sets(table)
    table.setflags(write=False)
    return table


def _mark_letters(table: npt.NDArray[np.uint32], upper: npt.NDArray[np.bool_], lower: npt.NDArray[np.bool_]) -> None:
    table[_ranges(_LETTERS)] |= LETTER
    low = table[: len(upper)]
    letter = (low & LETTER) != 0
    low[letter & ~upper] |= LOWER | BEFORE_DOT
    low[letter & ~lower] |= UPPER


def _mark_sets(table: npt.NDArray[np.uint32]) -> None:
    icons = np.flatnonzero(table & ICON)
    quotes = _points(_QUOTES)
    ends = _ranges(_SENTENCE_ENDS)
    digits = _points("0123456789")
    marks = np.concatenate([_points(_MARKS), quotes, icons, _points("—–")])
    for flag, points in (
        (LINE_BREAK, _points(_LINE_BREAKS)),
        (SYMBOL, np.concatenate([_ranges(_SYMBOLS), ends, _ranges(_MORE_TERMINALS)])),
        (TERMINAL, np.concatenate([ends, _ranges(_MORE_TERMINALS)])),
        (SENTENCE_END, ends),
        (QUOTE, quotes),
        (CURRENCY, _points(_CURRENCIES)),
        (DIGIT, digits),
        (BEFORE_DOT, _points(_BEFORE_DOT)),
        (SUFFIX, marks),
        (PREFIX, np.concatenate([marks, _points("§%=" + _CURRENCIES)])),
        (HOST, np.concatenate([_ranges("30-39 41-5a 61-7a 5f 2d-2e"), np.arange(0xA1, 0x10000)])),
        (RARE, _points("fFjJkK\u212apPvV{")),
        (BRACKET, _points("[")),
        (INFIX, np.concatenate([_points("….+-*^,:<>=/–—~"), icons])),
        (COMPLEX, np.concatenate([marks, digits, _points("§%=.+-*^/@~" + _CURRENCIES)])),
    ):
        table[points] |= flag
