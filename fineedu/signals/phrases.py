"""Counts of the phrases of a lexicon: how often each stands in a document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import polars as pl

from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.phrases.lexicon import read_lexicon
from fineedu.phrases.matching import find_phrases, is_ready, make_matcher
from fineedu.signals.base import SignalFamily


def _slug(phrase: str) -> str:
    return re.sub(r"\W+", "_", phrase.replace("'", "")).strip("_")


class PhraseSignals(SignalFamily):
    """How often each phrase of a lexicon, in any of its forms, stands in the text, and the sum.

    What counts as a hit is told by :func:`fineedu.phrases.matching.find_phrases`.

    Args:
        lexicon: name of a file in ``pipelines/lexicons`` (without ``.yaml``), or a path that ends in
            ``.yaml``.

    Raises:
        FineeduError: the lexicon is missing or malformed, or two of its phrases would share a column.
    """

    name: ClassVar[str] = "phrases"
    version: ClassVar[int] = 2

    def __init__(self, lexicon: str = "fineweb-proxy") -> None:
        self.lexicon = read_lexicon(lexicon)
        self._columns = [f"{self.lexicon.prefix}_{_slug(phrase)}" for phrase in self.lexicon.phrases]
        if len({*self._columns}) < len(self._columns):
            twice = next(column for column in self._columns if self._columns.count(column) > 1)
            raise FineeduError(f"lexicon {lexicon}: two phrases share the column {twice}; remove one of them")

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """One UInt32 column per phrase, then the total."""
        return {column: pl.UInt32() for column in (*self._columns, f"{self.lexicon.prefix}_total")}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The family's version, and what the lexicon holds."""
        return {**super().fingerprint, "phrases": list(self.lexicon.phrases), "forms": dict(self.lexicon.forms)}

    @property
    def is_compiled(self) -> bool:
        """Whether the kernel of this version was compiled here before."""
        return is_ready()

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Count the phrases in ``text``; null where the text is null.

        Raises:
            FineeduError: there is no ``text`` column of type String.
        """
        if "text" not in documents.columns:
            raise FineeduError(f"no column 'text' among {documents.columns}: phrases are counted in the text")
        text = documents["text"]
        n = len(self._columns)
        found = find_phrases(text_buffer(text), make_matcher(tuple(self.lexicon.spellings())))
        cells = np.bincount(found.document * n + found.phrase, minlength=len(text) * n)
        counts = cells.reshape(len(text), n).astype(np.uint32)
        values = dict(zip(self.schema, [*counts.T, counts.sum(axis=1, dtype=np.uint32)], strict=True))
        frame = pl.DataFrame(values, schema=dict(self.schema))
        if text.null_count():
            frame = frame.select(pl.when(text.is_not_null()).then(pl.all()))
        return frame
