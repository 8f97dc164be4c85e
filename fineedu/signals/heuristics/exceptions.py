"""Chunks that are split as listed and not by rule: contractions, abbreviations, times of day, emoticons; and units."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from fineedu.signals.heuristics.hashing import BASE, OFFSET, spread

#: A table value holds the lengths of the pieces, four bits each, the first piece lowest, and two flags.
PIECE_BITS = np.uint64(4)
PIECE_MASK = np.uint64((1 << 32) - 1)
IS_LISTED = np.uint64(1 << 32)
IS_UNIT = np.uint64(1 << 33)
LONGEST_LISTED = 15
LONGEST_UNIT = 4

_NEGATED = "ai ca could dare did do does had has have is are may might must need ought sha should was were wo would"
_SUBJECTS = "i you he she it we they that there this these those who what when where why how"
_CLITICS = "'m 're 's 'd 'll 've 'd've 'll've"
_ABBREVIATIONS = (
    "Adm. Ala. Apr. Ariz. Ark. Aug. Bros. Calif. Co. Colo. Conn. Corp. D.C. Dec. Del. Dr. Feb. Fla. Ga. Gen. Gov. Ia. "
    "Id. Ill. Inc. Ind. Jan. Jr. Jul. Jun. Kan. Kans. Ky. La. Ltd. Mar. Mass. Md. Messrs. Mich. Minn. Miss. Mo. Mont. "
    "Mr. Mrs. Ms. Mt. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Ph.D. Prof. Rep. Rev. S.C. "
    "Sen. Sep. Sept. St. Tenn. Va. Wash. Wis. a.m. p.m. co. e.g. i.e. E.g. I.e. E.G. I.E. v.s. vs. and/or w/o C++ em ol "
    "o'clock o’clock O'clock O’clock ma'am ma’am Ma'am Ma’am 'em ’em 'cause ’cause 'bout ’bout 'd ’d 'll ’ll 're ’re — ' ’"
)
_ENDINGS_DROPPED = "doin goin havin lovin nothin somethin"
_EMOTICONS = (
    ":) :-) :( :-( ;) ;-) :D :-D ;D :P :-P :p :-p :/ :-/ :o :O :| :-| :] :[ =) =( =D =] =/ =3 :3 :* :-* :') :'( :)) "
    ":))) :(( <3 <33 </3 xD XD 8) 8-) (: (-: (; ): ^_^ -_- o_O O_o o.O >.< >:( :0 :1 :x :X :> :} 0_0 o_o O_O"
)
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h mph hPa Pa mbar "
    "mb MB kb KB gb GB tb TB T G M K %"
)


def _cased(word: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((word, word[0].upper() + word[1:])))


def _contractions() -> Iterator[tuple[str, ...]]:
    """Yield contractions as their pieces, with straight and curly apostrophes, and negations also without."""
    for verb, mark in product(_NEGATED.split(), ("'", "’", "")):
        for stem in _cased(verb):
            yield stem, f"n{mark}t"
            yield stem, f"n{mark}t", f"{mark}ve"
    for subject, clitics, mark in product(_SUBJECTS.split(), _CLITICS.split(), ("'", "’")):
        if clitics == "'m" and subject != "i":
            continue
        pieces = [f"{mark}{part}" for part in clitics.split("'")[1:]]
        for stem in (("i", "I") if subject == "i" else _cased(subject)):
            yield stem, *pieces
    for modal, mark in product(("could", "might", "must", "should", "would"), ("'", "’")):
        for stem in _cased(modal):
            yield stem, f"{mark}ve"
    for first, second in (("can", "not"), ("gon", "na"), ("got", "ta"), ("let", "'s"), ("let", "’s")):
        for stem in _cased(first):
            yield stem, second


def _listed() -> Iterator[tuple[str, ...]]:
    yield from _contractions()
    for hour, half in product(range(1, 13), ("am", "pm", "a.m.", "p.m.")):
        yield str(hour), half
    for chunk in (*_ABBREVIATIONS.split(), *_EMOTICONS.split(), *(f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyzäöü")):
        yield (chunk,)
    for word, mark in product(_ENDINGS_DROPPED.split(), ("'", "’", "")):
        for form in _cased(word):
            yield (form + mark,)


def hash_text(text: str) -> int:
    """Return the kernels' hash of a string."""
    value = 0
    for character in text:
        value = (value * int(BASE) + ord(character) + int(OFFSET)) % 2**64
    return value


@cache
def exception_table() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the open-addressing table of listed chunks and units: hashes (0 is free) and their entries."""
    entries: dict[int, int] = {}
    for pieces in _listed():
        packed = sum(len(piece) << (int(PIECE_BITS) * n) for n, piece in enumerate(pieces))
        entries.setdefault(hash_text("".join(pieces)), packed | int(IS_LISTED))
    for unit in _UNITS.split():
        key = hash_text(unit)
        entries[key] = entries.get(key, 0) | int(IS_UNIT)
    size = 1 << (4 * len(entries)).bit_length()  # a quarter full at most: nearly every look-up ends at its first slot
    keys, values = np.zeros(size, np.uint64), np.zeros(size, np.uint64)
    for key, entry in entries.items():
        slot = int(spread(np.uint64(key))) & (size - 1)
        while keys[slot]:
            slot = (slot + 1) & (size - 1)
        keys[slot], values[slot] = key, entry
    keys.setflags(write=False)
    values.setflags(write=False)
    return keys, values
