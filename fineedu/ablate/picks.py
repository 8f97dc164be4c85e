"""Single documents out of the stream: samples by membership, labelled ones, and copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.ablate.judge import Judge
from fineedu.hashing import hash_ids

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
#: Pairs of copy key and membership held; beyond that every second, fourth ... key is left out, and the rest estimated.
MOST_PAIRS = 2**20
_PAIRS = {"key": pl.UInt64(), "kind": pl.Int64(), "n": pl.Int64()}
_CHUNK = 4096


class Lowest:
    """The documents of least hash of every group, over a stream.

    Args:
        size: documents a group.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._cut = np.zeros(0, np.uint64)
        #: group, hash and number in the pool, in this order
        self.held = (np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.int64))

    def update(self, groups: Numbers, dice: Hashes, rows: Numbers, size: int) -> None:
        """Look at n documents of ``size`` groups, with their numbers in the pool."""
        if len(self._cut) < size:
            self._cut = np.concatenate([self._cut, np.full(size - len(self._cut), 2**64 - 1, np.uint64)])
        chosen = np.flatnonzero(dice < self._cut[groups])
        if not len(chosen) or not self._size:
            return
        group, die, row = (
            np.concatenate([old, new])
            for old, new in zip(self.held, (groups[chosen], dice[chosen], rows[chosen]), strict=True)
        )
        order = np.lexsort((row, die, group))
        group, die, row = group[order], die[order], row[order]
        starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
        place = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
        full = place == self._size - 1
        self._cut[group[full]] = die[full]
        kept = place < self._size
        self.held = (group[kept], die[kept], row[kept])


class Samples:
    """For ordered pairs of cells, the documents of least hash that the first keeps and the second drops.

    Args:
        judge: of the cells.
        pairs: first and second cell.
        size: documents a pair.
    """

    def __init__(self, judge: Judge, pairs: Sequence[tuple[int, int]], size: int) -> None:
        self._judge = judge
        self._pairs = list(pairs) if size else []
        self._size = size
        self._lowest = Lowest(size)
        self._found: list[list[tuple[int, int]]] = [[] for _ in pairs]

    def update(self, members: Numbers, dice: Hashes, rows: Numbers) -> None:
        """Look at n documents, with their numbers in the pool."""
        if self._pairs:
            self._lowest.update(members, dice, rows, len(self._judge.counts))

    def flush(self) -> None:
        """Bring what is held to the pairs, before memberships are forgotten."""
        member, die, row = self._lowest.held
        keeps = self._judge.counts[member] > 0
        for found, (first, second) in zip(self._found, self._pairs, strict=False):
            here = np.flatnonzero(keeps[:, first] & ~keeps[:, second])
            found.extend(zip(die[here].tolist(), row[here].tolist(), strict=True))
            found.sort()
            del found[self._size :]
        self._lowest = Lowest(self._size)

    def rows(self) -> list[list[int]]:
        """Return for each pair the numbers of its documents in the pool."""
        return [[row for _, row in found] for found in self._found]


class Labelled:
    """Which cells keep each labelled document.

    Args:
        judge: of the cells.
        ids: of the labelled documents.
    """

    def __init__(self, judge: Judge, ids: pl.Series) -> None:
        self._judge = judge
        self._hashes = np.sort(hash_ids(ids.unique()))
        self._ids = set(ids.to_list())
        self._found: dict[str, tuple[npt.NDArray[np.bool_], int]] = {}

    def update(self, members: Numbers, batch: pl.DataFrame, dice: Hashes, first_row: int) -> list[int]:
        """Look at n documents, and return which are labelled.

        ``dice`` are ``hash_ids`` of seed 0. Of an id that is there twice the first row counts.
        """
        new: list[int] = []
        if not len(self._hashes):
            return new
        at = np.minimum(np.searchsorted(self._hashes, dice), len(self._hashes) - 1)
        for row in np.flatnonzero(self._hashes[at] == dice):
            name = batch["id"][int(row)]
            if name in self._ids and name not in self._found:
                self._found[name] = (self._judge.counts[members[row]] > 0, first_row + int(row))
                new.append(int(row))
        return new

    def table(self) -> tuple[list[str], npt.NDArray[np.bool_], list[int]]:
        """Return ids found, sorted, (n, c) whether each cell keeps it, and their numbers in the pool."""
        ids = sorted(self._found)
        keeps = np.array([self._found[name][0] for name in ids], bool).reshape(len(ids), self._judge.n_cells)
        return ids, keeps, [self._found[name][1] for name in ids]


