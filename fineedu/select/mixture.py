"""Raking: weights that bring a pool to wanted shares of several columns at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fineedu.errors import FineeduError

Floats = npt.NDArray[np.float64]
_ROUNDS = 10_000
_CLOSE = 1e-9


def rake(values: Sequence[Sequence[str]], mass: Floats, targets: Mapping[str, Mapping[str, float]]) -> Floats:
    """Find shares with the wanted margins that lie nearest to the pool's own (iterative proportional fitting).

    Deming and Stephan 1940: each column in turn is scaled to its shares until all hold; of all tables with these
    margins the result has the least Kullback-Leibler divergence from the pool's.

    Args:
        values: for each of n cells its value in each column, in the order of ``targets``.
        mass: n weights of the cells in the pool.
        targets: column to the wanted share of each value; each sums to 1.

    Returns:
        n shares that sum to 1.

    Raises:
        FineeduError: a wanted value is not in the pool, or the shares cannot hold together.
    """
    codes = []
    wanted = []
    for at, (column, shares) in enumerate(targets.items()):
        names = list(shares)
        code = np.array([names.index(cell[at]) for cell in values], dtype=np.intp)
        held = np.bincount(code, mass, len(names))
        for name, share, there in zip(names, shares.values(), held, strict=True):
            if share > 0 and not there > 0:
                raise FineeduError(f"mixture: wanted {share:.1%} of {column} = {name!r}, and there is none to select")
        codes.append(code)
        wanted.append(np.array(list(shares.values())))
    found: Floats = mass / mass.sum()
    for _ in range(_ROUNDS):
        for code, goal in zip(codes, wanted, strict=True):
            now = np.bincount(code, found, len(goal))
            found = found * np.divide(goal, now, out=np.zeros_like(goal), where=now > 0)[code]
        off = max(
            float(np.abs(np.bincount(code, found, len(goal)) - goal).max())
            for code, goal in zip(codes, wanted, strict=True)
        )
        if off < _CLOSE:
            return found
    raise FineeduError(
        f"mixture: the shares of {' and '.join(targets)} cannot hold together (off by {off:.2%}): the pool has no "
        "documents where they would meet"
    )
