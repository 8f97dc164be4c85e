"""Lines or paragraphs that stand in many documents: cookie banners, menus, notices, as a share of each text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from datatrove.pipeline.base import PipelineStep

from fineedu.dedup.cluster import Part, gather, key_ranges, lay_out
from fineedu.dedup.keys import KeyColumn, write_key_file
from fineedu.dedup.listing import ListKeys, scope_salts
from fineedu.dedup.memory import Memory
from fineedu.dedup.survivors import sections_of
from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.kernels.compiled import inner, kernel
from fineedu.recipe import DedupConfig
from fineedu.store import Shard, Store, TableWriter, atomic_open, fingerprint, is_current, read_batches

FAMILY = "lines"
_VERSION = 1
_BASE = np.uint64(0x9E3779B97F4A7C15)
_OFFSET = np.uint64(0xD1B54A32D192ED03)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_POINT = np.uint32(0x1FFFFF)
_SPACE = np.uint32(1 << 23)
_S32 = np.uint64(32)

SCHEMA: dict[str, pl.DataType] = {"repeated_lines": pl.UInt32(), "repeated_line_share": pl.Float32()}


def lines_made_by(config: DedupConfig, documents: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the signals depend on besides the texts."""
    assert config.lines is not None
    settings = config.lines.model_dump(mode="json")
    return {"code": _VERSION, **settings, "scope": config.scope, "made_from": fingerprint(documents)}


@inner
def _spread(value: Any) -> Any:
    value = (value ^ (value >> _S32)) * _MIX
    return value ^ (value >> _S32)


@inner
def _next_line(data: Any, i: int, end: int, table: Any, paragraphs: bool) -> Any:
    """Read the line at byte ``i``: its key, its characters (lower case, spaces as one), and where the next begins."""
    value = np.uint64(0)
    characters = 0
    waiting = False
    while i < end:
        byte = np.uint32(data[i])
        if byte == 10 and (not paragraphs or i + 1 >= end or data[i + 1] == 10):
            break
        point = byte
        size = 1
        if byte >= 0xF0:
            size = 4
            point = byte & np.uint32(0x07)
        elif byte >= 0xE0:
            size = 3
            point = byte & np.uint32(0x0F)
        elif byte >= 0xC0:
            size = 2
            point = byte & np.uint32(0x1F)
        for k in range(1, size):
            point = point << np.uint32(6) | (data[i + k] & np.uint32(0x3F))
        i += size
        entry = table[point]
        if entry & _SPACE:
            waiting = characters > 0
            continue
        if waiting:
            value = value * _BASE + np.uint64(32) + _OFFSET
            characters += 1
            waiting = False
        value = value * _BASE + np.uint64(entry & _POINT) + _OFFSET
        characters += 1
    return _spread(value), characters, i + 1


@kernel
def line_keys(data: Any, offsets: Any, table: Any, paragraphs: bool, least: int) -> Any:
    """Return the keys of all lines of ``least`` characters or more, once a document, and the documents they are in."""
    size = 1
    for d in range(offsets.shape[0] - 1):
        i = offsets[d]
        while i < offsets[d + 1]:
            size += data[i] == 10
            i += 1
        size += 1
    keys = np.empty(size, np.uint64)
    rows = np.empty(size, np.uint32)
    count = 0
    for d in range(offsets.shape[0] - 1):
        first = count
        i = offsets[d]
        while i < offsets[d + 1]:
            key, characters, i = _next_line(data, i, offsets[d + 1], table, paragraphs)
            if characters >= least:
                keys[count] = key
                count += 1
        own = np.sort(keys[first:count])
        count = first
        for k in range(own.shape[0]):
            if k == 0 or own[k] != own[k - 1]:
                keys[count] = own[k]
                rows[count] = d
                count += 1
    return keys[:count], rows[:count]


