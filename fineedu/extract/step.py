"""Extraction as pipeline steps: for the store, and for anybody's datatrove pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from fineedu.extract.documents import DocumentReader, extraction_counts, write_documents
from fineedu.extract.inputs import resolve_inputs
from fineedu.job import Job
from fineedu.recipe import ExtractConfig
from fineedu.status.meter import metered
from fineedu.store import Shard, is_made, read_facts

#: Extraction's part of a shard's time: signals and selection take 2 % with trafilatura.
_SHARE = 0.98


class ExtractShards(PipelineStep):  # type: ignore[misc]
    """Makes each documents shard that is not there yet, and hands the shard on."""

    name = "extract"
    type = "fineedu"

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Shard]:
        """Yield the shards of this rank, each once its documents are there."""
        job = self.job
        for shard in job.share(rank, world_size):
            path, mark = job.store.documents(shard), job.marks["documents"]
            if not is_made(path, mark):

                def note(reader: DocumentReader, shard: Shard = shard) -> None:
                    job.note(shard, _SHARE * reader.read, reader.pages, 0, reader.dropped)

                with self.track_time("shard"), metered(job.metrics_folder, self.name, shard) as cost:
                    write_documents(path, job.shards[shard], shard.dump, job.recipe.extract, mark, note)
                    cost.documents = read_facts(path)["documents"]
                    cost.bytes_read, cost.bytes_written = job.shards[shard].length, path.stat().st_size
            pages, dropped = extraction_counts(path, job.shards[shard])
            job.note(shard, _SHARE, pages, 0, dropped)
            yield shard


class ReadPages(PipelineStep):  # type: ignore[misc]
    """Reader for a datatrove pipeline: archives in, one document a page out, with all of extraction's columns.

    Args:
        inputs: paths, folders, globs or URLs of WARC, WET or ARC files.
        dump: name of the dump; read from the paths where not given.
        config: extraction settings.
    """

    name = "read pages"
    type = "fineedu"

    def __init__(self, inputs: Iterable[str], dump: str | None = None, config: ExtractConfig | None = None) -> None:
        super().__init__()
        self.inputs = list(inputs)
        self.dump = dump
        self.config = config or ExtractConfig()

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield what came in, then this rank's documents."""
        yield from data or ()
        shards = resolve_inputs(self.inputs, self.dump, None, self.config.split_mb)
        for shard in list(shards)[rank::world_size]:
            reader = DocumentReader(shards[shard], shard.dump, self.config)
            for batch in reader:
                for row in batch.iter_rows(named=True):
                    self.stat_update("documents")
                    yield Document(text=row.pop("text"), id=row.pop("id"), metadata=row)
            for reason, count in reader.dropped.items():
                self.stat_update(f"dropped_{reason}", value=count)
