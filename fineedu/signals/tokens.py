"""How many tokens a document has, so that percentiles, budgets and shares can be of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from fineedu.errors import FineeduError
from fineedu.signals.base import SignalFamily
from fineedu.store import hash_file

#: GPT-2's pre-tokenisation without its look-ahead, which moves a space from one token to the next and changes the
#: count only where several spaces stand together.
_PIECES = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"


@cache
def _tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_file(path)
    except Exception as error:  # the library raises a bare Exception
        raise FineeduError(f"tokens: {path} is no tokenizer.json: {error}") from error
    found.no_truncation()
    found.no_padding()
    return found


class TokenSignals(SignalFamily):
    """``n_tokens``: tokens of the text by a tokenizer, or by GPT-2's first step where none is given.

    Without a tokenizer the count is of the pieces that GPT-2's tokenizer cuts a text into before it merges bytes:
    words with their space, numbers, runs of signs, runs of white space. It is never more than GPT-2's tokens but for
    rare runs of spaces. On 2,604 real pages it is 5 % below an English WordPiece tokenizer's count in English, and a
    third below over all languages (much German); 133 MB/s of CPU time against 2.7 with that tokenizer.

    Args:
        tokenizer: path of a ``tokenizer.json`` of the ``tokenizers`` library; special tokens are not counted.
    """

    name: ClassVar[str] = "tokens"

    def __init__(self, tokenizer: str | None = None) -> None:
        self._path = tokenizer
        if tokenizer is not None and not Path(tokenizer).is_file():
            raise FineeduError(f"tokens: no tokenizer at {tokenizer}")

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the column; null where there is no text."""
        return {"n_tokens": pl.UInt32()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the counts depend on."""
        rule = {"rule": "gpt2-pieces"} if self._path is None else {"tokenizer_sha256": hash_file(Path(self._path))}
        return super().fingerprint | rule

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Count a batch."""
        texts = documents["text"]
        if self._path is None:
            return pl.DataFrame({"n_tokens": texts.str.count_matches(_PIECES)})
        encoded = _tokenizer(self._path).encode_batch_fast(texts.fill_null("").to_list(), add_special_tokens=False)
        counts = pl.Series("n_tokens", [len(found.ids) for found in encoded], dtype=pl.UInt32)
        return counts.set(texts.is_null(), None).to_frame()
