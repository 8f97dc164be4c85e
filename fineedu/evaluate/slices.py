"""The same measures by topic, length and language: where a model is good, and where nobody can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.evaluate.measures import measure, rounded
from fineedu.evaluate.resample import Array, Estimate

#: Below, an interval spans most of what is possible, and its bootstrap is too narrow besides.
TOO_FEW = 30
#: With fewer on either side, AUC and F1 hang on single documents: one positive ranked first gives 1 [1, 1].
FEW_POSITIVES = 10
#: Lower bounds of the length buckets, in characters.
LENGTHS = (0, 500, 1000, 2000, 4000, 8000, 16000)
NOT_TOLD = "not told"


@dataclass(frozen=True, slots=True)
class Slice:
    """One part of the test documents."""

    name: str
    n: int
    positives: int
    #: measure to estimate, without those of the threshold where fewer than 10 documents are positive, or negative;
    #: None where there are fewer than 30 documents
    estimates: dict[str, Estimate] | None

    def as_json(self) -> dict[str, Any]:
        """Return name, counts and estimates; ``too_small`` instead where there are too few documents."""
        facts = {"name": self.name, "n": self.n, "positives": self.positives, "too_small": self.estimates is None}
        return facts | {name: found.as_json() for name, found in (self.estimates or {}).items()}


def length_names() -> list[str]:
    """Return the names of the length buckets, shortest first."""
    inner = [f"{low:,} to {high - 1:,}" for low, high in pairwise(LENGTHS[1:])]
    return [f"under {LENGTHS[1]:,}", *inner, f"{LENGTHS[-1]:,} and more"]


def length_bucket(n_chars: pl.Series) -> pl.Series:
    """Return the name of each length's bucket; null stays null."""
    names = np.array(length_names(), dtype=object)
    found = pl.Series(names[np.digitize(n_chars.fill_null(0).to_numpy(), LENGTHS[1:])].tolist(), dtype=pl.String)
    return found.to_frame("name").select(pl.when(n_chars.is_not_null()).then("name"))["name"]


def slice_measures(
    truth: Array,
    score: Array,
    names: Sequence[str | None],
    *,
    level: int,
    order: Sequence[str] = (),
    clusters: npt.NDArray[Any] | None = None,
    seed: int = 0,
    count: int = 1000,
) -> tuple[Slice, ...]:
    """Measure each slice by itself.

    Args:
        truth: n labels, finite.
        score: n scores, finite.
        names: n names of slices; None is ``not told``.
        level: threshold of F1 and area under the curve.
        order: of the names, where it has a meaning; others by size.
        clusters: n cluster names for the bootstrap.
        seed: of the bootstrap.
        count: resamples.

    Returns:
        The slices; of those with fewer than 30 documents only the counts.
    """
    column = np.array([name or NOT_TOLD for name in names], dtype=object)
    found = []
    for name in sorted(set(column.tolist())):
        rows = column == name
        positives = int((rounded(truth[rows]) >= level).sum())
        estimates = None
        if rows.sum() >= TOO_FEW:
            named = None if clusters is None else clusters[rows]
            measured = measure(truth[rows], score[rows], levels=(level,), clusters=named, seed=seed, count=count)
            shown = ["spearman", "mae"]
            if min(positives, int(rows.sum()) - positives) >= FEW_POSITIVES:
                shown += [f"auc_{level}", f"positive_f1_{level}_rounded", f"precision_{level}_rounded"]
            estimates = {measure_name: measured[measure_name] for measure_name in shown}
        found.append(Slice(name, int(rows.sum()), positives, estimates))
    place = {name: number for number, name in enumerate(order)}
    return tuple(sorted(found, key=lambda part: (part.name == NOT_TOLD, place.get(part.name, 0), -part.n, part.name)))
