"""Sums over documents by cell, made through their memberships: each is added once, whatever the number of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.ablate.judge import Judge
from fineedu.hashing import hash_ids

Array = npt.NDArray[np.float64]
#: Memberships summed before they are brought to cells: with 1,400 groups and two sums, 180 MB.
MOST_MEMBERSHIPS = 8192
#: Values of a property that are told apart; later ones are "(others)".
MOST_VALUES = 256
#: Hosts told by name; all others share buckets.
NAMED_HOSTS, HOST_BUCKETS = 256, 1024
_MISSING, _OTHERS = "(missing)", "(others)"
#: Edges of text length in bytes: powers of two, about 50 to 25,000 words.
LENGTH_EDGES = 2 ** np.arange(8, 18)
LENGTHS = ["< 256 B", *(f"{2**n // 1024 or 2**n}{' kB' if n >= 10 else ' B'} –" for n in range(8, 18))]


class Values:
    """Names to small numbers, in order of first sight; the order plays no part in what is told."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {_OTHERS: 0, _MISSING: 1}

    @property
    def names(self) -> list[str]:
        """Names in order of their numbers."""
        return list(self._numbers)

    size = MOST_VALUES + 2

    def codes(self, values: pl.Series) -> npt.NDArray[np.int64]:
        """Return n numbers."""
        text = values.cast(pl.String).fill_null(_MISSING)
        for name in sorted(text.unique().to_list()):
            if name not in self._numbers:
                self._numbers[name] = len(self._numbers) if len(self._numbers) < self.size else 0
        found = text.replace_strict(self._numbers, return_dtype=pl.Int64)
        return found.to_numpy()


class Lengths:
    """Bytes to bins of doubling length."""

    size = len(LENGTHS) + 1

    @property
    def names(self) -> list[str]:
        """Names of the bins."""
        return [*LENGTHS, _MISSING]

    def codes(self, values: pl.Series) -> npt.NDArray[np.int64]:
        """Return n numbers of bins."""
        found = np.searchsorted(LENGTH_EDGES, values.fill_null(0).to_numpy(), side="right")
        return np.where(values.is_null().to_numpy(), len(LENGTHS), found)


class Hosts:
    """Hosts: the heaviest by name, the others in buckets of a hash, which can hide a shift but never make one up.

    Args:
        named: hosts told apart.
    """

    def __init__(self, named: Sequence[str]) -> None:
        hashes = hash_ids(pl.Series(list(named), dtype=pl.String))
        order = np.argsort(hashes)
        self._hashes = hashes[order]
        buckets = [_OTHERS] * HOST_BUCKETS
        self.names = [*(named[at] for at in order), *buckets, _MISSING]
        self.size = len(self.names)

    def codes(self, values: pl.Series) -> npt.NDArray[np.int64]:
        """Return n numbers."""
        hashes = hash_ids(values)
        found = len(self._hashes) + (hashes % np.uint64(HOST_BUCKETS)).astype(np.int64)
        if len(self._hashes):
            at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
            found = np.where(self._hashes[at] == hashes, at, found)
        return np.where(values.is_null().to_numpy(), self.size - 1, found)


Property = Values | Lengths | Hosts


@dataclass(slots=True)
class Sums:
    """What is known of c cells in the end."""

    #: (c, m): of each measure its sum over the cell's documents, repeats counted
    totals: Array
    #: (c, c): documents, and tokens, that both cells keep
    documents: Array
    tokens: Array
    #: property to (c, size) sums of documents and of tokens
    by: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    #: the same over the whole pool, one row
    pool: Array = field(default_factory=lambda: np.zeros(0))
    pool_by: dict[str, tuple[Array, Array]] = field(default_factory=dict)


