"""True similarity of the documents of a cluster with the one that stays: who is no copy leaves the cluster.

MinHash finds candidates, and clusters chain them: A like B and B like C put A with C, which it may not resemble. Here
every document is compared with the leader of its cluster, shingle by shingle; those that fail are grouped around
leaders of their own, the best ranked first, at most ``_MOST_LEADERS`` a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fineedu.dedup.cluster import ROW_BYTES, Clusters, Part
from fineedu.dedup.keys import KeyFile
from fineedu.dedup.memory import Memory
from fineedu.dedup.signature import MinHash
from fineedu.dedup.survivors import CLUSTER_BYTES, Ranking, ranked_batches
from fineedu.dedup.texts import decoding_bytes, text_pieces
from fineedu.errors import FineeduError
from fineedu.kernels.compiled import inner, kernel
from fineedu.recipe import VerifyConfig
from fineedu.store import Store

_MOST_LEADERS = 8
#: memory of a text while it is compared, by its bytes: itself, and 4 bytes a shingle in three arrays
_WORD_FACTOR, _CHARACTER_FACTOR = 8, 14
#: bytes of text compared together
_LEAST_PIECE, _MOST_PIECE = 1 << 18, 1 << 22
#: memory of a clustered document besides its record and its values: order, places, leader
_FACT_BYTES = 40
#: memory of a cluster: whether its survivor is remembered, and where that is looked up
_FROZEN_BYTES = 10
#: rows looked at together
_BLOCK = 1 << 20
#: two files a portion are open at a time
_MOST_PORTIONS = 128


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
def lead(shingles: Any, ends: Any, number: Any, given: int, containment: bool, least: float, most: int) -> Any:
    """Group the documents of clusters around leaders.

    Args:
        shingles: (s,) uint32, each document's shingles ascending and without repetition.
        ends: (m + 1,) int64, their bounds.
        number: (m,) uint32 clusters; members stand together, best ranked first.
        given: the first so many documents are known to lead the first cluster.
        containment: compare by the share of the document's own shingles, else by Jaccard.
        least: similarity that a member must have.
        most: leaders of a cluster; who comes later and fails is left alone.

    Returns:
        (m,) int64 leader of each document, itself where it leads or is alone; and how many failed the first leader.
    """
    m = number.shape[0]
    leader = np.arange(m)
    leads = np.empty(most, np.int64)
    for d in range(given):
        leads[d] = d
    count = given
    failed = 0
    for d in range(given, m):
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


@dataclass(frozen=True, slots=True)
class _Comparison:
    """How the documents of a portion are compared."""

    minhash: MinHash
    config: VerifyConfig
    width: int
    #: bytes of text that are compared together, one text at least
    piece: int

    @property
    def record(self) -> np.dtype[Any]:
        """What is known of a document besides its text."""
        return np.dtype(
            [("row", "<u4"), ("number", "<u4"), ("hash", "<u8"), ("bytes", "<u4"), ("values", "<f8", (self.width,))]
        )

    def leaders(self, stem: Path) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], int]:
        """Compare the documents of a portion, piece by piece.

        Returns:
            (m,) rows, their leaders' rows, and how many failed the first leader of their cluster.
        """
        facts = np.fromfile(stem.with_suffix(".facts"), self.record)
        values = [-facts["values"][:, n] for n in reversed(range(self.width))]
        order = np.lexsort([facts["row"], facts["hash"], *values, facts["number"]])
        del values
        starts = np.cumsum(facts["bytes"], dtype=np.int64) - facts["bytes"]
        # A piece ends where the next text would not fit.
        total = np.cumsum(facts["bytes"][order], dtype=np.int64)
        leader = np.arange(len(facts), dtype=np.uint32)
        failed, at = 0, 0
        own, sets = np.zeros(0, np.int64), (np.zeros(0, np.uint32), np.zeros(1, np.int64))
        with stem.with_suffix(".texts").open("rb") as stream:
            while at < len(order):
                room = self.piece + (total[at - 1] if at else 0)
                stop = max(int(np.searchsorted(total, room, side="right")), at + 1)
                new = order[at:stop]
                at = stop
                if not len(own) or facts["number"][own[0]] != facts["number"][new[0]]:
                    own, sets = own[:0], (sets[0][:0], sets[1][:1])
                given, own = len(own), np.concatenate([own, new])
                sets = _joined(sets, self._sets(stream, starts[new], facts["bytes"][new]))
                number = facts["number"][own]
                found, missed = lead(
                    *sets, number, given, self.config.measure == "containment", self.config.at_least, _MOST_LEADERS
                )
                leader[own[given:]] = own[found[given:]]
                failed += int(missed)
                # The last cluster may go on in the next piece: its leaders go along.
                chosen = np.flatnonzero((number == number[-1]) & (found == np.arange(len(own))))[:_MOST_LEADERS]
                own, sets = own[chosen], _some(sets, chosen)
        return facts["row"], facts["row"][leader], failed

    def _sets(
        self, stream: IO[bytes], starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.uint32]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Read texts and return their shingles, each text's ascending and without repetition, and their bounds."""
        from fineedu.dedup.shingles import point_table, shingle_hashes

        words = self.minhash.shingle == "word"
        texts = (os.pread(stream.fileno(), int(size), int(at)) for at, size in zip(starts, sizes, strict=True))
        found = [
            shingle_hashes(np.frombuffer(text, np.uint8), 0, len(text), point_table(), words, self.minhash.n)
            for text in texts
        ]
        ends = np.concatenate([[0], np.cumsum([len(hashes) for hashes in found])]).astype(np.int64)
        hashes = np.concatenate([np.zeros(0, np.uint32), *found])
        bounds = sorted_shingles(hashes, ends)
        return hashes[: bounds[-1]], bounds


