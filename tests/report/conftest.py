"""Small real runs to report on: archives written here, scored by what their pages say of themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from fineedu.runner import execute, plan_run
from fineedu.signals import families
from fineedu.signals.base import SignalFamily
from fineedu.store import read_json


class StatedSignals(SignalFamily):
    """Takes ``edu_score`` from a page's words ``score=<number>``; null where it has none."""

    name: ClassVar[str] = "edu"

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        return {"edu_score": pl.Float64(), "exact_key": pl.String()}

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        stated = pl.col("text").str.extract(r"score=(\d+\.?\d*)", 1).cast(pl.Float64)
        key = pl.col("text").str.extract(r"twin=(\w+)", 1)
        return documents.select(
            stated.alias("edu_score"),
            pl.coalesce(key, pl.col("text").hash(0).cast(pl.String)).alias("exact_key"),
        )


class StatedPhrases(SignalFamily):
    name: ClassVar[str] = "phrases"

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        return {"bot_certainly": pl.UInt32(), "bot_total": pl.UInt32()}

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        hits = documents["text"].str.count_matches("Certainly!")
        return pl.DataFrame({"bot_certainly": hits, "bot_total": hits})


@pytest.fixture(scope="session", autouse=True)
def stated_families() -> Iterator[None]:
    # Under names of their own: other tests of the same process must find the real families.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.FAMILIES, "stated-edu", f"{__name__}:StatedSignals")
        patch.setitem(families.FAMILIES, "stated-phrases", f"{__name__}:StatedPhrases")
        yield


def record(number: int, url: str, html: str) -> bytes:
    body = html.encode()
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{number:012d}>\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2024-03-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def page(title: str, *paragraphs: str) -> str:
    """An HTML page; title and paragraphs are HTML already."""
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return f"<html><head><title>{title}</title></head><body><article>{body}</article></body></html>"


ENGLISH = (
    "The water in the river moves slowly through the valley, and the people who live beside it have learned "
    "over many years how to read its colour, its sound and its height before the rain comes down again. "
)


@dataclass(frozen=True, slots=True)
class Made:
    """A run that is done."""

    html: str
    path: Path
    manifest: dict[str, Any]
    output: Path
    run_id: str

    def documents(self) -> pl.DataFrame:
        """Documents with their decisions, read without the library."""
        shards = sorted((self.output / "documents").rglob("*.parquet"))
        decided = sorted((self.output / "runs" / self.run_id / "decisions").rglob("*.parquet"))
        parts = [
            pl.read_parquet(shard, hive_partitioning=False).hstack(
                pl.read_parquet(other, columns=["keep", "reasons"], hive_partitioning=False)
            )
            for shard, other in zip(shards, decided, strict=True)
        ]
        return pl.concat(parts)


RunPages = Callable[..., Made]


@pytest.fixture(scope="session")
def run_pages(tmp_path_factory: pytest.TempPathFactory) -> RunPages:
    """Run the shortest recipe over pages (address, HTML), one archive a list."""

    inputs = tmp_path_factory.mktemp("archives")

    def make(*archives: Sequence[tuple[str, str]], rules: str = "{}", settings: Sequence[str] = ()) -> Made:
        number, names = 0, []
        for pages in archives:
            records = [record(number + place, *parts) for place, parts in enumerate(pages)]
            number += len(pages)
            # Named by what it holds: where an archive lies is part of a run's identity, and of its report.
            path = inputs / f"{len(names)}-{hashlib.sha256(b''.join(records)).hexdigest()[:12]}.warc"
            path.write_bytes(b"".join(records))
            names.append(str(path))
        folder = tmp_path_factory.mktemp("run")
        overrides = [
            "signals=[stated-edu, stated-phrases]",
            "extract.backend=resiliparse",
            f"select.rules={rules}",
            *settings,
        ]
        plan = plan_run("minimal", inputs=names, output=folder / "out", overrides=overrides)
        result = execute(plan, workers=1)
        html = result.report.read_text(encoding="utf-8")
        return Made(html, result.report, read_json(result.manifest), folder / "out", result.run_id)

    return make
