"""Percentiles of score columns over a pool: which score puts a document into which bucket."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from fineedu.errors import FineeduError
from fineedu.pool import Pool, Weight, find_weight
from fineedu.sketch import CELLS, KeySketch, key_values, sort_keys
from fineedu.store import read_model, write_json

#: Nemotron-CC's: 19 thresholds, 20 buckets.
PERCENTS = tuple(range(5, 100, 5))
#: Points of the reference distribution that drift is measured against: the KS distance is then too low by at most
#: 1/200, plus the weight of one cell.
_POINTS = 200
#: Languages with fewer scored documents have no thresholds of their own: with 1,000, a 5 % threshold lies between
#: the true 3.6 % and 6.4 % point (95 %, 1.96 * sqrt(0.05 * 0.95 / 1000)).
MIN_DOCUMENTS = 1000

Floats = npt.NDArray[np.float64]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Distribution(_Strict):
    """One score in one part of the pool (all of it, or a language)."""

    #: ascending; bucket b holds thresholds[b - 1] <= score < thresholds[b]
    thresholds: list[float]
    #: share of the weight that each bucket really holds: ties and few documents make it differ from 5 %
    mass: list[float]
    #: documents in each bucket
    documents: list[int]
    #: documents without this score; they are in no bucket
    missing: int
    #: weight of the scored documents, in the table's unit
    weight: int
    #: low bits of a float32 that were given up to fit into memory; 0: the thresholds are exact
    lost_bits: int
    #: weight share of the heaviest cell where bits were given up, else 0: no percentile is off by more
    error: float
    #: reference distribution for drift: values, and the weight share at or below each
    values: list[float]
    cdf: list[float]

    def buckets(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return how many thresholds each of n scores has reached (``numpy.digitize``); NaN gives nonsense."""
        return np.searchsorted(np.asarray(self.thresholds, np.float32), scores, side="right").astype(np.uint8)


class PercentileTable(_Strict):
    """What ``fineedu calibrate`` writes."""

    format: Literal["fineedu-percentiles-1"] = "fineedu-percentiles-1"
    #: what the percentiles are of: tokens, bytes or documents
    unit: Literal["tokens", "bytes", "documents"]
    weight_column: str | None
    percents: list[float] = Field(min_length=1, max_length=254)
    #: score column to ``*`` (the whole pool) and languages to their distribution
    scores: dict[str, dict[str, Distribution]]
    #: fingerprint over every score's weight by value: the same for the same documents in any order and layout
    pool: str

    def of(self, score: str) -> dict[str, Distribution]:
        """Return the distributions of a score.

        Raises:
            FineeduError: the table does not have it.
        """
        if score not in self.scores:
            raise FineeduError(f"the percentile table has no score {score!r}; it has {', '.join(self.scores)}")
        return self.scores[score]

    @property
    def by_language(self) -> bool:
        """Whether a language may have thresholds of its own."""
        return any(len(parts) > 1 for parts in self.scores.values())

    def bucket(self, scores: pl.Series, languages: pl.Series | None = None) -> pl.Series:
        """Put scores into buckets.

        Args:
            scores: n scores; the series' name says which.
            languages: n languages; needed where the table has any. One without thresholds of its own takes the
                whole pool's.

        Returns:
            n UInt8, 0 to ``len(percents)``; null where the score is null or not finite.
        """
        parts = self.of(scores.name)
        numbers = scores.cast(pl.Float32)
        numbers = numbers.set(~numbers.is_finite(), None)
        plain = numbers.fill_null(0).to_numpy()
        found = parts["*"].buckets(plain)
        if languages is not None:
            for language in set(parts) - {"*"}:
                rows = (languages == language).fill_null(False).to_numpy()
                found[rows] = parts[language].buckets(plain[rows])
        return pl.Series(scores.name, found, dtype=pl.UInt8).set(numbers.is_null(), None)


def sketch_scores(
    frames: Iterator[pl.DataFrame], scores: Sequence[str], weight: Weight, by_language: bool, cells: int = CELLS
) -> tuple[dict[str, KeySketch], dict[str, pl.DataFrame]]:
    """Sum weights by score, one sketch a score.

    Args:
        frames: batches with the scores, the weight's column and, where asked for, ``language``.
        scores: columns.
        weight: what a document counts.
        by_language: keep languages apart.
        cells: distinct scores held exactly; see :class:`KeySketch`.

    Returns:
        Score to its sketch, and score to its documents without a score by language.
    """
    group = (pl.col("language").fill_null("?") if by_language else pl.repeat("*", pl.len())).alias("group")
    sketches = {score: KeySketch(["weight", "documents"], ["group"], cells) for score in scores}
    missing: dict[str, list[pl.DataFrame]] = {score: [] for score in scores}
    for frame in frames:
        base = frame.select(
            group, weight.expression.alias("weight"), pl.repeat(1, pl.len(), dtype=pl.Int64).alias("documents")
        )
        for score, sketch in sketches.items():
            rows = base.with_columns(sort_keys(frame[score]).alias("key"))
            sketch.update(rows)
            absent = rows.filter(pl.col("key").is_null()).group_by("group").agg(pl.len().alias("missing"))
            missing[score].append(absent)
    counted = {
        score: pl.concat(tables).group_by("group").agg(pl.col("missing").sum()) if tables else pl.DataFrame()
        for score, tables in missing.items()
    }
    return sketches, counted


