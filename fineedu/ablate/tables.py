"""All figures as files: parquet, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import fineedu
from fineedu.ablate.evaluate import Ablation
from fineedu.ablate.source import read_rows
from fineedu.evaluate.resample import Estimate
from fineedu.pool import Pool
from fineedu.report.display import clean
from fineedu.store import atomic_open, write_json

_EXCERPT = 320
#: Cells up to which the overlap is in the JSON file too.
_SMALL = 200


def cell_table(found: Ablation) -> pl.DataFrame:
    """Return a row a cell: settings, sizes, copies, proxy rate, measures with their intervals, front and wins."""
    columns: dict[str, Any] = {
        "cell": [cell.name for cell in found.cells],
        "hash": [cell.hash for cell in found.cells],
        "documents": np.diag(found.shared).astype(np.int64),
        "documents_repeated": found.totals[:, 0].astype(np.int64),
        "tokens": found.totals[:, 1].astype(np.int64),
        "bytes": found.totals[:, 2].astype(np.int64) if found.columns["bytes"] else [None] * len(found.cells),
        "share_of_documents": np.diag(found.shared) / found.pool_totals[0],
        "share_of_tokens": found.totals[:, 1] / max(found.pool_totals[1], 1),
        "proxy_per_million_words": found.proxy_rate,
    }
    if found.copies is not None:
        columns["copies_share"] = found.copies[0]
    for shift in found.shifts:
        columns[f"shift_{shift.property}_bits"] = shift.from_pool
        columns[f"shift_{shift.property}_from_first_bits"] = shift.from_first
    if found.scores is not None:
        columns |= {"labelled_kept": found.scores.kept, "labelled_hits": found.scores.hits}
        for name, each in (
            ("precision", found.scores.precision),
            ("recall", found.scores.recall),
            ("f1", found.scores.f1),
        ):
            columns |= _estimates(name, each)
    if found.front is not None and found.front_share is not None:
        columns |= {"on_front": found.front, "on_front_share": found.front_share}
    for number, advice in enumerate(found.advice):
        columns[f"chosen_share_{number}_{advice.rule}"] = advice.wins
    table = pl.DataFrame(columns).with_columns(pl.col(pl.Float64).fill_nan(None))
    return table.with_columns(settings=pl.Series([_flat(cell.settings) for cell in found.cells], dtype=pl.String))


def _flat(settings: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in settings.items())


def _estimates(name: str, each: Sequence[Estimate]) -> dict[str, list[float | None]]:
    return {
        name: [found.value for found in each],
        f"{name}_low": [found.low for found in each],
        f"{name}_high": [found.high for found in each],
    }


def overlap_table(found: Ablation) -> pl.DataFrame:
    """Return a row for every two cells: documents in both, and Jaccard by documents and by tokens."""
    first, second = np.triu_indices(len(found.cells), 1)
    names = np.array([cell.name for cell in found.cells])
    return pl.DataFrame(
        {
            "cell": names[first],
            "other": names[second],
            "documents_in_both": found.shared[first, second].astype(np.int64),
            "jaccard": found.jaccard[first, second],
            "jaccard_tokens": found.jaccard_tokens[first, second],
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))


def shift_table(found: Ablation) -> pl.DataFrame:
    """Return a row for every cell, property and value: documents, tokens and their shares; ``(pool)`` is all."""
    frames = []
    for shift in found.shifts:
        seen = np.flatnonzero(shift.pool_documents)
        values = np.array(shift.values)[seen]
        names = ["(pool)", *(cell.name for cell in found.cells)]
        documents = np.vstack([shift.pool_documents, shift.documents])
        tokens = np.vstack([shift.pool_tokens, shift.tokens])
        for name, here, weight in zip(names, documents, tokens, strict=True):
            frames.append(
                pl.DataFrame(
                    {
                        "cell": [name] * len(seen),
                        "property": [shift.property] * len(seen),
                        "value": values,
                        "documents": here[seen].astype(np.int64),
                        "tokens": weight[seen].astype(np.int64),
                        "share_of_documents": here[seen] / max(here.sum(), 1),
                        "share_of_tokens": weight[seen] / max(weight.sum(), 1),
                    }
                )
            )
    empty = {"cell": pl.String(), "property": pl.String(), "value": pl.String()}
    return pl.concat(frames) if frames else pl.DataFrame(schema=empty)


def sample_table(found: Ablation, pool: Pool) -> pl.DataFrame:
    """Return a row for every sampled document: kept by ``cell``, dropped by ``neighbour``; with its text's start."""
    rows = sorted({row for each in found.samples for row in each})
    shown = shown_documents(pool, rows)
    pairs = [
        {"cell": found.cells[a].name, "neighbour": found.cells[b].name, "row": row}
        for (a, b), each in zip(found.pairs, found.samples, strict=True)
        for row in each
    ]
    empty = {"cell": pl.String(), "neighbour": pl.String(), "row": pl.Int64()}
    return pl.DataFrame(pairs, schema=empty).join(shown, on="row", how="left", maintain_order="left").drop("row")


