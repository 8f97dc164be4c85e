"""A model bundle: weights, text preparation, calibration, golden scores and evidence in one folder."""

from __future__ import annotations

import logging
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fineedu.assets import asset_dir
from fineedu.classify.text import TextPreparation
from fineedu.errors import FineeduError

#: Golden scores were computed on another machine, perhaps with another build of the library.
GOLDEN_TOLERANCE = 1e-3


class Golden(BaseModel):
    """An input with the score that it must get."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    score: float


class Bundle(BaseModel):
    """What ``bundle.json`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    family: Literal["fasttext"] = "fasttext"
    weights: str
    weights_sha256: str
    preparation: TextPreparation
    #: label of the model to its value on the rubric's scale
    values: dict[str, float]
    #: calibration: (expected value, score on the scale) knots, both rising; linear between, level outside
    knots: tuple[tuple[float, float], ...] = Field(min_length=2)
    golden: tuple[Golden, ...] = Field(min_length=1)
    training: dict[str, Any]
    metrics: dict[str, Any]

    def calibrate(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Map expected values to the rubric's scale."""
        at, score = np.array(self.knots).T
        return np.asarray(np.interp(values, at, score), dtype=np.float32)


def load_weights(path: Path) -> Any:
    """Load a fastText model, without its notices."""
    import fasttext

    logging.getLogger("fasttext").setLevel(logging.ERROR)
    if hasattr(fasttext.FastText, "eprint"):
        fasttext.FastText.eprint = lambda *_: None
    return fasttext.load_model(str(path))


def expected_values(model: Any, lines: pl.Series, values: dict[str, float]) -> npt.NDArray[np.float64]:
    """Return the expectation over a model's labels.

    Args:
        model: a loaded fastText model.
        lines: prepared texts, n rows, without newlines.
        values: label to value; labels that are not in it do not count.

    Returns:
        n values, NaN for null and empty lines: fastText would give even those a label.
    """
    predict = model.f.predict
    out = np.full(len(lines), np.nan)
    for row, line in enumerate(lines):
        if line:
            # The low-level call is the same in every build, and takes the newline that ends fastText's input.
            found = [(p, values[label]) for p, label in predict(f"{line}\n", -1, 0.0, "replace") if label in values]
            weight = sum(p for p, _ in found)
            out[row] = sum(p * value for p, value in found) / weight if weight else np.nan
    return out


class Model:
    """A loaded bundle that scores texts.

    Args:
        bundle: the bundle.
        weights: its fastText model.
    """

    def __init__(self, bundle: Bundle, weights: Any) -> None:
        self.bundle = bundle
        self._weights = weights

    def score(self, texts: pl.Series) -> npt.NDArray[np.float32]:
        """Score texts on the rubric's scale.

        Args:
            texts: n strings.

        Returns:
            n scores; NaN where there is no text.
        """
        lines = self.bundle.preparation.apply(texts)
        return self.bundle.calibrate(expected_values(self._weights, lines, self.bundle.values))


def bundle_folder(model: str) -> Path:
    """Return the folder of a bundle.

    Args:
        model: name of a shipped model, or the path of a bundle's folder.

    Raises:
        FineeduError: there is none; names the shipped ones.
    """
    shipped = asset_dir("models")
    for folder in (shipped / model, Path(model)):
        if (folder / "bundle.json").is_file():
            return folder
    names = ", ".join(sorted(path.parent.name for path in shipped.glob("*/bundle.json"))) or "none"
    raise FineeduError(
        f"no model bundle {model!r}: shipped are {names}; or give the path of a folder with a bundle.json"
    )


def read_bundle(folder: Path) -> Bundle:
    """Read ``bundle.json`` and check the weights' hash.

    Raises:
        FineeduError: damaged, or the weights are not the ones it was made with.
    """
    try:
        bundle = Bundle.model_validate_json((folder / "bundle.json").read_bytes())
        found = sha256((folder / bundle.weights).read_bytes()).hexdigest()
    except (OSError, ValidationError) as error:
        raise FineeduError(f"model bundle {folder}: {str(error).splitlines()[0]}") from error
    if found != bundle.weights_sha256:
        raise FineeduError(
            f"model bundle {folder}: {bundle.weights} is not the file that the bundle was made with "
            f"(sha256 {found[:12]}…)"
        )
    return bundle


@cache
def load_bundle(folder: Path) -> Model:
    """Load a bundle and score its golden inputs; one copy a process.

    Raises:
        FineeduError: the weights' hash or a golden score differs: preparation, library and weights do not fit.
    """
    bundle = read_bundle(folder)
    model = Model(bundle, load_weights(folder / bundle.weights))
    scores = model.score(pl.Series([golden.text for golden in bundle.golden]))
    for golden, score in zip(bundle.golden, scores, strict=True):
        if not abs(float(score) - golden.score) <= GOLDEN_TOLERANCE:
            raise FineeduError(
                f"model bundle {folder}: golden input {golden.text[:40]!r} scores {score:.4f}, "
                f"expected {golden.score:.4f}: "
                "the library or the text preparation is not the one it was made with"
            )
    return model
