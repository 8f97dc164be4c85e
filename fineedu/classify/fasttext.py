"""fastText: bags of words and word pairs, thousands of documents a second on one core."""

from __future__ import annotations

import logging
import tempfile
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl

from fineedu.classify.family import Array, Classifier, Targets
from fineedu.errors import FineeduError

WEIGHTS = "model.ftz"
#: lines in one call of fastText, whose loop is in C++; with 256 a document costs 6 % more
CHUNK = 1024
#: settings of a recipe that are not fastText's own
_OWN = {"step", "labelled_copies", "quantise"}


def load_weights(path: Path) -> Any:
    """Load a fastText model, without its notices."""
    import fasttext

    logging.getLogger("fasttext").setLevel(logging.ERROR)
    if hasattr(fasttext.FastText, "eprint"):
        fasttext.FastText.eprint = lambda *_: None
    return fasttext.load_model(str(path))


def require_training() -> Any:
    """Return the fasttext module, if it can train.

    Raises:
        FineeduError: it is missing, or the build that only predicts.
    """
    try:
        import fasttext
    except ImportError as error:
        raise FineeduError("training needs fastText: pip install 'fineedu[train]'") from error
    if not hasattr(fasttext, "train_supervised"):
        raise FineeduError(
            "the installed fasttext can only predict (fasttext-predict lies over the full build): "
            "pip install --force-reinstall --no-deps fasttext-community"
        )
    return fasttext


class FastTextClassifier(Classifier):
    """A supervised fastText model whose labels are values on the scale, or topics.

    Scores are learned as labels ``step`` apart: each is rounded to one of its two neighbours at random, in proportion,
    and what is scored is the expectation over the labels.

    Args:
        settings: fastText's own (``dim``, ``wordNgrams``, ``lr``, ``epoch``, ``bucket``, ``minCount`` …), ``step``
            (width of a label on the scale), and ``quantise`` (default true).
        seed: of the rounding, the order and fastText itself.
        outputs: ``("score",)``, or the topics.
        values: label to value or place of the topic, of a model that is trained already.
    """

    family: ClassVar[str] = "fasttext"

    def __init__(
        self,
        settings: dict[str, float] | None = None,
        seed: int = 1,
        outputs: tuple[str, ...] = ("score",),
        values: dict[str, float] | None = None,
        weights: Any = None,
    ) -> None:
        self.config, self.seed, self.outputs = dict(settings or {}), seed, outputs
        self.values = dict(values or {})
        self._weights = weights

    @classmethod
    def make(
        cls, settings: dict[str, Any], *, outputs: tuple[str, ...], seed: int, work: Path, lessons: Any = None
    ) -> FastTextClassifier:
        """Return a classifier that can be fitted."""
        require_training()
        return cls(settings, seed, outputs)

    def read(self, texts: pl.Series) -> pl.Series:
        """Texts are lines already."""
        return texts

    def fit_read(self, found: pl.Series, targets: Targets) -> Self:
        """Train and quantise; ``weights`` are how often a text is shown, rounded up."""
        fasttext = require_training()
        lines, rows, labels = self._lessons(found.to_list(), targets)
        settings = {
            name: int(value) if float(value).is_integer() and name != "lr" else value
            for name, value in self.config.items()
            if name not in _OWN
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "train.txt"
            # A text that says "__label__3" itself would be read as labelled so.
            clean = [(line or "").replace("__label__", "__label_") for line in lines]
            pairs = zip(labels, rows, strict=True)
            file.write_text(
                "".join(f"__label__{label} {clean[row]}\n" for label, row in pairs if clean[row]), encoding="utf-8"
            )
            # One thread: with several the result differs from run to run.
            model = fasttext.train_supervised(str(file), thread=1, verbose=0, seed=self.seed, **settings)
            if self.config.get("quantise", True):
                model.quantize(str(file), retrain=False, qnorm=True, thread=1, verbose=0)
            # What is scored from now on is what the file holds.
            model.save_model(str(Path(folder) / WEIGHTS))
            self._weights = load_weights(Path(folder) / WEIGHTS)
        step = self._step if len(self.outputs) == 1 else 1.0
        self.values = {f"__label__{label}": label * step for label in sorted(set(labels))}
        return self

    @property
    def _step(self) -> float:
        return float(self.config.get("step", 0.5))

    def _lessons(self, lines: list[str], targets: Targets) -> tuple[list[str], list[int], list[int]]:
        """Return lines, the order they are shown in, and the label each time."""
        chance = np.random.default_rng(self.seed)
        copies = np.ceil(targets.weights).astype(np.int64)
        rows = chance.permutation(np.repeat(np.arange(len(lines)), copies))
        if len(self.outputs) > 1:
            return lines, rows.tolist(), targets.values.argmax(1)[rows].tolist()
        steps = np.clip(targets.values[:, 0], 0, 5)[rows] / self._step
        return lines, rows.tolist(), np.floor(steps + chance.random(len(rows))).astype(int).tolist()

    def score_read(self, found: pl.Series) -> Array:
        """Return expectations over the labels, or probabilities of topics; NaN for null and empty lines.

        fastText would give even those a label.
        """
        out = np.full((len(found), len(self.outputs)), np.nan)
        # The low-level calls take the newline that ends fastText's input; bytes spare them a conversion.
        lines = (found + "\n").cast(pl.Binary).to_list()
        rows = np.array([row for row, line in enumerate(lines) if line is not None and len(line) > 1], dtype=np.int64)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            labels, odds = self._predict([lines[row] for row in some])
            # A label without a value is None, which becomes NaN.
            told = np.array(list(map(self.values.get, chain.from_iterable(labels))), dtype=np.float64)
            owner = np.repeat(np.arange(len(some)), [len(row) for row in labels])
            shares = np.concatenate(odds).astype(np.float64)
            known = ~np.isnan(told)
            told, owner, shares = told[known], owner[known], shares[known]
            total = np.bincount(owner, shares, len(some))
            there = total > 0
            if len(self.outputs) == 1:
                sums = np.bincount(owner, shares * told, len(some))
                out[some[there], 0] = sums[there] / total[there]
            else:
                table = np.zeros((len(some), len(self.outputs)))
                table[owner, told.astype(np.int64)] = shares / total[owner]
                out[some[there]] = table[there]
        return out

    def _predict(self, lines: list[bytes]) -> tuple[list[list[str]], list[Array]]:
        """Return labels and probabilities of each line, in one call where the build gives both.

        fasttext-predict, which the base install has, gives a plain list of labels there.
        """
        import fasttext

        model = self._weights.f
        if hasattr(fasttext, "train_supervised"):
            labels, odds = model.multilinePredict(lines, -1, 0.0, "replace")
            return labels, odds
        found = [model.predict(line, -1, 0.0, "replace") for line in lines]
        return [[label for _, label in row] for row in found], [np.array([p for p, _ in row]) for row in found]

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write the model."""
        self._weights.save_model(str(folder / WEIGHTS))
        return (WEIGHTS,)

    def settings(self) -> dict[str, Any]:
        """Return what labels mean."""
        return {"values": self.values}

    @classmethod
    def load(cls, folder: Path, bundle: Any) -> FastTextClassifier:
        """Load a bundle's model."""
        outputs = bundle.outputs
        return cls(outputs=outputs, values=bundle.settings["values"], weights=load_weights(folder / bundle.weights))
