"""True similarity of the documents of a cluster with the one that stays: who is no copy leaves the cluster.

MinHash finds candidates, and clusters chain them: A like B and B like C put A with C, which it may not resemble. Here
every document is compared with the leader of its cluster, shingle by shingle; those that fail are grouped around
leaders of their own, the best ranked first, at most ``_MOST_LEADERS`` a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from fineedu.dedup.cluster import ROW_BYTES, Clusters, Part
from fineedu.dedup.keys import KeyFile
from fineedu.dedup.memory import Memory
from fineedu.dedup.signature import MinHash
from fineedu.dedup.survivors import CLUSTER_BYTES, Ranking, ranked_batches
from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.kernels.compiled import inner, kernel
from fineedu.recipe import VerifyConfig
from fineedu.store import Store, read_batches

_MOST_LEADERS = 8
#: memory of a text while its cluster is compared, by its bytes: the text twice, and 4 bytes a shingle sorted twice
_WORD_FACTOR, _CHARACTER_FACTOR = 6, 12


@dataclass(frozen=True, slots=True)
class Verified:
    """What the comparison found.

    Attributes:
        checked: documents compared with the one that would have stayed.
        failed: those less alike than asked for.
        unchecked: documents whose match only the index remembers; they stay in their cluster.
    """

    checked: int
    failed: int
    unchecked: int

    @property
    def false_positives(self) -> float | None:
        """Share of the checked that failed; None where none was checked."""
        return self.failed / self.checked if self.checked else None


@inner
def _shared(left: Any, right: Any) -> int:
    """Count the values that two ascending runs share."""
    i = 0
    j = 0
    found = 0
    while i < left.shape[0] and j < right.shape[0]:
        if left[i] < right[j]:
            i += 1
        elif left[i] > right[j]:
            j += 1
        else:
            found += 1
            i += 1
            j += 1
    return found


@kernel
def lead(shingles: Any, ends: Any, number: Any, containment: bool, least: float, most: int) -> Any:
    """Group the documents of clusters around leaders.

    Args:
        shingles: (s,) uint32, each document's shingles ascending and without repetition.
        ends: (m + 1,) int64, their bounds.
        number: (m,) uint32 clusters; members stand together, best ranked first.
        containment: compare by the share of the document's own shingles, else by Jaccard.
        least: similarity that a member must have.
        most: leaders of a cluster; who comes later and fails is left alone.

    Returns:
        (m,) int64 leader of each document, itself where it leads or is alone; and how many failed the first leader.
    """
    m = number.shape[0]
    leader = np.arange(m)
    leads = np.empty(most, np.int64)
    count = 0
    failed = 0
    for d in range(m):
        if d == 0 or number[d] != number[d - 1]:
            leads[0] = d
            count = 1
            continue
        own = shingles[ends[d] : ends[d + 1]]
        for k in range(count):
            theirs = shingles[ends[leads[k]] : ends[leads[k] + 1]]
            both = _shared(own, theirs)
            whole = own.shape[0] if containment else own.shape[0] + theirs.shape[0] - both
            if whole > 0 and both >= least * whole:
                leader[d] = leads[k]
                break
            failed += k == 0
        if leader[d] == d and count < most:
            leads[count] = d
            count += 1
    return leader, failed


@kernel
def sorted_shingles(hashes: Any, ends: Any) -> Any:
    """Sort each document's shingles and drop repetitions, in place; returns the new bounds."""
    m = ends.shape[0] - 1
    bounds = np.zeros(m + 1, np.int64)
    at = 0
    for d in range(m):
        own = np.sort(hashes[ends[d] : ends[d + 1]])
        for i in range(own.shape[0]):
            if i == 0 or own[i] != own[i - 1]:
                hashes[at] = own[i]
                at += 1
        bounds[d + 1] = at
    return bounds


def _shingle_sets(texts: pl.Series, config: MinHash) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    from fineedu.dedup.shingles import point_table, shingle_hashes

    buffer = text_buffer(texts)
    found = [
        shingle_hashes(buffer.data, start, end, point_table(), config.shingle == "word", config.n)
        for start, end in zip(buffer.offsets, buffer.offsets[1:], strict=False)
    ]
    ends = np.concatenate([[0], np.cumsum([len(hashes) for hashes in found])]).astype(np.int64)
    hashes = np.concatenate([np.zeros(0, np.uint32), *found])
    bounds = sorted_shingles(hashes, ends)
    return hashes[: bounds[-1]], bounds


def _spill(
    store: Store, parts: Sequence[Part], clusters: Clusters, frozen: npt.NDArray[np.bool_], ranking: Ranking,
    folder: Path, files: int,
) -> list[Path]:  # fmt: skip
    """Write the clustered documents to files by cluster: row, cluster, rank and text."""
    width = 1 + len(ranking.columns)
    schema = pa.schema(
        [("row", pa.uint32()), ("number", pa.uint32()), ("hash", pa.uint64())]
        + [(f"v{n}", pa.float64()) for n in range(width)]
        + [("text", pa.large_string())]
    )
    paths = [folder / f"{n:03d}.arrow" for n in range(files)]
    try:
        _write_portions(store, parts, clusters, frozen, ranking, paths, schema)
    except OSError as error:
        raise FineeduError(
            f"cannot write texts to {folder}: {error}. Mend that and run the same command again"
        ) from error
    return paths


