"""Small archives made in memory, for tests that need their own pages."""

from __future__ import annotations

import gzip
import uuid
from collections.abc import Iterable
from pathlib import Path

PARAGRAPH = (
    "Plants make their own food from light, water and carbon dioxide. The green parts of a leaf hold chlorophyll, "
    "which takes in light and passes its energy on. With that energy the plant splits water and builds sugar, and "
    "it gives off oxygen while it does so. Without this process there would be very little life on land at all."
)


def html_page(*paragraphs: str, title: str = "A page", head: str = "") -> bytes:
    """Return a page with a heading and paragraphs."""
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    text = (
        f"<html><head><title>{title}</title>{head}</head><body><article><h1>{title}</h1>{body}</article></body></html>"
    )
    return text.encode()


def response(
    body: bytes,
    url: str = "http://school.example/page",
    *,
    headers: str = "Content-Type: text/html; charset=utf-8",
    date: str = "2024-03-01T00:00:00Z",
    status: str = "200 OK",
    record_id: str | None = None,
) -> bytes:
    """Return one response record, uncompressed."""
    http = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body
    identity = record_id or f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>"
    warc = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: {date}\r\n"
        f"WARC-Record-ID: {identity}\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http)}\r\n\r\n"
    )
    return warc.encode() + http + b"\r\n\r\n"


def write_warc(path: Path, records: Iterable[bytes]) -> Path:
    """Write a gzip archive, one member a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(gzip.compress(record, mtime=0) for record in records))
    return path


def numbered_pages(count: int, host: str = "school.example") -> list[bytes]:
    """Return records of pages that differ in their words and lengths."""
    return [
        response(
            html_page(*[f"Lesson {n}, part {part}. {PARAGRAPH}" for part in range(1 + n % 4)]),
            f"http://{host}/{n}",
        )
        for n in range(count)
    ]


def tree_digest(
    folder: Path, *, without: tuple[str, ...] = ("logs", "progress", ".lock", "timings.json")
) -> dict[str, bytes]:
    """Return path to content of every file that must not depend on how a run went."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not set(path.relative_to(folder).parts) & set(without)
    }
