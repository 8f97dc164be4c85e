"""Any phrase later: a suffix array a period, so that a new phrase is counted in milliseconds without a new pass.

Why pydivsufsort: it is a wheel of some 3 MB that needs NumPy only, sorts 16 MB of text a second on one core, and
leaves plain arrays, which are mapped into memory and give the places of hits, so that documents and domains can be
counted too. tokengrams needs transformers and datasets, takes 12 bytes a token and counts without places;
infini-gram indexes the tokens of a language model, so a word is found only as that tokenizer cuts it, and keeps its own
file format; FM-indexes (fm-index) live in memory. Only suffixes at the beginnings of words are kept, a fifth of all:
an index takes some 1.8 bytes a byte of text. Its counts equal those of :mod:`fineedu.phrases.matching`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.phrases.lexicon import plain_phrase
from fineedu.phrases.matching import word_starts
from fineedu.phrases.scripts import cases, is_bounded
from fineedu.store import atomic_open, fingerprint, read_json, write_json
from fineedu.synthetic.rates import rate_table
from fineedu.synthetic.source import Source, needed_columns, prepare, read_part

VERSION = 2
#: bytes of text in one suffix array; sorting takes five times that in memory
SEGMENT = 128_000_000
#: of a curly apostrophe, a straight one; of white space, one space
_CURLY = "’"


class PhraseCount(NamedTuple):
    """Where a phrase stands, by period and domain.

    Attributes:
        phrase: as it was looked for.
        cells: ``period``, ``cluster``, ``words``, ``documents``, ``hits``, ``hit_documents``.
    """

    phrase: str
    cells: pl.DataFrame

    def table(self) -> pl.DataFrame:
        """Return the rate by period, with intervals over domains."""
        hits = self.cells.select("period", "cluster", "hits", pl.col("hit_documents").alias("documents"))
        return rate_table(self.cells, hits, ["period"])


class _Segment(NamedTuple):
    text: npt.NDArray[np.uint8]
    suffixes: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.int32]


def fold(texts: pl.Series) -> pl.Series:
    """Return texts as they are indexed: ASCII in lower case, straight apostrophes, single spaces."""
    # Polars lower-cases all of Unicode; hits are defined by ASCII, so a marked capital must stay as it is.
    folded = texts.str.replace_all(_CURLY, "'", literal=True).str.replace_all(r"[\t\n\x0b\x0c\r ]+", " ")
    return folded


def build(
    source: Source, folder: Path, *, segment: int = SEGMENT, progress: Callable[[str], None] | None = None
) -> int:
    """Write an index of all documents, one folder a period.

    Args:
        source: the documents.
        folder: where it goes; an index of the same documents that is there is left as it is.
        segment: bytes of text in one suffix array.
        progress: told each segment.

    Returns:
        Bytes of text.

    Raises:
        FineeduError: another index is there, pydivsufsort is missing, or the disk is full.
    """
    _divsufsort()
    made = {"version": VERSION, "input": source.config.model_dump(mode="json"), "parts": list(source.parts)}
    head = folder / "index.json"
    if head.exists():
        if read_json(head)["fingerprint"] != fingerprint(made):
            raise FineeduError(f"{folder} holds an index of other documents: take another folder, or delete it")
        return int(read_json(head)["text_bytes"])
    shutil.rmtree(folder / "periods", ignore_errors=True)
    writer = _Writer(folder, segment, progress)
    columns = needed_columns(source, {})
    for part in range(len(source.parts)):
        for batch in read_part(source, part, columns):
            frame, _ = prepare(source, batch, {})
            for (period,), documents in frame.group_by("period", maintain_order=True):
                writer.add(str(period), documents)
    size = writer.finish()
    periods = {name: len(cells) for name, cells in writer.segments.items()}
    write_json(head, {"fingerprint": fingerprint(made), "made_by": made, "text_bytes": size, "segments": periods})
    return size


class _Writer:
    """Collects documents of each period until they fill a segment; all periods together hold one segment's memory."""

    def __init__(self, folder: Path, segment: int, progress: Callable[[str], None] | None) -> None:
        self.folder, self.segment, self.progress = folder, segment, progress
        self.segments: dict[str, list[int]] = {}
        self._held: dict[str, list[pl.DataFrame]] = {}
        self._sizes: dict[str, int] = {}
        self._total = 0

    def add(self, period: str, documents: pl.DataFrame) -> None:
        self._held.setdefault(period, []).append(documents.select("cluster", fold(documents["text"])))
        self._sizes[period] = self._sizes.get(period, 0) + int(documents["text"].str.len_bytes().sum())
        while sum(self._sizes.values()) >= self.segment:
            self._flush(max(self._sizes, key=lambda name: self._sizes[name]))

    def _flush(self, period: str) -> None:
        documents = pl.concat(self._held.pop(period))
        self._total += self._sizes.pop(period)
        number = len(self.segments.setdefault(period, []))
        self.segments[period].append(documents.height)
        if self.progress is not None:
            self.progress(f"{period}, segment {number + 1}")
        _write_segment(self.folder / "periods" / period / f"{number:04d}", documents)

    def finish(self) -> int:
        for period in sorted(self._held):
            self._flush(period)
        return self._total


def _divsufsort() -> Any:
    try:
        from pydivsufsort import divsufsort
    except ImportError as error:
        raise FineeduError("a phrase index needs pydivsufsort: pip install 'fineedu[synthetic]'") from error
    return divsufsort


