"""Searches for patterns that are long lists of words, in names that nearly never hold one.

Python's ``re`` tries each alternative at each character, 1.2 microseconds a character for the patterns of trafilatura
in any case of letters; a plain substring takes some 30 ns a name. So words are looked for first, the pattern after.
"""

from __future__ import annotations

import re

#: What may be there or not, or in more than one form: a class, a character or a class that may be missing or repeated.
_VARIABLE = re.compile(r"\[(?:\\.|[^\]])*\](?:[?*+]|\{[^}]*\})?|(?:\\.|[^\\])(?:[?*]|\{[^}]*\})|\\[a-zA-Z]|\.")
_GROUP = re.compile(r"\(\?:(?:\\.|\[(?:\\.|[^\]])*\]|[^()\[\]\\])*\)(?:[?*+]|\{[^}]*\})?")
_AHEAD = re.compile(r"\(\?[!=][^()]*\)")
_SHORTEST = 3


def _alternatives(pattern: str) -> list[str]:
    """Split a pattern at the bars that are in no group."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(pattern):
        if character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and not depth:
            parts.append(pattern[start:place])
            start = place + 1
    return [*parts, pattern[start:]]


def needed_words(pattern: str) -> tuple[str, ...]:
    """Return words one of which is in every text that a pattern is found in.

    Args:
        pattern: alternatives of literal characters, classes, and groups ``(?:...)``, as trafilatura's are.

    Returns:
        The words, or none where that cannot be told.
    """
    words: set[str] = set()
    for part in _alternatives(_AHEAD.sub("", pattern)):
        bare = part.strip("^$")
        if bare.startswith("(?:") and _GROUP.fullmatch(bare) and bare.endswith(")"):
            found = needed_words(bare[3:-1])
        else:
            single = _GROUP.sub("\0", bare)
            fixed = _VARIABLE.sub("\0", single).replace("\\", "")
            found = () if "(" in single else (max(fixed.split("\0"), key=len),)
        if not found or min(map(len, found)) < _SHORTEST:
            return ()
        words.update(found)
    # A word that holds another one says nothing more.
    return tuple(sorted(word for word in words if not any(other in word for other in words - {word})))


class Search:
    """Whether a pattern is found in a text.

    Args:
        pattern: as :func:`needed_words` takes it.
        fold: compare in lower case: the text must be given so.
    """

    def __init__(self, pattern: str, fold: bool = False) -> None:
        pattern = pattern.lower() if fold else pattern
        self._words = needed_words(pattern)
        self._search = re.compile(pattern).search

    def __call__(self, text: str) -> bool:
        """Tell whether the pattern is found."""
        if self._words:
            for word in self._words:
                if word in text:
                    break
            else:
                return False
        return self._search(text) is not None
