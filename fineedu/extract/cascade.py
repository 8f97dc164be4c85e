"""Extraction in two steps: a fast extractor reads every page, the precise one those that may be worth it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
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

    A page is read again where the fast text is missing, or where that text or the long lines of the whole page score
    ``low`` or more and are in a wanted language, or in another that is not sure. The long lines count because the fast
    extractor takes a cookie notice or a dialog for the main text of some pages. Other pages keep the fast text.

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
        self._score: Callable[[pl.Series], npt.NDArray[np.floating]] = lambda texts: load_bundle(folder).score(texts)

    def extract(self, records: Iterable[Record]) -> Iterator[tuple[Record, Extracted, str]]:
        """Yield each record with its answer and the extractor whose answer it is, in order."""
        for group in _groups(records):
            pages = [(record.kind, record.charset, record.body) for record in group]
            fast = list(self._fast.extract(pages))
            scores, told = self.gate(fast)
            again = (scores >= self._config.low) & [record.kind == "html" for record in group]
            precise = self._precise.extract([page for page, needed in zip(pages, again, strict=True) if needed])
            for record, page, needed, language in zip(group, fast, again, told.iter_rows(), strict=True):
                if needed:
                    yield record, next(precise), "trafilatura"
                else:
                    yield record, replace(page, language=language), "resiliparse"

    def gate(self, pages: list[Extracted]) -> tuple[npt.NDArray[np.float64], pl.DataFrame]:
        """Score pages by the fast extractor's answers.

        Args:
            pages: n answers, with ``prose``.

        Returns:
            n scores: the higher one of text and, where it reaches ``low``, long lines; infinite where there is no
            text, minus infinite where neither is in a wanted language. And ``language`` and ``language_score`` of the
            n texts.
        """
        texts = pl.Series("text", [page.text if page.reason is None else None for page in pages], dtype=pl.String)
        told = identify(texts)
        # A page without any text at all is the precise extractor's to judge: it finds some on 64 of 68.
        scores = np.where(texts.is_null().to_numpy(), np.inf, self._wanted_scores(texts, told))
        rows = np.flatnonzero([bool(page.prose) for page in pages])
        prose = pl.Series("prose", [pages[row].prose for row in rows], dtype=pl.String)
        # Scores first, and languages of the few lines whose score matters: a language costs ten times a score.
        high = np.flatnonzero(self._score(prose) >= self._config.low) if len(rows) else rows
        rows, prose = rows[high], prose.gather(high)
        scores[rows] = np.maximum(scores[rows], self._wanted_scores(prose, identify(prose)))
        return scores, told

    def _wanted_scores(self, texts: pl.Series, told: pl.DataFrame) -> npt.NDArray[np.float64]:
        wanted = pl.col("language").is_in(self._config.languages) | (pl.col("language_score") < self._config.sure)
        if not self._config.languages:
            wanted = pl.col("language").is_not_null()
        rows = told.select(wanted.fill_null(False).alias("w"))["w"].to_numpy().nonzero()[0]
        found = np.full(len(texts), -np.inf)
        found[rows] = self._score(texts.gather(rows))
        return found


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
