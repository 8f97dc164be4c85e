"""Exact substrings: runs of bytes that stand in the corpus more than once, as a share of each text.

After Lee et al., Deduplicating Training Data Makes Language Models Better (2022): every run of ``bytes`` bytes or more
that occurs twice, byte for byte, in one text or in two. They hold one suffix array over the corpus; here only the
surroundings of anchors (see ``substring_kernels``) that occur twice are cut out, in as many portions as memory asks
for, and each portion gets a suffix array of its own. Equal windows share an anchor, and an anchor's surroundings all
go to one portion, so the outcome is the same, and does not depend on the portions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.dedup.cluster import Part, key_ranges, lay_out
from fineedu.dedup.keys import KeyColumn, KeyFile, write_key_file
from fineedu.dedup.listing import ListKeys, scope_salts
from fineedu.dedup.memory import Memory
from fineedu.dedup.texts import decoding_bytes, text_pieces
from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.recipe import DedupConfig
from fineedu.store import Shard, Store, TableWriter, atomic_open, fingerprint, is_current, read_batches

FAMILY = "substrings"
_VERSION = 1
SCHEMA: dict[str, pl.DataType] = {
    "repeated_bytes": pl.UInt32(),
    "repeated_byte_share": pl.Float32(),
    "later_copy_bytes": pl.UInt32(),
}
_SPANS: dict[str, pl.DataType] = {"id": pl.String(), "start": pl.UInt32(), "stop": pl.UInt32(), "later": pl.Boolean()}
_HIT = np.dtype([("at", "<u4"), ("fold", "u1")])
_CONTEXT = np.dtype([("part", "<u4"), ("start", "<u4"), ("length", "<u4"), ("salt", "<u8")])
_SPAN = np.dtype([("start", "<u4"), ("stop", "<u4"), ("later", "u1")])
#: memory of a byte of context while it is searched: itself twice, 4 of suffix array, 4 of inverse, three marks;
#: and of a context with its run
_BYTE_COST, _CONTEXT_COST = 13, 128
_MOST_PORTIONS = 256


def substrings_made_by(config: DedupConfig, documents: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the signals depend on besides the texts."""
    assert config.substrings is not None
    settings = config.substrings.model_dump(mode="json")
    return {"code": _VERSION, **settings, "scope": config.scope, "made_from": fingerprint(documents)}


def check_substrings(config: DedupConfig) -> None:
    """Refuse what cannot be told.

    Raises:
        FineeduError: a shared index holds no texts; or the library is missing.
    """
    if config.substrings is None:
        return
    if config.index is not None:
        raise FineeduError("dedup.substrings looks at the store's own texts: leave out dedup.index, or it")
    try:
        import pydivsufsort  # noqa: F401
    except ImportError as error:
        raise FineeduError("dedup.substrings needs pydivsufsort: pip install 'fineedu[substrings]'") from error


def spans_path(store: Store, shard: Shard) -> Path:
    """Return where the runs of a shard's texts lie that stand in the corpus more than once."""
    return store.root / "dedup" / "spans" / shard.path.with_suffix(".parquet")


