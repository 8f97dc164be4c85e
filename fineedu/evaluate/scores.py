"""Where scores come from: a bundle that scores the texts, or a file of predictions; and what training has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from fineedu.errors import FineeduError
from fineedu.labels import read_labels
from fineedu.store import hash_file

_PREDICTIONS = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of documents."""

    #: of the model, for people
    model: str
    #: ``id`` and ``score``, null where the model gave none
    table: pl.DataFrame
    #: number of labels to ``id`` and ``score``: held-out scores of models trained on fewer labels, for a learning curve
    by_labels: dict[int, pl.DataFrame] = field(default_factory=dict)
    #: what is known of the model's training: nothing, hashes of label files, or single documents
    training: Literal["nothing", "files", "documents"] = "nothing"
    #: ids of documents that the model was trained on
    seen: frozenset[str] = frozenset()


def is_predictions(model: str) -> bool:
    """Tell whether a model is named by a file of predictions."""
    return model.endswith(_PREDICTIONS)


def read_predictions(path: Path) -> Scores:
    """Read a file of predictions: parquet or JSON lines with ``id`` and ``score``.

    With a column ``n_labels`` too, the scores for the most labels are the model's, and all make a learning curve.

    Raises:
        FineeduError: missing, damaged, a column is missing, or an id is there twice.
    """
    try:
        table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read the predictions {path}: {str(error).splitlines()[0]}") from error
    missing = [name for name in ("id", "score") if name not in table.columns]
    if missing:
        raise FineeduError(
            f"{path} has no column {' and no column '.join(map(repr, missing))}: predictions need id and score; "
            f"it has {', '.join(table.columns[:8])}"
        )
    if not table["score"].dtype.is_numeric() and table["score"].dtype != pl.Null:
        raise FineeduError(f"{path}: score is {table['score'].dtype}, not a number")
    columns = (pl.col("id").cast(pl.String), pl.col("score").cast(pl.Float64).fill_nan(None))
    parts = (
        {0: table} if "n_labels" not in table.columns else {size: part for (size,), part in table.group_by("n_labels")}
    )
    scores = {int(size): part.select(columns).sort("id") for size, part in sorted(parts.items())}
    for found in scores.values():
        twice = found.filter(pl.col("id").is_duplicated())["id"].unique().sort()
        if len(twice):
            raise FineeduError(f"{path} has {len(twice):,} ids more than once, {twice[0]!r} for instance")
    if not scores:
        raise FineeduError(f"{path} holds no predictions")
    return Scores(path.name, scores[max(scores)], scores if len(scores) > 1 else {})


def score_bundle(model: str, documents: pl.DataFrame, label_files: Sequence[Path]) -> Scores:
    """Score documents with a bundle, and find those that it was trained on.

    A bundle's training is known by what ``bundle.json`` says under ``training``: ``files`` (name to SHA-256 of the
    label files; all their documents count as seen), ``ids`` and ``document_hashes``, as far as they are there.

    Args:
        model: name of a shipped bundle, or the path of a bundle's folder.
        documents: ``id``, ``text`` and, where known, ``document_hash``.
        label_files: files that the labels came from.

    Raises:
        FineeduError: no such bundle, it does not load, or the texts are not known.
    """
    from fineedu.classify.bundle import bundle_folder, load_bundle

    folder = bundle_folder(model)
    if "text" not in documents.columns or documents["text"].null_count() == len(documents):
        raise FineeduError(
            "the labels have no text to score: give --documents STORE, the folder of a run that holds the documents, "
            "or a file of predictions (columns id, score) in place of the model"
        )
    bundle = load_bundle(folder)
    scores = pl.Series("score", bundle.score(documents["text"].fill_null("")), dtype=pl.Float64).fill_nan(None)
    training = bundle.bundle.training
    table = pl.DataFrame([documents["id"], scores]).sort("id")
    return Scores(
        bundle.bundle.name,
        table,
        training=_known(training),
        seen=_seen(training, documents, label_files),
    )


def _known(training: dict[str, Any]) -> Literal["nothing", "files", "documents"]:
    """Return how exactly a bundle says what it was trained on."""
    if {"ids", "document_hashes"} & training.keys():
        return "documents"
    return "files" if "files" in training else "nothing"


def _seen(training: dict[str, Any], documents: pl.DataFrame, label_files: Sequence[Path]) -> frozenset[str]:
    """Return the ids of documents that a bundle says it was trained on."""
    hashes = set(training.get("files", {}).values())
    seen = set(map(str, training.get("ids", ())))
    for path in label_files:
        if hash_file(path) in hashes:
            seen |= set(read_labels(path)["id"].to_list())
    known = training.get("document_hashes", ())
    if known and "document_hash" in documents.columns:
        seen |= set(documents.filter(pl.col("document_hash").is_in(list(known)))["id"].to_list())
    return frozenset(seen)
