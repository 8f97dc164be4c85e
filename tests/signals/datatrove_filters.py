"""datatrove's four filters as the reference: their decisions, and their figures where no word is split."""

from __future__ import annotations

import re
from collections.abc import Callable

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates
from datatrove.utils.text import TERMINAL_PUNCTUATION

#: filter to the recipe's rules that say the same over our columns
RULES = {
    "gopher_quality": "gopher_words BETWEEN 50 AND 100000 AND gopher_mean_word_length BETWEEN 3 AND 10 "
    "AND gopher_hash_ratio <= 0.1 AND gopher_ellipsis_ratio <= 0.1 AND gopher_bullet_line_ratio <= 0.9 "
    "AND gopher_ellipsis_line_ratio <= 0.3 AND gopher_alpha_word_ratio >= 0.8 AND gopher_stop_words >= 2",
    "gopher_repetition": "dup_para_frac <= 0.3 AND dup_para_char_frac <= 0.2 AND dup_line_frac <= 0.3 "
    "AND dup_line_char_frac <= 0.2 AND top_2_gram <= 0.2 AND top_3_gram <= 0.18 AND top_4_gram <= 0.16 "
    "AND dup_5_gram <= 0.15 AND dup_6_gram <= 0.14 AND dup_7_gram <= 0.13 AND dup_8_gram <= 0.12 "
    "AND dup_9_gram <= 0.11 AND dup_10_gram <= 0.1",
    "c4": "NOT c4_lorem_ipsum AND NOT c4_curly_bracket AND c4_sentences >= 5",
    "c4_any_end": "NOT c4_lorem_ipsum_any_end AND NOT c4_curly_bracket_any_end AND c4_sentences_any_end >= 5",
    "fineweb": "fineweb_line_punct_ratio >= 0.12 AND fineweb_short_line_ratio <= 0.67 "
    "AND fineweb_char_dup_ratio <= 0.01 AND fineweb_newline_ratio <= 0.3",
}


def filters() -> dict[str, Callable[[str], bool]]:
    """Return each filter as text to keep or not; datatrove's division by zero on empty text counts as not."""
    made = {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "c4": C4QualityFilter(),
        "c4_any_end": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
    }

    def keep(step: object, text: str) -> bool:
        try:
            found = step.filter(Document(text=text, id="x"))  # type: ignore[attr-defined]
        except ZeroDivisionError:
            return False
        return found is True

    return {name: (lambda text, step=step: keep(step, text)) for name, step in made.items()}


def exact_figures(text: str) -> dict[str, float | None]:
    """Return what the filters compute without splitting words, by their own expressions."""

    def ratio(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    paragraphs = re.split(r"\n{2,}", text.strip())
    lines = re.split(r"\n+", text)
    python_lines = text.splitlines()
    full = [line for line in text.split("\n") if line.strip() != ""]
    para_count, para_chars = find_duplicates(paragraphs)
    line_count, line_chars = find_duplicates(lines)
    size = len(text)
    return {
        "dup_para_frac": ratio(para_count, len(paragraphs)) if size else None,
        "dup_para_char_frac": ratio(para_chars, size),
        "dup_line_frac": ratio(line_count, len(lines)) if size else None,
        "dup_line_char_frac": ratio(line_chars, size),
        "gopher_bullet_line_ratio": ratio(sum(s.lstrip().startswith(("•", "-")) for s in python_lines), len(python_lines)),
        "gopher_ellipsis_line_ratio": ratio(sum(s.rstrip().endswith(("...", "…")) for s in python_lines), len(python_lines)),
        "fineweb_line_punct_ratio": ratio(sum(line.endswith(tuple(TERMINAL_PUNCTUATION)) for line in full), len(full)),
        "fineweb_short_line_ratio": ratio(sum(len(line) <= 30 for line in full), len(full)),
        "fineweb_char_dup_ratio": ratio(find_duplicates(full)[1], len(text.replace("\n", ""))) if full else None,
    }