@kernel
def repeated(data: Any, offsets: Any, table: Any, paragraphs: bool, least: int, salts: Any, frequent: Any) -> Any:
    """Measure each document's lines against the frequent ones.

    Args:
        data: (n_bytes,) uint8.
        offsets: (m + 1,) int64.
        table: from ``shingles.point_table``.
        paragraphs: paragraphs instead of lines.
        least: shorter lines are never repeated.
        salts: (m,) uint64, what tells scopes apart.
        frequent: (f,) uint64, ascending.

    Returns:
        (m, 3) int64: repeated lines, their characters, and characters of all lines.
    """
    m = offsets.shape[0] - 1
    out = np.zeros((m, 3), np.int64)
    for d in range(m):
        i = offsets[d]
        while i < offsets[d + 1]:
            key, characters, i = _next_line(data, i, offsets[d + 1], table, paragraphs)
            out[d, 2] += characters
            if characters < least:
                continue
            key ^= salts[d]
            at = np.searchsorted(frequent, key)
            if at < frequent.shape[0] and frequent[at] == key:
                out[d, 0] += 1
                out[d, 1] += characters
    return out


@kernel
def often(keys: Any, least: int) -> Any:
    """Return the keys that stand at least so many times in a row of ascending ones, each once."""
    out = np.empty(keys.shape[0] // least, keys.dtype)
    count = 0
    first = 0
    for i in range(1, keys.shape[0] + 1):
        if i < keys.shape[0] and keys[i] == keys[first]:
            continue
        if i - first >= least:
            out[count] = keys[first]
            count += 1
        first = i
    return out[:count].copy()


class ListLines(ListKeys):
    """Writes the keys of every shard's lines, and hands the shard on."""

    name = "lines"
    folder = "lines"

    def write(self, documents: Path, path: Path, shard: Shard, mark: str) -> None:
        """Write the key file of one documents shard."""
        from fineedu.dedup.shingles import point_table

        config = self.config.lines
        assert config is not None
        keys, rows, ids, languages = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)], [], []
        seen = 0
        for batch in read_batches(documents, ["id", "language", "text"]):
            buffer = text_buffer(batch["text"])
            paragraphs = config.unit == "paragraph"
            own, at = line_keys(buffer.data, buffer.offsets, point_table(), paragraphs, config.characters)
            keys.append(own)
            rows.append(at + np.uint32(seen))
            ids.append(batch["id"])
            languages.append(batch["language"])
            seen += batch.height
        whole, places = np.concatenate(keys), np.concatenate(rows)
        order = np.argsort(whole, kind="stable")
        empty = pl.Series([], dtype=pl.String)
        sections = sections_of(*(pl.concat([empty, *part], rechunk=True) for part in (ids, languages)))
        columns = {"line": KeyColumn(whole[order], places[order])}
        write_key_file(path, columns, sections, {"fingerprint": mark, "shard": str(shard), "origin": mark})


