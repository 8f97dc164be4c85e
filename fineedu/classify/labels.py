"""Labels and unlabelled text for training, on one scale."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.classify.recipe import TopicFile
from fineedu.errors import FineeduError
from fineedu.store import hash_file

Array = npt.NDArray[np.float64]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, gzipped or not, or Parquet.

    Raises:
        FineeduError: missing or damaged.
    """
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path).to_dicts()
        with (gzip.open if path.suffix == ".gz" else Path.open)(path, "rt", encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.strip()]
    except (OSError, EOFError, ValueError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"training data {path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Labels:
    """Documents with the scores of a target annotator and of a second one, either of which may be missing."""

    ids: list[str]
    texts: list[str]
    #: NaN where the annotator has not scored the document
    target: Array
    second: Array
    files: dict[str, str]
    #: who gave the scores: of the target, and of the second
    annotators: tuple[str, ...] = ()

    def on_target_scale(self, rows: Sequence[int], second_weight: float) -> tuple[Array, Array]:
        """Return one score a document on the target annotator's scale, and its weight.

        The second annotator's scores are mapped by a straight line fitted on those of the rows that both have scored.
        Where both are there, the target annotator counts three times as much.
        """
        target, second = self.target[rows], self.second[rows]
        if np.isnan(second).all():
            return target, np.ones(len(target))
        both = ~np.isnan(target) & ~np.isnan(second)
        if both.sum() >= 5:
            slope, offset = np.polyfit(second[both], target[both], 1)
        else:
            slope, offset = 1.0, float(np.nanmean(target) - np.nanmean(second))
        mapped = slope * second + offset
        score = np.where(np.isnan(target), mapped, np.where(np.isnan(second), target, 0.75 * target + 0.25 * mapped))
        return score, np.where(np.isnan(target), second_weight, 1.0)


def read_labels(target: Path, second: Path | None, *, documents: Path | None = None, expected: bool = False) -> Labels:
    """Read one or two label files: votes with a valid score; a document that has several gets their mean.

    Args:
        target: sets the scale.
        second: mapped to it.
        documents: store with the texts, where the label files have none.
        expected: take the expected score of the answer's probabilities where there is one (a soft label).

    Raises:
        FineeduError: a file is missing or damaged, has no valid score, or the text of a document is not known.
    """
    from fineedu.evaluate.votes import read_documents
    from fineedu.labels import read_labels as read_votes

    texts: dict[str, str] = {}
    scores: list[dict[str, float]] = [{}, {}]
    files, annotators = {}, []
    for place, path in enumerate(path for path in (target, second) if path is not None):
        score = pl.coalesce("expected_score", "score") if expected else pl.col("score")
        votes = (
            read_votes(path).with_columns(score=score).filter(pl.col("state") == "ok", pl.col("score").is_not_null())
        )
        if votes.is_empty():
            raise FineeduError(f"no vote in {path} has a valid score")
        if "text" not in votes.columns or votes["text"].null_count():
            if documents is None:
                raise FineeduError(
                    f"{path} has no texts: name the store that has them as labels.documents in the recipe"
                )
            votes = votes.drop("text", strict=False).join(read_documents(documents, votes["id"]), on="id", how="left")
            if votes["text"].null_count():
                raise FineeduError(f"{documents} does not have {votes['text'].null_count():,} documents of {path}")
        texts = dict(votes.select("id", "text").unique("id", keep="first", maintain_order=True).iter_rows()) | texts
        scores[place] = dict(votes.group_by("id").agg(pl.col("score").mean()).iter_rows())
        names = sorted(votes["annotator"].unique())
        annotators.append(names[0] if len(names) == 1 else f"{len(names)} annotators ({names[0]} … {names[-1]})")
        files[path.name] = hash_file(path)
    ids = sorted(texts)
    first, other = (np.array([part.get(i, np.nan) for i in ids]) for part in scores)
    return Labels(ids, [texts[i] for i in ids], first, other, files, tuple(annotators))


def read_unlabelled(path: Path, labels: Labels) -> list[dict[str, Any]]:
    """Return the rows of documents that are not among the labelled ones, by id or by how they begin."""
    known, beginnings = set(labels.ids), {text[:300] for text in labels.texts}
    return [row for row in read_rows(path) if row["id"] not in known and row["text"][:300] not in beginnings]


@dataclass(frozen=True, slots=True)
class Topics:
    """Documents with the number of their topic."""

    ids: list[str]
    texts: list[str]
    numbers: npt.NDArray[np.int64]
    names: tuple[str, ...]
    files: dict[str, str]


def read_classes(
    rows: Sequence[dict[str, Any]], columns: Sequence[str], names: dict[str, tuple[str, ...]]
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the class numbers of rows of unlabelled text, by column.

    Args:
        rows: of the text file.
        columns: of classes.
        names: of the classes of a column whose values are places in them; other values are numbered as they sort.

    Raises:
        FineeduError: a column is missing, or a value is no place among the names.
    """
    found = {}
    for column in columns:
        if any(column not in row for row in rows) or not rows:
            raise FineeduError(f"classes are learned from {column!r}, which the unlabelled text does not have")
        if column in names:
            numbers = np.array([int(row[column]) for row in rows])
            if numbers.min() < 0 or numbers.max() >= len(names[column]):
                raise FineeduError(f"unlabelled text: {column} must be from 0 to {len(names[column]) - 1}")
        else:
            numbers = np.unique([str(row[column]) for row in rows], return_inverse=True)[1]
        found[column] = np.asarray(numbers, np.int64)
    return found


def read_names(data: Path, source: TopicFile) -> tuple[str, ...]:
    """Read the names of topics.

    Raises:
        FineeduError: the file is missing or damaged.
    """
    path = data / source.names
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))[source.key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FineeduError(f"names of topics {path}: {error!r}") from error


def read_topics(data: Path, source: TopicFile) -> Topics:
    """Read documents with topics, ordered by id.

    Raises:
        FineeduError: a file is missing or damaged, or a topic has no name.
    """
    path = data / source.file
    rows, names = sorted(read_rows(path), key=lambda row: str(row["id"])), read_names(data, source)
    try:
        numbers = np.array([int(row[source.column]) for row in rows])
    except (ValueError, KeyError, TypeError) as error:
        raise FineeduError(f"topics of {path}: {error!r}") from error
    if not len(numbers) or numbers.min() < 0 or numbers.max() >= len(names):
        raise FineeduError(f"{path}: {source.column} must be from 0 to {len(names) - 1}")
    files = {path.name: hash_file(path)}
    return Topics([row["id"] for row in rows], [row["text"] for row in rows], numbers, names, files)
