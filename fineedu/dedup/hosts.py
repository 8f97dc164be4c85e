"""What each host would lose, at 16 bytes a host: names are looked up for the few that are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.store import read_batches

#: counts held apart before they are summed up, unless a quarter of the sum is more: with a fixed number the time would
#: grow with the square of the hosts
_PENDING = 500_000
_COUNTS = np.dtype([("host", "<u8"), ("documents", "<u4"), ("removed", "<u4")])


class HostCounts:
    """Documents and removed documents of hosts, summed up as they come."""

    def __init__(self) -> None:
        self._total = np.empty(0, _COUNTS)
        self._pending: list[npt.NDArray[Any]] = []
        self._rows = 0

    def add(self, hosts: pl.Series, keep: pl.Series) -> None:
        """Count a batch of documents."""
        from fineedu.dedup.shingles import hash_strings

        keys, place = np.unique(hash_strings(hosts), return_inverse=True)
        found = np.empty(len(keys), _COUNTS)
        found["host"], found["documents"] = keys, np.bincount(place, minlength=len(keys))
        found["removed"] = np.bincount(place[~keep.to_numpy()], minlength=len(keys))
        self._pending.append(found)
        self._rows += len(found)
        if self._rows > max(_PENDING, len(self._total) // 4):
            self._sum_up()

    def _sum_up(self) -> None:
        whole = np.concatenate([self._total, *self._pending])
        self._pending.clear()
        self._rows = 0
        self._total = np.empty(0, _COUNTS)
        order = np.argsort(whole["host"])
        whole = whole[order]
        del order
        if not len(whole):
            return
        first = np.flatnonzero(np.append(True, whole["host"][1:] != whole["host"][:-1]))
        self._total = whole[first]
        for name in ("documents", "removed"):
            self._total[name] = np.add.reduceat(whole[name], first)

    @property
    def sums(self) -> tuple[int, int]:
        """Documents and removed documents of all hosts."""
        self._sum_up()
        return int(self._total["documents"].sum(dtype=np.int64)), int(self._total["removed"].sum(dtype=np.int64))

    def first(self, by: Literal["removed", "share"], least: int, most: int) -> npt.NDArray[Any]:
        """Return the counts of the hosts that lose most; ties go by a hash of the name.

        Args:
            by: number of documents lost, or their share of the host's.
            least: hosts with fewer documents are left out; so are those that lose none.
            most: how many hosts.
        """
        self._sum_up()
        found = self._total[(self._total["documents"] >= least) & (self._total["removed"] > 0)]
        rank = found["removed"] / found["documents"] if by == "share" else found["removed"].astype(np.float64)
        if len(found) > most:  # sorting ten million for the first hundred would take eight bytes more of each
            bound = np.partition(rank, len(rank) - most)[len(rank) - most]
            found, rank = found[rank >= bound], rank[rank >= bound]
        return found[np.lexsort([found["host"], -found["removed"].astype(np.int64), -rank])[:most]]


def named(counts: Sequence[npt.NDArray[Any]], documents: Iterable[Path]) -> list[pl.DataFrame]:
    """Look the names of hosts up.

    Args:
        counts: from :meth:`HostCounts.first`.
        documents: the shards that they are of.

    Returns:
        Tables of host, documents and removed.
    """
    from fineedu.dedup.shingles import hash_strings

    wanted = np.unique(np.concatenate([table["host"] for table in counts]))
    names: dict[int, str | None] = {}
    for path in documents:
        if len(names) == len(wanted):
            break
        for batch in read_batches(path, ["host"]):
            keys = hash_strings(batch["host"])
            for row in np.flatnonzero(np.isin(keys, wanted)).tolist():
                names.setdefault(int(keys[row]), batch["host"][row])
    return [
        pl.DataFrame(
            {"host": [names.get(key) for key in table["host"].tolist()], "documents": table["documents"].copy(),
             "removed": table["removed"].copy()},
            schema_overrides={"host": pl.String},
        )
        for table in counts
    ]  # fmt: skip
