"""Labels as a signal: what annotators said of a document."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from fineedu.errors import FineeduError
from fineedu.labels import read_labels
from fineedu.signals.base import SignalFamily
from fineedu.store import hash_file


@cache
def _aggregated(paths: tuple[str, ...]) -> pl.DataFrame:
    """Return one row a labelled document: mean score, commonest topic, and how many valid votes it has."""
    votes = read_labels([Path(path) for path in paths]).filter(pl.col("state") == "ok")
    topics = (
        votes.drop_nulls("topic")
        .group_by("id", "topic")
        .len()
        # Of topics with as many votes the first by name, so that the order of files decides nothing.
        .sort("id", pl.col("len"), "topic", descending=[False, True, False])
        .unique("id", keep="first", maintain_order=True)
        .select("id", label_topic="topic")
    )
    scores = votes.group_by("id").agg(
        pl.col("score").mean().cast(pl.Float32).alias("label_score"), pl.len().cast(pl.UInt16).alias("label_votes")
    )
    return scores.join(topics, on="id", how="left").select("id", "label_score", "label_topic", "label_votes")


class LabelSignals(SignalFamily):
    """``label_score`` (mean of the valid votes), ``label_topic`` (the commonest) and ``label_votes``, by document id.

    A document that nobody labelled has nulls, and 0 votes.

    Args:
        files: a label file or several, parquet or JSON lines, as ``fineedu annotate`` writes them.
    """

    name: ClassVar[str] = "labels"
    inputs: ClassVar[tuple[str, ...]] = ("id",)

    def __init__(self, files: str | list[str]) -> None:
        self._paths = (files,) if isinstance(files, str) else tuple(files)
        for path in self._paths:
            if not Path(path).is_file():
                raise FineeduError(f"labels: no label file at {path}")

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns."""
        return {"label_score": pl.Float32(), "label_topic": pl.String(), "label_votes": pl.UInt16()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the values depend on: the content of the files, in any order."""
        return super().fingerprint | {"files_sha256": sorted(hash_file(Path(path)) for path in self._paths)}

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Look a batch up."""
        found = documents.select("id").join(_aggregated(self._paths), on="id", how="left", maintain_order="left")
        return found.drop("id").with_columns(pl.col("label_votes").fill_null(0))
