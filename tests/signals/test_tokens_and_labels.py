"""Token counts and labels as signals."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from fineedu.errors import FineeduError
from fineedu.pool import find_weight
from fineedu.signals.families import make_family

GPT2 = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def count(texts: list[str | None], **settings: str) -> list[int | None]:
    found = make_family("tokens", settings).compute(pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)}))
    return found["n_tokens"].to_list()


@given(st.lists(st.text(alphabet="ab'streé1 ,.!猫", max_size=30), max_size=5))
def test_pieces_are_those_of_gpt2(texts: list[str]) -> None:
    single = [" ".join(text.split()) for text in texts]  # where spaces stand alone the look-ahead changes nothing
    assert count(list(single)) == [len(GPT2.findall(text)) for text in single]


def test_missing_text_has_no_count() -> None:
    assert count([None, "", "It's two-fold."]) == [None, 0, 6]
    assert find_weight(["n_tokens", "text_bytes"], None).unit == "tokens"
    assert find_weight(["token_count"], "tokens").column == "token_count"


def test_tokenizer_counts(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "cat": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    path = str(tmp_path / "tokenizer.json")
    assert count(["cat " * 500, None, "a, b"], tokenizer=path) == [500, None, 3]
    assert make_family("tokens", {"tokenizer": path}).fingerprint != make_family("tokens", {}).fingerprint
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(FineeduError, match=r"is no tokenizer\.json"):
        count(["a"], tokenizer=str(tmp_path / "bad.json"))
    with pytest.raises(FineeduError, match="no tokenizer at"):
        make_family("tokens", {"tokenizer": "nowhere.json"})


def test_labels_by_id(tmp_path: Path) -> None:
    votes = [
        {"id": "a", "score": 3, "topic": "science", "annotator": "x"},
        {"id": "a", "score": 4, "topic": "health", "annotator": "y"},
        {"id": "b", "score": None, "topic": "sport", "annotator": "x"},
        {"id": "c", "state": "refused", "annotator": "x"},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(json.dumps(vote) for vote in votes))
    found = make_family("labels", {"files": str(path)}).compute(pl.DataFrame({"id": ["c", "b", "zz", "a"]}))
    assert found.rows() == [(None, None, 0), (None, "sport", 1), (None, None, 0), (3.5, "health", 2)]
    with pytest.raises(FineeduError, match="no label file"):
        make_family("labels", {"files": "nowhere.parquet"})
