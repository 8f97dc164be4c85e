"""Small models on top of embeddings: fitted with scikit-learn, run with NumPy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from fineedu.classify.family import Array, Targets
from fineedu.errors import FineeduError


class HeadSettings(BaseModel):
    """What a head is made of.

    A regression head is the mean of its parts. ``ridge`` and ``alpha``: a linear part and its penalty. ``kernel`` and
    ``gamma``, ``cost``, ``epsilon``: support vector regression with a Gaussian kernel. Vectors are centred and scaled
    to a mean length of 1 first, so that the same settings fit any encoder. A topic head is a softmax, ``cost`` its
    inverse penalty. ``balance`` from 0 (as they come) to 1 weighs rare levels up to the same total as common ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ridge: bool = True
    kernel: bool = True
    alpha: float = Field(1.0, gt=0)
    gamma: float = Field(0.7, gt=0)
    cost: float = Field(1.0, gt=0)
    epsilon: float = Field(0.2, ge=0)
    balance: float = Field(0.0, ge=0, le=1)


def balanced(levels: npt.NDArray[np.int64], weights: Array, share: float) -> Array:
    """Return weights with each level's total moved towards that of the others, keeping the sum.

    Args:
        levels: n class numbers.
        weights: n weights.
        share: 0 leaves them, 1 gives every level the same total.
    """
    totals = np.bincount(levels, weights)
    factor = np.where(totals > 0, (weights.sum() / np.maximum(totals, 1e-12)) ** share, 0.0)
    changed = weights * factor[levels]
    return np.asarray(changed * weights.sum() / changed.sum())


def _float(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32)


class Head:
    """Vectors to scores or topic probabilities.

    Rows are computed one by one: a matrix product of another shape may differ in the last bit, and a document's score
    must not depend on what it was batched with.
    """

    def __init__(self, settings: HeadSettings | None = None) -> None:
        self.config = settings or HeadSettings()
        self._arrays: dict[str, npt.NDArray[np.float32]] = {}
        self._lengths: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None

    def fit(self, vectors: Array, targets: Targets) -> Self:
        """Fit on n×d vectors; rows of NaN (no text) are left out.

        Raises:
            FineeduError: scikit-learn is missing.
        """
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            raise FineeduError("training needs scikit-learn: pip install 'fineedu[train]'") from error
        known = ~np.isnan(vectors).any(1)
        vectors, targets = vectors[known], targets.rows(np.flatnonzero(known))
        centre = vectors.mean(0)
        scale = 1.0 / np.linalg.norm(vectors - centre, axis=1).mean()
        self._arrays = {"centre": _float(centre), "scale": _float([scale])}
        table = (vectors - self._arrays["centre"]) * self._arrays["scale"]
        if targets.values.shape[1] == 1:
            self._fit_scores(table, targets)
        else:
            self._fit_topics(table, targets)
        return self

    def _fit_scores(self, table: Array, targets: Targets) -> None:
        from sklearn.linear_model import Ridge
        from sklearn.svm import SVR

        config, scores = self.config, targets.values[:, 0]
        levels = np.clip(np.round(scores), 0, 5).astype(np.int64)
        weights = balanced(levels, targets.weights, config.balance)
        if config.ridge:
            linear = Ridge(alpha=config.alpha).fit(table, scores, sample_weight=weights)
            self._arrays |= {"weights": _float(linear.coef_[None]), "offsets": _float([linear.intercept_])}
        if config.kernel:
            machine = SVR(C=config.cost, gamma=config.gamma, epsilon=config.epsilon)
            machine.fit(table, scores, sample_weight=weights)
            self._arrays |= {
                "support": _float(machine.support_vectors_),
                "dual": _float(machine.dual_coef_[0]),
                "kernel": _float([config.gamma, machine.intercept_[0]]),
            }

    def _fit_topics(self, table: Array, targets: Targets) -> None:
        from sklearn.linear_model import LogisticRegression

        topics = targets.values.argmax(1)
        if len(np.unique(topics)) < 2:
            raise FineeduError("training topics needs documents of at least two of them")
        weights = balanced(topics, targets.weights * targets.values.max(1), self.config.balance)
        found = LogisticRegression(C=self.config.cost, max_iter=500).fit(table, topics, sample_weight=weights)
        # A topic that no document has gets no probability.
        size = (targets.values.shape[1], table.shape[1])
        coefficients, offsets = np.zeros(size), np.full(size[0], -1e9)
        # Of two classes scikit-learn tells the log odds of the second alone.
        own, shift = found.coef_, found.intercept_
        if len(found.classes_) == 2:
            own, shift = np.vstack([-own, own]) / 2, np.r_[-shift, shift] / 2
        coefficients[found.classes_], offsets[found.classes_] = own, shift
        self._arrays |= {"weights": _float(coefficients), "offsets": _float(offsets)}

    def predict(self, vectors: Array) -> Array:
        """Return n×1 scores or n×k probabilities; NaN for vectors of NaN."""
        return np.array([self._row(vector) for vector in vectors]).reshape(len(vectors), -1)

    def _row(self, vector: Array) -> Array:
        arrays = self._arrays
        vector = (vector - arrays["centre"]) * arrays["scale"]
        parts: list[Array] = []
        if "weights" in arrays:
            parts.append(arrays["weights"] @ vector + arrays["offsets"])
            if len(parts[0]) > 1:
                odds = np.exp(parts[0] - parts[0].max())
                return np.asarray(odds / odds.sum())
        if "support" in arrays:
            gamma, offset = arrays["kernel"]
            # |s - v|² = |s|² + |v|² - 2 s·v: one product in place of a table of differences.
            single = vector.astype(np.float32)
            distance = self._squares() + single @ single - 2 * (arrays["support"] @ single)
            near = np.exp(-gamma * np.maximum(distance, 0.0))
            parts.append(np.array([near @ arrays["dual"] + offset]))
        return np.asarray(np.mean(parts, axis=0))

    def _squares(self) -> npt.NDArray[np.float32]:
        """Return the squared lengths of the support vectors, computed once for each set of them."""
        support = self._arrays["support"]
        if self._lengths is None or self._lengths[0] is not support:
            self._lengths = support, np.square(support).sum(1)
        return self._lengths[1]

    def arrays(self) -> list[tuple[str, npt.NDArray[Any]]]:
        """Return what to store; support vectors as float16, and ``predict`` uses these from now on."""
        stored: dict[str, npt.NDArray[Any]] = dict(self._arrays)
        if "support" in stored:
            stored["support"] = stored["support"].astype(np.float16)
            self._arrays["support"] = stored["support"].astype(np.float32)
        return list(stored.items())

    def save(self, path: Path) -> None:
        """Write the arrays, see :meth:`arrays`."""
        stored: dict[str, Any] = dict(self.arrays())
        np.savez_compressed(path, **stored)

    @classmethod
    def from_arrays(cls, arrays: Any, prefix: str = "") -> Head:
        """Return a head from the arrays of an open ``.npz`` whose names start so."""
        head = cls()
        head._arrays = {
            name.removeprefix(prefix): arrays[name].astype(np.float32)
            for name in arrays.files
            if name.startswith(prefix)
        }
        return head

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read a head that ``save`` wrote."""
        with np.load(path, allow_pickle=False) as found:
            return cls.from_arrays(found)