_Sets = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]


def _joined(first: _Sets, second: _Sets) -> _Sets:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1][1:] + first[1][-1]])


def _some(sets: _Sets, chosen: npt.NDArray[np.int64]) -> _Sets:
    parts = [sets[0][sets[1][n] : sets[1][n + 1]] for n in chosen]
    ends = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.uint32), *parts]), ends


def _spill(
    store: Store, parts: Sequence[Part], clusters: Clusters, frozen: npt.NDArray[np.bool_], ranking: Ranking,
    stems: Sequence[Path], record: np.dtype[Any],
) -> int:  # fmt: skip
    """Write the clustered documents to files by cluster, texts and what ranks them; returns the longest text's bytes.

    Raises:
        FineeduError: they cannot be written.
    """
    longest = 0
    try:
        with ExitStack() as stack:
            facts = [stack.enter_context(stem.with_suffix(".facts").open("wb")) for stem in stems]
            texts = [stack.enter_context(stem.with_suffix(".texts").open("wb")) for stem in stems]
            for found, own in _clustered(store, parts, clusters, frozen, ranking, record):
                for fact, text in zip(found, own, strict=True):
                    portion = fact["number"] % len(stems)
                    facts[portion].write(fact.tobytes())
                    texts[portion].write(text.data)
                    longest = max(longest, len(text))
    except OSError as error:
        raise FineeduError(
            f"cannot write texts to {stems[0].parent}: {error}. Mend that and run the same command again"
        ) from error
    return longest


def _clustered(
    store: Store, parts: Sequence[Part], clusters: Clusters, frozen: npt.NDArray[np.bool_], ranking: Ranking,
    record: np.dtype[Any],
) -> Iterator[tuple[npt.NDArray[Any], list[npt.NDArray[np.uint8]]]]:  # fmt: skip
    """Yield the clustered documents, some at a time: facts, and bytes of their texts."""
    from fineedu.dedup.linking import ALONE

    for part in (part for part in parts if part.here):
        values = np.empty((part.rows, record["values"].shape[0]))
        for base, _, own in ranked_batches(store, part, ranking):
            values[base - part.base : base - part.base + len(own)] = own
        hashes = KeyFile(part.path).section("row/id_hash")
        for row, raw, ends in text_pieces(store.documents(part.shard)):
            number = clusters.number[part.base + row : part.base + row + len(ends) - 1]
            chosen = np.flatnonzero((number != ALONE) & ~frozen[np.where(number == ALONE, 0, number)])
            found = np.empty(len(chosen), record)
            found["row"], found["number"], found["values"] = (
                part.base + row + chosen,
                number[chosen],
                values[row + chosen],
            )
            found["hash"], found["bytes"] = hashes[row + chosen], np.diff(ends)[chosen]
            yield found, [raw[ends[k] : ends[k + 1]] for k in chosen]


