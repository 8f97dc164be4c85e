"""Extraction in two steps: a fast extractor reads every page, the precise one those that may be worth it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl

from fineedu.classify.bundle import bundle_folder, load_bundle
from fineedu.extract.archive import Record
from fineedu.extract.language import identify
from fineedu.extract.sandbox import Extracted, Sandbox
from fineedu.recipe import CascadeConfig

#: Pages held at a time: a call of the scorer costs some 2 ms, and pages wait in memory.
_PAGES, _BYTES = 256, 64_000_000


class ExtractionCascade:
    """Decides by the fast extractor's text which pages the precise one reads.

    A page is read again where the fast text is missing, or scores ``low`` or more and is in a wanted language, or in
    another that is not sure. Other pages keep the fast text.

    Args:
        config: score, languages.
        fast: sandbox of the fast extractor.
        precise: sandbox of the precise one.
    """

    def __init__(self, config: CascadeConfig, fast: Sandbox, precise: Sandbox) -> None:
        self._config = config
        self._fast = fast
        self._precise = precise
        folder = bundle_folder(config.model)
        self._score: Callable[[pl.Series], np.ndarray] = lambda texts: load_bundle(folder).score(texts)

    def extract(self, records: Iterable[Record]) -> Iterator[tuple[Record, Extracted, str]]:
        """Yield each record with its answer and the extractor whose answer it is, in order."""
        for group in _groups(records):
            pages = [(record.kind, record.charset, record.body) for record in group]
            fast = list(self._fast.extract(pages))
            again = self._needed(fast) & np.array([record.kind == "html" for record in group])
            precise = self._precise.extract([page for page, needed in zip(pages, again, strict=True) if needed])
            for record, page, needed in zip(group, fast, again, strict=True):
                yield (record, next(precise), "trafilatura") if needed else (record, page, "resiliparse")

    def _needed(self, pages: list[Extracted]) -> np.ndarray:
        texts = pl.Series("text", [page.text if page.reason is None else None for page in pages], dtype=pl.String)
        told = identify(texts).with_columns(pl.Series("score", self._score(texts), dtype=pl.Float32).fill_nan(None))
        wanted = pl.col("language").is_in(self._config.languages) | (pl.col("language_score") < self._config.sure)
        if not self._config.languages:
            wanted = pl.lit(True)
        needed = told.select(((pl.col("score") >= self._config.low) & wanted).fill_null(True).alias("n"))["n"]
        return (needed | texts.is_null()).to_numpy()


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    group: list[Record] = []
    size = 0
    for record in records:
        group.append(record)
        size += len(record.body)
        if len(group) >= _PAGES or size >= _BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
