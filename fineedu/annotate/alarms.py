"""Signs that an annotator's votes are not what they seem: a collapsed scale, a favoured place in the list, failures.

Measured on single votes, samples included, for each annotator by itself: no second annotator is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from fineedu.annotate.figures import Integers, wilson
from fineedu.annotate.parties import name_parties, valid_scores, valid_topics

RUBRIC_LEVELS = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Limits:
    """When an alarm goes off.

    Attributes:
        rare_score: a score in a smaller share of the ok votes.
        common_score: a score in a greater share of the ok votes.
        invalid: share of votes in that state; likewise ``refusal``, ``truncated``, ``error`` and ``abstain``.
        position_p: a p-value of the test of positions below this.
    """

    rare_score: float = 0.01
    common_score: float = 0.80
    invalid: float = 0.02
    refusal: float = 0.01
    truncated: float = 0.02
    error: float = 0.01
    abstain: float = 0.10
    position_p: float = 0.001


@dataclass(frozen=True, slots=True)
class Alarm:
    """A value beyond its limit.

    Attributes:
        what: ``rare_score``, ``common_score``, ``position_bias`` or a state's name.
        annotator: whose votes.
        detail: what the value is, in words.
        value: a share of votes; for ``position_bias`` the p-value.
        low: of the value's 95 % Wilson interval; None for a p-value.
        high: likewise.
        limit: that the value is beyond.
        n: votes it is a share of.
        fires: whether the whole interval is beyond the limit; else it may be chance, and the alarm is only a hint.
    """

    what: str
    annotator: str
    detail: str
    value: float
    low: float | None
    high: float | None
    limit: float
    n: int
    fires: bool


def find_alarms(
    votes: pl.DataFrame, limits: Limits | None = None, levels: Sequence[int] = RUBRIC_LEVELS
) -> list[Alarm]:
    """Find what is beyond the limits, annotator by annotator.

    Args:
        votes: one row a vote, as :func:`fineedu.labels.read_labels` returns them. Positions are tested where there are
            ``choice_position`` (place of the chosen topic among the choices as shown, from 0) and ``n_choices``.
        limits: the limits.
        levels: scores of the rubric; a vote counts for the nearest.

    Raises:
        FineeduError: SciPy is missing.
    """
    limits = limits or Limits()
    named = name_parties(votes)
    found: list[Alarm] = []
    for (annotator,), part in named.sort("annotator").group_by("annotator", maintain_order=True):
        found += _failures(str(annotator), part, limits)
        found += _collapse(str(annotator), part, limits, sorted(levels))
        found += _positions(str(annotator), part, limits)
    return found


def _failures(annotator: str, votes: pl.DataFrame, limits: Limits) -> Iterator[Alarm]:
    for state in ("invalid", "refusal", "truncated", "error", "abstain"):
        hits, limit = int((votes["state"] == state).sum()), float(getattr(limits, state))
        if hits > limit * votes.height:
            low, high = wilson(hits, votes.height)
            detail = f"votes with state {state}"
            yield Alarm(
                state, annotator, detail, hits / votes.height, low, high, limit, votes.height, fires=low > limit
            )


def _collapse(annotator: str, votes: pl.DataFrame, limits: Limits, levels: list[int]) -> Iterator[Alarm]:
    scores = valid_scores(votes)["score"].to_numpy()
    if not (n := len(scores)) or not levels:
        return
    nearest = np.abs(scores[:, None] - np.asarray(levels)[None, :]).argmin(1)
    for place, level in enumerate(levels):
        hits = int((nearest == place).sum())
        low, high = wilson(hits, n)
        detail = f"ok votes with score {level}"
        if hits < limits.rare_score * n:
            fires = high < limits.rare_score
            yield Alarm("rare_score", annotator, detail, hits / n, low, high, limits.rare_score, n, fires)
        if hits > limits.common_score * n:
            fires = low > limits.common_score
            yield Alarm("common_score", annotator, detail, hits / n, low, high, limits.common_score, n, fires)


def _positions(annotator: str, votes: pl.DataFrame, limits: Limits) -> Iterator[Alarm]:
    """Test whether chosen topics are spread evenly over the places of the shuffled lists (Pearson's chi-square)."""
    from scipy.stats import chisquare

    if not {"choice_position", "n_choices"} <= set(votes.columns):
        return
    inside = (pl.col("choice_position") >= 0) & (pl.col("choice_position") < pl.col("n_choices"))
    shown = valid_topics(votes).filter(inside & (pl.col("n_choices") > 1))
    if not (n := shown.height):
        return
    sizes = shown["n_choices"].cast(pl.Int64).to_numpy()
    # The usual rule for the test: at least 5 expected votes a bin; neighbouring places share one where votes are few.
    bins = int(min(sizes.max(), n // 5))
    if bins < 2:
        return
    seen = np.bincount(_bin(shown["choice_position"].cast(pl.Int64).to_numpy(), sizes, bins), minlength=bins)
    expected = np.zeros(bins)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        places = _bin(np.arange(size), np.full(size, size), bins)
        expected += np.bincount(places, minlength=bins) * count / size
    used = expected > 0
    p = float(chisquare(seen[used], expected[used]).pvalue)
    if p < limits.position_p:
        most = int(np.argmax(np.where(used, seen / np.where(used, expected, 1), 0)))
        detail = (
            f"p of even places: bin {most + 1} of {bins} holds {seen[most] / n:.1%} of choices, "
            f"{expected[most] / n:.1%} expected"
        )
        yield Alarm("position_bias", annotator, detail, p, None, None, limits.position_p, n, fires=True)


def _bin(positions: Integers, sizes: Integers, bins: int) -> Integers:
    return positions * bins // sizes
