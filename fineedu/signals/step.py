"""Signals as pipeline steps: for the store, and for anybody's datatrove pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import polars as pl
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from fineedu.job import Job
from fineedu.signals.base import SignalFamily
from fineedu.signals.families import signal_columns
from fineedu.signals.measure import measure, write_signals
from fineedu.status.meter import metered
from fineedu.store import Shard, is_made, read_facts


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
        store = self.job.store
        share = self.job.share(rank, world_size)
        to_do = any(not store.signals(family.name, shard).exists() for shard in share for family in self.families)
        # Compiled kernels, lists and models take 1.2 s to load: meanwhile the pages of the first shard are extracted.
        loading = Thread(target=_load, args=(self.families if to_do else [],))
        loading.start()
        try:
            for shard in data:
                loading.join()
                self._measure(shard)
                yield shard
        finally:
            loading.join()

    def _measure(self, shard: Shard) -> None:
        store, marks = self.job.store, self.job.marks
        targets = {family.name: store.signals(family.name, shard) for family in self.families}
        missing = [family for family in self.families if not is_made(targets[family.name], marks[family.name])]
        if missing:
            with self.track_time("shard"), metered(self.job.metrics_folder, self.name, shard) as cost:
                write_signals(store.documents(shard), targets, missing, marks, self._stored(missing, targets))
                cost.documents = read_facts(store.documents(shard))["documents"]
                cost.bytes_read = store.documents(shard).stat().st_size
                cost.bytes_written = sum(targets[family.name].stat().st_size for family in missing)

    def _stored(self, missing: Sequence[SignalFamily], targets: Mapping[str, Path]) -> dict[Path, list[str]]:
        """Return the shards that are there already and that missing families read, with the columns read."""
        wanted = {column for family in missing for column in family.inputs}
        found = {
            targets[family.name]: [column for column in family.schema if column in wanted]
            for family in self.families
            if family not in missing
        }
        return {path: columns for path, columns in found.items() if columns}


def _load(families: Sequence[SignalFamily]) -> None:
    """Let families load what their first batch needs, by a blank document; what is wrong shows at the first batch."""
    for family in families:
        if {"text", "url"}.issuperset(family.inputs):
            with suppress(Exception):
                family.compute(pl.DataFrame({name: [""] for name in family.inputs}))


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
