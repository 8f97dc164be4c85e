"""What lines and substrings share: key files of every shard, kept beside the store, and the scopes of their keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
from datatrove.pipeline.base import PipelineStep

from fineedu.dedup.cluster import Scope
from fineedu.dedup.keys import KeyFile
from fineedu.recipe import DedupConfig
from fineedu.store import Shard, Store, fingerprint, read_facts


def scope_salts(batch: pl.DataFrame, scope: Scope, shard: Shard) -> npt.NDArray[np.uint64]:
    """Return (m,) uint64, what tells the documents of different scopes apart.

    Args:
        batch: m documents, with ``language``.
        scope: what is compared with each other.
        shard: that they are of.
    """
    from fineedu.dedup.shingles import hash_strings

    if scope == "global":
        return np.zeros(batch.height, np.uint64)
    names = batch["language"] if scope == "language" else pl.Series([shard.dump] * batch.height, dtype=pl.String)
    return hash_strings(names)


class ListKeys(PipelineStep, ABC):  # type: ignore[misc]
    """Writes the key file of every shard where it is missing or of other documents, and hands the shard on."""

    type = "fineedu"
    #: under ``dedup/`` in the store
    folder: ClassVar[str]

    def __init__(self, store: Store, config: DedupConfig, made_by: dict[str, Any]) -> None:
        super().__init__()
        self.store = store
        self.config = config
        self.made_by = made_by

    @classmethod
    def path(cls, store: Store, shard: Shard) -> Path:
        """Return where the key file of a shard lies."""
        return store.root / "dedup" / cls.folder / shard.path.with_suffix(".keys")

    @abstractmethod
    def write(self, documents: Path, path: Path, shard: Shard, mark: str) -> None:
        """Write the key file of one documents shard; ``mark`` is its ``fingerprint`` and ``origin``."""

    def run(self, data: Iterable[Shard], rank: int = 0, world_size: int = 1) -> Iterator[Shard]:
        """Yield each shard that comes in, once its keys are listed."""
        for shard in data:
            documents, path = self.store.documents(shard), self.path(self.store, shard)
            mark = fingerprint([self.made_by, read_facts(documents)["source"]])
            if not (path.exists() and KeyFile(path).facts["fingerprint"] == mark):
                with self.track_time("shard"):
                    self.write(documents, path, shard, mark)
            yield shard
