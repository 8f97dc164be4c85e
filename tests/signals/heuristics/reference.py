"""A plain-Python reading of every measure, and datatrove's own decisions."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from functools import cache
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION, split_into_words

from fineedu.signals.heuristics.tables import STOP_WORDS

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
FILTERS = ("gopher_quality", "gopher_repetition", "c4", "c4_any_end", "fineweb")
#: the measures that do not depend on how a text is split into words and sentences
SPLIT_FREE = (
    "n_bytes", "n_chars", "n_lines", "gopher_bullet_line_ratio", "gopher_ellipsis_line_ratio",
    "dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac",
    "c4_lorem_ipsum", "c4_lorem_ipsum_any_end", "c4_curly_bracket", "c4_curly_bracket_any_end",
    "c4_lines", "c4_lines_long_word", "c4_lines_no_terminal", "c4_lines_too_few_words", "c4_lines_javascript",
    "c4_lines_policy", "fineweb_line_punct_ratio", "fineweb_short_line_ratio", "fineweb_char_dup_ratio",
)  # fmt: skip


def _ratio(above: int, below: int) -> float | None:
    return above / below if below else None


def _repeated(items: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    again = []
    for item in items:
        if item in seen:
            again.append(item)
        seen.add(item)
    return len(again), sum(map(len, again))


def _top(words: list[str], n: int) -> int:
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    if not grams:
        return 0
    gram, count = max(grams.items(), key=lambda item: item[1])
    return len(gram) * count


def _stepped(words: list[str], n: int) -> int:
    seen: set[str] = set()
    total = i = 0
    while i + n <= len(words):
        gram = "".join(words[i : i + n])
        total += len(gram) * (gram in seen)
        i += n if gram in seen else 1
        seen.add(gram)
    return total


def line_measures(text: str) -> dict[str, Any]:
    lines = text.splitlines()
    starts = [line.lstrip()[:1] in ("•", "-") and bool(line.strip()) for line in lines]
    ends = [line.rstrip().endswith(("...", "…")) for line in lines]
    paragraphs = re.split(r"\n{2,}", text.strip())
    pieces = re.split(r"\n+", text)
    full = [line for line in text.split("\n") if line.strip()]
    n = len(text)
    return {
        "n_bytes": len(text.encode()), "n_chars": n, "n_lines": len(lines),
        "gopher_bullet_line_ratio": _ratio(sum(starts), len(lines)),
        "gopher_ellipsis_line_ratio": _ratio(sum(ends), len(lines)),
        "dup_para_frac": _ratio(_repeated(paragraphs)[0], len(paragraphs)),
        "dup_para_char_frac": _ratio(_repeated(paragraphs)[1], n),
        "dup_line_frac": _ratio(_repeated(pieces)[0], len(pieces)) if text else None,
        "dup_line_char_frac": _ratio(_repeated(pieces)[1], n),
        "fineweb_line_punct_ratio": _ratio(sum(line[-1] in TERMINAL_PUNCTUATION for line in full), len(full)),
        "fineweb_short_line_ratio": _ratio(sum(len(line) <= 30 for line in full), len(full)),
        "fineweb_char_dup_ratio": _ratio(_repeated(full)[1], len(text.replace("\n", ""))) if full else None,
    }  # fmt: skip


def c4_measures(text: str) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for terminal_rule in (True, False):
        end = "" if terminal_rule else "_any_end"
        found = {"lorem_ipsum": False, "curly_bracket": False}
        for raw in text.splitlines():
            words = raw.split()
            line = CITATION.sub("", raw.strip())
            lower = line.lower()
            counts["lines" + end] += 1
            if any(len(word) > 1000 for word in words):
                counts["lines_long_word" + end] += 1
            elif terminal_rule and (not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...")):
                counts["lines_no_terminal" + end] += 1
            elif len(words) < 3:
                counts["lines_too_few_words" + end] += 1
            elif "lorem ipsum" in lower:
                found["lorem_ipsum"] = True
            elif "javascript" in lower:
                counts["lines_javascript" + end] += 1
            elif "{" in line:
                found["curly_bracket"] = True
            elif any(phrase in lower for phrase in POLICIES):
                counts["lines_policy" + end] += 1
        counts.update({name + end: int(value) for name, value in found.items()})
    names = [name.removeprefix("c4_") for name in SPLIT_FREE if name.startswith("c4_")]
    flags = ("lorem", "curly")
    return {"c4_" + n: bool(counts[n]) if n.startswith(flags) else counts[n] for n in names}


def word_measures(text: str, words: list[str]) -> dict[str, Any]:
    solid = [word for word in words if not set(word) <= PUNCTUATION_SET]
    n = len(words)
    measures: dict[str, Any] = {
        "n_words": n, "gopher_words": len(solid),
        "gopher_mean_word_length": _ratio(sum(map(len, solid)), len(solid)),
        "gopher_hash_ratio": _ratio(text.count("#"), n),
        "gopher_ellipsis_ratio": _ratio(text.count("...") + text.count("…"), n),
        "gopher_alpha_word_ratio": _ratio(sum(any(c.isalpha() for c in word) for word in words), n),
        "gopher_stop_words": len(set(STOP_WORDS) & set(words)),
        "fineweb_newline_ratio": _ratio(text.count("\n"), n),
    }  # fmt: skip
    measures |= {f"top_{k}_gram": _ratio(_top(words, k), len(text)) for k in (2, 3, 4)}
    return measures | {f"dup_{k}_gram": _ratio(_stepped(words, k), len(text)) for k in range(5, 11)}


def kept(row: dict[str, Any]) -> dict[str, bool]:
    """The decisions that follow from our measures at datatrove's default bounds."""
    grams = {"top_2": 0.2, "top_3": 0.18, "top_4": 0.16}
    grams |= {f"dup_{n}": float(Fraction(20 - n, 100)) for n in range(5, 11)}
    quality = 50 <= row["gopher_words"] <= 100_000 and (
        3 <= row["gopher_mean_word_length"] <= 10
        and row["gopher_hash_ratio"] <= 0.1 and row["gopher_ellipsis_ratio"] <= 0.1
        and row["gopher_bullet_line_ratio"] <= 0.9 and row["gopher_ellipsis_line_ratio"] <= 0.3
        and row["gopher_alpha_word_ratio"] >= 0.8 and row["gopher_stop_words"] >= 2
    )  # fmt: skip
    repetition = row["n_chars"] > 0 and (
        row["dup_para_frac"] <= 0.3 and row["dup_line_frac"] <= 0.3
        and row["dup_para_char_frac"] <= 0.2 and row["dup_line_char_frac"] <= 0.2
        and all(row[f"{name}_gram"] <= bound for name, bound in grams.items())
    )  # fmt: skip
    c4 = {
        end: row["c4_sentences" + end] >= 5
        and not row["c4_lorem_ipsum" + end] and not row["c4_curly_bracket" + end]
        for end in ("", "_any_end")
    }  # fmt: skip
    fineweb = row["fineweb_line_punct_ratio"] is not None and (
        row["fineweb_line_punct_ratio"] >= 0.12 and row["fineweb_short_line_ratio"] <= 0.67
        and row["fineweb_char_dup_ratio"] <= 0.01 and row["fineweb_newline_ratio"] <= 0.3
    )  # fmt: skip
    return dict(zip(FILTERS, (quality, repetition, c4[""], c4["_any_end"], fineweb), strict=True))


@cache
def _filters() -> dict[str, Any]:
    stages = (
        GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False), FineWebQualityFilter(),
    )  # fmt: skip
    return dict(zip(FILTERS, stages, strict=True))


def datatrove_kept(text: str) -> dict[str, bool]:
    """datatrove's decisions on the text, each filter alone."""
    return {name: stage.filter(Document(text=text, id="0")) is True for name, stage in _filters().items()}


def spacy_words(text: str) -> list[str]:
    return split_into_words(text)