class Copies:
    """How many documents of a cell are copies of another one in the same cell.

    A cell's distinct keys are counted over pairs of key and membership. Up to ``MOST_PAIRS`` pairs that is exact;
    beyond it only keys whose hash is divisible by 2, 4, ... are kept and stand for the rest, whole groups of copies at
    a time, so that the shares stay unbiased.
    """

    def __init__(self, judge: Judge, most: int = MOST_PAIRS) -> None:
        self._judge = judge
        self._most = most
        self._shift = 0
        self._pairs = pl.DataFrame(schema=_PAIRS)
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0
        #: memberships seen, as packed bits: they outlive the judge's numbers
        self._kinds: dict[bytes, int] = {}
        self._mine = np.zeros(0, np.int64)

    def update(self, members: Numbers, keys: pl.Series) -> None:
        """Look at n documents; one without a key is a copy of none."""
        counts = self._judge.counts
        for row in counts[len(self._mine) :]:
            kind = self._kinds.setdefault(np.packbits(row > 0).tobytes(), len(self._kinds))
            self._mine = np.append(self._mine, kind)
        hashes = hash_ids(keys)
        wanted = (members > 0) & keys.is_not_null().to_numpy() & self._sampled(hashes)
        rows = {"key": hashes[wanted], "kind": self._mine[members[wanted]], "n": np.ones(int(wanted.sum()), np.int64)}
        self._waiting.append(pl.DataFrame(rows, schema=_PAIRS))
        self._rows += int(wanted.sum())
        if self._rows > 2 * self._most:
            self._fit()

    def flush(self) -> None:
        """Forget the judge's numbers of memberships."""
        self._mine = np.zeros(0, np.int64)

    def _sampled(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = hashes & np.uint64(2**self._shift - 1) == 0
        return found

    def _fit(self) -> None:
        self._pairs = pl.concat([self._pairs, *self._waiting]).group_by("key", "kind").agg(pl.col("n").sum())
        self._waiting, self._rows = [], 0
        while self._pairs.height > self._most:
            self._shift += 1
            self._pairs = self._pairs.filter(pl.Series(self._sampled(self._pairs["key"].to_numpy())))

    def shares(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], int]:
        """Return c shares of copies (NaN where there is no key), c documents looked at, and one key of how many."""
        self._fit()
        c = self._judge.n_cells
        width = (c + 7) // 8
        packed = np.frombuffer(b"".join(self._kinds), np.uint8).reshape(-1, width)
        documents, distinct = np.zeros(c), np.zeros(c)
        size = len(packed)
        pairs = self._pairs.with_columns(alone=pl.len().over("key") == 1).sort("key", "kind")
        single = pairs.filter("alone")
        by_kind = np.bincount(pairs["kind"].to_numpy(), pairs["n"].to_numpy(), size)
        alone = np.bincount(single["kind"].to_numpy(), minlength=size).astype(np.float64)
        for start in range(0, size, _CHUNK):
            keeps = np.unpackbits(packed[start : start + _CHUNK], axis=1, count=c).astype(np.float64)
            documents += by_kind[start : start + _CHUNK] @ keeps
            distinct += alone[start : start + _CHUNK] @ keeps
        several = pairs.filter(~pl.col("alone"))
        keys, kinds = several["key"].to_numpy(), several["kind"].to_numpy()
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
        for first in range(0, len(starts), _CHUNK):
            begin = starts[first]
            end = starts[first + _CHUNK] if first + _CHUNK < len(starts) else len(keys)
            bits = np.bitwise_or.reduceat(packed[kinds[begin:end]], starts[first : first + _CHUNK] - begin, axis=0)
            distinct += np.unpackbits(bits, axis=1, count=c).sum(axis=0)
        share = np.divide(documents - distinct, documents, out=np.full(c, np.nan), where=documents > 0)
        return share, documents.astype(np.int64), 2**self._shift