class Tally:
    """Sums by membership, brought to cells whenever memberships have become many.

    Args:
        judge: of the cells.
        measures: number of sums a document; the first is 1 for each, the second its tokens.
        properties: name to what gives its values' numbers.
    """

    def __init__(self, judge: Judge, measures: int, properties: dict[str, Property]) -> None:
        c = judge.n_cells
        self._judge = judge
        self._properties = properties
        self._base = np.zeros((0, measures))
        self._by = {name: (np.zeros((0, p.size)), np.zeros((0, p.size))) for name, p in properties.items()}
        self._sums = Sums(
            np.zeros((c, measures)),
            np.zeros((c, c)),
            np.zeros((c, c)),
            {name: (np.zeros((c, p.size)), np.zeros((c, p.size))) for name, p in properties.items()},
            np.zeros(measures),
            {name: (np.zeros(p.size), np.zeros(p.size)) for name, p in properties.items()},
        )

    @property
    def full(self) -> bool:
        """Whether memberships should be brought to cells before the next batch."""
        return len(self._judge.counts) > MOST_MEMBERSHIPS

    def update(self, members: npt.NDArray[np.int64], measures: Array, codes: dict[str, npt.NDArray[np.int64]]) -> None:
        """Add n documents.

        Args:
            members: membership of each.
            measures: (n, m).
            codes: property to the number of each document's value.
        """
        size = len(self._judge.counts)
        self._base = _grown(self._base, size)
        for column in range(measures.shape[1]):
            self._base[:, column] += np.bincount(members, measures[:, column], size)
        for name, code in codes.items():
            documents, tokens = (_grown(table, size) for table in self._by[name])
            width = documents.shape[1]
            flat = members * width + code
            documents += np.bincount(flat, minlength=size * width).reshape(size, width)
            tokens += np.bincount(flat, measures[:, 1], size * width).reshape(size, width)
            self._by[name] = (documents, tokens)

    def flush(self) -> None:
        """Bring memberships to cells and forget them; the judge starts anew."""
        seen = len(self._base)
        counts = self._judge.counts[:seen].astype(np.float64)
        kept = (counts > 0).astype(np.float64)
        sums = self._sums
        sums.totals += counts.T @ self._base
        sums.documents += kept.T @ (kept * self._base[:, :1])
        sums.tokens += kept.T @ (kept * self._base[:, 1:2])
        sums.pool += self._base.sum(axis=0)
        for name, tables in self._by.items():
            for table, cells, whole in zip(tables, sums.by[name], sums.pool_by[name], strict=True):
                cells += counts.T @ table
                whole += table.sum(axis=0)
            self._by[name] = tuple(np.zeros((0, table.shape[1])) for table in tables)  # type: ignore[assignment]
        self._base = np.zeros((0, self._base.shape[1]))
        self._judge.start_anew()

    def finish(self) -> Sums:
        """Return the sums."""
        self.flush()
        return self._sums


def _grown(table: Array, rows: int) -> Array:
    if len(table) >= rows:
        return table
    return np.concatenate([table, np.zeros((rows - len(table), table.shape[1]))])


class Heaviest:
    """The commonest names of a stream; when more than ``2**20`` are held, the rarest half goes.

    Args:
        size: names wanted.
    """

    _HELD = 2**20

    def __init__(self, size: int) -> None:
        self._size = size
        self._table: pl.DataFrame | None = None
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0

    def update(self, names: pl.Series) -> None:
        """Count n names."""
        counted = names.drop_nulls().cast(pl.String).alias("name").value_counts(name="n")
        self._waiting.append(counted.with_columns(pl.col("n").cast(pl.Int64)))
        self._rows += counted.height
        if self._rows > self._HELD:
            self._sum()

    def _sum(self) -> None:
        parts = [*([] if self._table is None else [self._table]), *self._waiting]
        if parts:
            table = pl.concat(parts).group_by("name").agg(pl.col("n").sum())
            if table.height > self._HELD:
                table = table.sort(["n", "name"], descending=[True, False]).head(self._HELD // 2)
            self._table, self._waiting, self._rows = table, [], 0

    def names(self) -> list[str]:
        """Return the commonest names."""
        self._sum()
        if self._table is None:
            return []
        return self._table.sort(["n", "name"], descending=[True, False]).head(self._size)["name"].to_list()
