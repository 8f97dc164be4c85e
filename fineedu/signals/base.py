"""What a signal family is: a named set of columns computed from a batch of documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import polars as pl

from fineedu.errors import FineeduError


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
    #: columns that ``compute`` reads: of documents, or of families that stand before this one
    inputs: ClassVar[tuple[str, ...]] = ("text",)

    @property
    @abstractmethod
    def schema(self) -> Mapping[str, pl.DataType]:
        """Column name to Polars type, in stored order."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the values depend on, JSON-ready: code version, parameters, model hash."""
        return {"family": self.name, "version": self.version}

    @property
    def is_compiled(self) -> bool:
        """Whether the first batch can start at once on this machine, without compiling kernels."""
        return True

    def check(self, schema: Mapping[str, pl.DataType]) -> None:
        """Check against the columns that there are before anything runs.

        Args:
            schema: columns of documents and of the families that stand before this one.

        Raises:
            FineeduError: an input is missing, or of a type that it cannot be.
        """
        for column in self.inputs:
            if column not in schema:
                raise FineeduError(
                    f"signal family {self.name!r} reads {column!r}, which no document has and no family before it gives"
                )

    def check_pool(self, batches: Callable[[Sequence[str]], Iterator[pl.DataFrame]]) -> list[str]:
        """Look at all documents of a run once they are measured, and return warnings.

        Args:
            batches: gives the documents' and signals' columns asked for.

        Raises:
            FineeduError: the run must not go on.
        """
        return []

    def summary(self, batches: Callable[[Sequence[str]], Iterator[pl.DataFrame]]) -> dict[str, Any]:
        """Return what manifest and report tell of the family over all documents of a run, JSON-ready; mostly nothing.

        Args:
            batches: gives the documents' and signals' columns asked for.
        """
        return {}

    @abstractmethod
    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Measure a batch.

        Args:
            documents: at least the columns in ``inputs``; hundreds to thousands of rows.

        Returns:
            A frame with exactly the columns of ``schema``, row-aligned with ``documents``. A value that
            could not be measured is null, never zero.
        """
