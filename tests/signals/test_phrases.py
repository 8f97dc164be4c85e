from __future__ import annotations

import re
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.errors import FineeduError
from fineedu.signals.measure import measure
from fineedu.signals.phrases import PhraseSignals, load_lexicon

FAMILY = PhraseSignals()


def count(*texts: str | None) -> list[dict[str, int | None]]:
    return measure(FAMILY, pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})).to_dicts()


def test_columns() -> None:
    assert list(FAMILY.schema) == [
        "proxy_delve", "proxy_as_a_large_language_model", "proxy_its_important_to_note", "proxy_rich_tapestry",
        "proxy_intertwined", "proxy_certainly", "proxy_dive_into", "proxy_total",
    ]  # fmt: skip


def test_case_boundaries_quotes_and_spaces() -> None:
    (found,) = count("Delve, DELVE! delves undelve delve's\nIt’s  important\nto note. Certainly! uncertainly! certainly. dive into intodive into")
    assert found == {
        "proxy_delve": 3, "proxy_as_a_large_language_model": 0, "proxy_its_important_to_note": 1, "proxy_rich_tapestry": 0,
        "proxy_intertwined": 0, "proxy_certainly": 1, "proxy_dive_into": 1, "proxy_total": 6,
    }  # fmt: skip


def test_missing_empty_and_neighbours() -> None:
    found = count("we dive", "into it", None, "", "delve", "delve")
    assert [row["proxy_total"] for row in found] == [0, 0, None, 0, 1, 1]


words = st.lists(st.sampled_from([*load_lexicon("fineweb-proxy")[1], "delves", "a", "é", "'", "’", "!", ".", " ", "\n", "\u00a0", "_", "9", "İ", "ﬁ"]), max_size=12).map("".join)


@given(st.lists(words | st.text(max_size=20), max_size=6))
def test_agrees_with_a_regular_expression(texts: list[str]) -> None:
    expected = []
    for text in texts:
        # Polars lowers and splits whitespace as Unicode says; the reference must read the same characters.
        flat = re.sub(r"\s+", " ", re.sub("[’‘ʼ＇]", "'", pl.Series([text]).str.to_lowercase()[0]))
        flat = pl.Series([flat]).str.replace_all(r"\s+", " ")[0]
        expected.append(
            [
                len(re.findall(rf"(?<![a-z0-9_\x80-\U0010ffff]){re.escape(phrase)}" + (r"(?![a-z0-9_\x80-\U0010ffff])" if phrase[-1].isalnum() else ""), flat))
                for phrase in load_lexicon("fineweb-proxy")[1]
            ]
        )
    assert [list(row.values())[:-1] for row in count(*texts)] == expected


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(FineeduError, match="shipped are fineweb-proxy"):
        PhraseSignals("nonsense")
    path = tmp_path / "mine.yaml"
    path.write_text("prefix: x\nphrases: []\n")
    with pytest.raises(FineeduError, match="at least one phrase"):
        PhraseSignals(str(path))


def test_own_lexicon_has_its_own_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("prefix: own\nphrases: [river bank, bank]\n")
    family = PhraseSignals(str(path))
    assert family.fingerprint != FAMILY.fingerprint
    found = measure(family, pl.DataFrame({"text": ["The river bank, a bank."]})).to_dicts()
    assert found == [{"own_river_bank": 1, "own_bank": 2, "own_total": 3}]


def test_speed_is_that_of_a_native_library() -> None:
    texts = pl.DataFrame({"text": ["The lesson went on about rivers, and it's important to note the bank. " * 50] * 512})
    measure(FAMILY, texts)
    started = time.perf_counter()
    measure(FAMILY, texts)
    assert 512 * 3500 / (time.perf_counter() - started) > 20e6  # a Python loop does 17 MB/s on a quiet machine
