"""Signals as pipeline steps: for the store, and for anybody's datatrove pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from fineedu.job import Job
from fineedu.signals.base import SignalFamily
from fineedu.signals.families import signal_columns
from fineedu.signals.measure import measure, write_signals
from fineedu.store import Shard, is_made


class MeasureShards(PipelineStep):  # type: ignore[misc]
    """Makes the signals shards that are not there yet, and hands the shard on."""

    name = "signals"
    type = "fineedu"

    def __init__(self, job: Job, families: Sequence[SignalFamily]) -> None:
        super().__init__()
        self.job = job
        self.families = list(families)

    def run(self, data: Iterable[Shard], rank: int = 0, world_size: int = 1) -> Iterator[Shard]:
        """Yield each shard that comes in, once its signals are there."""
        store, marks = self.job.store, self.job.marks
        for shard in data:
            targets = {family.name: store.signals(family.name, shard) for family in self.families}
            missing = [family for family in self.families if not is_made(targets[family.name], marks[family.name])]
            if missing:
                with self.track_time("shard"):
                    write_signals(store.documents(shard), targets, missing, marks, self._stored(missing, targets))
            yield shard

    def _stored(self, missing: Sequence[SignalFamily], targets: Mapping[str, Path]) -> dict[Path, list[str]]:
        """Return the shards that are there already and that missing families read, with the columns read."""
        wanted = {column for family in missing for column in family.inputs}
        found = {
            targets[family.name]: [column for column in family.schema if column in wanted]
            for family in self.families
            if family not in missing
        }
        return {path: columns for path, columns in found.items() if columns}


class AddSignals(PipelineStep):  # type: ignore[misc]
    """Annotator for a datatrove pipeline: measures documents in batches and drops none.

    Args:
        families: e.g. ``[HeuristicSignals(), EduSignals()]``; their columns go to each document's ``metadata``.
        batch_documents: documents measured together.
    """

    name = "add signals"
    type = "fineedu"

    def __init__(self, families: Sequence[SignalFamily], batch_documents: int = 512) -> None:
        super().__init__()
        self.families = list(families)
        self.batch_documents = batch_documents
        self._given = set(signal_columns(self.families))

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield each document that comes in, with its signals."""
        stream = iter(data)
        while batch := list(islice(stream, self.batch_documents)):
            inputs = {name for family in self.families for name in family.inputs} - self._given
            frame = pl.DataFrame([_column(batch, name) for name in sorted(inputs)])
            for family in self.families:
                frame = frame.hstack(measure(family, frame))
            rows = frame.select(sorted(self._given)).to_dicts()
            for signals, document in zip(rows, batch, strict=True):
                document.metadata.update(signals)
                yield document


def _column(documents: Sequence[Document], name: str) -> pl.Series:
    """Return a field of documents; numbers that other steps left there keep their type."""
    found = pl.Series(name, [_field(document, name) for document in documents], strict=False)
    return found.cast(pl.String) if found.dtype == pl.Null else found


def _field(document: Document, name: str) -> Any:
    return document.text if name == "text" else document.id if name == "id" else document.metadata.get(name)
