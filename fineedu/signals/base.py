"""What a signal family is: a named set of columns computed from a batch of documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl


class SignalFamily(ABC):
    """Columns that are computed together, stored together and invalidated together.

    A family is cheap to construct (recipes are validated by constructing it); models and lists load on
    the first ``compute``. Instances travel to worker processes by pickle, so what they loaded must be
    left behind: keep it in attributes named in ``_loaded`` or in module-level caches.
    """

    #: folder under ``signals/`` and prefix of log lines
    name: ClassVar[str]
    #: raised whenever the same input would give other values
    version: ClassVar[int] = 1
    #: documents columns that ``compute`` reads
    inputs: ClassVar[tuple[str, ...]] = ("text",)

    @property
    @abstractmethod
    def schema(self) -> Mapping[str, pl.DataType]:
        """Column name to Polars type, in stored order."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the values depend on, JSON-ready: code version, parameters, model hash."""
        return {"family": self.name, "version": self.version}

    @abstractmethod
    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Measure a batch.

        Args:
            documents: at least the columns in ``inputs``; hundreds to thousands of rows.

        Returns:
            A frame with exactly the columns of ``schema``, row-aligned with ``documents``. A value that
            could not be measured is null, never zero.
        """
