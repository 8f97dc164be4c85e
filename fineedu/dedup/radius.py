"""The blast radius: what deduplication would remove, told before anything is removed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import unified_diff
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fineedu.dedup.curve import curve_table, threshold
from fineedu.dedup.hosts import HostCounts, named
from fineedu.dedup.signature import MinHash, true_similarity
from fineedu.dedup.stage import FAMILY
from fineedu.dedup.texts import text_pieces
from fineedu.errors import FineeduError
from fineedu.store import Shard, Store, read_batches

#: removed documents whose text is compared with the survivor's, to estimate false positives
SAMPLE = 200
_LARGEST = 10
#: hosts told by each ranking
_TOLD = 100
#: a diff shows sentences of the beginning: its time grows with the square of their number
_DIFF_CHARACTERS = 20_000
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|\n+")
_SIZE_STEPS = (2, 3, 4, 5, 10, 20, 50, 100, 1000, 10_000, 1 << 62)
#: what is known of a document that would go; ``order`` is a hash of its id, for a sample that order does not change
_GONE = {"id": pl.String, "dup_of": pl.String, "dup_cluster": pl.UInt64, "dup_size": pl.UInt32, "order": pl.UInt64}


@dataclass(frozen=True, slots=True)
class Pair:
    """A document that would go, with the one that stays in its place."""

    removed: str
    kept: str
    cluster: int
    size: int
    jaccard: float
    containment: float
    diff: list[str]


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """What would go.

    Attributes:
        documents: documents looked at.
        removed: documents that are not kept.
        by: way of meeting to documents in clusters.
        dumps: dump, documents, removed and share, a row a dump.
        hosts: the same a host, by removed documents, the first hundred.
        worst: the same, by share, of hosts with ``host_documents`` or more.
        sizes: cluster sizes: at least, below, clusters, documents.
        largest: a pair of each of the largest clusters.
        checked: removed documents of a random sample that were compared with their survivor.
        below: those of them less alike than ``bound``.
        bound: similarity that the banding finds with probability one half, or that ``verify`` asks for.
        curve: similarity to share found.
        verified: documents compared with their survivor, failed and unchecked; None where ``verify`` is not set.
        substrings: from :func:`fineedu.dedup.substring_report.substring_report`; None where they are not set.
        lines: from :func:`fineedu.dedup.lines.line_report`; None where they are not set.
    """

    documents: int
    removed: int
    by: dict[str, int]
    dumps: list[dict[str, Any]]
    hosts: list[dict[str, Any]]
    worst: list[dict[str, Any]]
    sizes: list[dict[str, Any]]
    largest: list[Pair]
    checked: int
    below: int
    bound: float
    curve: list[dict[str, Any]]
    verified: dict[str, int] | None = None
    substrings: dict[str, Any] | None = None
    lines: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        low, high = self.false_positives
        return asdict(self) | {
            "false_positives": {"share": self.below / max(self.checked, 1), "low": low, "high": high}
        }

    @property
    def false_positives(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of removed documents that are less alike than the bound."""
        if not self.checked:
            return 0.0, 1.0
        n, p, z = self.checked, self.below / self.checked, 1.959964
        middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max((middle - spread) / (1 + z * z / n), 0.0), min((middle + spread) / (1 + z * z / n), 1.0)


def check_hosts(radius: BlastRadius, most: float | None, documents: int, page: Path) -> None:
    """Stop where a host would lose too much.

    Raises:
        FineeduError: names the hosts.
    """
    over = [row for row in radius.worst if most is not None and row["share"] > most]
    if over:
        named = ", ".join(f"{row['host']} ({row['removed']:,} of {row['documents']:,})" for row in over[:5])
        raise FineeduError(
            f"deduplication would take more than {most:.0%} of {len(over)} host(s) with {documents} documents or more: "
            f"{named}. Nothing is removed; look at {page}, then raise dedup.max_host_loss or add dedup.verify"
        )


def _shares(table: pl.DataFrame, name: str, by: str) -> list[dict[str, Any]]:
    ranked = table.with_columns(share=pl.col("removed") / pl.col("documents"))
    ranked = ranked.sort([by, "removed", name], descending=[True, True, False], nulls_last=True)
    return ranked.to_dicts()


def _sizes(sizes: Mapping[int, int]) -> list[dict[str, Any]]:
    rows = []
    for low, high in pairwise(_SIZE_STEPS):
        chosen = {size: count for size, count in sizes.items() if low <= size < high}
        if chosen:
            documents = sum(size * count for size, count in chosen.items())
            rows.append({"at_least": low, "below": high, "clusters": sum(chosen.values()), "documents": documents})
    return rows


@dataclass(slots=True)
class _Seen:
    """What one reading of the signals tells."""

    hosts: HostCounts
    dumps: dict[str, list[int]]
    by: dict[str, int]
    sample: pl.DataFrame
    largest: pl.DataFrame


