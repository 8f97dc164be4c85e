"""A linear model on a text's bag of tokens, beside an encoder: it reads further than the windows, at little cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from fineedu.classify.family import Array

Bag = npt.NDArray[np.int64]


class LexiconSettings(BaseModel):
    """Ridge regression on TF-IDF of the first ``tokens`` tokens; ``share`` is its weight in the score, 0 leaves it out.

    Beside the means of two windows of MiniLM it lifted the cross-validated rank correlation from .65 to .67.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int = Field(1000, ge=1)
    share: float = Field(0.0, ge=0, lt=1)
    alpha: float = Field(1.0, gt=0)


class Lexicon:
    """Weights of tokens.

    A token that occurs f times counts 1 + ln f, times its inverse document frequency ln((1 + n) / (1 + d)) + 1; a
    text's counts are scaled to length 1. Tokens in fewer than two training documents do not count.

    Args:
        inverse: inverse document frequencies by token id, 0 for those that do not count.
        weights: coefficients by token id.
        offset: of the regression.
    """

    def __init__(self, inverse: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], offset: float) -> None:
        self.inverse, self.weights, self.offset = inverse, weights, offset

    @classmethod
    def fit(cls, bags: Sequence[Bag], scores: Array, weights: Array, alpha: float) -> Self:
        """Fit on the token ids of n texts, their scores and weights."""
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import Ridge

        size = 1 + max((int(bag.max()) for bag in bags if len(bag)), default=0)
        documents = np.zeros(size)
        for bag in bags:
            documents[np.unique(bag)] += 1
        inverse = np.where(documents >= 2, np.log((1 + len(bags)) / (1 + documents)) + 1, 0.0).astype(np.float32)
        rows = [_counts(bag, inverse) for bag in bags]
        starts = np.cumsum([0, *(len(ids) for ids, _ in rows)])
        table: Any = csr_matrix(
            (np.concatenate([values for _, values in rows]), np.concatenate([ids for ids, _ in rows]), starts),
            shape=(len(bags), size),
        )
        found = Ridge(alpha=alpha).fit(table, scores, sample_weight=weights)
        return cls(inverse, np.asarray(found.coef_, dtype=np.float32), float(found.intercept_))

    def predict(self, bags: Sequence[Bag]) -> Array:
        """Score n texts by their token ids; NaN for those without any."""
        out = np.full(len(bags), np.nan)
        for row, bag in enumerate(bags):
            if len(bag):
                ids, values = _counts(bag, self.inverse)
                out[row] = self.offset + float((values * self.weights[ids]).sum())
        return out

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return what ``from_arrays`` takes."""
        return {"inverse": self.inverse, "token_weights": self.weights, "offset": np.array([self.offset], np.float32)}

    @classmethod
    def from_arrays(cls, arrays: Any) -> Self:
        """Return a lexicon from its arrays."""
        return cls(arrays["inverse"], arrays["token_weights"], float(arrays["offset"][0]))


def _counts(bag: Bag, inverse: npt.NDArray[np.float32]) -> tuple[Bag, Array]:
    """Return the tokens that count, rising, and their scaled weights."""
    ids, found = np.unique(bag[bag < len(inverse)], return_counts=True)
    known = inverse[ids] > 0
    ids = ids[known]
    values = np.asarray((1 + np.log(found[known])) * inverse[ids], dtype=np.float64)
    return ids, values / max(float(np.sqrt(np.square(values).sum())), 1e-12)
