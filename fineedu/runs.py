"""Finished runs: find them, explain a document, compare two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fineedu.columns import recipe_columns
from fineedu.errors import FineeduError
from fineedu.job import Job, Source
from fineedu.recipe import Recipe
from fineedu.remote import open_output
from fineedu.select.decide import joined_batches
from fineedu.select.rules import Rules, Verdict
from fineedu.signals.families import make_family, parse_entry
from fineedu.store import Shard, Store, fingerprint, read_batches, read_json


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run as its manifest tells it."""

    job: Job
    manifest: dict[str, Any]
    schema: Mapping[str, pl.DataType]
    owners: Mapping[str, str]


def find_run(output: str | Path, run: str | None) -> FinishedRun:
    """Load a finished run.

    Args:
        output: folder of the store.
        run: id of the run, its folder, or a beginning of the id that fits one run only; None takes the only run
            or the one that finished last.

    Raises:
        FineeduError: no such run, or several fit.
    """
    folder = Path(run) if run and (Path(run) / "manifest.json").is_file() else None
    if folder is None:
        found = sorted(open_output(output).glob("runs/*/manifest.json"), key=lambda path: path.stat().st_mtime)
        fitting = [path.parent for path in found if path.parent.name.startswith(run or "")]
        exact = [path for path in fitting if path.name == run]
        if not fitting:
            there = ", ".join(path.parent.name for path in found) or "none"
            raise FineeduError(f"no finished run {run or ''} in {output}; there: {there}")
        if run and not exact and len(fitting) > 1:
            raise FineeduError(f"{run!r} fits several runs: {', '.join(path.name for path in fitting)}")
        folder = (exact or fitting)[-1]
    manifest = read_json(folder / "manifest.json")
    recipe = Recipe.model_validate(manifest["recipe"])
    shards = {
        Shard(name.rpartition("/")[0], int(name.rpartition("/")[2])): Source(**source)
        for name, source in manifest["inputs"].items()
    }
    marks = {name: fingerprint(made) for name, made in manifest["made_by"].items()}
    families = [make_family(*parse_entry(entry)) for entry in recipe.signals]
    schema, owners = recipe_columns(recipe, families)
    job = Job(Store(folder.parent.parent), folder.name, recipe, shards, marks)
    return FinishedRun(job, manifest, schema, owners)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything the store knows of one document."""

    shard: Shard
    #: columns of documents and signals
    values: dict[str, Any]
    kept: bool
    reasons: list[str]
    verdicts: list[Verdict]


def explain(run: FinishedRun, document_id: str) -> Explanation:
    """Tell all signals of a document and what each rule made of them.

    Raises:
        FineeduError: no document of that id in the run.
    """
    store, job = run.job.store, run.job
    for shard in job.shards:
        ids = pl.scan_parquet(store.documents(shard)).filter(pl.col("id") == document_id).select("id").collect()
        if not ids.height:
            continue
        decisions = read_batches(store.decisions(job.run_id, shard), ["keep", "reasons"])
        columns = [column for column in run.schema if column != "id"]
        for batch, decision in zip(joined_batches(store, shard, run.owners, columns), decisions, strict=True):
            hit = batch.with_columns(decision).filter(pl.col("id") == document_id)
            if hit.height:
                row = hit.head(1)
                rules = Rules(job.recipe.select.rules, run.schema)
                values = row.row(0, named=True)
                kept, reasons = values.pop("keep"), values.pop("reasons")
                return Explanation(shard, values, kept, reasons, rules.explain(row))
    raise FineeduError(
        f"no document {document_id!r} in run {job.run_id} ({run.manifest['counts']['documents']} documents)"
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """What two runs do not share."""

    #: dotted setting to its value in either run
    settings: dict[str, tuple[Any, Any]]
    counts: dict[str, tuple[int, int]]
    #: documents kept by both, only by the first, only by the second
    both: int
    only_first: int
    only_second: int
    #: reason in the other run to documents that only the first or only the second keeps
    lost_by_second: dict[str, int]
    lost_by_first: dict[str, int]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


def _decisions(run: FinishedRun) -> pl.LazyFrame:
    paths = [run.job.store.decisions(run.job.run_id, shard) for shard in run.job.shards]
    return pl.scan_parquet(paths).select("id", "keep", "reasons").unique("id", keep="first", maintain_order=True)


def compare(first: FinishedRun, second: FinishedRun) -> Difference:
    """Compare two runs: settings, counts, and the documents that only one of them keeps."""
    parts = ("recipe", "made_by", "versions", "inputs")
    old, new = (
        {k: v for part in parts for k, v in _flat(run.manifest[part], f"{part}.").items()} for run in (first, second)
    )
    settings = {
        key: (old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)
    }
    counts = {
        key: (first.manifest["counts"][key], second.manifest["counts"][key])
        for key in ("pages", "documents", "kept", "kept_bytes")
    }
    joined = (
        _decisions(first)
        .join(_decisions(second), on="id", how="full", suffix="_2", coalesce=True)
        .with_columns(
            pl.col("keep", "keep_2").fill_null(False),
            pl.col("reasons", "reasons_2").fill_null(pl.lit(["not in this run"])),
        )
    )
    table = joined.filter(pl.col("keep") | pl.col("keep_2")).collect(engine="streaming")

    def lost(mine: str, other: str, reasons: str) -> dict[str, int]:
        found = table.filter(pl.col(mine) & ~pl.col(other))[reasons].explode().drop_nulls().value_counts(name="count")
        rows = found.sort(["count", reasons], descending=[True, False]).iter_rows()
        return {reason: count for reason, count in rows}

    return Difference(
        settings,
        counts,
        both=table.filter(pl.col("keep") & pl.col("keep_2")).height,
        only_first=table.filter(pl.col("keep") & ~pl.col("keep_2")).height,
        only_second=table.filter(~pl.col("keep") & pl.col("keep_2")).height,
        lost_by_second=lost("keep", "keep_2", "reasons_2"),
        lost_by_first=lost("keep_2", "keep", "reasons"),
    )
