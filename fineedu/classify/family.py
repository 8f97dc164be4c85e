"""What a family of classifiers is: the one interface behind which fastText, encoders and static embeddings stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError

Array = npt.NDArray[np.float64]

#: name in ``bundle.json`` and ``train.yaml`` to the class; imported when asked for
FAMILIES = {
    "fasttext": "fineedu.classify.fasttext:FastTextClassifier",
    "encoder": "fineedu.classify.encoder_classifier:EncoderClassifier",
    "static": "fineedu.classify.static:StaticClassifier",
}


@dataclass(frozen=True, slots=True)
class Targets:
    """What documents should score.

    ``values`` is n×m: one column of scores, or one column of probability for each topic (soft labels; a hard one is a
    row with a single 1). ``weights`` holds n weights of documents.
    """

    values: Array
    weights: Array

    def rows(self, rows: npt.NDArray[np.int64]) -> Targets:
        """Return some of the documents."""
        return Targets(self.values[rows], self.weights[rows])


class Classifier(ABC):
    """A model over prepared texts.

    Reading (tokenising, embedding) does not depend on labels, so it is a step of its own: cross-validation reads once
    and fits many times. ``score`` does both.
    """

    family: ClassVar[str]
    #: names of the columns of ``score``: one of scores, k of topics, or both in this order; then ``extra``
    outputs: tuple[str, ...] = ("score",)
    #: columns of the unlabelled text whose classes are learned before any score
    columns: tuple[str, ...] = ()
    #: columns after the outputs that are measured on the way, e.g. the share of the text that was read
    extra: tuple[str, ...] = ()

    @classmethod
    def make(
        cls, settings: dict[str, Any], *, outputs: tuple[str, ...], seed: int, work: Path, lessons: Any = None
    ) -> Classifier:
        """Return a classifier that can be fitted.

        Args:
            settings: the family's, as a recipe's ``model`` has them.
            outputs: ``("score",)`` or the topics.
            seed: of all chance.
            work: folder for files on the way; it must stay until the classifier is saved.
            lessons: rows of unlabelled text, for layers that learn before the head does.

        Raises:
            FineeduError: the family cannot be trained, or a package is missing.
        """
        raise FineeduError(f"models of the family {cls.family!r} cannot be trained here")

    @abstractmethod
    def read(self, texts: pl.Series) -> Any:
        """Turn n prepared texts into what ``fit_read`` and ``score_read`` take; slice it with ``take``."""

    @staticmethod
    def take(found: Any, rows: npt.NDArray[np.int64]) -> Any:
        """Return some of the texts that have been read."""
        return found[rows] if isinstance(found, pl.Series) else found.take(rows)

    def learn_classes(self, found: Any, classes: Mapping[str, npt.NDArray[np.int64]], topics: str | None) -> None:
        """Learn classes of texts that have been read, before any score.

        Args:
            found: n texts as read.
            classes: name of the column to n class numbers.
            topics: column whose probabilities are to be told beside the score, or None.

        Raises:
            FineeduError: the family tells a score or topics, not both.
        """
        raise FineeduError(f"family {self.family}: a model tells a score or topics; both together: family encoder")

    @abstractmethod
    def fit_read(self, found: Any, targets: Targets) -> Self:
        """Fit on texts that have been read."""

    @abstractmethod
    def score_read(self, found: Any) -> Array:
        """Score texts that have been read; n × (outputs + extra), NaN where there is no text."""

    @abstractmethod
    def save(self, folder: Path) -> tuple[str, ...]:
        """Write the weights; return the names of the files, the main one first."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, bundle: Any) -> Classifier:
        """Return the classifier of a bundle that has been read and whose files are checked."""

    def settings(self) -> dict[str, Any]:
        """Return what ``load`` needs beside the files, JSON-ready: it goes to the bundle's ``settings``."""
        return {}

    def fit(self, texts: pl.Series, targets: Targets) -> Self:
        """Fit on n prepared texts."""
        return self.fit_read(self.read(texts), targets)

    def score(self, texts: pl.Series) -> Array:
        """Score n prepared texts; see ``score_read``."""
        return self.score_read(self.read(texts))


def family_class(name: str) -> type[Classifier]:
    """Return the class of a family, importing its module."""
    module, _, attribute = FAMILIES[name].partition(":")
    found: type[Classifier] = getattr(import_module(module), attribute)
    return found
