"""The encoder family: an encoder with heads for a score, for topics, or for both in one pass."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.classify.aspects import Aspects
from fineedu.classify.encoder import TOKENIZER, WEIGHTS, Embedder, EncoderSettings, OnnxEmbedder
from fineedu.classify.family import Array, Classifier, Targets
from fineedu.classify.head import Head
from fineedu.classify.lexicon import Lexicon
from fineedu.classify.windows import WindowVectors
from fineedu.errors import FineeduError

HEAD, LEXICON, ASPECTS = "head.npz", "lexicon.npz", "aspects.npz"


class EncoderClassifier(Classifier):
    """An encoder with heads.

    Args:
        settings: how it is made.
        folder: with the exported encoder; of a trainable one, for its files on the way.
        embedder: of the exported encoder; None where layers learn from the scores and nothing is exported yet.
        outputs: ``("score",)``, the topics, or ``("score", *topics)``.
        seed: of the tuning.
    """

    family: ClassVar[str] = "encoder"
    extra = ("share_read",)

    def __init__(
        self,
        settings: EncoderSettings,
        folder: Path,
        embedder: Embedder | None,
        outputs: tuple[str, ...] = ("score",),
        seed: int = 1,
    ) -> None:
        self.config, self.outputs, self.seed = settings, outputs, seed
        self.columns = settings.aspects.columns
        self._embedder, self._folder = embedder, folder
        self._heads = [Head(settings.head) for _ in settings.views or (0,)]
        self._lexicon: Lexicon | None = None
        self._aspects = Aspects(settings.aspects)
        #: what the aspects learn from, where that has to wait for layers that learn; and the column of the topics
        self._lessons: tuple[pl.Series, Mapping[str, npt.NDArray[np.int64]]] | None = None
        self._topics: str | None = None

    @classmethod
    def make(
        cls, settings: dict[str, Any], *, outputs: tuple[str, ...], seed: int, work: Path, lessons: Any = None
    ) -> EncoderClassifier:
        """Export a checkpoint, tuned on classes where the settings ask for it, ready for its heads."""
        from fineedu.classify.export import export, require_encoder_training

        config = EncoderSettings.model_validate(settings)
        require_encoder_training()
        if config.tuning.from_scores:
            return cls(config, work, None, outputs, seed)
        found = None
        if config.tuning.columns:
            from fineedu.classify.tuning import CHARS_A_WINDOW, Lessons

            found = Lessons.from_rows(lessons or [], config.tuning.columns, config.windows.count * CHARS_A_WINDOW)
        texts = [row["text"] for row in lessons or []] if config.vocabulary or config.tuning.distill else []
        export(config, work, found, seed, texts)
        return cls(config, work, OnnxEmbedder(work, config.windows, bag=config.bag), outputs, seed)

    def read(self, texts: pl.Series) -> WindowVectors | pl.Series:
        """Embed texts, unless the layers are still to learn."""
        return texts if self.config.tuning.from_scores or self._embedder is None else self._embedder.embed(texts)

    def learn_classes(
        self,
        found: WindowVectors | pl.Series,
        classes: Mapping[str, npt.NDArray[np.int64]],
        topics: str | None,
    ) -> None:
        """Learn classes of texts that have been read; where layers learn from scores, as soon as those have."""
        self._topics = topics
        self._aspects = Aspects(self.config.aspects)
        if isinstance(found, pl.Series):
            self._lessons = found, classes
        else:
            self._aspects.learn(found.mean(), classes)

    def fit_read(self, found: WindowVectors | pl.Series, targets: Targets) -> Self:
        """Fit new heads on the documents' mean vectors, after the layers where those learn."""
        if isinstance(found, pl.Series):
            from fineedu.classify.export import export
            from fineedu.classify.tuning import Lessons

            lessons = Lessons(found, targets.values, targets.weights)
            export(self.config, self._folder, lessons, self.seed, found.to_list() if self.config.vocabulary else [])
            self._embedder = OnnxEmbedder(self._folder, self.config.windows, bag=self.config.bag)
            found = self._embedder.embed(found)
            if self._lessons is not None:
                texts, classes = self._lessons
                self._aspects.learn(self._embedder.embed(texts).mean(), classes)
        views = self.config.views or (None,)
        self._heads = [Head(self.config.head).fit(found.mean(view), targets) for view in views]
        if targets.values.shape[1] == 1:
            if self.config.bag:
                scores, alpha = targets.values[:, 0], self.config.lexicon.alpha
                self._lexicon = Lexicon.fit(found.bags, scores, targets.weights, alpha)
            if self.config.aspects.share:
                self._aspects.fit(found.mean(), targets)
        return self

    def score_read(self, found: WindowVectors | pl.Series) -> Array:
        """Score texts that have been read; the last column is the share of each that was read."""
        if isinstance(found, pl.Series):
            if self._embedder is None:
                raise FineeduError("the encoder has not been fitted")
            found = self._embedder.embed(found)
        if self.config.views:
            views = zip(self.config.views, self._heads, strict=True)
            scores = np.mean([head.predict(found.mean(view)) for view, head in views], axis=0)
        else:
            scores = found.pool(self._heads[0].predict, self.config.windows.pooling)
        columns = [scores]
        if self._lexicon is not None:
            words, share = self._lexicon.predict(found.bags)[:, None], self.config.lexicon.share
            columns[0] = columns[0] + share * (words - scores)
        if self.config.aspects.share and scores.shape[1] == 1:
            classes, share = self._aspects.predict(found.mean()), self.config.aspects.share
            columns[0] = columns[0] + share * (classes - scores)
        if self._topics is not None:
            columns.append(self._aspects.heads[self._topics].predict(found.mean()))
        return np.column_stack([*columns, found.share_read])

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write encoder, tokenizer and heads."""
        names = [WEIGHTS, TOKENIZER]
        if (self._folder / "torch").is_dir():
            names += [f"torch/{path.name}" for path in sorted((self._folder / "torch").iterdir())]
        for name in names:
            if self._folder != folder:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._folder / name, folder / name)
        stored: dict[str, dict[str, Any]] = {
            HEAD: {f"{place}.{key}": value for place, head in enumerate(self._heads) for key, value in head.arrays()}
        }
        if self._lexicon is not None:
            stored[LEXICON] = dict(self._lexicon.arrays())
        if self._aspects.heads:
            stored[ASPECTS] = dict(self._aspects.arrays())
        for name, arrays in stored.items():
            np.savez_compressed(folder / name, **arrays)
        return (*names, *stored)

    def settings(self) -> dict[str, Any]:
        """Return how it was made."""
        return self.config.model_dump(mode="json") | ({"topics": self._topics} if self._topics else {})

    @classmethod
    def load(cls, folder: Path, bundle: Any, backend: str = "onnx") -> EncoderClassifier:
        """Load a bundle's encoder.

        Args:
            folder: of the bundle.
            bundle: as read.
            backend: ``onnx``, or ``torch`` for a GPU; the bundle must then hold the weights for torch.

        Raises:
            FineeduError: a library or the weights for that backend are missing.
        """
        given = dict(bundle.settings)
        topics = given.pop("topics", None)
        settings = EncoderSettings.model_validate(given).frozen()
        embedder: Embedder
        if backend == "torch":
            from fineedu.classify.torch_encoder import TorchEmbedder

            embedder = TorchEmbedder(folder, settings)
        else:
            embedder = OnnxEmbedder(folder, settings.windows, bag=settings.bag)
        model = cls(settings, folder, embedder, bundle.outputs)
        model._topics = topics
        with np.load(folder / HEAD, allow_pickle=False) as found:
            model._heads = [Head.from_arrays(found, f"{place}.") for place in range(len(model._heads))]
        if LEXICON in bundle.files:
            with np.load(folder / LEXICON, allow_pickle=False) as found:
                model._lexicon = Lexicon.from_arrays(found)
        if ASPECTS in bundle.files:
            with np.load(folder / ASPECTS, allow_pickle=False) as found:
                model._aspects = Aspects.from_arrays(settings.aspects, found)
        return model