def calibrate(
    pool: Pool,
    scores: Sequence[str],
    *,
    unit: str | None = None,
    by_language: bool = False,
    percents: Sequence[float] = PERCENTS,
    cells: int = CELLS,
) -> PercentileTable:
    """Compute the percentile table of a pool, in one pass and memory that does not grow with it.

    Args:
        pool: the documents.
        scores: numeric columns.
        unit: ``tokens``, ``bytes`` or ``documents``; None takes tokens where there is a column ``n_tokens``, else
            bytes.
        by_language: thresholds for each language of at least ``MIN_DOCUMENTS`` documents too.
        percents: ascending, between 0 and 100.
        cells: distinct scores held exactly.

    Raises:
        FineeduError: a column is missing or not numeric, the percents are not ascending, or no document is scored.
    """
    weight = _check(pool, scores, unit, percents)
    columns = [*scores, *([weight.column] if weight.column else []), *(["language"] if by_language else [])]
    sketches, missing = sketch_scores(pool.batches(columns), scores, weight, by_language, cells)
    found: dict[str, dict[str, Distribution]] = {}
    content = sha256()
    for score, sketch in sketches.items():
        table = sketch.table
        if table is None or not table["weight"].sum():
            raise FineeduError(f"{pool.root}: no document has a {score}")
        content.update(json.dumps([score, sketch.shift, table.height]).encode())
        content.update(table.select(pl.all().exclude("group")).to_numpy().tobytes())
        gone = dict(missing[score].iter_rows()) if missing[score].height else {}
        found[score] = _distributions(table, sketch.shift, gone, percents, by_language)
    return PercentileTable(
        unit=weight.unit,
        weight_column=weight.column,
        percents=[float(percent) for percent in percents],
        scores=found,
        pool=content.hexdigest()[:16],
    )


def _check(pool: Pool, scores: Sequence[str], unit: str | None, percents: Sequence[float]) -> Weight:
    pool.require(scores)
    for score in scores:
        if not pool.schema[score].is_numeric():
            raise FineeduError(f"{score} holds {pool.schema[score]}, not numbers: only numbers have percentiles")
    if not all(0 < low < high < 100 for low, high in zip([1e-9, *percents], [*percents, 99.999999], strict=True)):
        raise FineeduError(f"percents must ascend between 0 and 100, not {', '.join(map(str, percents))}")
    return find_weight(list(pool.schema), unit)


def _distributions(
    table: pl.DataFrame, shift: int, missing: dict[str, int], percents: Sequence[float], by_language: bool
) -> dict[str, Distribution]:
    whole = table.group_by("cell").agg(pl.col("weight", "documents").sum()).sort("cell")
    parts = {"*": _distribution(whole, shift, sum(missing.values()), percents)}
    if by_language:
        for (name,), part in table.group_by("group", maintain_order=True):
            if part["documents"].sum() >= MIN_DOCUMENTS and part["weight"].sum():
                parts[str(name)] = _distribution(part, shift, missing.get(str(name), 0), percents)
    return parts


def _distribution(table: pl.DataFrame, shift: int, missing: int, percents: Sequence[float]) -> Distribution:
    """Read thresholds off summed weights: the inverted CDF, as ``numpy.quantile(method="inverted_cdf")`` does.

    A threshold is the lower edge of its cell, so that cells are never split and masses are exact.
    """
    cells = table["cell"].to_numpy()
    weights = table["weight"].to_numpy()
    running = np.cumsum(weights)
    total = int(running[-1])
    values = key_values(cells << np.uint64(shift))
    at = np.searchsorted(running, [percent / 100 * total for percent in percents])
    thresholds = values[np.minimum(at, len(values) - 1)]
    buckets = np.searchsorted(thresholds, values, side="right")
    size = len(percents) + 1
    grid = np.unique(np.searchsorted(running, np.arange(1, _POINTS + 1) / _POINTS * total).clip(max=len(values) - 1))
    return Distribution(
        thresholds=thresholds.tolist(),
        mass=(np.bincount(buckets, weights, size) / total).tolist(),
        documents=np.bincount(buckets, table["documents"].to_numpy(), size).astype(int).tolist(),
        missing=missing,
        weight=total,
        lost_bits=shift,
        error=float(weights.max()) / total if shift else 0.0,
        values=values[grid].tolist(),
        cdf=(running[grid] / total).tolist(),
    )


def write_table(path: Path, table: PercentileTable) -> None:
    """Write a percentile table as JSON."""
    write_json(path, table.model_dump(mode="json"))


def read_table(path: Path) -> PercentileTable:
    """Read a percentile table.

    Raises:
        FineeduError: missing, or not one.
    """
    return read_model(
        path,
        PercentileTable,
        f"no percentile table at {path}: write one with fineedu calibrate STORE --out {path}",
        f"{path} is no percentile table of fineedu",
    )