def verify(
    store: Store, parts: Sequence[Part], clusters: Clusters, survivors: npt.NDArray[np.uint32], ranking: Ranking,
    minhash: MinHash, config: VerifyConfig, memory: Memory, work: Path,
) -> tuple[Clusters, Verified]:  # fmt: skip
    """Split clusters until every document is like its leader.

    Args:
        store: the store.
        parts: all key files.
        clusters: from :func:`fineedu.dedup.cluster.link`; used up.
        survivors: (c,) who would stay of each.
        ranking: how leaders are chosen.
        minhash: what shingles are.
        config: measure and bound.
        memory: the limit; documents are compared in as many portions as it asks for, a piece of their texts at a time.
        work: a folder for the portions; as much disk as the clustered texts take.

    Returns:
        The clusters that remain, and how many documents were compared and failed.
    """
    from fineedu.dedup.linking import number_clusters

    total, width = len(clusters.number), 1 + len(ranking.columns)
    held = total * (ROW_BYTES + 4) + len(clusters.sizes) * (CLUSTER_BYTES + _FROZEN_BYTES)
    held += max((part.rows for part in parts if part.here), default=0) * 8 * (width + 1)
    held += decoding_bytes(store.documents(part.shard) for part in parts if part.here)
    factor = _WORD_FACTOR if minhash.shingle == "word" else _CHARACTER_FACTOR
    piece = min(max((memory.budget - held) // 2 // factor, _LEAST_PIECE), _MOST_PIECE)
    comparison = _Comparison(minhash, config, width, piece)
    clustered = int(clusters.sizes.sum(dtype=np.int64))
    cost = comparison.record.itemsize + 8 * width + _FACT_BYTES
    portions = min(max(-(-clustered * cost * 2 // max(memory.budget - held, 1)), 1), _MOST_PORTIONS)
    memory.need(held + piece * factor + clustered * cost // portions, f"comparing {clustered:,} clustered texts")
    bases = np.array([part.base for part in parts], np.int64)
    here = np.array([part.here for part in parts], np.bool_)
    frozen = ~here[np.searchsorted(bases, survivors, side="right") - 1]
    parent = np.arange(total, dtype=np.uint32)
    checked = failed = 0
    with TemporaryDirectory(prefix="texts-", dir=work) as folder:
        stems = [Path(folder) / f"{n:03d}" for n in range(portions)]
        longest = _spill(store, parts, clusters, frozen, ranking, stems, comparison.record)
        apart = longest * (factor + _MOST_LEADERS * factor // 4)
        memory.need(held + max(piece * factor, apart) + clustered * cost // portions, f"a text of {longest:,} bytes")
        for stem in stems:
            rows, leaders, missed = comparison.leaders(stem)
            stem.with_suffix(".texts").unlink()
            parent[rows] = leaders
            checked += len(rows) - len(np.unique(clusters.number[rows]))
            failed += missed
    unchecked = _keep_frozen(parts, clusters, frozen, survivors, parent)
    clusters.number[:] = parent  # not a second array: they are the largest
    del parent
    sizes = number_clusters(clusters.number, np.zeros(total, np.uint32))
    return Clusters(clusters.number, sizes, clusters.marks, clusters.shared), Verified(checked, failed, unchecked)


def _keep_frozen(
    parts: Sequence[Part], clusters: Clusters, frozen: npt.NDArray[np.bool_], survivors: npt.NDArray[np.uint32],
    parent: npt.NDArray[np.uint32],
) -> int:  # fmt: skip
    """Leave clusters together whose survivor only the index remembers; returns how many of their documents are here."""
    from fineedu.dedup.linking import ALONE

    unchecked = 0
    for part in parts:
        for start in range(part.base, part.base + part.rows, _BLOCK):
            number = clusters.number[start : min(start + _BLOCK, part.base + part.rows)]
            kept = np.flatnonzero(number != ALONE)
            kept = kept[frozen[number[kept]]]
            parent[start + kept] = survivors[number[kept]]
            unchecked += len(kept) * part.here
    return unchecked
