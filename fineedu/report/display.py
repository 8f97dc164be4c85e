"""Values as a reader sees them: numbers in one form, text of pages made harmless to look at."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

#: Stands for what cannot be shown as it is.
_REPLACEMENT = "\ufffd"
#: Marks, embeddings, overrides and isolates: they would reorder the text around them; RTL text needs none.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: Any, limit: int) -> str:
    """Return text on one line, without controls, at most ``limit`` characters and an ellipsis.

    Control characters (NUL, ANSI escapes) and lone surrogates become U+FFFD, and so do
    bidirectional controls; runs of white space become one space. HTML is left as it is: the template escapes.

    Args:
        text: anything; None gives an empty string.
        limit: characters kept.
    """
    if text is None:
        return ""
    line = " ".join(str(text)[: 4 * limit + 64].split())
    shown = "".join(c if _harmless(c) else _REPLACEMENT for c in line)
    return shown if len(shown) <= limit else shown[:limit].rstrip() + "…"


def _harmless(character: str) -> bool:
    return character not in _BIDI and unicodedata.category(character) not in ("Cc", "Cs")


def count(number: int) -> str:
    """Return an integer with its thousands apart."""
    return f"{number:,}"


def share(part: float, whole: float) -> str:
    """Return a percentage; a dash where there is nothing to be a part of.

    One decimal; what is not zero never reads ``0.0 %``, and what is not all never ``100.0 %``.
    """
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "< 0.1 %"
    if 99.95 <= percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def megabytes(size: int) -> str:
    """Return bytes in kB, MB or GB of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:,} B"


def sign(op: str) -> str:
    """Return a comparison as it is printed."""
    return {">=": "≥", "<=": "≤"}.get(op, op)


def value(number: Any) -> str:
    """Return a signal's value: fractions to 4 significant digits, integers with all; ``missing`` for null."""
    if number is None:
        return "missing"
    if isinstance(number, bool):
        return "true" if number else "false"
    if isinstance(number, float):
        if not math.isfinite(number):
            return str(number)
        return f"{number:,.0f}" if number.is_integer() or abs(number) >= 1e4 else f"{number:.4g}"
    return f"{number:,}" if isinstance(number, int) else clean(number, 80)
