from __future__ import annotations

import polars as pl

from fineedu.signals.exact import ExactSignals
from fineedu.signals.measure import measure


def keys(*texts: str | None) -> list[str | None]:
    return measure(ExactSignals(), pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)}))["exact_key"].to_list()


def test_case_and_whitespace_do_not_matter_and_words_do() -> None:
    first, second, third = keys("A leaf\n\nis  green. ", "a LEAF is green.", "A leaf is not green.")
    assert first == second != third


def test_missing_has_no_key_and_empty_has_one() -> None:
    missing, empty = keys(None, "")
    assert missing is None
    assert empty is not None


def test_key_is_fixed_for_ever() -> None:
    # Keys are compared across dumps that were measured years apart.
    assert keys("A leaf is green.") == ["66c585c7ebecdbbbdf2d8104d699a016"]
