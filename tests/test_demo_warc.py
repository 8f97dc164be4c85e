"""The demo crawl: it matches its sources, standard tools read it, and it holds what its README says."""

from __future__ import annotations

import gzip
import io
import re
from collections import Counter

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from fastwarc.warc import WarcRecordType
from warcio.archiveiterator import ArchiveIterator

from tests.demo_warc import FOLDER, TARGET, Page, build, load_pages, render

KINDS = {
    "lesson": 12, "textbook": 4, "tutorial": 5, "encyclopedia": 4, "long": 1, "qa": 3, "forum": 3,
    "news": 4, "sports": 2, "press": 1, "blog": 4, "recipe": 3, "poem": 2, "product": 2, "category": 2,
    "travel": 2, "realestate": 1, "job": 1, "legal": 2, "cookiewall": 1, "login": 2, "notfound": 2,
    "spam": 3, "linkfarm": 1, "repetition": 2, "shouting": 1, "synthetic": 4, "blockedurl": 1,
    "table": 2, "list": 2, "code": 1, "short": 2, "lorem": 1, "brackets": 1, "duplicate": 3,
    "nearduplicate": 7, "foreign": 10, "charset": 3, "hostile": 2, "plaintext": 2, "json": 1, "pdf": 1,
    "image": 2, "redirect": 1, "error": 2,
}  # fmt: skip
EDUCATIONAL = ("lesson", "textbook", "tutorial", "encyclopedia", "long")


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return TARGET.read_bytes()


@pytest.fixture(scope="module")
def pages() -> dict[str, Page]:
    return {page.url: page for page in load_pages()}


def test_shipped_file_matches_its_sources(shipped: bytes) -> None:
    built = build()
    assert built == build()
    if built != shipped:  # another zlib packs otherwise; the records must still be the same
        assert _contents(built) == _contents(shipped), "run `python -m tests.demo_warc` and commit the file"


def _contents(data: bytes) -> list[tuple[str | None, str | None, bytes]]:
    """Type, URI and decoded body of every record; brotli bodies as they are: they are stored."""
    found = []
    for record in ArchiveIterator(io.BytesIO(data)):
        coded = record.http_headers and record.http_headers.get_header("Content-Encoding")
        stream = record.raw_stream if coded == "br" else record.content_stream()
        uri = record.rec_headers.get_header("WARC-Target-URI")
        found.append((record.rec_type, uri, stream.read()))
    return found


def test_warcio_reads_every_record_and_every_digest(shipped: bytes, pages: dict[str, Page]) -> None:
    kinds: Counter[str] = Counter()
    for record in ArchiveIterator(io.BytesIO(shipped), check_digests="raise"):
        record.raw_stream.read()
        kinds[record.rec_type] += 1
    assert kinds == {"warcinfo": 1, "request": 3, "response": len(pages)}


def test_fastwarc_reads_every_record(shipped: bytes, pages: dict[str, Page]) -> None:
    seen = {}
    for record in FastIterator(io.BytesIO(shipped), record_types=WarcRecordType.response):
        seen[record.headers["WARC-Target-URI"]] = (record.record_id, record.http_headers.status_code)
    assert seen.keys() == pages.keys()
    assert len({identity for identity, _ in seen.values()}) == len(pages)
    assert all(status == int(pages[url].status[:3]) for url, (_, status) in seen.items())


def test_counts_by_kind(pages: dict[str, Page]) -> None:
    assert Counter(page.kind for page in pages.values()) == KINDS


def test_readme_gives_the_same_counts(pages: dict[str, Page]) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    told: dict[str, int] = {}
    for names, counts in re.findall(r"(?m)^\| ([a-z, ]+) \| ([\d, ]+) \|", text):
        told.update(zip(names.split(", "), map(int, counts.split(", ")), strict=True))
    assert told == KINDS
    assert f"{len(pages)} pages from {len({page.host for page in pages.values()})} hosts" in text


def test_hosts_are_reserved_and_dates_span_the_years(pages: dict[str, Page]) -> None:
    reserved = re.compile(r"(?:^|\.)(?:example|example\.(?:com|net|org|edu))$")
    assert all(reserved.search(page.host) for page in pages.values())
    assert {page.date[:4] for page in pages.values()} == {str(year) for year in range(2013, 2026)}


def test_educational_pages_have_something_to_say(pages: dict[str, Page]) -> None:
    words = {page.slug: len(page.body.split()) for page in pages.values() if page.kind in EDUCATIONAL}
    assert len(words) >= 25
    assert min(words.values()) >= 250


def test_pages_in_other_charsets_are_stored_in_them(shipped: bytes, pages: dict[str, Page]) -> None:
    raw = gzip.decompress(shipped)
    for page in pages.values():
        if page.charset != "utf-8" and page.template != "none" and not page.encoding:
            assert re.sub(r"\W.*", "", page.title).encode(page.charset) in raw, page.slug


def test_markup_becomes_html() -> None:
    source = "## Head\n\nA *b* **c** <d> `e`\n\n- one\n- two\n\n| x | y |\n| 1 | 2 |\n\n/ a\n/ b\n\n"
    source += "```\nif a < b:\n\n  c\n```"
    assert render(source) == (
        "<h2>Head</h2>\n<p>A *b* <strong>c</strong> &lt;d&gt; <code>e</code></p>\n"
        "<ul>\n<li>one</li>\n<li>two</li>\n</ul>\n"
        "<table>\n<thead><tr><th>x</th><th>y</th></tr></thead>\n<tbody>\n"
        "<tr><td>1</td><td>2</td></tr>\n</tbody>\n</table>\n"
        "<p>a<br>\nb</p>\n<pre><code>if a &lt; b:\n\n  c</code></pre>"
    )
