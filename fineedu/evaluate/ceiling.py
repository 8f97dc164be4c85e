"""How well anything could do: the agreement of annotators with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from fineedu.evaluate.measures import measure
from fineedu.evaluate.resample import Estimate
from fineedu.evaluate.slices import TOO_FEW


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two annotators agree on the documents that both have scored."""

    one: str
    other: str
    n: int
    #: None where both have scored fewer than 30 documents
    spearman: Estimate | None = None
    quadratic_kappa: Estimate | None = None

    def as_json(self) -> dict[str, Any]:
        """Return names, overlap and the two measures."""
        found = {"spearman": self.spearman, "quadratic_kappa": self.quadratic_kappa}
        shown = {name: None if value is None else value.as_json() for name, value in found.items()}
        return {"one": self.one, "other": self.other, "n": self.n, **shown}


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The agreement of the annotators, and the bound on a model that follows from it."""

    #: the label against the mean of all other annotators, or the best-covered pair where there are no others
    main: Agreement
    #: most that the rank correlation of a model with these labels can be, see :func:`upper_bound`
    bound: Estimate | None
    #: single annotators, largest overlap first
    pairs: tuple[Agreement, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the three parts."""
        return {
            "main": self.main.as_json(),
            "upper_bound_spearman": None if self.bound is None else self.bound.as_json(),
            "pairs": [pair.as_json() for pair in self.pairs],
        }


def upper_bound(agreement: Estimate) -> Estimate | None:
    """Return the most that a model's correlation with one annotator can be, from how annotators correlate.

    Spearman (1904, "The proof and measurement of association between two things"): errors attenuate a correlation,
    r(model, label) = r(model, truth) * sqrt(reliability of the label). Two annotators who err independently and
    equally have the reliability r(one, other), and no model correlates with the truth better than 1, so the bound is
    sqrt(r(one, other)). The formula is for linear correlations; for ranks it is an approximation. A model trained on
    one annotator can learn that annotator's habits, which are no errors to it, and come above.

    Returns:
        The bound; None where the annotators do not agree at all.
    """
    if agreement.value is None or agreement.value <= 0:
        return None
    low, high = (None if end is None else max(end, 0.0) ** 0.5 for end in (agreement.low, agreement.high))
    return Estimate(agreement.value**0.5, low, high, agreement.undefined)


def ceiling(votes: pl.DataFrame, chosen: Sequence[str], *, seed: int = 0, count: int = 1000) -> Ceiling | None:
    """Measure how annotators agree.

    Args:
        votes: as :func:`fineedu.labels.read_labels` gives them.
        chosen: the annotators whose mean is the label.
        seed: of the bootstrap over documents.
        count: resamples.

    Returns:
        None where no document has scores of two annotators.
    """
    valid = votes.filter((pl.col("state") == "ok") & pl.col("score").is_not_null())
    single = valid.group_by("annotator", "id").agg(score=pl.col("score").mean())
    by_name = {str(name): part.select("id", "score") for (name,), part in single.group_by("annotator")}
    pairs = [
        _agreement(one, by_name[one], other, by_name[other], seed, count)
        for one, other in combinations(sorted(by_name), 2)
    ]
    pairs = sorted((pair for pair in pairs if pair.n), key=lambda pair: (-pair.n, pair.one, pair.other))
    others = sorted(set(by_name) - set(chosen))
    main = _agreement(
        _joint(chosen), _mean(single, chosen), _joint(others), _mean(single, others), seed, count
    ) if others else None  # fmt: skip
    if main is None or not main.n:
        main = pairs[0] if pairs else None
    if main is None:
        return None
    return Ceiling(main, None if main.spearman is None else upper_bound(main.spearman), tuple(pairs))


def _mean(single: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    return single.filter(pl.col("annotator").is_in(list(names))).group_by("id").agg(score=pl.col("score").mean())


def _joint(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"mean of {len(names)} annotators ({names[0]} … {names[-1]})"


def _agreement(
    one: str, scores: pl.DataFrame, other: str, scores_of_other: pl.DataFrame, seed: int, count: int
) -> Agreement:
    both = scores.join(scores_of_other, on="id", suffix="_other").sort("id")
    if both.height < TOO_FEW:
        return Agreement(one, other, both.height)
    ours, theirs = (both[name].to_numpy().astype(np.float64) for name in ("score", "score_other"))
    found = measure(ours, theirs, levels=(), seed=seed, count=count)
    return Agreement(one, other, both.height, found["spearman"], found["quadratic_kappa"])
