"""Any model bundle as a signal family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from fineedu.classify.bundle import Bundle, bundle_folder, load_bundle, read_bundle
from fineedu.errors import FineeduError
from fineedu.signals.base import SignalFamily


class ClassifierSignals(SignalFamily):
    """What a bundle says of a document.

    A score gives ``<prefix>_score`` (raw), ``<prefix>_int_score`` (``round(clip(score, 0, 5))``, halves to even) and
    ``<prefix>_percentile`` (0 to 100 in the text that the bundle names); topics give ``<prefix>_topic`` and
    ``<prefix>_topic_confidence``; a model that tells both gives all of these in one pass; one that reads only so much
    of a text gives ``<prefix>_share_read``. The columns
    lie in ``signals/classifier-<prefix>/``, so that a recipe can name the family several times.

    Args:
        model: name of a shipped bundle, or the path of a bundle's folder.
        prefix: of the columns; default: the bundle's name with underscores.
    """

    name: ClassVar[str] = "classifier"

    def __init__(self, model: str, prefix: str | None = None) -> None:
        self._folder = bundle_folder(model)
        self.prefix = prefix or self._bundle.name.replace("-", "_")
        if not self.prefix.isidentifier():
            raise FineeduError(f"classifier prefix {self.prefix!r}: letters, digits and '_' only")
        self.name = f"classifier-{self.prefix}"  # type: ignore[misc]

    @property
    def _bundle(self) -> Bundle:
        return read_bundle(self._folder)

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns; null where there is no text."""
        bundle, columns = self._bundle, dict[str, pl.DataType]()
        if bundle.task == "score":
            columns |= {"score": pl.Float32(), "int_score": pl.UInt8()}
            if bundle.percentiles:
                columns["percentile"] = pl.Float32()
        if bundle.labels:
            columns |= {"topic": pl.String(), "topic_confidence": pl.Float32()}
        if bundle.reads_a_share:
            columns["share_read"] = pl.Float32()
        return {f"{self.prefix}_{name}": dtype for name, dtype in columns.items()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the values depend on: weights, preparation, settings and calibration."""
        return super().fingerprint | self._bundle.fingerprint

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Score a batch."""
        found = load_bundle(self._folder).measure(documents["text"])
        if "score" in found.columns:
            rounded = found["score"].clip(0, 5).round(mode="half_to_even").cast(pl.UInt8)
            found.insert_column(1, rounded.rename("int_score"))
        return found.rename({name: f"{self.prefix}_{name}" for name in found.columns})


class TopicSignals(SignalFamily):
    """The topic of a document, of 24: ``topic`` and ``topic_confidence``.

    Args:
        model: name of a shipped bundle that tells topics, or the path of a bundle's folder.
    """

    name: ClassVar[str] = "topic"

    def __init__(self, model: str = "topic-fasttext") -> None:
        self._folder = bundle_folder(model)
        if not read_bundle(self._folder).labels:
            raise FineeduError(f"topic: model {model!r} has scores, not topics; use the family 'classifier'")

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns; null where there is no text."""
        return {"topic": pl.String(), "topic_confidence": pl.Float32()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the values depend on: weights, preparation and settings."""
        return super().fingerprint | read_bundle(self._folder).fingerprint

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Tell the topics of a batch."""
        return load_bundle(self._folder).measure(documents["text"]).select("topic", "topic_confidence")
