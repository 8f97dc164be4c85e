"""The measurements behind datatrove's four heuristic filters, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.kernels.compiled import is_compiled
from fineedu.signals.base import SignalFamily
from fineedu.signals.heuristics.c4 import (
    ANY_END,
    CURLY,
    JAVASCRIPT,
    LINES,
    LOREM,
    NO_TERMINAL,
    POLICY,
    SENTENCES,
    TOO_FEW,
    TOO_LONG,
)
from fineedu.signals.heuristics.measure import (
    ALL_PARTS,
    C4,
    CHARACTERS,
    ELLIPSES,
    GOPHER_LINES,
    HASHES,
    NEWLINE_LINES,
    NGRAMS,
    PARAGRAPHS,
    WORD_KINDS,
    WORDS,
    measure_batch,
)
from fineedu.signals.heuristics.tables import tables

Counts = npt.NDArray[np.int64]
#: words that are not all symbols, their characters, words with a letter
_SOLID, _SOLID_CHARACTERS, _WITH_LETTER, _STOP_WORDS = range(WORD_KINDS, WORD_KINDS + 4)
_BREAK_LINES, _BULLETS, _ELLIPSIS_ENDS = range(GOPHER_LINES, GOPHER_LINES + 3)
_NEWLINES, _FULL, _FULL_TERMINAL, _FULL_SHORT, _FULL_REPEATED, _PIECES, _REPEATED, _REPEATED_CHARACTERS = range(
    NEWLINE_LINES, NEWLINE_LINES + 8
)
_PARAGRAPHS, _PARAGRAPHS_REPEATED, _PARAGRAPHS_CHARACTERS = range(PARAGRAPHS, PARAGRAPHS + 3)

_COUNTS = {
    "n_chars": CHARACTERS,
    "n_words": WORDS,
    "n_lines": _BREAK_LINES,
    "gopher_words": _SOLID,
    "gopher_stop_words": _STOP_WORDS,
    "c4_sentences": C4 + SENTENCES,
    "c4_sentences_any_end": C4 + SENTENCES + ANY_END,
    "c4_lines": C4 + LINES,
    "c4_lines_long_word": C4 + TOO_LONG,
    "c4_lines_no_terminal": C4 + NO_TERMINAL,
    "c4_lines_too_few_words": C4 + TOO_FEW,
    "c4_lines_javascript": C4 + JAVASCRIPT,
    "c4_lines_policy": C4 + POLICY,
}
_FLAGS = {
    "c4_lorem_ipsum": C4 + LOREM,
    "c4_lorem_ipsum_any_end": C4 + LOREM + ANY_END,
    "c4_curly_bracket": C4 + CURLY,
    "c4_curly_bracket_any_end": C4 + CURLY + ANY_END,
}
#: numerator and denominator
_RATIOS = {
    "gopher_mean_word_length": (_SOLID_CHARACTERS, _SOLID),
    "gopher_hash_ratio": (HASHES, WORDS),
    "gopher_ellipsis_ratio": (ELLIPSES, WORDS),
    "gopher_bullet_line_ratio": (_BULLETS, _BREAK_LINES),
    "gopher_ellipsis_line_ratio": (_ELLIPSIS_ENDS, _BREAK_LINES),
    "gopher_alpha_word_ratio": (_WITH_LETTER, WORDS),
    "dup_para_frac": (_PARAGRAPHS_REPEATED, _PARAGRAPHS),
    "dup_para_char_frac": (_PARAGRAPHS_CHARACTERS, CHARACTERS),
    "dup_line_frac": (_REPEATED, _PIECES),
    "dup_line_char_frac": (_REPEATED_CHARACTERS, CHARACTERS),
    **{f"top_{n}_gram": (NGRAMS + n - 2, CHARACTERS) for n in range(2, 5)},
    **{f"dup_{n}_gram": (NGRAMS + n - 2, CHARACTERS) for n in range(5, 11)},
    "fineweb_line_punct_ratio": (_FULL_TERMINAL, _FULL),
    "fineweb_short_line_ratio": (_FULL_SHORT, _FULL),
}


class HeuristicSignals(SignalFamily):
    r"""The numbers that datatrove's Gopher, C4 and FineWeb filters compare with their bounds.

    One pass over a batch. Ratios are Float64 and divided as datatrove 0.10 divides them, so a comparison with
    a bound falls the same way; everything that does not depend on word splitting is equal to the last bit.
    Words and sentences follow the rules of spaCy's English tokenizer and sentencizer without using it, for
    every language. All measures are of the ``text`` column as it is: datatrove's C4 filter rewrites the
    text, and a FineWeb filter that runs after it sees fewer lines than ``fineweb_*`` do.

    Columns (``_any_end``: C4 without the rule of the terminal mark, as FineWeb runs it):

    - ``n_chars``, ``n_bytes`` (UTF-8), ``n_words``, ``n_lines`` (``str.splitlines``)
    - ``gopher_*``: quality rules of Gopher; ``gopher_words`` leaves words of symbols out
    - ``dup_*``, ``top_*``: repetition rules of Gopher, fractions of characters or of pieces
    - ``c4_sentences``: sentences in the lines C4 keeps; ``c4_lorem_ipsum``, ``c4_curly_bracket``: whether a
      line that got so far in the rules drops the page; ``c4_lines*``: lines, and lines dropped by each rule
      under the default rules (over all lines, where datatrove stops at a line that drops the page)
    - ``fineweb_*``: FineWeb's own rules

    Null stands for a ratio without a denominator (no words, no lines, an empty text), where datatrove drops
    the document or fails, and for every column of a null text. ``top_n_gram`` of a text with fewer than n
    words is 0: datatrove lets it pass.
    """

    name: ClassVar[str] = "heuristics"
    version: ClassVar[int] = 1

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Column name to Polars type."""
        columns: dict[str, pl.DataType] = {"n_bytes": pl.UInt32()}
        columns |= {name: pl.UInt32() for name in _COUNTS}
        columns |= {name: pl.Boolean() for name in _FLAGS}
        columns |= {name: pl.Float64() for name in _RATIOS}
        return columns | {"fineweb_char_dup_ratio": pl.Float64(), "fineweb_newline_ratio": pl.Float64()}

    @property
    def is_compiled(self) -> bool:
        """Whether the kernel of this version was compiled here before."""
        return is_compiled(measure_batch)

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Measure a batch; see the class for the columns.

        Raises:
            FineeduError: there is no ``text`` column of type String.
        """
        if "text" not in documents.columns:
            raise FineeduError(f"no column 'text' among {documents.columns}: the heuristics need the documents' text")
        text = documents["text"]
        buffer = text_buffer(text)
        counts = measure_batch(buffer.data, buffer.offsets, tables(), ALL_PARTS)
        columns: dict[str, npt.NDArray[Any]] = {"n_bytes": np.diff(buffer.offsets).astype(np.uint32)}
        columns |= {name: counts[:, k].astype(np.uint32) for name, k in _COUNTS.items()}
        columns |= {name: counts[:, k] != 0 for name, k in _FLAGS.items()}
        columns |= {name: _ratio(counts[:, above], counts[:, below]) for name, (above, below) in _RATIOS.items()}
        characters = counts[:, CHARACTERS] - counts[:, _NEWLINES]
        blank = counts[:, _FULL] == 0  # datatrove drops it as empty before it divides
        columns["fineweb_char_dup_ratio"] = _ratio(counts[:, _FULL_REPEATED], np.where(blank, 0, characters))
        columns["fineweb_newline_ratio"] = _ratio(counts[:, _NEWLINES], np.where(blank, 0, counts[:, WORDS]))
        frame = pl.DataFrame(columns, schema=dict(self.schema), nan_to_null=True)
        if text.null_count():
            frame = frame.select(pl.when(text.is_not_null()).then(pl.all()))
        return frame


def _ratio(above: Counts, below: Counts) -> npt.NDArray[np.float64]:
    """Divide as Python divides two integers; NaN where there is nothing to divide by."""
    quotient = np.full(len(above), np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient
