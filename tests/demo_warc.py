"""Builds the demo crawl, `pipelines/demo/demo.warc.gz`, from the readable sources beside it.

Run `python -m tests.demo_warc` after an edit of the pages. The bytes depend on the sources alone (and on the
zlib build): record ids come from the URL, dates from the page, and nothing from the clock.
"""

from __future__ import annotations

import hashlib
import html
import random
import re
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import yaml

from tests.warc_bytes import (
    brotli_stored,
    chunked,
    deflate,
    digest,
    gzip_member,
    header_block,
    http_response,
    record_id,
    warc_record,
    warcinfo,
)

FOLDER = Path(__file__).resolve().parent.parent / "pipelines" / "demo"
TARGET = FOLDER / "demo.warc.gz"
ENCODERS = {"gzip": gzip_member, "deflate": deflate, "br": brotli_stored}
CLOSERS = re.compile(r"</(?:p|li|td|tr|div|h2)>")


@dataclass(frozen=True)
class Page:
    """One response of the demo crawl; the fields after `body` are the front matter of its source."""

    slug: str
    body: str
    url: str
    date: str
    kind: str
    title: str = ""
    lang: str = "en"
    author: str = ""
    template: str = ""  # empty: the site's; "none": the body is the whole document
    status: str = "200 OK"
    location: str = ""
    content_type: str = "text/html"
    charset: str = "utf-8"  # what the bytes are in
    label: str = ""  # what they are said to be in, if something else
    declare: str = "both"  # where: header, meta, both, none
    encoding: str = ""
    chunked: bool = False
    request: bool = False
    quirks: list[str] = field(default_factory=list)
    like: str = ""  # slug of the page whose body this one repeats, with `edits`
    edits: list[list[str]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def load_pages() -> list[Page]:
    """All pages, in the order of the file: by a hash of the URL, so that a site's pages lie apart."""
    raw: dict[str, dict[str, Any]] = {}
    for path in sorted((FOLDER / "pages").glob("*.md")):
        for chunk in re.split(r"(?m)^=== ", path.read_text(encoding="utf-8"))[1:]:
            head, _, body = chunk.partition("\n---\n")
            slug, _, matter = head.partition("\n")
            if slug.strip() in raw:
                raise ValueError(f"{path.name}: the slug {slug!r} is used twice")
            fields = yaml.safe_load(matter)
            fields["date"] = f"{fields['date']:%Y-%m-%dT%H:%M:%SZ}"
            raw[slug.strip()] = {**fields, "body": body.strip("\n")}
    for fields in raw.values():
        if base := fields.get("like"):
            fields["body"] = _edited(raw[base]["body"], fields.get("edits", []), fields["url"])
            fields.setdefault("title", raw[base]["title"])
    pages = [Page(slug=slug, **fields) for slug, fields in raw.items()]
    return sorted(pages, key=lambda page: hashlib.sha1(page.url.encode()).digest())


def _edited(text: str, edits: list[list[str]], url: str) -> str:
    for old, new in edits:
        if old not in text:
            raise ValueError(f"{url}: no {old!r} to replace")
        text = text.replace(old, new)
    return text


# ---- markup: paragraphs, ## headings, - and 1. lists, | tables |, > quotes, ``` code, [links](to), **bold**


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"(?<!\w)_([^_]+)_(?!\w)", r"<em>\1</em>", text)


def _table(lines: list[str]) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in rows[0])
    body = "\n".join("<tr>" + "".join(f"<td>{_inline(c)}</td>" for c in row) + "</tr>" for row in rows[1:])
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _items(lines: list[str], tag: str) -> str:
    items = [re.sub(r"^(?:-|\d+\.) ", "", line) for line in lines]
    return f"<{tag}>\n" + "\n".join(f"<li>{_inline(item)}</li>" for item in items) + f"\n</{tag}>"


def render(source: str) -> str:
    """HTML of the small markup the pages are written in; a block that begins with `<` passes through."""
    blocks: list[str] = []
    for part in re.split(r"(```.*?```)", source, flags=re.DOTALL):
        if part.startswith("```"):
            blocks.append(f"<pre><code>{html.escape(part[3:-3].strip(chr(10)), quote=False)}</code></pre>")
            continue
        blocks += [_block(block) for block in re.split(r"\n\s*\n", part.strip("\n")) if block.strip()]
    return "\n".join(blocks)


def _block(block: str) -> str:
    lines = block.splitlines()
    first = lines[0]
    if first.startswith("<"):
        return block
    if match := re.match(r"(#{2,4}) (.*)", first):
        level = len(match[1])
        rest = "\n".join(lines[1:])
        return f"<h{level}>{_inline(match[2])}</h{level}>" + (f"\n{_block(rest)}" if rest else "")
    if first.startswith("|"):
        return _table(lines)
    if first.startswith("- "):
        return _items(lines, "ul")
    if re.match(r"\d+\. ", first):
        return _items(lines, "ol")
    if first.startswith("> "):
        return f"<blockquote><p>{_inline(' '.join(line[2:] for line in lines))}</p></blockquote>"
    if first.startswith("/ "):  # verse: every line keeps its end
        return "<p>" + "<br>\n".join(_inline(line.removeprefix("/ ")) for line in lines) + "</p>"
    return f"<p>{_inline(chr(10).join(lines))}</p>"


# ---- from page to record


class Builder:
    """Renders pages with the templates and sites of the demo folder."""

    def __init__(self) -> None:
        self.pages = load_pages()
        self.sites = yaml.safe_load((FOLDER / "sites.yaml").read_text(encoding="utf-8"))
        loader = jinja2.FileSystemLoader(FOLDER / "templates")
        # The markup step has escaped the text already.
        self.templates = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)

    def document(self, page: Page) -> str:
        """The page's whole text as a server would send it, before encoding."""
        if page.template == "none":
            return page.body
        site = self.sites[page.host]
        content = render(page.body)
        if "deep" in page.quirks:
            content = "<div>" * 3000 + content + "</div>" * 3000
        if "nested_tables" in page.quirks:
            content = "<table><tr><td>" * 40 + content + "</td></tr></table>" * 40
        template = self.templates.get_template(f"{page.template or site['template']}.html.j2")
        near = [other for other in self.pages if other.host == page.host and other.slug != page.slug]
        text = template.render(page=page, site=site, content=content, related=near[:5], meta=self._meta(page))
        return CLOSERS.sub("", text) if "unclosed" in page.quirks else text

    @staticmethod
    def _meta(page: Page) -> str:
        if page.declare not in ("meta", "both"):
            return ""
        return f'<meta charset="{page.label or page.charset}">'

    def payload(self, page: Page) -> bytes:
        """The body before content coding."""
        if "pdf" in page.quirks:
            return b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n" + random.Random(page.url).randbytes(6000) + b"\n%%EOF\n"
        if "png" in page.quirks:
            return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + random.Random(page.url).randbytes(4000)
        errors = "xmlcharrefreplace"
        data = self.document(page).encode(page.charset, errors)
        return data.replace(b". ", b".\x00 ") if "nul" in page.quirks else data

    def records(self, page: Page) -> list[bytes]:
        """The response, after the request where the page keeps it."""
        body = self.payload(page)
        extra = [("Server", "nginx"), ("Content-Language", page.lang)]
        if page.location:
            extra.append(("Location", page.location))
        if page.encoding:
            body = ENCODERS[page.encoding](body)
            extra.append(("Content-Encoding", page.encoding))
        if page.chunked:
            extra.append(("Transfer-Encoding", "chunked"))
        declared = page.declare in ("header", "both") and page.content_type.startswith("text/")
        content_type = page.content_type + (f"; charset={page.label or page.charset}" if declared else "")
        sent = chunked(body, 1400) if page.chunked else body
        http = http_response(sent, content_type, page.status, extra, -1 if page.chunked else None)
        address = [("WARC-IP-Address", f"192.0.2.{zlib.crc32(page.host.encode()) % 254 + 1}")]
        # warcio checks the payload as stored, with its chunk sizes.
        digests = [("WARC-Payload-Digest", digest(sent)), ("WARC-Block-Digest", digest(http))]
        identity = record_id(page.url)
        response = warc_record(http, page.url, date=page.date, identity=identity, extra=address + digests)
        return [self._request(page, identity), response] if page.request else [response]

    @staticmethod
    def _request(page: Page, response: str) -> bytes:
        agent = ("User-Agent", "demo-crawler/1.0")
        head = header_block(f"GET {page.path} HTTP/1.1", [("Host", page.host), agent, ("Accept", "text/html")])
        kind = "application/http; msgtype=request"
        identity = record_id(f"request {page.url}")
        extra = [("WARC-Concurrent-To", response)]
        return warc_record(head, page.url, "request", kind, page.date, identity, extra)


def build() -> bytes:
    """The bytes of the demo file: a warcinfo record, then requests and responses, one gzip member each."""
    builder = Builder()
    fields = [
        ("software", "fineedu tests/demo_warc.py"),
        ("format", "WARC File Format 1.0"),
        ("description", "A small made-up crawl: every page was written for it, no host in it exists"),
    ]
    records = [warcinfo(TARGET.name, fields, "2025-11-30T00:00:00Z")]
    for page in builder.pages:
        records += builder.records(page)
    return b"".join(gzip_member(record) for record in records)


def main() -> None:
    data = build()
    TARGET.write_bytes(data)
    sys.stdout.write(f"{TARGET.name}: {len(load_pages())} pages, {len(data):,} bytes\n")


if __name__ == "__main__":
    main()
