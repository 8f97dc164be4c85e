"""The register of hostile files and the good pages that stand around the damage in each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.warc_bytes import gzip_member, http_response, warc_record

Builder = Callable[[], bytes]


class Expected(NamedTuple):
    """How many records with text a perfect reader yields, and what it must take care of."""

    least: int
    most: int
    note: str


HOSTILE: dict[str, Builder] = {}
EXPECTED: dict[str, Expected] = {}


def hostile(least: int, most: int | None = None) -> Callable[[Builder], Builder]:
    """Register a builder; its docstring becomes the note of its expectation."""

    def register(builder: Builder) -> Builder:
        name = builder.__name__
        HOSTILE[name] = builder
        EXPECTED[name] = Expected(least, least if most is None else most, (builder.__doc__ or "").strip())
        return builder

    return register


def marker(n: int) -> str:
    """A phrase that only good page `n` holds."""
    return f"observation {n} of the harbour log"


def uri(n: int) -> str:
    return f"https://fixtures.example/page-{n}.html"


def good_text(n: int) -> str:
    return (
        f"This is {marker(n)}. The tide turned shortly after nine and the boats began to swing round on "
        "their moorings, first the small dinghies and then the heavy trawlers. A steady wind from the west "
        "kept the flags straight, and the barometer by the office door had fallen four points since noon. "
        "Two visitors asked when the ferry would leave and were told to come back once the fog had lifted."
    )


def html(n: int, inside: str = "") -> bytes:
    """A small, valid page with `marker(n)` in it; `inside` is put before its paragraph."""
    return (
        f"<!DOCTYPE html><html><head><title>Harbour log {n}</title></head><body><article>"
        f"<h1>Harbour log {n}</h1>{inside}<p>{good_text(n)}</p>"
        "<p>The keeper signed the page and hung the key back on its hook.</p>"
        "</article></body></html>"
    ).encode()


def good(n: int) -> bytes:
    """Uncompressed record of good page `n`."""
    return warc_record(http_response(html(n)), uri(n))


def packed(*records: bytes) -> bytes:
    """One gzip member a record, as Common Crawl does it."""
    return b"".join(gzip_member(record) for record in records)


def between(*middle: bytes) -> bytes:
    """Good page 1, the records in question, good page 2: what comes after the damage must survive it."""
    return packed(good(1), *middle, good(2))


def page(block: bytes, n: int = 3) -> bytes:
    return warc_record(block, uri(n))