def frequent_lines(
    store: Store, shards: Sequence[Shard], config: DedupConfig, memory: Memory
) -> npt.NDArray[np.uint64]:
    """Return the keys of lines that stand in so many documents, ascending.

    Raises:
        FineeduError: memory does not suffice, or a file is damaged.
    """
    assert config.lines is not None
    parts: list[Part] = lay_out([(ListLines.path(store, shard), shard, True) for shard in shards])
    # Half for the keys of a range, half for those found: in theory one in ``documents``, in web text one in 1,000.
    salts = 8 * max((part.rows for part in parts), default=0) if config.scope == "language" else 0
    found = [np.zeros(0, np.uint64)]
    held = 0
    for count, start, stop in key_ranges(parts, "line", memory, memory.budget // 2 + salts):
        keys, rows = gather(parts, "line", start, stop, count, config.scope)
        del rows
        keys.sort()
        found.append(often(keys, config.lines.documents))
        held += found[-1].nbytes
        memory.need(2 * held + salts + 32 * count, "the lines that stand in many documents")
        del keys
    whole = np.concatenate(found)
    whole.sort()
    return whole


class MeasureLines(PipelineStep):  # type: ignore[misc]
    """Writes the signals ``repeated_*`` of every shard that comes in, and hands the shard on."""

    name = "repeated lines"
    type = "fineedu"

    def __init__(self, store: Store, config: DedupConfig, frequent: Path, mark: str) -> None:
        super().__init__()
        self.store = store
        self.config = config
        self.frequent = frequent
        self.mark = mark

    def run(self, data: Iterable[Shard], rank: int = 0, world_size: int = 1) -> Iterator[Shard]:
        """Yield each shard that comes in, once its signals are there."""
        frequent = np.load(self.frequent, mmap_mode="r")
        for shard in data:
            path = self.store.signals(FAMILY, shard)
            if not is_current(path, self.mark):
                with atomic_open(path) as stream:
                    writer = TableWriter(stream, {"id": pl.String(), **SCHEMA})
                    for batch in read_batches(self.store.documents(shard), ["id", "dump", "language", "text"]):
                        writer.write(measure_lines(batch, self.config, shard, np.asarray(frequent)))
                    writer.close({"fingerprint": self.mark})
            yield shard


def measure_lines(
    batch: pl.DataFrame, config: DedupConfig, shard: Shard, frequent: npt.NDArray[np.uint64]
) -> pl.DataFrame:
    """Return ``id`` and the signals of a batch; a text without a line has the share null."""
    from fineedu.dedup.shingles import point_table

    assert config.lines is not None
    salts = scope_salts(batch, config.scope, shard)
    texts = text_buffer(batch["text"])
    paragraphs = config.lines.unit == "paragraph"
    found = repeated(texts.data, texts.offsets, point_table(), paragraphs, config.lines.characters, salts, frequent)
    whole = found[:, 2]
    share = np.where(whole > 0, found[:, 1] / np.maximum(whole, 1), np.nan)
    return pl.DataFrame(
        {
            "id": batch["id"],
            "repeated_lines": found[:, 0].astype(np.uint32),
            "repeated_line_share": pl.Series(share, dtype=pl.Float32).fill_nan(None),
        }
    )


def line_report(store: Store, shards: Sequence[Shard], frequent: Path) -> dict[str, Any]:
    """Sum up the signals ``repeated_line*`` of a store.

    Args:
        store: the store.
        shards: its shards.
        frequent: the file of lines that stand in many documents.

    Returns:
        JSON-ready: how many such lines there are; documents, those with one, and those made up of them by half or
        more; bytes of text, and about how many stand in such lines (each text's share in characters, of its bytes).
    """
    found = {"lines": len(np.load(frequent, mmap_mode="r")), "documents": 0, "touched": 0, "mostly": 0, "bytes": 0}
    repeated_bytes = 0.0
    for shard in shards:
        pairs = zip(
            read_batches(store.documents(shard), ["text_bytes"]),
            read_batches(store.signals(FAMILY, shard), list(SCHEMA)),
            strict=True,
        )
        for documents, signals in pairs:
            share = signals["repeated_line_share"].fill_null(0).cast(pl.Float64)
            found["documents"] += signals.height
            found["touched"] += int((signals["repeated_lines"] > 0).sum())
            found["mostly"] += int((share >= 0.5).sum())
            found["bytes"] += int(documents["text_bytes"].cast(pl.Int64).sum())
            repeated_bytes += float((share * documents["text_bytes"]).sum())
    return {**found, "repeated_bytes": round(repeated_bytes)}


def check_lines(config: DedupConfig) -> None:
    """Refuse what the signals cannot be told by.

    Raises:
        FineeduError: a shared index holds no lines.
    """
    if config.lines is not None and config.index is not None:
        raise FineeduError("dedup.lines counts the store's own documents: leave out dedup.index, or dedup.lines")
