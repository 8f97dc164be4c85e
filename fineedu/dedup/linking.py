"""The kernels of clustering: union-find over rows, and the choice of one survivor a cluster.

Rows of all key files are numbered one after the other; everything is an array over rows (5 to 9 bytes a row) or over
clusters of two or more (48 bytes a cluster, and its survivor's id). The result does not depend on the order of rows:
clusters are connected components, and survivors are the greatest by values and then by a hash of their id.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fineedu.kernels.compiled import inner, kernel

#: number of a row that is in no cluster of two or more
ALONE = np.uint32(0xFFFFFFFF)


@inner
def _root(parent: Any, row: Any) -> Any:
    """Follow a row to the least row of its set, and halve the path."""
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@kernel
def join_equal(parent: Any, marks: Any, keys: Any, rows: Any, order: Any, bit: Any) -> int:
    """Join rows that share a key.

    Args:
        parent: (n,) uint32, the union-find forest; a parent is never greater than its child.
        marks: (n,) uint8; rows that share a key get ``bit``.
        keys: (m,) uint64.
        rows: (m,) uint32.
        order: (m,) int64, the order in which the keys ascend.
        bit: uint8.

    Returns:
        How many neighbours share a key.
    """
    shared = 0
    for i in range(1, order.shape[0]):
        a = order[i - 1]
        b = order[i]
        if keys[a] != keys[b]:
            continue
        shared += 1
        marks[rows[a]] |= bit
        marks[rows[b]] |= bit
        left = _root(parent, rows[a])
        right = _root(parent, rows[b])
        if left < right:
            parent[right] = left
        elif right < left:
            parent[left] = right
    return shared


@kernel
def settle(parent: Any) -> None:
    """Point every row at its root; one pass, as parents come before children."""
    for i in range(parent.shape[0]):
        parent[i] = parent[parent[i]]


@kernel
def number_clusters(parent: Any, sizes: Any) -> Any:
    """Turn roots into numbers of clusters, in place.

    Args:
        parent: (n,) uint32 roots; becomes the number of each row's cluster, ``ALONE`` where it is in none.
        sizes: (n,) uint32 scratch, zeros.

    Returns:
        (c,) uint32 sizes of the clusters of two or more.
    """
    n = parent.shape[0]
    for i in range(n):
        sizes[parent[i]] += 1
    count = 0
    for i in range(n):
        count += sizes[i] > 1
    found = np.empty(count, np.uint32)
    c = 0
    for i in range(n):
        if sizes[i] > 1:
            found[c] = sizes[i]
            sizes[i] = c
            c += 1
        else:
            sizes[i] = ALONE
    for i in range(n):
        parent[i] = sizes[parent[i]]
    return found


@kernel
def choose_survivors(
    number: Any, base: int, values: Any, hashes: Any, best: Any, best_hash: Any, best_row: Any, label: Any
) -> None:
    """Go over the rows of one shard and keep the best row of every cluster.

    Args:
        number: (m,) uint32, clusters of the shard's rows.
        base: number of the shard's first row.
        values: (m, v) float64, greater is better, the first that differs decides.
        hashes: (m,) uint64 of the ids: the least decides where all values are equal.
        best: (c, v) float64, the best values so far.
        best_hash: (c,) uint64, their hashes.
        best_row: (c,) uint32, ``ALONE`` where no row has been seen.
        label: (c,) uint64, the least hash of an id in the cluster.
    """
    for i in range(number.shape[0]):
        c = number[i]
        if c == ALONE:
            continue
        label[c] = min(label[c], hashes[i])
        better = best_row[c] == ALONE
        if not better:
            decided = False
            for v in range(values.shape[1]):
                if values[i, v] != best[c, v]:
                    better = values[i, v] > best[c, v]
                    decided = True
                    break
            if not decided:
                better = hashes[i] < best_hash[c]
        if better:
            best[c] = values[i]
            best_hash[c] = hashes[i]
            best_row[c] = base + i


@kernel
def copy_runs(data: Any, ends: Any, chosen: Any, out: Any, out_ends: Any, first: int) -> None:
    """Copy some of many runs of bytes, one after the other.

    Args:
        data: (n_bytes,) uint8.
        ends: (n + 1,) int64, where each run begins and ends.
        chosen: (m,) unsigned, which runs.
        out: uint8, gets their bytes, from ``out_ends[first]`` on.
        out_ends: int64, gets their ends, after ``first``.
        first: how many runs ``out`` holds already.
    """
    at = out_ends[first]
    for i in range(chosen.shape[0]):
        for k in range(ends[chosen[i]], ends[chosen[i] + 1]):
            out[at] = data[k]
            at += 1
        out_ends[first + i + 1] = at
