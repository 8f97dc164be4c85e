"""The documents to annotate, in numbered batches: from a store, parquet files or JSON lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from fineedu.errors import FineeduError

#: Documents of a batch: what is in memory, and what a task takes at a time.
BATCH = 512
_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")


def find_files(inputs: Sequence[Path]) -> list[Path]:
    """Return the files of stores, folders and file names, in order.

    Args:
        inputs: each a store of ``fineedu run``, a folder of files, or a file.

    Raises:
        FineeduError: one is missing, or holds nothing that can be read.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_file():
            found.append(path)
            continue
        folder = path / "documents" if (path / "documents").is_dir() else path
        files = [file for file in sorted(folder.rglob("*")) if file.name.endswith(_SUFFIXES) and file.is_file()]
        if not files:
            raise FineeduError(f"no documents at {path}: expected a store, or {', '.join(_SUFFIXES)} files")
        found += files
    if not found:
        raise FineeduError("no documents to annotate: give --input")
    return found


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw:
        stream: IO[bytes] = raw
        if path.suffix == ".gz":
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw))
        elif path.suffix == ".zst":
            stream = cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        with closing(stream):
            rest = b""
            while block := stream.read(1 << 20):
                *whole, rest = (rest + block).split(b"\n")
                yield from whole
            if rest.strip():
                yield rest


def _json_rows(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield str(row["id"]), str(row["text"] or "")
        except (ValueError, KeyError, TypeError) as error:
            raise FineeduError(f"{path}:{number}: expected a JSON object with id and text") from error


def _batches_of(path: Path) -> Iterator[pl.DataFrame]:
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                missing = {"id", "text"} - set(file.schema_arrow.names)
                if missing:
                    raise FineeduError(f"{path} has no column {sorted(missing)[0]!r}: documents need id and text")
                for batch in file.iter_batches(BATCH, columns=["id", "text"], use_threads=False):
                    frame = cast(pl.DataFrame, pl.from_arrow(batch))
                    yield frame.select(pl.col("id").cast(pl.String), pl.col("text").cast(pl.String).fill_null(""))
            return
        rows: list[tuple[str, str]] = []
        for row in _json_rows(path):
            rows.append(row)
            if len(rows) == BATCH:
                yield pl.DataFrame(rows, schema=["id", "text"], orient="row")
                rows = []
        if rows:
            yield pl.DataFrame(rows, schema=["id", "text"], orient="row")
    except (OSError, EOFError, zstandard.ZstdError, pa.ArrowException) as error:
        raise FineeduError(f"cannot read the documents {path}: {error}") from error


def count_documents(files: Sequence[Path], limit: int | None = None) -> int:
    """Count documents: a parquet file by its footer, JSON lines by their lines.

    Raises:
        FineeduError: a file cannot be read.
    """
    total = 0
    for path in files:
        try:
            if path.suffix == ".parquet":
                total += pq.read_metadata(path).num_rows
            else:
                total += sum(1 for line in _lines(path) if line.strip())
        except (OSError, EOFError, zstandard.ZstdError, pa.ArrowException) as error:
            raise FineeduError(f"cannot read the documents {path}: {error}") from error
    return total if limit is None else min(total, limit)


def read_documents(
    files: Sequence[Path], rank: int = 0, world_size: int = 1, limit: int | None = None
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield batches of ``id`` and ``text`` with their numbers.

    Args:
        files: from :func:`find_files`.
        rank: which share of the batches, of
        world_size: so many shares.
        limit: only so many documents, counted over all shares.

    Raises:
        FineeduError: a file is damaged, or has no ids or texts.
    """
    number, seen = 0, 0
    for path in files:
        for batch in _batches_of(path):
            if limit is not None and seen + batch.height > limit:
                batch = batch.head(limit - seen)
            seen += batch.height
            if batch.height and number % world_size == rank:
                yield number, batch
            number += 1
            if limit is not None and seen >= limit:
                return
