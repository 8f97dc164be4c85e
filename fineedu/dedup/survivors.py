"""Who stays of each cluster: the best by policy, whatever the order of shards and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from fineedu.dedup.cluster import ROW_BYTES, Clusters, Part
from fineedu.dedup.keys import KeyFile
from fineedu.dedup.memory import Memory
from fineedu.errors import FineeduError
from fineedu.select.decide import joined_batches
from fineedu.store import Store, read_batches, read_facts

Policy = Literal["best", "newest", "longest", "first"]
#: documents columns, or the score, by which each policy decides, and whether the greater wins
POLICIES: dict[Policy, tuple[tuple[str, bool], ...]] = {
    "best": (("score", True), ("date", True), ("text_bytes", True)),
    "newest": (("date", True), ("text_bytes", True)),
    "longest": (("text_bytes", True), ("date", True)),
    "first": (("date", False), ("text_bytes", True)),
}
#: memory of a cluster: size, survivor, label; while survivors are chosen a hash too, and the values that decide
CLUSTER_BYTES, _CHOICE_BYTES, _VALUE_BYTES = 16, 8, 8
#: memory of a survivor's id besides its bytes: its row and its end
_ID_BYTES = 12
#: rows of a key file that are looked at together
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Ranking:
    """How documents of a cluster are ranked.

    Attributes:
        policy: the first to decide; ties go to the others, then to a hash of the id.
        score: signal column that ``best`` reads.
        owners: signal column to its family.
    """

    policy: Policy
    score: str
    owners: Mapping[str, str]

    @property
    def columns(self) -> list[str]:
        """Columns of documents and signals that the ranking reads."""
        return [self.score if name == "score" else name for name, _ in POLICIES[self.policy]]

    def values(self, batch: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Return (m, 1 + v) values, greater is better; a missing one is the worst; the first is 0 for what is here."""
        wanted = []
        for column, (name, greater) in zip(self.columns, POLICIES[self.policy], strict=True):
            value = (pl.col(column).dt.epoch("us") if name == "date" else pl.col(column)).cast(pl.Float64)
            wanted.append(value if greater else -value)
        table = batch.select(e.fill_nan(None).fill_null(-np.inf).alias(str(n)) for n, e in enumerate(wanted))
        return np.column_stack([np.zeros(batch.height), table.to_numpy()])


@dataclass(slots=True)
class Survivors:
    """What became of the clusters.

    Attributes:
        row: (c,) uint32, who stays of each cluster.
        label: (c,) uint64, names of the clusters: the least hash of a member's id.
    """

    row: npt.NDArray[np.uint32]
    label: npt.NDArray[np.uint64]


def ranked_batches(
    store: Store, part: Part, ranking: Ranking, extra: Sequence[str] = ()
) -> Iterator[tuple[int, pl.DataFrame, npt.NDArray[np.float64]]]:
    """Yield first row, batch and values of a shard that is in the store."""
    row = part.base
    for batch in joined_batches(store, part.shard, ranking.owners, [*dict.fromkeys([*ranking.columns, *extra])]):
        yield row, batch, ranking.values(batch)
        row += batch.height


def kept_path(key_file: Path) -> Path:
    """Return where a shared index remembers which documents of a key file have stayed."""
    return key_file.with_suffix(".kept.parquet")


def remembered_keep(part: Part) -> npt.NDArray[np.bool_]:
    """Return (rows,) which documents of an earlier dump have stayed; all where its run has not told.

    Raises:
        FineeduError: the note is damaged or of another shard.
    """
    path = kept_path(part.path)
    if not path.exists():
        return np.ones(part.rows, np.bool_)
    found = [np.zeros(0, np.bool_), *(batch["keep"].to_numpy() for batch in read_batches(path))]
    keep: npt.NDArray[np.bool_] = np.concatenate(found)
    if len(keep) != part.rows or read_facts(path)["shard"] != str(part.shard):
        raise FineeduError(f"{path} does not belong to {part.path}: delete it, and run that dump again")
    return keep


def choose(store: Store, parts: Sequence[Part], clusters: Clusters, ranking: Ranking, memory: Memory) -> Survivors:
    """Find who stays of each cluster.

    A document that only the index remembers has been published already, so it wins over all that are here.

    Raises:
        FineeduError: shards of documents, signals and keys do not belong together; or memory does not suffice.
    """
    from fineedu.dedup.linking import ALONE, choose_survivors

    count, width = len(clusters.sizes), 1 + len(ranking.columns)
    held = len(clusters.number) * ROW_BYTES + 2 * max((part.rows for part in parts if not part.here), default=0)
    memory.need(held + count * (CLUSTER_BYTES + _CHOICE_BYTES + _VALUE_BYTES * width), f"{count:,} clusters")
    best = np.full((count, width), -np.inf)
    best_hash = np.full(count, np.iinfo(np.uint64).max)
    row = np.full(count, ALONE)
    label = np.full(count, np.iinfo(np.uint64).max)
    for part in parts:
        file, stop = KeyFile(part.path), part.base
        for base, values in _values_of(store, part, ranking) if part.here else _values_remembered(part, width):
            stop = base + len(values)
            hashes = file.section("row/id_hash", base - part.base, stop - part.base)
            choose_survivors(clusters.number[base:stop], base, values, hashes, best, best_hash, row, label)
        if stop - part.base != part.rows:
            raise FineeduError(f"{part.path} does not belong to {store.documents(part.shard)}: delete it and run again")
    return Survivors(row, label)


