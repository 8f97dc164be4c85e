"""Cheap score first, the dear one only where it can still change the decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids
from fineedu.store import read_model

Floats = npt.NDArray[np.float64]
_BEYOND = 1e9


class Scorer(Protocol):
    """Anything that scores texts: a bundle of any kind, or your own."""

    def score(self, texts: pl.Series) -> npt.NDArray[np.floating]:
        """Score n strings; NaN where there is no text."""
        ...


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Strict):
    """A share with its 95 % interval (Wilson) and what it rests on."""

    share: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.share:.1%} ({self.low:.1%} to {self.high:.1%}, n = {self.n:,})"


def wilson(hits: int, n: int) -> Estimate:
    """Estimate a share; Wilson's score interval, 95 %. Of nothing it is unknown: 0 to 1."""
    if not n:
        return Estimate(share=math.nan, low=0.0, high=1.0, n=0)
    z, p = 1.959963984540054, hits / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(
        share=p, low=max((middle - half) / (1 + z * z / n), 0.0), high=min((middle + half) / (1 + z * z / n), 1.0), n=n
    )


class Figures(_Strict):
    """What the skip bands do, on documents that they were not fitted on."""

    #: of the documents that the full ensemble keeps, kept by the cascade
    recall: Estimate
    #: of the documents that the cascade keeps, kept by the full ensemble
    precision: Estimate
    #: documents decided alike
    agreement: Estimate
    #: documents that the dear scorer read
    called: Estimate
    #: documents on which the rule depends on the dear score at all
    open: Estimate


class Bands(_Strict):
    """Below ``low`` a document is dropped, from ``high`` on it is kept; between them the dear scorer decides.

    A document on which the rule comes to the same whatever the dear score is, as where another of its conditions fails,
    is decided by the rule alone.
    """

    format: Literal["fineedu-bands-2"] = "fineedu-bands-2"
    cheap: str
    low: float
    high: float
    #: the full ensemble's decision: SQL over ``dear`` and any columns
    rule: str
    #: dear scores from end to end at which the rule is tried, to see whether it depends on them
    trials: list[float]
    recall: float
    precision: float
    fitted_on: int
    held_out: Figures


def fit_bands(cheap: Floats, keep: npt.NDArray[np.bool_], recall: float, precision: float) -> tuple[float, float]:
    """Find the widest skip bands that leave so much recall and precision, on these documents.

    Args:
        cheap: n scores.
        keep: the full ensemble's n decisions.
        recall: of what the full ensemble keeps, the share that must not fall into the lower band.
        precision: 1 - (documents wrongly kept in the upper band / documents the full ensemble keeps).

    Returns:
        ``low`` and ``high``; ``high`` is infinite where no band keeps that precision.
    """
    order = np.argsort(cheap, kind="stable")
    scores, kept = cheap[order], keep[order]
    total = int(kept.sum())
    # From a score on, how many are lost below it and wrongly kept at or above it; only between different scores.
    lost = np.concatenate([[0], np.cumsum(kept)])
    wrong = np.concatenate([[0], np.cumsum(~kept)])[-1] - np.concatenate([[0], np.cumsum(~kept)])
    edge = np.concatenate([[True], scores[1:] > scores[:-1], [True]])
    edges = np.concatenate([scores, [math.inf]])
    lowest = np.flatnonzero(edge & (lost <= (1 - recall) * total + 1e-9)).max(initial=0)
    highest = np.flatnonzero(edge & (wrong <= (1 - precision) * total + 1e-9)).min(initial=len(scores))
    low, high = float(edges[lowest]), float(edges[highest])
    return (low, high) if low <= high else (low, low)