def _write_segment(folder: Path, documents: pl.DataFrame) -> None:
    buffer = text_buffer(documents["text"])
    if len(buffer.data) >= 2**31:
        raise FineeduError("one document is longer than 2 GB: it cannot be indexed")
    # A zero between documents: no phrase holds one, so none runs from one document into the next.
    starts = buffer.offsets[:-1] - buffer.offsets[0] + np.arange(documents.height)
    text = np.zeros(len(buffer.data) + documents.height, np.uint8)
    places = np.arange(len(buffer.data)) + np.repeat(np.arange(documents.height), np.diff(buffer.offsets))
    text[places] = buffer.data[buffer.offsets[0] : buffer.offsets[-1]]
    capital = (text >= 65) & (text <= 90)
    text[capital] |= 32
    suffixes = _divsufsort()(text)
    begins = word_starts(text)
    names = documents["cluster"].unique().sort()
    clusters = documents["cluster"].replace_strict(names, np.arange(names.len()), return_dtype=pl.Int32)
    cells = documents.select("cluster", words=pl.col("text").str.strip_chars().str.count_matches(r"[^ ]+"))
    sums = cells.group_by("cluster").agg(pl.col("words").sum(), pl.len().alias("documents")).sort("cluster")
    arrays = {
        "text": text,
        "suffixes": suffixes[begins[suffixes]].astype(np.uint32),
        "starts": starts.astype(np.int64),
        "clusters": clusters.to_numpy(),
    }
    for name, array in arrays.items():
        with atomic_open(folder / f"{name}.npy") as stream:
            np.save(stream, array)
    with atomic_open(folder / "cells.parquet") as stream:
        sums.write_parquet(stream)


def _bound(segment: _Segment, phrase: bytes, after: bool) -> int:
    """Return how many suffixes sort before the phrase, or before everything that goes on after it."""
    low, high = 0, len(segment.suffixes)
    while low < high:
        middle = (low + high) // 2
        at = int(segment.suffixes[middle])
        found = segment.text[at : at + len(phrase)].tobytes()
        if found < phrase or (after and found == phrase):
            low = middle + 1
        else:
            high = middle
    return low


def _is_letter(text: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], before: bool) -> npt.NDArray[np.bool_]:
    """Tell whether the character at each place, or the one that ends there, is a letter, digit or underscore."""
    at = np.minimum(at, len(text) - 1)
    byte = text[at]
    letter = ((byte | 32) >= 97) & ((byte | 32) <= 122) | (byte >= 48) & (byte <= 57) | (byte == 95)
    for k in np.flatnonzero(byte >= 128):
        first = int(at[k])
        while before and first > 0 and text[first] & 0xC0 == 0x80:
            first -= 1
        character = text[first : first + 4].tobytes().decode("utf-8", "ignore")[:1]
        letter[k] = bool(character) and character.isalnum()
    return np.asarray(letter)


def _find(segment: _Segment, phrase: str) -> npt.NDArray[np.int64]:
    """Return the document of every hit."""
    coded = phrase.encode()
    low, high = _bound(segment, coded, False), _bound(segment, coded, True)
    at = np.array(segment.suffixes[low:high], np.int64)
    keep = np.ones(len(at), np.bool_)
    inside = np.flatnonzero(at > 0)
    if is_bounded(phrase[0]):
        keep[inside] &= ~_is_letter(segment.text, at[inside] - 1, True)
    if is_bounded(phrase[-1]):
        keep &= ~_is_letter(segment.text, at + len(coded), False)
    return np.searchsorted(segment.starts, at[keep], side="right") - 1


class PhraseIndex:
    """An index on disk, mapped into memory.

    Args:
        folder: that :func:`build` wrote.

    Raises:
        FineeduError: there is none, or it is not whole.
    """

    def __init__(self, folder: Path) -> None:
        head = folder / "index.json"
        if not head.is_file():
            raise FineeduError(f"no phrase index at {folder}: write one with fineedu synthetic index")
        found = read_json(head)
        self.text_bytes = int(found["text_bytes"])
        self._segments: list[tuple[str, _Segment, pl.DataFrame]] = []
        try:
            for period, documents in sorted(found["segments"].items()):
                for number in range(documents):
                    part = folder / "periods" / period / f"{number:04d}"
                    arrays = [np.load(part / f"{name}.npy", mmap_mode="r") for name in _Segment._fields]
                    cells = pl.read_parquet(part / "cells.parquet")
                    self._segments.append((period, _Segment(*arrays), cells))
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise FineeduError(f"{folder} is damaged ({error}): delete it and write it anew") from error

    def count(self, phrase: str) -> PhraseCount:
        """Count a phrase by period and domain.

        Raises:
            FineeduError: it does not begin with a letter or digit.
        """
        try:
            plain = plain_phrase(phrase)
        except ValueError as error:
            raise FineeduError(str(error)) from error
        frames = []
        for period, segment, cells in self._segments:
            documents = np.concatenate([_find(segment, form) for form in cases(plain)])
            n = cells.height
            hits = np.bincount(segment.clusters[documents], minlength=n)
            within = np.bincount(segment.clusters[np.unique(documents)], minlength=n)
            frames.append(
                cells.with_columns(
                    pl.lit(period).alias("period"), hits=pl.Series(hits), hit_documents=pl.Series(within)
                )
            )
        joined = pl.concat(frames)
        summed = joined.group_by("period", "cluster").agg(pl.col("words", "documents", "hits", "hit_documents").sum())
        return PhraseCount(plain, summed.sort("period", "cluster"))