def _read(store: Store, shards: Sequence[Shard]) -> _Seen:
    from fineedu.dedup.shingles import hash_strings

    empty = pl.DataFrame(schema=_GONE)
    seen = _Seen(HostCounts(), {shard.dump: [0, 0] for shard in shards}, {}, empty, empty)
    for shard in shards:
        signals = read_batches(store.signals(FAMILY, shard))
        for documents, batch in zip(read_batches(store.documents(shard), ["id", "host"]), signals, strict=True):
            if not documents["id"].equals(batch["id"]):
                own = store.signals(FAMILY, shard)
                raise FineeduError(f"{own} does not belong to {store.documents(shard)}: delete it and run again")
            seen.hosts.add(documents["host"], batch["dup_keep"])
            seen.dumps[shard.dump][0] += batch.height
            seen.dumps[shard.dump][1] += int((~batch["dup_keep"]).sum())
            for way, count in batch["dup_by"].drop_nulls().value_counts().iter_rows():
                seen.by[way] = seen.by.get(way, 0) + count
            order = pl.Series("order", hash_strings(batch["id"]))
            gone = batch.with_columns(order).filter(~pl.col("dup_keep")).select(_GONE.keys())
            seen.sample = pl.concat([seen.sample, gone]).sort("order", "id").head(SAMPLE)
            largest = pl.concat([seen.largest, gone]).sort(
                ["dup_size", "dup_cluster", "order"], descending=[True, False, False]
            )
            seen.largest = largest.unique("dup_cluster", keep="first", maintain_order=True).head(_LARGEST)
    return seen


def blast_radius(
    store: Store, shards: Sequence[Shard], sizes: Mapping[int, int], minhash: MinHash, bound: float | None,
    host_documents: int,
) -> BlastRadius:  # fmt: skip
    """Read the signals ``dup_*`` of a store and tell what they would remove.

    Args:
        store: the store.
        shards: its shards.
        sizes: size of a cluster to the number of clusters.
        minhash: what shingles are, for the sample that is compared.
        bound: similarity below which a pair counts as a false positive; None: the middle of the S-curve.
        host_documents: documents of a host from which on its share means something.

    Returns:
        The figures; the same for any order of shards. Memory: 48 bytes a host, and the texts of 200 pairs.
    """
    seen = _read(store, shards)
    limit = threshold(minhash.bands, minhash.rows) if bound is None else bound
    sample, largest = seen.sample, seen.largest
    texts = texts_of(store, shards, {*sample["id"], *sample["dup_of"], *largest["id"], *largest["dup_of"]} - {None})
    compared = [_pair(row, texts, minhash) for row in sample.iter_rows(named=True)]
    pairs = [_pair(row, texts, minhash) for row in largest.iter_rows(named=True)]
    documents, removed = seen.hosts.sums
    most, worst = named(
        [seen.hosts.first("removed", 1, _TOLD), seen.hosts.first("share", host_documents, _TOLD)],
        (store.documents(shard) for shard in shards),
    )
    dumps = pl.DataFrame(
        [(dump, *counts) for dump, counts in seen.dumps.items()], ["dump", "documents", "removed"], orient="row"
    )
    return BlastRadius(
        documents=documents,
        removed=removed,
        by=dict(sorted(seen.by.items())),
        dumps=_shares(dumps, "dump", "removed"),
        hosts=_shares(most, "host", "removed"),
        worst=_shares(worst, "host", "share"),
        sizes=_sizes(sizes),
        largest=[pair for pair in pairs if pair is not None],
        checked=sum(pair is not None for pair in compared),
        below=sum(pair is not None and pair.jaccard < limit for pair in compared),
        bound=limit,
        curve=curve_table(minhash.bands, minhash.rows),
    )


def texts_of(store: Store, shards: Sequence[Shard], wanted: set[str]) -> dict[str, str]:
    """Return the texts of a few documents; only row groups that hold one are read."""
    found: dict[str, str] = {}
    names = pl.Series(list(wanted), dtype=pl.String)
    for shard in shards:
        path = store.documents(shard)
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    ids = pl.Series(file.read_row_group(group, columns=["id"])["id"].to_pylist(), dtype=pl.String)
                    hits = ids.is_in(names.implode()).to_numpy()
                    if hits.any():
                        for row, raw, ends in text_pieces(path, [group]):
                            for at in np.flatnonzero(hits[row : row + len(ends) - 1]).tolist():
                                text = raw[ends[at] : ends[at + 1]].tobytes().decode()
                                found.setdefault(ids[row + at], text)
        except (OSError, pa.ArrowException) as error:
            raise FineeduError(f"{path} is damaged ({error}): delete it and run again") from error
    return found


def _lines(text: str) -> list[str]:
    """Break a text where sentences end, and long ones after every 15th word, so that a diff shows what differs."""
    sentences = (part.split() for part in _SENTENCE_END.split(text[:_DIFF_CHARACTERS]))
    return [" ".join(words[n : n + 15])[:200] for words in sentences for n in range(0, len(words), 15)]


def _pair(row: Mapping[str, Any], texts: Mapping[str, str], minhash: MinHash) -> Pair | None:
    """Compare a document with its survivor; None where only the index remembers that."""
    if row["dup_of"] not in texts:
        return None
    gone, kept = texts[row["id"]], texts[row["dup_of"]]
    jaccard, containment = true_similarity(gone, kept, minhash)
    diff = unified_diff(_lines(kept), _lines(gone), row["dup_of"], row["id"], n=0, lineterm="")
    return Pair(
        row["id"], row["dup_of"], row["dup_cluster"], row["dup_size"], jaccard, containment, list(islice(diff, 40))
    )
