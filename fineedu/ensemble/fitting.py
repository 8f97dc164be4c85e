"""From pools and labels to stacks and skip bands: what ``fineedu ensemble`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fineedu.classify.bundle import bundle_folder, load_bundle
from fineedu.ensemble.cascade import Bands, fit_cascade
from fineedu.ensemble.stack import StackModel, fit_stack
from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids
from fineedu.labels import read_labels
from fineedu.pool import Pool
from fineedu.select.rules import compile_rule
from fineedu.store import write_json


def labelled(pool: Pool, labels: Sequence[Path], scores: Sequence[str]) -> pl.DataFrame:
    """Return the scores of labelled documents with the mean of their valid votes, one row a document.

    Raises:
        FineeduError: no labelled document is in the pool.
    """
    votes = read_labels(labels).filter(pl.col("state") == "ok", pl.col("score").is_not_null())
    means = votes.group_by("id").agg(pl.col("score").mean().alias("label"))
    pool.require(["id", *scores])
    found = [batch.join(means, on="id", how="inner") for batch in pool.batches(["id", *scores])]
    table = pl.concat(found).unique("id", keep="first") if found else pl.DataFrame()
    if not table.height:
        raise FineeduError(f"none of the {means.height:,} labelled documents is in {pool.root}: ids must be the same")
    return table


def make_stack(
    pool: Pool, labels: Sequence[Path], scores: Sequence[str], positive_from: float | None, seed: int, path: Path
) -> tuple[StackModel, int]:
    """Fit a stack and write it; see :func:`fineedu.ensemble.stack.fit_stack`."""
    table = labelled(pool, labels, scores)
    if positive_from is None:  # votes that do not agree have means between levels
        table = table.with_columns(pl.col("label").round(mode="half_to_even"))
    model, left_out = fit_stack(table, scores, positive_from=positive_from, seed=seed)
    write_json(path, model.model_dump(mode="json"))
    return model, left_out


def sample(pool: Pool, columns: Sequence[str], size: int, seed: int) -> pl.DataFrame:
    """Return the rows with the smallest hash of their id: a random sample, the same in any order of rows."""
    kept: pl.DataFrame | None = None
    wanted = list(dict.fromkeys(["id", *columns]))
    for batch in pool.batches(wanted):
        rows = batch.with_columns(pl.Series("_order", hash_ids(batch["id"], seed)))
        kept = (rows if kept is None else pl.concat([kept, rows])).bottom_k(size, by=["_order", "id"])
    if kept is None or not kept.height:
        raise FineeduError(f"{pool.root} has no documents")
    return kept.sort("_order", "id").drop("_order")


def make_bands(
    pool: Pool,
    cheap: str,
    dear: str,
    rule: str,
    *,
    recall: float,
    precision: float,
    size: int,
    seed: int,
    path: Path,
) -> Bands:
    """Fit skip bands on a random sample and write them.

    Args:
        pool: scored documents.
        cheap: column of the cheap score.
        dear: column of the dear score, or a bundle, which then scores the sample.
        rule: the full ensemble's decision over ``dear`` and columns of the pool.
        recall: wanted.
        precision: wanted.
        size: documents of the sample; half of them fit, half measure.
        seed: of sample and halves.
        path: where to write.
    """
    column = dear in pool.schema
    compile_rule(rule, pool.schema | {"dear": pl.Float64()})
    further = [name for name in pl.sql_expr(rule).meta.root_names() if name != "dear"]
    rows = sample(pool, [cheap, *further, dear if column else "text"], size, seed)
    if column:
        rows = rows.with_columns(pl.col(dear).alias("dear"))
    else:
        scores = load_bundle(bundle_folder(dear)).score(rows["text"])
        rows = rows.with_columns(pl.Series("dear", np.asarray(scores, np.float64)))
    bands = fit_cascade(rows, cheap, rule, recall=recall, precision=precision, seed=seed)
    write_json(path, bands.model_dump(mode="json"))
    return bands
