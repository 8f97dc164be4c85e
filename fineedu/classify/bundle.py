"""A model bundle: weights, text preparation, calibration, golden scores and evidence in one folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fineedu.assets import asset_dir
from fineedu.classify.family import FAMILIES, Classifier, family_class
from fineedu.classify.text import TextPreparation
from fineedu.download import download_bundle, is_url
from fineedu.errors import FineeduError
from fineedu.store import hash_file

#: How far a golden score may be off, on the scale of the score. Golden scores were computed on another machine, perhaps
#: with another build of the library. fastText and static vectors give the same to the fifth digit. In an int8 encoder
#: products are whole numbers and the same on every processor (see ``OnnxEmbedder``), but what lies between them is
#: fp32: a rounding in the last bit can move an activation by one of its 255 steps, which moves scores by a hundredth.
#: A wrong text preparation or tokenizer moves some golden input by several tenths.
GOLDEN_TOLERANCE = {"encoder": 0.1}
#: what torch computes in fp32 or bf16, where the golden scores were computed in int8
OTHER_BACKEND_TOLERANCE = 0.25
DEFAULT_TOLERANCE = 1e-3


class Golden(BaseModel):
    """An input with what it must get: a score, or a topic with its probability as the score; or all three."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    score: float
    topic: str | None = None
    #: probability of the topic, where the model tells a score too
    confidence: float | None = None


class Bundle(BaseModel):
    """What ``bundle.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    family: str = "fasttext"
    task: Literal["score", "topic"] = "score"
    weights: str
    weights_sha256: str
    #: other files that the model needs, with their hashes
    files: dict[str, str] = {}
    preparation: TextPreparation
    #: what the family needs beside its files
    settings: dict[str, Any] = {}
    #: topics in the order of the model's outputs; beside a score they come after it
    labels: tuple[str, ...] = ()
    #: calibration: (raw value, score on the scale) knots, both rising; linear between, level outside
    knots: tuple[tuple[float, float], ...] = ()
    #: scores at evenly spaced percentiles, 0 and 100 included, of the text that ``training`` names
    percentiles: tuple[float, ...] = ()
    golden: tuple[Golden, ...] = Field(min_length=1)
    training: dict[str, Any]
    metrics: dict[str, Any]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.family not in FAMILIES:
            raise ValueError(f"no family {self.family!r}: known are {', '.join(FAMILIES)}")
        if self.task == "score" and len(self.knots) < 2:
            raise ValueError("a score needs at least two calibration knots")
        if self.task == "topic" and len(self.labels) < 2:
            raise ValueError("topics need at least two labels")
        return self

    def calibrate(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Map raw values to the rubric's scale."""
        at, score = np.array(self.knots).T
        return np.asarray(np.interp(values, at, score), dtype=np.float32)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the model tells: ``score``, the topics, or both in this order."""
        return (*(("score",) if self.task == "score" else ()), *self.labels)

    @property
    def reads_a_share(self) -> bool:
        """Whether the model cuts documents by tokens, and tells how much of each it has read."""
        return "share_read" in family_class(self.family).extra

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What scores depend on: weights, preparation, settings and calibration."""
        return self.model_dump(
            mode="json",
            include={"name", "weights_sha256", "files", "preparation", "settings", "labels", "knots", "percentiles"},
        )


