"""Decisions to the corpus: files of about one size, in the order of the shards, whoever writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
import zstandard

from fineedu.recipe import WriteConfig
from fineedu.select.decide import joined_batches
from fineedu.store import Shard, Store, TableWriter, atomic_open, read_batches

#: column of the corpus that says how often a document counts; told by the selection, and no signal
REPEAT = "repeat"


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file of the corpus: which kept documents of which shards it holds."""

    path: Path
    #: shard, first and last+1 of its kept documents
    parts: tuple[tuple[Shard, int, int], ...]


def plan_corpus(store: Store, run_id: str, shards: Sequence[Shard], config: WriteConfig) -> list[CorpusFile]:
    """Lay out the corpus's files from the decisions, one dump after the other.

    A file is closed by the document that brings its text to ``shard_mb``. Reads 4 bytes a document.
    """
    limit = int(config.shard_mb * 1e6)
    folder = store.corpus(run_id)
    files: list[CorpusFile] = []
    for dump in dict.fromkeys(shard.dump for shard in shards):
        parts: list[list[tuple[Shard, int, int]]] = [[]]
        filled = 0
        for shard in (shard for shard in shards if shard.dump == dump):
            batches = read_batches(store.decisions(run_id, shard), ["keep", "text_bytes"])
            sizes = np.concatenate(
                [np.zeros(0, np.int64), *(b.filter("keep")["text_bytes"].to_numpy() for b in batches)]
            )
            ends = filled + np.cumsum(sizes, dtype=np.int64)
            start = 0
            while start < len(ends):
                stop = min(int(np.searchsorted(ends, limit)) + 1, len(ends))
                parts[-1].append((shard, start, stop))
                filled = int(ends[stop - 1])
                if filled >= limit:
                    parts.append([])
                    ends, filled = ends - filled, 0
                start = stop
        files.extend(
            CorpusFile(folder / f"dump={dump}" / f"{number:05d}.{config.format}", tuple(part))
            for number, part in enumerate(part for part in parts if part)
        )
    return files


def _kept(
    store: Store, run_id: str, file: CorpusFile, owners: Mapping[str, str], columns: Sequence[str]
) -> Iterator[pl.DataFrame]:
    repeat = [REPEAT] if REPEAT in columns else []
    stored = [column for column in columns if column != REPEAT]
    for shard, start, stop in file.parts:
        seen = 0
        decisions = read_batches(store.decisions(run_id, shard), ["keep", *repeat])
        for batch, decision in zip(joined_batches(store, shard, owners, stored), decisions, strict=True):
            chosen = batch.with_columns(decision.select(repeat)).filter(decision["keep"])
            low, high = max(start - seen, 0), min(stop - seen, chosen.height)
            seen += chosen.height
            if low < high:
                yield chosen.slice(low, high - low).select(columns)
            if seen >= stop:
                break


def write_corpus_file(
    store: Store,
    run_id: str,
    file: CorpusFile,
    owners: Mapping[str, str],
    schema: Mapping[str, pl.DataType],
    config: WriteConfig,
) -> None:
    """Write one file of the corpus; a file that is there already is whole, and stays."""
    if file.path.exists():
        return
    batches = _kept(store, run_id, file, owners, config.columns)
    with atomic_open(file.path) as stream:
        if config.format == "parquet":
            known = {**schema, REPEAT: pl.UInt16()}
            writer = TableWriter(stream, {column: known[column] for column in config.columns})
            for batch in batches:
                writer.write(batch)
            writer.close({"run": run_id})
        else:
            _write_jsonl(stream, batches)


def _write_jsonl(stream: IO[bytes], batches: Iterator[pl.DataFrame]) -> None:
    """Write JSON lines, Zstandard 3, dates in ISO 8601."""
    with zstandard.ZstdCompressor(level=3).stream_writer(stream, closefd=False) as compressed:
        for batch in batches:
            compressed.write(batch.write_ndjson().encode())