def _gram(length: int) -> int:
    return max(length // 2, 1)


class ListAnchors(ListKeys):
    """Writes the anchors of every shard's texts, and hands the shard on."""

    name = "anchors"
    folder = "substrings"

    def write(self, documents: Path, path: Path, shard: Shard, mark: str) -> None:
        """Write the key file of one documents shard."""
        from fineedu.dedup.substring_kernels import anchors

        assert self.config.substrings is not None
        length = self.config.substrings.bytes
        keys, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
        ends, salted = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        seen = 0
        for batch in read_batches(documents, ["language", "text"]):
            buffer, salts = text_buffer(batch["text"]), scope_salts(batch, self.config.scope, shard)
            offsets = buffer.offsets - buffer.offsets[0]
            data = buffer.data[buffer.offsets[0] : buffer.offsets[-1]]
            own, at = anchors(data, offsets, length, _gram(length), salts)
            if seen + int(offsets[-1]) >= 1 << 32:
                raise FineeduError(f"{documents} holds 4 GiB of text or more: dedup.substrings counts no further")
            keys.append(own)
            places.append((at + seen).astype(np.uint32))
            ends.append((offsets[1:] + seen).astype(np.uint64))
            salted.append(salts)
            seen += int(offsets[-1])
        whole, at = np.concatenate(keys), np.concatenate(places)
        order = np.argsort(whole, kind="stable")
        salt = np.concatenate(salted)
        # The salts stand where other key files have a hash of the id: it is what counts a key file's rows.
        rows = {"id_hash": salt, "ends": np.concatenate(ends)}
        facts = {"fingerprint": mark, "shard": str(shard), "origin": mark}
        write_key_file(path, {"anchor": KeyColumn(whole[order], at[order])}, rows, facts)


def find_substrings(
    store: Store, shards: Sequence[Shard], config: DedupConfig, made_by: Mapping[str, Any], memory: Memory
) -> None:
    """Write the signals ``repeated_*`` and the runs behind them; the anchors must be listed.

    Args:
        store: the store, locked by the caller.
        shards: its documents shards.
        config: the settings.
        made_by: from :func:`substrings_made_by`.
        memory: the limit.

    Raises:
        FineeduError: a file is damaged, the disk is full, or memory does not suffice.
    """
    assert config.substrings is not None
    parts = lay_out([(ListAnchors.path(store, shard), shard, True) for shard in shards])
    mark = fingerprint([dict(made_by), [[str(p.shard), KeyFile(p.path).facts["origin"]] for p in parts]])
    if all(
        is_current(path, mark) for shard in shards for path in (store.signals(FAMILY, shard), spans_path(store, shard))
    ):
        return
    for part in parts:
        KeyFile(part.path).check()
    work = store.root / "dedup" / "work"
    rmtree(work, ignore_errors=True)  # what a killed run has left
    try:
        work.mkdir(parents=True)
        with TemporaryDirectory(prefix="contexts-", dir=work) as folder:
            search = _Search(store, parts, config.substrings.bytes, memory, Path(folder))
            search.run()
            for number, part in enumerate(parts):
                _write(store, part, search.spans(number), mark)
    except OSError as error:
        raise FineeduError(
            f"cannot write contexts to {work}: {error.strerror or error}. Mend that and run the same command again"
        ) from error


class _Search:
    """One search, through files in a folder."""

    def __init__(self, store: Store, parts: Sequence[Part], length: int, memory: Memory, folder: Path) -> None:
        self.store = store
        self.parts = parts
        self.length = length
        self.memory = memory
        self.folder = folder

    def run(self) -> None:
        """Find the runs of every part."""
        hits = self._list_hits()
        longest = 2 * self.length - _gram(self.length)
        texts = decoding_bytes(self.store.documents(part.shard) for part in self.parts)
        self.memory.need(texts, "the texts of a row group")
        cost = hits * (longest * _BYTE_COST + _CONTEXT_COST)
        room = max(self.memory.budget // 2, 1)
        # Surroundings that overlap are one in a single portion: no more than all texts.
        whole = sum(int(KeyFile(part.path).section("row/ends")[-1]) if part.rows else 0 for part in self.parts)
        portions = 1 if (whole + hits) * _BYTE_COST + hits * _CONTEXT_COST < room else -(-cost // room)
        if portions > _MOST_PORTIONS:
            self.memory.need(2 * cost // _MOST_PORTIONS, f"{hits:,} surroundings of repeated text")
        for number, part in enumerate(self.parts):
            self._cut(number, part, int(portions))
        for portion in range(portions):
            self._search(portion)

    def _list_hits(self) -> int:
        """Write the places of anchors that occur twice, part by part; returns how many."""
        from fineedu.dedup.substring_kernels import mark_repeated

        total = 0
        for count, start, stop in key_ranges(self.parts, "anchor", self.memory, 0):
            keys, bounds = np.empty(count, np.uint64), [0]
            for part in self.parts:
                low, high = self._slice(part, start, stop)
                keys[bounds[-1] : bounds[-1] + high - low] = KeyFile(part.path).section("keys/anchor", low, high)
                bounds.append(bounds[-1] + high - low)
            twice = mark_repeated(keys, np.argsort(keys))
            for number, part in enumerate(self.parts):
                chosen = twice[bounds[number] : bounds[number + 1]]
                if chosen.any():
                    low, high = self._slice(part, start, stop)
                    found = np.empty(int(chosen.sum()), _HIT)
                    found["at"] = KeyFile(part.path).section("rows/anchor", low, high)[chosen]
                    found["fold"] = keys[bounds[number] : bounds[number + 1]][chosen] >> np.uint64(20) & np.uint64(255)
                    _append(self.folder / f"hits-{number}", found)
                    total += len(found)
        return total

    @staticmethod
    def _slice(part: Part, start: int, stop: int) -> tuple[int, int]:
        starts = KeyFile(part.path).section("starts/anchor")
        return int(starts[start]), int(starts[stop])

    def _cut(self, number: int, part: Part, portions: int) -> None:
        """Cut the surroundings of a part's hits out of its texts, each into the portion of its anchor."""
        hits = _read(self.folder / f"hits-{number}", _HIT)
        if not len(hits):
            return
        hits = hits[np.argsort(hits["at"], kind="stable")]
        file = KeyFile(part.path)
        ends, salts = file.section("row/ends").astype(np.int64), file.section("row/id_hash")
        base = 0
        for row, raw, bounds in text_pieces(self.store.documents(part.shard)):
            size, stop = int(bounds[-1] - bounds[0]), row + len(bounds) - 1
            if stop > part.rows or base + size != ends[stop - 1]:
                raise FineeduError(f"{part.path} does not belong to {self.store.documents(part.shard)}: delete it")
            low, high = np.searchsorted(hits["at"], [base, base + size])
            data = raw[bounds[0] :]
            for portion in range(portions):
                own = hits[low:high]
                own = own[own["fold"] % portions == portion]
                if len(own):
                    self._cut_portion(number, own["at"].astype(np.int64), data, base, ends, salts, portion)
            base += size

    def _cut_portion(
        self, number: int, at: npt.NDArray[np.int64], data: Any, base: int, ends: Any, salts: Any, portion: int
    ) -> None:
        from fineedu.dedup.substring_kernels import cut, merge_overlapping

        document = np.searchsorted(ends, at, side="right")
        first = np.where(document > 0, ends[np.maximum(document - 1, 0)], 0)
        starts, stops = merge_overlapping(
            np.maximum(at - (self.length - _gram(self.length)), first), np.minimum(at + self.length, ends[document])
        )
        found = np.empty(len(starts), _CONTEXT)
        found["part"], found["start"], found["length"] = number, starts, stops - starts
        found["salt"] = salts[np.searchsorted(ends, starts, side="right")]
        _append(self.folder / f"contexts-{portion}", found)
        _append(self.folder / f"bytes-{portion}", cut(data, starts - base, stops - starts))

    def _search(self, portion: int) -> None:
        """Build the suffix array of a portion, scope by scope, and write the runs it finds."""
        path = self.folder / f"bytes-{portion}"
        contexts = _read(self.folder / f"contexts-{portion}", _CONTEXT)
        if not len(contexts):
            return
        size = path.stat().st_size
        self.memory.need(size * _BYTE_COST + len(contexts) * _CONTEXT_COST, f"{size:,} bytes around one repeated text")
        data = _read(path, np.dtype(np.uint8))
        path.unlink()
        lengths = contexts["length"].astype(np.int64) + 1
        scopes = np.unique(contexts["salt"])
        for salt in scopes:
            if len(scopes) == 1:
                self._search_scope(data, contexts)
            else:
                chosen = contexts["salt"] == salt
                self._search_scope(data[np.repeat(chosen, lengths)], contexts[chosen])

    def _search_scope(self, data: npt.NDArray[np.uint8], contexts: npt.NDArray[Any]) -> None:
        from pydivsufsort import divsufsort

        from fineedu.dedup.substring_kernels import repeated_windows, spans_of

        marks = repeated_windows(data, divsufsort(data), self.length)
        lengths = contexts["length"].astype(np.int64) + 1
        first = np.cumsum(lengths) - lengths
        for later in (0, 1):
            starts, stops = spans_of(marks, self.length, 1 + later)
            within = np.searchsorted(first, starts, side="right") - 1
            shift = contexts["start"][within].astype(np.int64) - first[within]
            found = np.empty(len(starts), _SPAN)
            found["start"], found["stop"], found["later"] = starts + shift, stops + shift, later
            for number in np.unique(contexts["part"][within]):
                _append(self.folder / f"spans-{number}", found[contexts["part"][within] == number])

    def spans(self, number: int) -> npt.NDArray[Any]:
        """Return the runs found in a part, by portion."""
        return _read(self.folder / f"spans-{number}", _SPAN)


def _append(path: Path, values: npt.NDArray[Any]) -> None:
    with path.open("ab") as stream:
        values.tofile(stream)


def _read(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.fromfile(path, dtype) if path.exists() else np.empty(0, dtype)


def _united(
    spans: npt.NDArray[Any], ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Join the runs of one text that overlap or touch, whatever portions they come from."""
    from fineedu.dedup.substring_kernels import merge_overlapping

    order = np.argsort(spans["start"], kind="stable")
    starts, stops = merge_overlapping(spans["start"][order].astype(np.int64), spans["stop"][order].astype(np.int64))
    if not len(starts):
        return starts, stops
    apart = (starts[1:] != stops[:-1]) | np.isin(stops[:-1], ends)
    return starts[np.append(True, apart)], stops[np.append(apart, True)]


def _write(store: Store, part: Part, spans: npt.NDArray[Any], mark: str) -> None:
    """Write the signals of a shard, and its runs by document."""
    ends = KeyFile(part.path).section("row/ends").astype(np.int64)
    first = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
    found = [_united(spans[spans["later"] == later], ends) for later in (0, 1)]
    rows = [np.searchsorted(ends, starts, side="right") for starts, _ in found]
    covered = [
        np.bincount(row, stops - starts, len(ends)).astype(np.int64)
        for row, (starts, stops) in zip(rows, found, strict=True)
    ]
    size = ends - first
    share = np.where(size > 0, covered[0] / np.maximum(size, 1), np.nan)
    path = spans_path(store, part.shard)
    with atomic_open(store.signals(FAMILY, part.shard)) as stream, atomic_open(path) as runs:
        writer = TableWriter(stream, {"id": pl.String(), **SCHEMA})
        spans_writer = TableWriter(runs, _SPANS)
        row = 0
        for batch in read_batches(store.documents(part.shard), ["id"]):
            own = slice(row, row + batch.height)
            writer.write(
                batch.with_columns(
                    pl.Series("repeated_bytes", covered[0][own], dtype=pl.UInt32),
                    pl.Series("repeated_byte_share", share[own], dtype=pl.Float32).fill_nan(None),
                    pl.Series("later_copy_bytes", covered[1][own], dtype=pl.UInt32),
                )
            )
            spans_writer.write(_spans_table(batch["id"], row, rows, found, first))
            row += batch.height
        writer.close({"fingerprint": mark})
        spans_writer.close({"fingerprint": mark})


def _spans_table(ids: pl.Series, base: int, rows: Any, found: Any, first: Any) -> pl.DataFrame:
    """Return the runs of a batch of documents, in bytes from the start of each text."""
    tables = []
    for later in (0, 1):
        low, high = np.searchsorted(rows[later], [base, base + len(ids)])
        row = rows[later][low:high]
        starts, stops = (values[low:high] - first[row] for values in found[later])
        table = pl.DataFrame(
            {"row": row - base, "start": starts, "stop": stops, "later": np.full(len(row), bool(later))}
        )
        tables.append(table.with_columns(ids.gather(row - base).alias("id")))
    return pl.concat(tables).sort("row", "later", "start").select(list(_SPANS))
