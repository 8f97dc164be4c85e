"""Chunks that the word splitter takes as listed: contractions, abbreviations, clock times, emoticons.

The list restates spaCy's English exceptions (3.8): which strings are special and where they are cut.
"""

from __future__ import annotations

from functools import cache

import numpy as np

#: an entry is one 64-bit word: up to four piece lengths of four bits, two flags, and (from ``ENDS_SHIFT``
#: on) one bit for every character that ends a word when the chunk is split without the list
PIECE_BITS = np.uint64(4)
PIECE_MASK = np.uint64(0xFFFF)
IS_LISTED = np.uint64(1 << 16)
IS_UNIT = np.uint64(1 << 17)
ENDS_SHIFT = np.uint64(20)
LONGEST_LISTED = 12
LONGEST_UNIT = 4

_PRONOUNS = "i you he she it we they"
_QUESTIONS = "who what when where why how there that this these those"
_WITH_HAVE = "could might must should would"
_NEGATED_HAVE = "ca could do does did had may might must need ought sha should wo would"
_NEGATED = "ai are is was were have has dare"
_NOT_CONTRACTIONS = "Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore"
_CUT = (
    "y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na got|ta "
    "Got|ta "
    "let|'s Let|'s c'm|on C'm|on"
)
_WHOLE = (
    "doin doin' Doin Doin' goin goin' Goin Goin' nothin nothin' Nothin Nothin' nuthin nuthin' Nuthin "
    "Nuthin' ol ol' "
    "Ol Ol' somethin somethin' Somethin Somethin' em 'em ll 'll nuff 'nuff 'S 's ‘S ‘s 're 'Cause 'cause "
    "'cos 'Cos "
    "'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock lovin' Lovin' lovin Lovin havin' Havin' havin "
    "Havin 'd "
    "' '' \\\") and/or w/o C++ \\t \\n <space> — "
    "Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. "
    "Jul. Jun. "
    "Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. "
    "Oct. Okla. "
    "Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. "
    "Gen. Gov. "
    "i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. "
    "vs. v.s. "
    "ä. ö. ü."
)
_EMOTICONS = (
    ":) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; "
    ":( :-( :(( "
    ":-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o "
    ":-o :0 :-0 "
    ":() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ "
    ">.< >.> <.< "
    "._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 "
    "<333 </3 "
    "(^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\\(ツ)/¯ (╯°□°）╯︵┻━┻ ><(((*>"
)
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh "
    "mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см см² см³ мм мм² мм³ нм кг г мг "
    "м/с км/ч "
    "кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тб م م² م³ سم سم² سم³ مم مم² مم³ كم كم² كم³ غرام جرام جم "
    "كغ ملغ كوب"
)


def _contractions() -> set[tuple[str, ...]]:
    """Pronouns and auxiliaries with their endings, in lower and title case, apostrophes still straight."""
    found: set[tuple[str, ...]] = {("i", "'m"), ("i", "'m", "a")}
    for word in _PRONOUNS.split():
        found |= {(word, "'ll"), (word, "'ll", "'ve"), (word, "'d"), (word, "'d", "'ve")}
        if word in {"i", "you", "we", "they"}:
            found.add((word, "'ve"))
        if word in {"you", "we", "they"}:
            found.add((word, "'re"))
        if word in {"he", "she", "it"}:
            found.add((word, "'s"))
    for word in _QUESTIONS.split():
        found |= {(word, "'ll"), (word, "'ll", "'ve"), (word, "'d"), (word, "'d", "'ve")}
        if word not in {"these", "those"}:
            found.add((word, "'s"))
        if word not in {"that", "this"}:
            found |= {(word, "'re"), (word, "'ve")}
    for word in _NEGATED_HAVE.split():
        found |= {(word, "n't"), (word, "n't", "'ve")}
    found |= {(word, "n't") for word in _NEGATED.split()}
    found |= {(word, "'ve") for word in _WITH_HAVE.split()}
    return found | {(word.title(), *endings) for word, *endings in found}


@cache
def listed_chunks() -> dict[str, tuple[str, ...]]:
    """Return every special chunk with the pieces it is cut into."""
    pieces: list[tuple[str, ...]] = [(word,) for word in (_WHOLE + " " + _EMOTICONS).split()]
    pieces += [(letter + ".",) for letter in "abcdefghijklmnopqrstuvwxyz"]
    pieces += [tuple(item.split("|")) for item in _CUT.split()]
    pieces += [("°", letter, ".") for letter in "cfkCFK"]
    pieces += [(str(hour), half) for hour in range(1, 13) for half in ("a.m.", "am", "p.m.", "pm")]
    for parts in _contractions():
        pieces.append(parts)
        pieces.append((parts[0], *(part.replace("'", "") for part in parts[1:])))
    listed = {"".join(parts): parts for parts in pieces}
    for word in _NOT_CONTRACTIONS.split():
        listed.pop(word, None)
    curly = {chunk.replace("'", "’"): tuple(part.replace("'", "’") for part in parts)
             for chunk, parts in listed.items()}  # fmt: skip
    return curly | listed


@cache
def units() -> tuple[str, ...]:
    """Return the units of measure that split off a number before them."""
    return tuple(unit for unit in _UNITS.split() if len(unit) <= LONGEST_UNIT)
