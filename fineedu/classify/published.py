"""Published classifiers by name, with the exact preparation that they were published with.

``HuggingFaceFW/fineweb-edu-classifier`` and NVIDIA's two are BERT encoders that read 512 tokens; DCLM's is a fastText
model on lines joined by spaces. They are loaded from the Hub, from a folder or through any fsspec URL, and score as
their own scripts do: raw, without calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.classify.family import Array, Classifier, Targets
from fineedu.classify.text import TextPreparation
from fineedu.errors import FineeduError

#: A text is cut there before it is tokenised; 512 tokens are almost never more than 4,000 characters.
BERT_CHARS = 100_000
#: Keeps a fastText call from reading without end; DCLM's script has no limit.
FASTTEXT_CHARS = 10_000_000


@dataclass(frozen=True, slots=True)
class Published:
    """A published model.

    ``head``: ``sequence`` is transformers' ``AutoModelForSequenceClassification`` with one label. ``clip`` is what its
    script does to the score before it rounds.
    """

    repository: str
    head: Literal["sequence", "fasttext"]
    preparation: TextPreparation
    #: label whose probability is the score (fastText)
    positive: str = ""
    file: str = ""
    max_tokens: int = 512
    clip: tuple[float, float] | None = None


_BERT = TextPreparation(max_chars=BERT_CHARS, steps=())
PUBLISHED = {
    # run_edu_bert.py: padding longest, truncation at 512 tokens, score = logit, int_score = round(clip(score, 0, 5))
    "HuggingFaceFW/fineweb-edu-classifier": Published("HuggingFaceFW/fineweb-edu-classifier", "sequence", _BERT),
    # the models' own cards and Curator's fineweb_edu.py: the same, the float score clipped to 0..5
    "nvidia/nemocurator-fineweb-nemotron-4-edu-classifier": Published(
        "nvidia/nemocurator-fineweb-nemotron-4-edu-classifier", "sequence", _BERT, clip=(0.0, 5.0)
    ),
    "nvidia/nemocurator-fineweb-mixtral-edu-classifier": Published(
        "nvidia/nemocurator-fineweb-mixtral-edu-classifier", "sequence", _BERT, clip=(0.0, 5.0)
    ),
    # DCLM's quality_prediction_enrichers_calc_fasttext.py: " ".join(text.strip().splitlines()), P(__label__hq)
    "mlfoundations/fasttext-oh-eli5": Published(
        "mlfoundations/fasttext-oh-eli5",
        "fasttext",
        TextPreparation(max_chars=FASTTEXT_CHARS, steps=("strip", "join_lines")),
        positive="__label__hq",
        file="openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train.bin",
    ),
}


class PublishedModel:
    """A published classifier that scores texts raw, as its own script does."""

    def __init__(self, published: Published, classifier: Classifier) -> None:
        self.published = published
        self.classifier = classifier

    def score(self, texts: pl.Series) -> npt.NDArray[np.float32]:
        """Score n texts; NaN where there is no text."""
        scores = self.classifier.score(self.published.preparation.apply(texts))[:, 0]
        if self.published.clip:
            scores = np.clip(scores, *self.published.clip)
        return np.asarray(scores, dtype=np.float32)


def load_published(name: str, source: str | None = None, device: str | None = None) -> PublishedModel:
    """Load a published classifier.

    Args:
        name: one of ``PUBLISHED``.
        source: folder or fsspec URL of its files, where they do not come from the Hub.
        device: for torch: ``cpu``, ``cuda``, or None for the best there is.

    Raises:
        FineeduError: no such name, a package is missing, or the files cannot be had.
    """
    if name not in PUBLISHED:
        raise FineeduError(f"no published classifier {name!r}: known are {', '.join(PUBLISHED)}")
    published = PUBLISHED[name]
    if published.head == "fasttext":
        return PublishedModel(published, FastTextProbability(_fasttext_file(published, source), published.positive))
    folder = str(_local_folder(source)) if source else published.repository
    return PublishedModel(published, SequenceClassifier.from_checkpoint(folder, published.max_tokens, device))


def _local_folder(source: str) -> Path:
    """Return a folder as it is, or a remote one copied to a temporary place that lives as long as the process."""
    if "://" not in source:
        return Path(source)
    import tempfile

    import fsspec

    system, path = fsspec.core.url_to_fs(source)
    folder = Path(tempfile.mkdtemp(prefix="fineedu-model-"))
    try:
        system.get(f"{path.rstrip('/')}/", f"{folder}/", recursive=True)
    except OSError as error:
        raise FineeduError(f"cannot read the model {source}: {error}") from error
    return folder


def _fasttext_file(published: Published, source: str | None) -> Path:
    if source:
        place = _local_folder(source)
        path = place if place.is_file() else place / published.file
    else:
        try:
            from huggingface_hub import hf_hub_download
        except ImportError as error:
            raise FineeduError(
                f"{published.repository} comes from the Hub: pip install huggingface_hub, or give a folder as source"
            ) from error
        try:
            path = Path(hf_hub_download(published.repository, published.file))
        except (OSError, ValueError) as error:
            raise FineeduError(f"cannot get {published.repository}: {str(error).splitlines()[0]}") from error
    if not path.is_file():
        raise FineeduError(f"no fastText model at {path}")
    return path


class FastTextProbability(Classifier):
    """The probability of one label of a fastText model."""

    family: ClassVar[str] = "fasttext-probability"

    def __init__(self, path: Path, positive: str) -> None:
        from fineedu.classify.fasttext import load_weights

        self._path, self._positive = path, positive
        self._weights = load_weights(path)
        if positive not in self._weights.get_labels():
            raise FineeduError(f"fastText model {path} has no label {positive}: {self._weights.get_labels()[:4]}")

    def read(self, texts: pl.Series) -> pl.Series:
        """Texts are lines already."""
        return texts

    def score_read(self, found: pl.Series) -> Array:
        """Return n×1 probabilities."""
        predict = self._weights.f.predict
        rows = (
            dict((label, p) for p, label in predict(f"{line}\n", -1, 0.0, "replace")).get(self._positive, 0.0)
            if line
            else np.nan
            for line in found
        )
        return np.fromiter(rows, np.float64, len(found))[:, None]

    def fit_read(self, found: Any, targets: Targets) -> Self:
        """Refuse: a published model is as it is."""
        raise FineeduError("a published model cannot be fitted")

    def save(self, folder: Path) -> tuple[str, ...]:
        """Refuse: a published model stays where it is."""
        raise FineeduError("a published model is not saved as a bundle")

    @classmethod
    def load(cls, folder: Path, bundle: Any) -> FastTextProbability:
        """Refuse: see ``load_published``."""
        raise FineeduError("a published model is loaded by name")


class SequenceClassifier(Classifier):
    """A transformers sequence classifier with one output, run by torch: bf16 on a GPU, fp32 on a CPU.

    Batches hold texts of alike lengths; padding to the longest does not change a text's score but in the last bits.
    """

    family: ClassVar[str] = "sequence"
    extra = ("share_read",)

    def __init__(self, module: Any, tokenizer: Any, max_tokens: int, device: str) -> None:
        self._module, self._tokenizer = module, tokenizer
        self._max_tokens, self._device = max_tokens, device

    @classmethod
    def from_checkpoint(cls, checkpoint: str, max_tokens: int = 512, device: str | None = None) -> SequenceClassifier:
        """Load a folder or a Hub name.

        Raises:
            FineeduError: a package is missing, or it cannot be loaded, or has several outputs.
        """
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
            from transformers.utils import logging as notices
        except ImportError as error:
            raise FineeduError(f"{checkpoint} needs torch and transformers: pip install 'fineedu[encoder]'") from error
        notices.disable_progress_bar()
        try:
            module = AutoModelForSequenceClassification.from_pretrained(checkpoint)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        except (OSError, ValueError) as error:
            raise FineeduError(f"cannot load {checkpoint}: {str(error).splitlines()[0]}") from error
        if module.config.num_labels != 1:
            raise FineeduError(f"{checkpoint} has {module.config.num_labels} outputs; a score needs one")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(module.to(device).eval(), tokenizer, max_tokens, device)

    def read(self, texts: pl.Series) -> pl.Series:
        """Texts are tokenised when they are scored."""
        return texts

    def score_read(self, found: pl.Series) -> Array:
        """Return n×2: logits and the share of characters that the tokens cover; NaN for blank texts."""
        import torch

        from fineedu.classify.torch_encoder import BATCH_TOKENS, length_batches

        given = found.fill_null("").to_list()
        out = np.full((len(given), 2), np.nan)
        there = np.array([row for row, text in enumerate(given) if text.strip()], dtype=np.int64)
        if not len(there):
            return out
        encoded = self._tokenizer(
            [given[row] for row in there], truncation=True, max_length=self._max_tokens, return_offsets_mapping=True
        )
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        sizes = np.array([len(row) for row in ids])
        for row, spans in zip(there, offsets, strict=True):
            end = max((span[1] for span in spans), default=0)
            out[row, 1] = min(1.0, end / len(given[row].rstrip()))
        half = self._device == "cuda"
        with torch.inference_mode(), torch.autocast(self._device, dtype=torch.bfloat16, enabled=half):
            for rows in length_batches(sizes, BATCH_TOKENS):
                batch = self._tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
                logits = self._module(**batch.to(self._device)).logits
                out[there[rows], 0] = logits.float().squeeze(-1).cpu().numpy()
        return out

    def fit_read(self, found: Any, targets: Targets) -> Self:
        """Refuse: a published model is as it is."""
        raise FineeduError("a published model cannot be fitted")

    def save(self, folder: Path) -> tuple[str, ...]:
        """Refuse: a published model stays where it is."""
        raise FineeduError("a published model is not saved as a bundle")

    @classmethod
    def load(cls, folder: Path, bundle: Any) -> SequenceClassifier:
        """Refuse: see ``load_published``."""
        raise FineeduError("a published model is loaded by name")
