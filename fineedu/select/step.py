"""Selection as pipeline steps: for the store, and for anybody's datatrove pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import polars as pl
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from fineedu.job import Job
from fineedu.select.choose import Selector, no_caps
from fineedu.select.cuts import Cuts
from fineedu.select.decide import decide, load_selection
from fineedu.select.rules import Rules
from fineedu.select.write import CorpusFile, write_corpus_file
from fineedu.status.meter import metered
from fineedu.store import Shard, fingerprint, is_made, read_facts


class DecideShards(PipelineStep):  # type: ignore[misc]
    """Judges each shard that comes in; the end of the per-shard pipeline."""

    name = "select"
    type = "fineedu"

    def __init__(self, job: Job, schema: Mapping[str, pl.DataType], owners: Mapping[str, str]) -> None:
        super().__init__()
        self.job = job
        self.schema = dict(schema)
        self.owners = dict(owners)

    def run(self, data: Iterable[Shard], rank: int = 0, world_size: int = 1) -> Iterator[Shard]:
        """Yield each shard that comes in, once it is decided on."""
        job = self.job
        selector = Selector(job.recipe.select, self.schema)
        found = load_selection(job.store.run(job.run_id)) if selector.passes else (Cuts(), no_caps())
        mark = fingerprint([job.recipe.select.model_dump(), dict(job.marks)])
        for shard in data:
            if not is_made(job.store.decisions(job.run_id, shard), mark):
                with self.track_time("shard"), metered(job.metrics_folder, self.name, shard) as cost:
                    decide(job.store, job.run_id, shard, selector, found, self.owners, mark)
                    cost.documents = read_facts(job.store.documents(shard))["documents"]
                    cost.bytes_written = job.store.decisions(job.run_id, shard).stat().st_size
            documents, chosen = (
                read_facts(path) for path in (job.store.documents(shard), job.store.decisions(job.run_id, shard))
            )
            job.note(shard, 1.0, documents["pages"], chosen["kept"], documents["dropped"] | chosen["reasons"])
            yield shard


class WriteCorpus(PipelineStep):  # type: ignore[misc]
    """Writes the files of the corpus, each rank its share."""

    name = "write"
    type = "fineedu"

    def __init__(
        self,
        job: Job,
        files: Sequence[CorpusFile],
        schema: Mapping[str, pl.DataType],
        owners: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.job = job
        self.files = list(files)
        self.schema = dict(schema)
        self.owners = dict(owners)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[CorpusFile]:
        """Yield each file of this rank, once it is there."""
        for file in self.files[rank::world_size]:
            job = self.job
            number = f"{file.path.parent.name.removeprefix('dump=')}/{file.path.name.partition('.')[0]}"
            with self.track_time("file"), metered(job.metrics_folder, self.name, number) as cost:
                write_corpus_file(job.store, job.run_id, file, self.owners, self.schema, job.recipe.write)
                cost.documents = sum(stop - start for _, start, stop in file.parts)
                cost.bytes_read = sum(job.store.documents(shard).stat().st_size for shard, _, _ in file.parts)
                cost.bytes_written = file.path.stat().st_size
            yield file


class KeepSelected(PipelineStep):  # type: ignore[misc]
    """Filter for a datatrove pipeline: passes documents on that fulfil every rule.

    Args:
        rules: name to SQL expression over the documents' metadata.
        schema: type of every column that the rules name.
        batch_documents: documents judged together.
    """

    name = "keep selected"
    type = "fineedu"

    def __init__(self, rules: Mapping[str, str], schema: Mapping[str, pl.DataType], batch_documents: int = 512) -> None:
        super().__init__()
        Rules(rules, schema)  # a mistake shows here, and not in a worker an hour later
        self.rules = dict(rules)
        self.schema = dict(schema)
        self.batch_documents = batch_documents

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents that are kept; the others are counted by reason."""
        rules = Rules(self.rules, self.schema)
        stream = iter(data)
        while batch := list(islice(stream, self.batch_documents)):
            rows = [[document.metadata.get(column) for column in rules.columns] for document in batch]
            frame = pl.DataFrame(rows, schema={column: self.schema[column] for column in rules.columns}, orient="row")
            for document, keep, reasons in zip(batch, *rules.judge(frame).get_columns(), strict=True):
                for reason in reasons:
                    self.stat_update(f"dropped_{reason}")
                if keep:
                    self.stat_update("kept")
                    yield document