def shown_documents(pool: Pool, rows: Sequence[int]) -> pl.DataFrame:
    """Return what is shown of documents, by their number in the pool: id, url, title, and the start of the text."""
    wanted = ["id", *(name for name in ("url", "title", "text") if pool.owners.get(name) == pool.owners["id"])]
    table = read_rows(pool, rows, wanted)
    absent = [pl.lit(None, pl.String).alias(name) for name in ("url", "title", "text") if name not in wanted]
    cleaned = (
        pl.col("text")
        .str.slice(0, 4 * _EXCERPT)
        .map_elements(lambda text: clean(text, _EXCERPT), return_dtype=pl.String)
    )
    return table.with_columns(absent).with_columns(cleaned).select("row", "id", "url", "title", "text")


def summary(found: Ablation) -> dict[str, Any]:
    """Return all figures for JSON; of more than 200 cells the overlap and the shifts' values are in the tables only."""
    cells = cell_table(found)
    told: dict[str, Any] = {
        "ablation": found.config.name,
        "fineedu": fineedu.__version__,
        "config": found.config.model_dump(mode="json"),
        "pool": {
            "documents": int(found.pool_totals[0]),
            "tokens": int(found.pool_totals[1]),
            "bytes": int(found.pool_totals[2]),
        },
        "columns": found.columns,
        "tokens_estimated": found.estimated_tokens,
        "notes": list(found.notes),
        "labels": _labels(found),
        "cells": [
            {name: value for name, value in row.items() if name != "settings"} | {"settings": cell.settings}
            for row, cell in zip(cells.iter_rows(named=True), found.cells, strict=True)
        ],
        "recommendations": [
            {
                "rule": advice.words,
                "cell": None if advice.cell is None else found.cells[advice.cell].name,
                "share_of_resamples": None if advice.cell is None else float(advice.wins[advice.cell]),
                "none_share": advice.none,
            }
            for advice in found.advice
        ],
    }
    if len(found.cells) <= _SMALL:
        told["jaccard"] = [[None if math.isnan(x) else round(x, 6) for x in row] for row in found.jaccard.tolist()]
    return told


def _labels(found: Ablation) -> dict[str, Any] | None:
    if found.truth is None:
        return None
    scores = found.scores
    return {
        "what": found.truth.words,
        "documents": 0 if scores is None else scores.n,
        "positives": 0 if scores is None else scores.positives,
        "without_a_label": found.truth.without,
        "not_in_the_pool": found.not_in_pool,
        "intervals": None if scores is None else scores.method,
    }


def write_tables(folder: Path, found: Ablation, pool: Pool) -> None:
    """Write ``cells``, ``overlap``, ``shifts`` and ``samples`` as parquet and CSV, and ``ablation.json``.

    Raises:
        FineeduError: a file cannot be written.
    """
    tables = {
        "cells": cell_table(found),
        "overlap": overlap_table(found),
        "shifts": shift_table(found),
        "samples": sample_table(found, pool),
    }
    for name, table in tables.items():
        with atomic_open(folder / f"{name}.parquet") as stream:
            table.write_parquet(stream, compression="zstd")
        with atomic_open(folder / f"{name}.csv") as stream:
            table.write_csv(stream)
    write_json(folder / "ablation.json", summary(found))
