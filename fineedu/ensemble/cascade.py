"""Cheap score first, the dear one only where it can still change the decision."""

from __future__ import annotations

import math
from collections.abc import Callable
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


class Bands(_Strict):
    """Below ``low`` a document is dropped, from ``high`` on it is kept; between them the dear scorer decides."""

    format: Literal["fineedu-bands-1"] = "fineedu-bands-1"
    cheap: str
    low: float
    high: float
    #: the full ensemble's decision: SQL over the cheap score's column and ``dear``
    rule: str
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
        table: ``id``, the cheap score and ``dear``, the dear scorer's; a random sample of the pool.
        cheap: column of the cheap score.
        rule: the full ensemble's decision, e.g. ``dear > 2.5`` or ``dear > 2.5 AND edu_score > 1``.
        recall: wanted; see :func:`fit_bands`.
        precision: wanted.
        seed: of the halves.

    Raises:
        FineeduError: the rule is wrong, or a half holds no document that the full ensemble keeps.
    """
    from fineedu.select.rules import compile_rule

    for name, value in (("recall", recall), ("precision", precision)):
        if not 0.5 <= value <= 1:
            raise FineeduError(f"{name} {value}: give a share from 0.5 to 1")
    full = compile_rule(rule, {cheap: pl.Float64(), "dear": pl.Float64()})
    known = (
        table.with_columns(pl.col(cheap, "dear").cast(pl.Float64).fill_nan(None))
        .drop_nulls([cheap, "dear"])
        .sort("id")
        .with_columns(full.fill_null(False).alias("keep"))
    )
    scores, keep = known[cheap].to_numpy(), known["keep"].to_numpy()
    fitted = hash_ids(known["id"], seed).argsort().argsort() % 2 == 0
    if not keep[fitted].any() or not keep[~fitted].any():
        raise FineeduError(f"the rule {rule!r} keeps too few of {known.height} documents to fit bands on")
    low, high = fit_bands(scores[fitted], keep[fitted], recall, precision)
    return Bands(
        cheap=cheap,
        low=low,
        high=high,
        rule=rule,
        recall=recall,
        precision=precision,
        fitted_on=int(fitted.sum()),
        held_out=_figures(scores[~fitted], keep[~fitted], low, high),
    )


def _figures(scores: Floats, keep: npt.NDArray[np.bool_], low: float, high: float) -> Figures:
    called = (scores >= low) & (scores < high)
    decided = (scores >= high) | (called & keep)
    both = int((decided & keep).sum())
    return Figures(
        recall=wilson(both, int(keep.sum())),
        precision=wilson(both, int(decided.sum())),
        agreement=wilson(int((decided == keep).sum()), len(keep)),
        called=wilson(int(called.sum()), len(keep)),
    )


def run_cascade(bands: Bands, rule: pl.Expr, frame: pl.DataFrame, dear: Callable[[], Scorer]) -> pl.DataFrame:
    """Decide n documents.

    Args:
        bands: the skip bands.
        rule: the full ensemble's decision, over the cheap column and ``dear``.
        frame: ``text`` and the cheap score.
        dear: gives the dear scorer; not even called where every document is decided without it.

    Returns:
        n rows of score (Float32, the dear one; null where it was not needed), called and keep (Boolean). A document
        without a cheap score is always read; one without a dear score then has no decision.
    """
    cheap = frame[bands.cheap].cast(pl.Float64).fill_nan(None)
    needed = ((cheap >= bands.low) & (cheap < bands.high)).fill_null(True)
    scores = np.full(frame.height, np.nan, np.float32)
    if needed.any():
        scores[needed.to_numpy()] = dear().score(frame["text"].filter(needed))
    found = pl.Series("dear", scores.astype(np.float64)).fill_nan(None)
    judged = pl.DataFrame([cheap.alias(bands.cheap), found]).select(rule.alias("keep"))["keep"]
    keep = judged.zip_with(needed, cheap >= bands.high)
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