class Model:
    """A loaded bundle that scores texts.

    Args:
        bundle: the bundle.
        classifier: its classifier.
    """

    def __init__(self, bundle: Bundle, classifier: Classifier) -> None:
        self.bundle = bundle
        self.classifier = classifier

    def outputs(self, texts: pl.Series) -> npt.NDArray[np.float64]:
        """Return raw outputs, and what is measured on the way, before calibration.

        Args:
            texts: n strings.

        Returns:
            n × (outputs + extra), NaN where there is no text.
        """
        return self.classifier.score(self.bundle.preparation.apply(texts))

    def score(self, texts: pl.Series) -> npt.NDArray[np.float32]:
        """Score texts on the rubric's scale.

        Args:
            texts: n strings.

        Returns:
            n scores; NaN where there is no text.

        Raises:
            FineeduError: the bundle tells topics.
        """
        if self.bundle.task != "score":
            raise FineeduError(f"model {self.bundle.name} tells topics, it has no score")
        return self.bundle.calibrate(self.outputs(texts)[:, 0])

    def measure(self, texts: pl.Series) -> pl.DataFrame:
        """Return everything that the model says of n texts, null where there is no text.

        Returns:
            ``score`` and, where the bundle knows its distribution, ``percentile`` (0 to 100); ``topic`` and
            ``topic_confidence`` where it tells topics; then ``share_read`` (of the characters of the whole text) if
            documents are cut.
        """
        found = self.outputs(texts)
        columns: list[pl.Series] = []
        if self.bundle.task == "score":
            scores = self.bundle.calibrate(found[:, 0])
            columns.append(pl.Series("score", scores))
            if self.bundle.percentiles:
                columns.append(pl.Series("percentile", percentile_of(scores, self.bundle.percentiles)))
        if self.bundle.labels:
            first = self.bundle.outputs.index(self.bundle.labels[0])
            columns += self._topics(found[:, first : first + len(self.bundle.labels)])
        if self.bundle.reads_a_share:
            sizes = texts.str.len_chars().fill_null(1).clip(1).to_numpy()
            kept = np.minimum(1.0, self.bundle.preparation.max_chars / sizes)
            columns.append(pl.Series("share_read", (found[:, -1] * kept).astype(np.float32)))
        return pl.DataFrame([column.fill_nan(None) if column.dtype.is_float() else column for column in columns])

    def _topics(self, probabilities: npt.NDArray[np.float64]) -> list[pl.Series]:
        known = np.asarray(~np.isnan(probabilities).any(axis=1))
        best = np.where(known[:, None], probabilities, 0.0).argmax(1)
        names = [self.bundle.labels[place] if there else None for place, there in zip(best, known, strict=True)]
        confidence = probabilities[np.arange(len(best)), best].astype(np.float32)
        return [pl.Series("topic", names, dtype=pl.String), pl.Series("topic_confidence", confidence)]


