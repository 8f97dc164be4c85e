"""Labels and unlabelled text for training, on one scale."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.classify.recipe import TopicFile
from fineedu.errors import FineeduError
from fineedu.store import hash_file

Array = npt.NDArray[np.float64]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read gzipped JSON lines.

    Raises:
        FineeduError: missing or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return [json.loads(line) for line in stream]
    except (OSError, EOFError, ValueError) as error:
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

    def on_target_scale(self, rows: Sequence[int], second_weight: float) -> tuple[Array, Array]:
        """Return one score a document on the target annotator's scale, and its weight.

        The second annotator's scores are mapped by a straight line fitted on those of the rows that both have scored.
        Where both are there, the target annotator counts three times as much.
        """
        target, second = self.target[rows], self.second[rows]
        both = ~np.isnan(target) & ~np.isnan(second)
        if both.sum() >= 5:
            slope, offset = np.polyfit(second[both], target[both], 1)
        else:
            slope, offset = 1.0, float(np.nanmean(target) - np.nanmean(second))
        mapped = slope * second + offset
        score = np.where(np.isnan(target), mapped, np.where(np.isnan(second), target, 0.75 * target + 0.25 * mapped))
        return score, np.where(np.isnan(target), second_weight, 1.0)


def read_labels(target: Path, second: Path | None) -> Labels:
    """Read two label files; a document that one annotator scored several times gets the mean."""
    texts: dict[str, str] = {}
    scores: list[dict[str, list[float]]] = [defaultdict(list), defaultdict(list)]
    files = {}
    for place, path in enumerate(path for path in (target, second) if path is not None):
        for row in read_rows(path):
            texts.setdefault(row["id"], row["text"])
            scores[place][row["id"]].append(float(row["score"]))
        files[path.name] = hash_file(path)
    ids = sorted(texts)
    first, other = (np.array([np.mean(part[i]) if i in part else np.nan for i in ids]) for part in scores)
    return Labels(ids, [texts[i] for i in ids], first, other, files)


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


def read_topics(data: Path, source: TopicFile) -> Topics:
    """Read documents with topics, ordered by id.

    Raises:
        FineeduError: a file is missing or damaged, or a topic has no name.
    """
    path = data / source.file
    rows = sorted(read_rows(path), key=lambda row: str(row["id"]))
    try:
        names = tuple(json.loads((data / source.names).read_text(encoding="utf-8"))[source.key])
        numbers = np.array([int(row[source.column]) for row in rows])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FineeduError(f"topics of {path} named by {data / source.names}: {error!r}") from error
    if not len(numbers) or numbers.min() < 0 or numbers.max() >= len(names):
        raise FineeduError(f"{path}: {source.column} must be from 0 to {len(names) - 1}")
    files = {path.name: hash_file(path)}
    return Topics([row["id"] for row in rows], [row["text"] for row in rows], numbers, names, files)
