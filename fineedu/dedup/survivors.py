"""Who stays of each cluster: the best by policy, whatever the order of shards and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.dedup.cluster import ROW_BYTES, Clusters, Memory, Part
from fineedu.dedup.keys import KeyFile
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
#: memory of a cluster: values, hashes, row, label, size; and the id of its survivor
CLUSTER_BYTES = 44 + 120


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

    count = len(clusters.sizes)
    memory.need(len(clusters.number) * ROW_BYTES + count * CLUSTER_BYTES, f"{count:,} clusters")
    width = 1 + len(ranking.columns)
    best = np.full((count, width), -np.inf)
    best_hash = np.full(count, np.iinfo(np.uint64).max)
    row = np.full(count, ALONE)
    label = np.full(count, np.iinfo(np.uint64).max)
    for part in parts:
        hashes = KeyFile(part.path).section("row/id_hash")
        if not part.here:
            values = np.full((part.rows, width), -np.inf)
            values[:, 0] = 1.0 + remembered_keep(part)
            number = clusters.number[part.base : part.base + part.rows]
            choose_survivors(number, part.base, values, hashes, best, best_hash, row, label)
            continue
        base = part.base
        for base, batch, values in ranked_batches(store, part, ranking):
            own = slice(base - part.base, base - part.base + batch.height)
            number = clusters.number[base : base + batch.height]
            choose_survivors(number, base, values, hashes[own], best, best_hash, row, label)
            base += batch.height
        if base - part.base != part.rows:
            raise FineeduError(f"{part.path} does not belong to {store.documents(part.shard)}: delete it and run again")
    return Survivors(row, label)


def survivor_ids(parts: Sequence[Part], survivors: Survivors) -> tuple[npt.NDArray[np.uint32], pl.Series]:
    """Return the rows that stay, ascending, and their ids."""
    rows = np.unique(survivors.row)
    found = [pl.Series("id", [], dtype=pl.String)]
    for part in parts:
        low, high = np.searchsorted(rows, [part.base, part.base + part.rows])
        if low < high:
            ids = KeyFile(part.path).ids()
            found.append(ids.gather(rows[low:high].astype(np.int64) - part.base))
    return rows, pl.concat(found)


def sections_of(ids: pl.Series, languages: pl.Series) -> dict[str, Any]:
    """Return the per-row sections of a key file."""
    from fineedu.dedup.shingles import string_keys
    from fineedu.kernels.arrow import text_buffer

    names, tongues = text_buffer(ids), text_buffer(languages)
    return {
        "id_hash": string_keys(names.data, names.offsets),
        "language": string_keys(tongues.data, tongues.offsets),
        "id_ends": (names.offsets[1:] - names.offsets[0]).astype(np.uint64),
        "id_bytes": names.data[names.offsets[0] : names.offsets[-1]],
    }