def percentile_of(scores: npt.NDArray[np.float32], percentiles: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Return the percentile, 0 to 100, of scores in a distribution known at evenly spaced percentiles."""
    levels, places, counts = np.unique(np.asarray(percentiles, dtype=np.float32), return_index=True, return_counts=True)
    middle = (places + (counts - 1) / 2) * 100 / (len(percentiles) - 1)
    return np.asarray(np.where(np.isnan(scores), np.nan, np.interp(scores, levels, middle)), dtype=np.float32)


def bundle_folder(model: str) -> Path:
    """Return the folder of a bundle.

    Args:
        model: name of a shipped model, the path of a bundle's folder, or ``URL#sha256=HASH`` of a zip of one.

    Raises:
        FineeduError: there is none; names the shipped ones.
    """
    if is_url(model):
        return download_bundle(model)
    shipped = asset_dir("models")
    for folder in (shipped / model, Path(model)):
        if (folder / "bundle.json").is_file():
            return folder
    names = ", ".join(sorted(path.parent.name for path in shipped.glob("*/bundle.json"))) or "none"
    raise FineeduError(
        f"no model bundle {model!r}: shipped are {names}; or give the path of a folder with a bundle.json"
    )


def read_bundle(folder: Path) -> Bundle:
    """Read ``bundle.json`` and check the hashes of its files; once a process, and again when the file has changed.

    Raises:
        FineeduError: damaged, or a file is not the one it was made with.
    """
    return _read_bundle(folder, _changed(folder))


def _changed(folder: Path) -> int:
    """Return when ``bundle.json`` was written: a model trained anew at the same path is another model."""
    try:
        return (folder / "bundle.json").stat().st_mtime_ns
    except OSError as error:
        raise FineeduError(f"model bundle {folder}: {error}") from error


@cache
def _read_bundle(folder: Path, changed: int) -> Bundle:
    try:
        bundle = Bundle.model_validate_json((folder / "bundle.json").read_bytes())
        hashes = {bundle.weights: bundle.weights_sha256, **bundle.files}
        for name in hashes:
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
                raise FineeduError(f"model bundle {folder}: {name!r} leads out of the bundle")
        found = {name: hash_file(folder / name) for name in hashes}
    except (OSError, ValidationError) as error:
        raise FineeduError(f"model bundle {folder}: {str(error).splitlines()[0]}") from error
    for name, expected in hashes.items():
        if found[name] != expected:
            raise FineeduError(
                f"model bundle {folder}: {name} is not the file that the bundle was made with "
                f"(sha256 {found[name][:12]}…)"
            )
    return bundle


def load_bundle(folder: Path, backend: str | None = None) -> Model:
    """Load a bundle and score its golden inputs; one copy a process, and anew when the bundle has changed.

    Args:
        folder: of the bundle.
        backend: ``torch`` to run an encoder by torch, on a GPU where there is one.

    Raises:
        FineeduError: the weights' hash or a golden score differs: preparation, library and weights do not fit.
    """
    return _load_bundle(folder, backend, _changed(folder))


@cache
def _load_bundle(folder: Path, backend: str | None, changed: int) -> Model:
    bundle = _read_bundle(folder, changed)
    kind = family_class(bundle.family)
    try:
        model = Model(bundle, kind.load(folder, bundle, **({"backend": backend} if backend else {})))
        least = OTHER_BACKEND_TOLERANCE if backend else 0.0
        check_golden(model, folder, max(least, GOLDEN_TOLERANCE.get(bundle.family, DEFAULT_TOLERANCE)))
    except (FineeduError, MemoryError):
        raise
    except Exception as error:  # weights are read by five libraries, each of which raises its own kinds
        lines = str(error).strip().splitlines() or [""]
        raise FineeduError(f"model bundle {folder} cannot be loaded: {type(error).__name__}: {lines[0]}") from error
    return model


def check_golden(model: Model, folder: Path, tolerance: float) -> None:
    """Score a model's golden inputs.

    A topic is compared by the probability that the golden topic gets now: which of two topics of .31 and .30 comes
    first may differ between processors, the two figures hardly do.

    Args:
        model: loaded.
        folder: that it came from.
        tolerance: how far a score or a probability may be off.

    Raises:
        FineeduError: one differs.
    """
    bundle = model.bundle
    found = model.outputs(pl.Series([golden.text for golden in bundle.golden]))
    scores = bundle.calibrate(found[:, 0]) if bundle.task == "score" else None
    for row, golden in enumerate(bundle.golden):
        pairs = [] if scores is None else [(float(scores[row]), golden.score)]
        if golden.topic is not None:
            told = float(found[row, bundle.outputs.index(golden.topic)])
            pairs.append((told, golden.score if golden.confidence is None else golden.confidence))
        for now, then in pairs:
            if not abs(now - then) <= tolerance:
                raise FineeduError(
                    f"model bundle {folder}: golden input {golden.text[:40]!r} scores {now:.4f}, "
                    f"expected {then:.4f}, and may be {tolerance:g} off: "
                    "the library or the text preparation is not the one it was made with"
                )


def golden_scores(model: Model, texts: tuple[str, ...] | None = None) -> list[Golden]:
    """Score golden inputs: those given, or those of the bundle."""
    texts = texts or tuple(golden.text for golden in model.bundle.golden)
    found = model.measure(pl.Series(texts))
    both = model.bundle.task == "score" and bool(model.bundle.labels)
    rows = found.rename({"topic_confidence": "confidence" if model.bundle.task == "score" else "score"}, strict=False)
    rows = rows.select(name for name in ("score", "topic", *(("confidence",) if both else ())) if name in rows.columns)
    return [
        Golden(
            text=text, **{name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
        )
        for text, row in zip(texts, rows.fill_null(float("nan")).iter_rows(named=True), strict=True)
    ]
