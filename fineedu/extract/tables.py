"""Tables of texts as input: parquet or JSON lines, as Hugging Face datasets keep them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from fineedu.errors import FineeduError
from fineedu.store import BATCH_ROWS

TABLES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz")
#: Our column to the names that datasets give it, the first one found is taken.
_NAMES = {
    "text": ("text", "content", "raw_content"),
    "id": ("id", "warc_record_id", "doc_id"),
    "url": ("url", "source_url"),
    "date": ("date", "timestamp", "warc_date"),
    "title": ("title",),
}
_CONTROLS = r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"


def is_table(url: str) -> bool:
    """Tell whether an input is a table, by its name."""
    return url.endswith(TABLES)


def read_table(stream: IO[bytes], url: str, limit: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of a table, at most ``BATCH_ROWS`` at a time.

    Args:
        stream: of the file, seekable for parquet.
        url: its name, which tells its kind.
        limit: bytes of a text; a longer one is cut and marked.

    Yields:
        ``id``, ``url``, ``date`` (UTC, null where it cannot be read), ``title``, ``text``, ``truncated``, ``offset``
        (row number). A row without an id has a hash of address, date and text.

    Raises:
        FineeduError: no column of texts, or a damaged file.
    """
    batches = _parquet(stream) if url.endswith(".parquet") else _lines(stream, url)
    row = 0
    try:
        for frame in batches:
            yield _ours(frame, url, row, limit)
            row += frame.height
    except (pa.ArrowException, pl.exceptions.PolarsError, zstandard.ZstdError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FineeduError(f"input {url}: damaged behind row {row:,}: {reason[0]}") from error


def _parquet(stream: IO[bytes]) -> Iterator[pl.DataFrame]:
    file = pq.ParquetFile(stream)
    wanted = {name for names in _NAMES.values() for name in names}
    columns = [name for name in file.schema_arrow.names if name in wanted]
    for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield frame


def _lines(stream: IO[bytes], url: str) -> Iterator[pl.DataFrame]:
    lines: Iterable[bytes] = stream
    if url.endswith(".gz"):
        lines = gzip.GzipFile(fileobj=stream)
    elif url.endswith(".zst"):
        lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(stream))
    rest = iter(lines)
    while batch := list(islice(rest, BATCH_ROWS)):
        rows = [json.loads(line) for line in batch if line.strip()]
        wanted = [name for names in _NAMES.values() for name in names]
        found = {name: [_plain(row.get(name)) for row in rows] for name in wanted if any(name in row for row in rows)}
        yield pl.DataFrame(found, schema=dict.fromkeys(found, pl.String))


def _plain(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _ours(frame: pl.DataFrame, url: str, row: int, limit: int) -> pl.DataFrame:
    found = {ours: next((name for name in names if name in frame.columns), None) for ours, names in _NAMES.items()}
    if found["text"] is None:
        raise FineeduError(f"input {url}: no column of texts ({', '.join(_NAMES['text'])}); it is needed")
    null = pl.lit(None, pl.String)
    columns = [(pl.col(name).cast(pl.String) if name else null).alias(ours) for ours, name in found.items()]
    date = pl.col("date").str.replace(r"Z$|\+00:?00$", "").str.replace("T", " ")
    frame = frame.select(columns).with_columns(
        pl.coalesce(
            date.str.to_datetime(pattern, time_unit="us", strict=False)
            for pattern in ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
        )
        .fill_null(date.str.head(10).str.to_datetime("%Y-%m-%d", time_unit="us", strict=False))
        .dt.replace_time_zone("UTC")
        .alias("date"),
        pl.col("text").str.replace_all(_CONTROLS, ""),
        pl.int_range(row, row + pl.len(), dtype=pl.UInt64).alias("offset"),
    )
    truncated = (pl.col("text").str.len_bytes() > limit).fill_null(False)
    frame = frame.with_columns(
        truncated.alias("truncated"), pl.when(truncated).then(pl.col("text").str.head(limit // 4)).otherwise("text")
    )
    ids = pl.Series("id", [value or _id(*rest) for value, *rest in frame.select("id", "url", "date", "text").rows()])
    return frame.with_columns(ids.cast(pl.String).str.replace(r"^<?(urn:uuid:)?", "").str.replace(">$", ""))


def _id(*parts: object) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = str(part or "").encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