def _write_portions(
    store: Store, parts: Sequence[Part], clusters: Clusters, frozen: npt.NDArray[np.bool_], ranking: Ranking,
    paths: Sequence[Path], schema: pa.Schema,
) -> None:  # fmt: skip
    from fineedu.dedup.linking import ALONE

    width, files = 1 + len(ranking.columns), len(paths)
    writers = [pa.ipc.new_file(path, schema) for path in paths]
    try:
        for part in (part for part in parts if part.here):
            hashes = KeyFile(part.path).section("row/id_hash")
            for base, batch, values in ranked_batches(store, part, ranking, ["text"]):
                number = clusters.number[base : base + batch.height]
                chosen = np.flatnonzero((number != ALONE) & ~frozen[np.where(number == ALONE, 0, number)])
                if not len(chosen):
                    continue
                table = pl.DataFrame(
                    {
                        "row": (chosen + base).astype(np.uint32),
                        "number": number[chosen],
                        "hash": hashes[base - part.base + chosen],
                        **{f"v{n}": values[chosen, n] for n in range(width)},
                        "text": batch["text"].gather(chosen).fill_null(""),
                    }
                )
                for n in range(files):
                    own = table.filter(pl.col("number") % files == n)
                    if own.height:
                        writers[n].write_table(own.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema))
    finally:
        for writer in writers:
            writer.close()


def _clustered_bytes(store: Store, parts: Sequence[Part], clusters: Clusters) -> int:
    from fineedu.dedup.linking import ALONE

    total = 0
    for part in (part for part in parts if part.here):
        row = part.base
        for batch in read_batches(store.documents(part.shard), ["text_bytes"]):
            chosen = clusters.number[row : row + batch.height] != ALONE
            total += int(batch["text_bytes"].to_numpy()[chosen].sum(dtype=np.int64))
            row += batch.height
    return total


def verify(
    store: Store, parts: Sequence[Part], clusters: Clusters, survivors: npt.NDArray[np.uint32], ranking: Ranking,
    minhash: MinHash, config: VerifyConfig, memory: Memory, work: Path,
) -> tuple[Clusters, Verified]:  # fmt: skip
    """Split clusters until every document is like its leader.

    Args:
        store: the store.
        parts: all key files.
        clusters: from :func:`fineedu.dedup.cluster.link`.
        survivors: (c,) who would stay of each.
        ranking: how leaders are chosen.
        minhash: what shingles are.
        config: measure and bound.
        memory: the limit; texts are compared in as many portions as it asks for.
        work: a folder for the portions; as much disk as the clustered texts take.

    Returns:
        The clusters that remain, and how many documents were compared and failed.
    """
    from fineedu.dedup.linking import ALONE, number_clusters

    total = len(clusters.number)
    here = np.concatenate([np.zeros(0, np.bool_), *(np.full(part.rows, part.here) for part in parts)])
    frozen = ~here[survivors]
    held = 2 * total * ROW_BYTES + len(clusters.sizes) * CLUSTER_BYTES
    memory.need(held + 20_000_000, "comparing texts")
    factor = _WORD_FACTOR if minhash.shingle == "word" else _CHARACTER_FACTOR
    room = memory.budget - held
    files = min(max(_clustered_bytes(store, parts, clusters) * factor * 2 // room, 1), 256)
    parent = np.arange(total, dtype=np.uint32)
    checked = failed = 0
    with TemporaryDirectory(prefix="texts-", dir=work) as folder:
        for path in _spill(store, parts, clusters, frozen, ranking, Path(folder), files):
            table = pl.read_ipc(path)
            path.unlink()
            values = [name for name in table.columns if name.startswith("v")]
            table = table.sort(
                ["number", *values, "hash", "row"], descending=[False, *(True for _ in values), False, False]
            )
            number, row = table["number"].to_numpy(), table["row"].to_numpy()
            shingles, ends = _shingle_sets(table["text"], minhash)
            leader, missed = lead(
                shingles, ends, number, config.measure == "containment", config.at_least, _MOST_LEADERS
            )
            parent[row] = row[leader]
            checked += len(number) - len(np.unique(number))
            failed += int(missed)
    kept = clusters.number != ALONE
    kept[kept] = frozen[clusters.number[kept]]
    parent[kept] = survivors[clusters.number[kept]]
    unchecked = int((kept & here).sum())
    sizes = number_clusters(parent, np.zeros(total, np.uint32))
    return Clusters(parent, sizes, clusters.marks, clusters.shared), Verified(checked, failed, unchecked)
