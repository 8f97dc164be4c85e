"""The one pass over the text: documents become a small table of counts, part by part, and can be resumed.

A row of the table is a cell: period, cluster (registered domain), strata and length. All statistics are queries over
cells, so a new interval, another cut-off or another mix reads megabytes, not the text again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from fineedu.kernels.arrow import text_buffer
from fineedu.phrases.lexicon import ANY, LexiconSet
from fineedu.phrases.matching import Matcher, find_phrases, make_matcher
from fineedu.store import TableWriter, atomic_open, fingerprint, is_made, read_facts
from fineedu.synthetic.frequency import FrequencyTable
from fineedu.synthetic.source import Source, needed_columns, prepare, read_part

VERSION = 2
#: words from which on a document falls into the next bin of length
LENGTHS = (0, 100, 200, 500, 1000, 2000, 5000)
_KEYS = ("period", "cluster", "length")
_CELL: dict[str, pl.DataType] = {
    "documents": pl.UInt32(),
    "words": pl.UInt64(),
    "bytes": pl.UInt64(),
    "flagged": pl.UInt32(),
}
_HIT: dict[str, pl.DataType] = {
    "lexicon": pl.String(),
    "phrase": pl.String(),
    "hits": pl.UInt64(),
    "documents": pl.UInt32(),
}
#: rows that a part may hold in memory before they are summed
_PENDING = 500_000


class CountJob(NamedTuple):
    """What is counted.

    Attributes:
        source: the documents.
        by: name of a stratum: SQL.
        within: the one of them that frequencies are kept apart by.
        lexicons: what is looked for.
        flag: SQL of a detector's flag, if any.
        frequencies: also keep the share of documents that each word is in.
        folder: the tables go there.
    """

    source: Source
    by: dict[str, str]
    within: str | None
    lexicons: LexiconSet
    flag: str | None
    frequencies: bool
    folder: Path

    @property
    def mark(self) -> str:
        """Fingerprint of everything that the counts depend on but the text itself."""
        made = {
            "version": VERSION,
            "input": self.source.config.model_dump(mode="json"),
            "by": self.by,
            "within": self.within,
            "lexicons": [lexicon.model_dump(exclude={"description"}) for lexicon in self.lexicons.lexicons],
            "flag": self.flag,
            "frequencies": self.frequencies,
        }
        return fingerprint(made)

    def path(self, table: str, part: int) -> Path:
        """Return the file of a part: ``table`` is ``cells``, ``hits`` or ``frequency``."""
        return self.folder / "counts" / self.mark / table / f"{part:05d}.parquet"


class Counted(NamedTuple):
    """What a pass counted.

    Attributes:
        cells: lazy table of cells.
        hits: lazy table of hits, one row a cell and phrase; the phrase ``*`` is any of the lexicon.
        frequency: lazy table of words, if asked for.
        left_out: documents that do not count, by reason.
        documents: that count.
        text_bytes: of them.
        pruned: documents that a word of ``frequency`` may have lost.
    """

    cells: pl.LazyFrame
    hits: pl.LazyFrame
    frequency: pl.LazyFrame | None
    left_out: dict[str, int]
    documents: int
    text_bytes: int
    pruned: int


def count(job: CountJob, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> Counted:
    """Count phrases in all documents; parts that are counted already are not read again.

    Args:
        job: what to count.
        workers: threads, each on a part of its own.
        progress: told parts done and parts in all.

    Raises:
        FineeduError: a damaged input, a wrong expression, or a full disk.
    """
    flags = {"detector.flag": job.flag} if job.flag is not None else {}
    needed_columns(job.source, {f"by.{name}": sql for name, sql in job.by.items()} | flags)
    matcher = make_matcher(job.lexicons.spellings)
    parts = range(len(job.source.parts))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, _ in enumerate(pool.map(lambda part: count_part(job, matcher, part), parts)):
            if progress is not None:
                progress(done + 1, len(parts))
    left_out: Counter[str] = Counter()
    documents, size, pruned = 0, 0, 0
    for part in parts:
        facts = read_facts(job.path("cells", part))
        left_out.update(facts["left_out"])
        documents += facts["documents"]
        size += facts["text_bytes"]
        pruned += facts["pruned"]
    tables = {name: pl.scan_parquet([job.path(name, part) for part in parts]) for name in ("cells", "hits")}
    words = pl.scan_parquet([job.path("frequency", part) for part in parts]) if job.frequencies else None
    return Counted(
        **tables, frequency=words, left_out=dict(left_out), documents=documents, text_bytes=size, pruned=pruned
    )


def count_part(job: CountJob, matcher: Matcher, part: int) -> None:
    """Count one part and write its tables, the cells last: they say that the part is done."""
    path = job.path("cells", part)
    if is_made(path, job.mark):
        return
    tables = _Part(job, matcher)
    for batch in read_part(job.source, part, tables.columns):
        tables.add(batch)
    frames = tables.finish()
    facts: dict[str, Any] = {
        "fingerprint": job.mark,
        "input": job.source.parts[part],
        "left_out": dict(tables.left_out),
    }
    facts |= {"documents": tables.documents, "text_bytes": tables.text_bytes, "pruned": tables.words.pruned}
    for name in ("frequency", "hits", "cells"):
        if name in frames:
            _write(job.path(name, part), frames[name], facts)


def _write(path: Path, frame: pl.DataFrame, facts: Mapping[str, Any]) -> None:
    with atomic_open(path) as stream:
        writer = TableWriter(stream, dict(frame.schema))
        writer.write(frame)
        writer.close(facts)


class _Part:
    """Sums of one part, held in memory as cells."""

    def __init__(self, job: CountJob, matcher: Matcher) -> None:
        self.job, self.matcher = job, matcher
        self.by = dict(job.by) | ({"flag": job.flag} if job.flag is not None else {})
        self.columns = needed_columns(job.source, self.by)
        self.keys = [*_KEYS, *job.by]
        self.left_out: Counter[str] = Counter()
        self.documents, self.text_bytes = 0, 0
        self.words = FrequencyTable()
        self._cells: list[pl.DataFrame] = []
        self._hits: list[pl.DataFrame] = []

    def add(self, batch: pl.DataFrame) -> None:
        frame, left_out = prepare(self.job.source, batch, self.by)
        self.left_out.update(left_out)
        if not frame.height:
            return
        buffer = text_buffer(frame["text"])
        found = find_phrases(buffer, self.matcher)
        sizes = np.diff(buffer.offsets)
        flagged = (
            frame["flag"] == "true" if self.job.flag is not None else pl.Series([False]).new_from_index(0, frame.height)
        )
        frame = frame.with_columns(
            pl.Series("length", np.searchsorted(LENGTHS, found.words, side="right") - 1).cast(pl.UInt16),
            pl.Series("words", found.words),
            pl.Series("bytes", sizes),
            flagged.alias("flagged"),
        )
        self.documents += frame.height
        self.text_bytes += int(sizes.sum())
        self._cells.append(
            frame.group_by(self.keys).agg(pl.len().alias("documents"), pl.col("words", "bytes", "flagged").sum())
        )
        self._hits.append(self._hits_of(frame, found.document, found.phrase))
        if self.job.frequencies:
            within = self.job.within
            strata = frame[within] if within is not None else pl.Series([""]).new_from_index(0, frame.height)
            self.words.add(buffer, frame["period"], strata)
        if sum(part.height for part in self._cells) + sum(part.height for part in self._hits) > _PENDING:
            self._cells, self._hits = [self._sum_cells()], [self._sum_hits()]

    def _hits_of(self, frame: pl.DataFrame, document: Any, phrase: Any) -> pl.DataFrame:
        names = pl.DataFrame(
            {
                "number": np.arange(len(self.job.lexicons.phrases), dtype=np.int32),
                "lexicon": pl.Series(self.job.lexicons.names, dtype=pl.String),
                "phrase": pl.Series(self.job.lexicons.phrases, dtype=pl.String),
            }
        )
        each = (
            pl.DataFrame({"row": document, "number": phrase})
            .group_by("row", "number")
            .agg(pl.len().alias("hits"))
            .join(names, on="number")
        )
        together = each.group_by("row", "lexicon").agg(pl.col("hits").sum(), pl.lit(ANY).alias("phrase"))
        columns = ["row", "lexicon", "phrase", "hits"]
        keys = frame.select(self.keys).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"))
        both = pl.concat([each.select(columns), together.select(columns)]).join(keys, on="row")
        return both.group_by([*self.keys, "lexicon", "phrase"]).agg(pl.col("hits").sum(), pl.len().alias("documents"))

    def _schema(self, values: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
        return (
            {"period": pl.String(), "cluster": pl.String()}
            | dict.fromkeys(self.job.by, pl.String())
            | {"length": pl.UInt16()}
            | dict(values)
        )

    def _sum_cells(self) -> pl.DataFrame:
        schema = self._schema(_CELL)
        if not self._cells:
            return pl.DataFrame(schema=schema)
        grouped = pl.concat(self._cells).group_by(self.keys).agg(pl.col(*_CELL).sum())
        return grouped.select(list(schema)).cast(pl.Schema(schema)).sort(self.keys)

    def _sum_hits(self) -> pl.DataFrame:
        schema = self._schema(_HIT)
        if not self._hits:
            return pl.DataFrame(schema=schema)
        keys = [*self.keys, "lexicon", "phrase"]
        grouped = pl.concat(self._hits).group_by(keys).agg(pl.col("hits", "documents").sum())
        return grouped.select(list(schema)).cast(pl.Schema(schema)).sort(keys)

    def finish(self) -> dict[str, pl.DataFrame]:
        """Return the tables, sorted: any order of the same documents gives the same bytes."""
        frames = {"cells": self._sum_cells(), "hits": self._sum_hits()}
        return frames | ({"frequency": self.words.finish()} if self.job.frequencies else {})
