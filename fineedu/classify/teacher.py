"""A strong, slow model that scores unlabelled text for the fast one to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fineedu.classify.family import Array, Targets
from fineedu.classify.head import Head


class Teacher:
    """A weighted mean of regressors on word, character and embedding features.

    Args:
        shares: weight of ``word``, ``character`` and ``embedding``; a part of weight 0 is left out.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = {name: share for name, share in shares.items() if share}
        self._parts: dict[str, tuple[Any, Any]] = {}

    def _features(self, name: str) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        if name == "word":
            return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=300_000)
        return TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True, max_features=200_000
        )

    def fit(self, lines: Sequence[str], vectors: Array | None, scores: Array, weights: Array) -> Teacher:
        """Fit on prepared texts, their embeddings (where that part is used), scores and weights."""
        from sklearn.linear_model import Ridge

        for name in self._shares:
            if name == "embedding":
                assert vectors is not None
                self._parts[name] = (None, Head().fit(vectors, Targets(scores[:, None], weights)))
            else:
                features = self._features(name)
                table = features.fit_transform([line[:3000] if name == "character" else line for line in lines])
                self._parts[name] = (features, Ridge(alpha=1.0).fit(table, scores, sample_weight=weights))
        return self

    def predict(self, lines: Sequence[str], vectors: Array | None) -> Array:
        """Return one score a text; NaN where the embedding part has no vector."""
        total = np.zeros(len(lines))
        for name, share in self._shares.items():
            features, model = self._parts[name]
            given = (
                vectors
                if features is None
                else features.transform([line[:3000] if name == "character" else line for line in lines])
            )
            total += share * np.asarray(model.predict(given)).reshape(len(lines))
        return total / sum(self._shares.values())