class Drift(_Strict):
    """How far a score's distribution in a pool lies from the table's."""

    score: str
    #: ``*``: all documents; or a language that has thresholds of its own
    part: str = "*"
    #: population stability index over the buckets: sum of (new - old) * ln(new / old); 0.1 is a small shift, 0.25 a
    #: large one by the usual reading
    psi: float
    #: Kolmogorov-Smirnov distance: the largest difference of the two cumulative shares
    ks: float
    #: scored documents of the new pool
    documents: int

    def __str__(self) -> str:
        of = "" if self.part == "*" else f" ({self.part})"
        return f"{self.score}{of}: PSI {self.psi:.3f}, KS {self.ks:.3f} (n = {self.documents:,})"


def measure_drift(table: PercentileTable, frames: Iterator[pl.DataFrame], scores: Sequence[str]) -> list[Drift]:
    """Compare scores with the table's distributions, weighted as the table is.

    Args:
        table: the table.
        frames: batches with :func:`drift_columns`.
        scores: which.

    Returns:
        For each score the whole pool, then each language that has thresholds of its own and enough documents here.
    """
    weight = Weight(table.unit, table.weight_column)
    sketches, _ = sketch_scores(frames, scores, weight, table.by_language)
    return [drift for score in scores for drift in _drifts(score, table.of(score), sketches[score])]


def drift_columns(table: PercentileTable, scores: Sequence[str]) -> list[str]:
    """Return the columns that :func:`measure_drift` reads."""
    weight = [table.weight_column] if table.weight_column else []
    return [*scores, *weight, *(["language"] if table.by_language else [])]


def _drifts(score: str, parts: dict[str, Distribution], sketch: KeySketch) -> Iterator[Drift]:
    found = sketch.table
    if found is None or not found["weight"].sum():
        yield Drift(score=score, psi=math.inf, ks=1.0, documents=0)
        return
    whole = found.group_by("cell").agg(pl.col("weight", "documents").sum()).sort("cell")
    yield _drift(score, "*", parts["*"], whole, sketch.shift)
    for (name,), part in found.group_by("group", maintain_order=True):
        if str(name) in set(parts) - {"*"} and part["documents"].sum() >= MIN_DOCUMENTS and part["weight"].sum():
            yield _drift(score, str(name), parts[str(name)], part, sketch.shift)


def _drift(score: str, part: str, old: Distribution, found: pl.DataFrame, shift: int) -> Drift:
    values = key_values(found["cell"].to_numpy() << np.uint64(shift))
    weights = found["weight"].to_numpy()
    shares = np.bincount(old.buckets(values), weights, len(old.mass)) / weights.sum()
    at = np.searchsorted(values, np.asarray(old.values, np.float32), side="right")
    running = np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])[at]
    below = np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])
    before = below[np.searchsorted(values, np.asarray(old.values[:1], np.float32), side="left")]
    # Below its first point the table held less than 1/200 of its weight; how much less it does not tell.
    ks = max(float(np.abs(running - np.asarray(old.cdf)).max()), float(before[0]) - 1 / _POINTS)
    psi = _psi(np.asarray(old.mass), shares)
    return Drift(score=score, part=part, psi=psi, ks=ks, documents=int(found["documents"].sum()))


def _psi(old: Floats, new: Floats) -> float:
    """Return the population stability index; a bucket empty in one pool counts as 0.01 %, in both not at all."""
    used = (old > 0) | (new > 0)
    old, new = np.maximum(old[used], 1e-4), np.maximum(new[used], 1e-4)
    return float(((new - old) * np.log(new / old)).sum())


class DriftPolicy(_Strict):
    """What to do where the pool is not what the table was made from."""

    action: Literal["warn", "refuse", "ignore"] = Field("warn", description="warn, refuse to go on, or do not look")
    psi: float = Field(0.2, gt=0, description="population stability index that is too much")
    ks: float = Field(0.15, gt=0, le=1, description="Kolmogorov-Smirnov distance that is too much")

    def judge(self, found: Sequence[Drift]) -> list[str]:
        """Return a warning for each score that has drifted.

        Raises:
            FineeduError: one has, and the action is ``refuse``.
        """
        drifted = [drift for drift in found if drift.psi > self.psi or drift.ks > self.ks]
        told = [
            f"the scores of this pool differ from those the percentiles were made from: {drift}; "
            f"allowed are PSI {self.psi:g} and KS {self.ks:g}"
            for drift in drifted
        ]
        if told and self.action == "refuse":
            raise FineeduError(f"{told[0]}. Calibrate on this pool, or set drift.action to warn.")
        return told


def describe(table: PercentileTable) -> list[dict[str, Any]]:
    """Return one row a score and part: n, missing, thresholds reached, lightest and heaviest bucket."""
    return [
        {
            "score": score,
            "part": part,
            "documents": sum(found.documents),
            "missing": found.missing,
            "buckets": sum(share > 0 for share in found.mass),
            "lightest": min(found.mass),
            "heaviest": max(found.mass),
            "error": found.error,
            "thresholds": found.thresholds,
        }
        for score, parts in table.scores.items()
        for part, found in parts.items()
    ]
