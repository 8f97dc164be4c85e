"""The educational score of a compact classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from fineedu.classify.bundle import bundle_folder, load_bundle, read_bundle
from fineedu.signals.base import SignalFamily


class EduSignals(SignalFamily):
    """Educational value on FineWeb-Edu's scale from 0 to 5, raw and rounded.

    ``edu_int_score`` is ``round(clip(edu_score, 0, 5))``, halves to even, as FineWeb-Edu rounds: its "3 or more" is a
    raw score above 2.5, not 3.

    Args:
        model: name of a shipped bundle, or the path of a bundle's folder.
    """

    name: ClassVar[str] = "edu"

    def __init__(self, model: str = "edu-fasttext") -> None:
        self._folder = bundle_folder(model)

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns; null where there is no text."""
        return {"edu_score": pl.Float32(), "edu_int_score": pl.UInt8()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the values depend on: the weights, the preparation and the calibration."""
        return super().fingerprint | read_bundle(self._folder).fingerprint

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Score a batch."""
        scores = pl.Series("edu_score", load_bundle(self._folder).score(documents["text"])).fill_nan(None)
        rounded = scores.clip(0, 5).round(mode="half_to_even").cast(pl.UInt8).rename("edu_int_score")
        return pl.DataFrame([scores, rounded])