def fit_cascade(
    table: pl.DataFrame, cheap: str, rule: str, *, recall: float = 0.99, precision: float = 0.99, seed: int = 0
) -> Bands:
    """Fit skip bands on one half of a scored sample, and measure them on the other.

    Args:
        table: ``id``, the cheap score, ``dear``, the dear scorer's, and the columns of the rule; a random sample of
            the pool.
        cheap: column of the cheap score.
        rule: the full ensemble's decision, e.g. ``dear > 2.5`` or ``dear > 2.5 AND language = 'en'``.
        recall: wanted; see :func:`fit_bands`.
        precision: wanted.
        seed: of the halves.

    Raises:
        FineeduError: the rule is wrong, or a half holds no document that the full ensemble keeps and that depends on
            the dear score.
    """
    from fineedu.select.rules import compile_rule

    for name, value in (("recall", recall), ("precision", precision)):
        if not 0.5 <= value <= 1:
            raise FineeduError(f"{name} {value}: give a share from 0.5 to 1")
    full = compile_rule(rule, dict(table.schema) | {cheap: pl.Float64(), "dear": pl.Float64()})
    if "dear" not in full.meta.root_names():
        raise FineeduError(f"the rule {rule!r} does not name dear, the dear score: nothing to save")
    known = (
        table.with_columns(pl.col(cheap, "dear").cast(pl.Float64).fill_nan(None))
        .drop_nulls([cheap, "dear"])
        .sort("id")
        .with_columns(full.fill_null(False).alias("keep"))
    )
    if not known.height:
        raise FineeduError(f"no document of the sample has both {cheap} and a dear score")
    # Beyond every score on either side; finite, so that a mean with them is a number.
    trials = [-_BEYOND, *np.quantile(known["dear"].to_numpy(), np.linspace(0, 1, 21)).tolist(), _BEYOND]
    undecided = depends(full, known, trials)
    scores, keep, matters = known[cheap].to_numpy(), known["keep"].to_numpy(), undecided.to_numpy()
    fitted = hash_ids(known["id"], seed).argsort().argsort() % 2 == 0
    if not (keep & matters)[fitted].any() or not (keep & matters)[~fitted].any():
        raise FineeduError(f"the rule {rule!r} keeps too few of {known.height} documents to fit bands on")
    low, high = fit_bands(scores[fitted & matters], keep[fitted & matters], recall, precision)
    return Bands(
        cheap=cheap,
        low=low,
        high=high,
        rule=rule,
        trials=trials,
        recall=recall,
        precision=precision,
        fitted_on=int(fitted.sum()),
        held_out=_figures(scores[~fitted], keep[~fitted], matters[~fitted], low, high),
    )


def depends(rule: pl.Expr, frame: pl.DataFrame, trials: Sequence[float]) -> pl.Series:
    """Tell on which of n documents a rule comes to different decisions for different dear scores.

    Args:
        rule: over ``dear`` and columns of the frame.
        frame: n rows.
        trials: dear scores that are tried.
    """
    told = [frame.with_columns(dear=pl.lit(trial, pl.Float64)).select(rule.alias("keep"))["keep"] for trial in trials]
    found = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
    for decision in told[1:]:
        found |= decision.ne_missing(told[0])
    return found


def _figures(
    scores: Floats, keep: npt.NDArray[np.bool_], matters: npt.NDArray[np.bool_], low: float, high: float
) -> Figures:
    called = matters & (scores >= low) & (scores < high)
    decided = np.where(matters, (scores >= high) | (called & keep), keep)
    both = int((decided & keep).sum())
    return Figures(
        recall=wilson(both, int(keep.sum())),
        precision=wilson(both, int(decided.sum())),
        agreement=wilson(int((decided == keep).sum()), len(keep)),
        called=wilson(int(called.sum()), len(keep)),
        open=wilson(int(matters.sum()), len(keep)),
    )


def run_cascade(bands: Bands, rule: pl.Expr, frame: pl.DataFrame, dear: Callable[[], Scorer]) -> pl.DataFrame:
    """Decide n documents.

    Args:
        bands: the skip bands.
        rule: the full ensemble's decision, over ``dear`` and columns of the frame.
        frame: ``text``, the cheap score and the columns of the rule.
        dear: gives the dear scorer; not even called where every document is decided without it.

    Returns:
        n rows of score (Float32, the dear one; null where it was not needed), called and keep (Boolean). A document
        without a cheap score is read where the rule depends on the dear one; one without a dear score then has no
        decision.
    """
    columns = frame.with_columns(pl.col(bands.cheap).cast(pl.Float64).fill_nan(None))
    cheap = columns[bands.cheap]
    matters = depends(rule, columns, bands.trials)
    needed = matters & ((cheap >= bands.low) & (cheap < bands.high)).fill_null(True)
    scores = np.full(frame.height, np.nan, np.float32)
    if needed.any():
        scores[needed.to_numpy()] = dear().score(frame["text"].filter(needed))
    found = pl.Series("dear", scores.astype(np.float64)).fill_nan(None)
    judged = columns.with_columns(found).select(rule.alias("keep"))["keep"]
    # Where the dear score does not matter, any does: the rule itself has decided.
    closed = columns.with_columns(dear=pl.lit(bands.trials[0], pl.Float64)).select(rule.alias("keep"))["keep"]
    keep = judged.zip_with(needed, (cheap >= bands.high).zip_with(matters, closed))
    return pl.DataFrame([found.cast(pl.Float32).alias("score"), needed.alias("called"), keep.alias("keep")])


def read_bands(path: Path) -> Bands:
    """Read skip bands that ``fineedu ensemble cascade`` wrote.

    Raises:
        FineeduError: missing, or not bands.
    """
    return read_model(
        path,
        Bands,
        f"no skip bands at {path}: fit them with fineedu ensemble cascade",
        f"{path} holds no skip bands of fineedu",
    )