def _values_of(store: Store, part: Part, ranking: Ranking) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    for base, _, values in ranked_batches(store, part, ranking):
        if base + len(values) > part.base + part.rows:
            raise FineeduError(f"{part.path} does not belong to {store.documents(part.shard)}: delete it and run again")
        yield base, values


def _values_remembered(part: Part, width: int) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    keep = remembered_keep(part)
    for start in range(0, part.rows, _BLOCK):
        own = keep[start : start + _BLOCK]
        values = np.full((len(own), width), -np.inf)
        values[:, 0] = 1.0 + own
        yield part.base + start, values


@dataclass(slots=True)
class SurvivorIds:
    """The ids of who stays, without a string each.

    Attributes:
        row: (c,) uint32, rows that stay, ascending.
        end: (c + 1,) int64, where each id begins and ends.
        raw: uint8, the ids.
    """

    row: npt.NDArray[np.uint32]
    end: npt.NDArray[np.int64]
    raw: npt.NDArray[np.uint8]

    def of(self, rows: npt.NDArray[np.uint32]) -> pl.Series:
        """Return the ids of rows that stay; of one that does not, any."""
        from fineedu.dedup.linking import copy_runs

        if not len(self.row):
            return pl.Series("id", [None] * len(rows), dtype=pl.String)
        at = np.minimum(np.searchsorted(self.row, rows), len(self.row) - 1)
        ends = np.zeros(len(at) + 1, np.int64)
        raw = np.empty(int((self.end[at + 1] - self.end[at]).sum()), np.uint8)
        copy_runs(self.raw, self.end, at.astype(np.uint32), raw, ends, 0)
        return pl.Series("id", pa.LargeStringArray.from_buffers(len(at), pa.py_buffer(ends), pa.py_buffer(raw)))


def survivor_ids(parts: Sequence[Part], clusters: Clusters, survivors: Survivors, memory: Memory) -> SurvivorIds:
    """Read the ids of the rows that stay.

    Raises:
        FineeduError: memory does not suffice, or a file is damaged.
    """
    from fineedu.dedup.linking import copy_runs

    count = len(survivors.row)
    rows = np.sort(survivors.row)
    size = sum(int((ends[own + 1] - ends[own]).sum()) for own, _, ends in _ids_of(parts, rows, with_bytes=False))
    held = len(clusters.number) * ROW_BYTES + count * (CLUSTER_BYTES + _ID_BYTES) + size
    memory.need(held, f"{count:,} clusters with the ids of their survivors")
    found = SurvivorIds(rows, np.zeros(count + 1, np.int64), np.empty(size, np.uint8))
    done = 0
    for own, raw, ends in _ids_of(parts, rows):
        copy_runs(raw, ends, own, found.raw, found.end, done)
        done += len(own)
    return found


def _ids_of(
    parts: Sequence[Part], rows: npt.NDArray[np.uint32], with_bytes: bool = True
) -> Iterator[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Yield, block by block of rows that hold some of ``rows``: which of the block, its ids and where they end."""
    for part in parts:
        low, high = np.searchsorted(rows, [part.base, part.base + part.rows])
        if low == high:
            continue
        file = KeyFile(part.path)
        for start in range(0, part.rows, _BLOCK):
            stop = min(start + _BLOCK, part.rows)
            first, last = np.searchsorted(rows, [part.base + start, part.base + stop])
            if first < last:
                raw, ends = file.ids(start, stop, with_bytes)
                yield rows[first:last] - np.uint32(part.base + start), raw, ends


def sections_of(ids: pl.Series, languages: pl.Series) -> dict[str, Any]:
    """Return the per-row sections of a key file."""
    from fineedu.dedup.shingles import hash_strings, string_keys
    from fineedu.kernels.arrow import text_buffer

    names = text_buffer(ids)
    return {
        "id_hash": string_keys(names.data, names.offsets),
        "language": hash_strings(languages),
        "id_ends": (names.offsets[1:] - names.offsets[0]).astype(np.uint64),
        "id_bytes": names.data[names.offsets[0] : names.offsets[-1]],
    }
