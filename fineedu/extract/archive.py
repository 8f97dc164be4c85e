"""Records of web archives: WARC (gzip, zstd or plain), WET and ARC, also damaged ones."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType

from fineedu.extract.payload import decode_payload

_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_WINDOW = 1 << 20
_HEAD_END = re.compile(rb"\r?\n\r?\n")
#: Room for the HTTP head besides the page itself.
_HEAD_BYTES = 1 << 16
_HTML_TYPES = ("text/html", "application/xhtml+xml", "application/xml", "text/xml")


@dataclass(frozen=True, slots=True)
class Record:
    """One archived page, undone from its transfer and content codings."""

    id: str
    url: str
    date: datetime | None
    status: int | None
    kind: Literal["html", "text"]
    charset: str | None
    body: bytes
    truncated: bool
    offset: int


@dataclass(slots=True)
class ArchiveCounts:
    """What was in an archive besides pages."""

    records: Counter[str] = field(default_factory=Counter)
    #: why records that should hold a page do not give one
    dropped: Counter[str] = field(default_factory=Counter)


class _Watched:
    """A stream that remembers its own failure, to tell a broken disk or network from a broken archive."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()


def _first_bytes(data: bytes, count: int = 512) -> bytes:
    """Return the first bytes of possibly compressed data, empty where it does not decompress."""
    try:
        if data.startswith(_GZIP):
            return zlib.decompressobj(31).decompress(data, count)
        if data.startswith(_ZSTD):
            with zstandard.ZstdDecompressor().stream_reader(data) as reader:
                return bytes(reader.read(count))
    except (zlib.error, zstandard.ZstdError):
        return b""
    return data[:count]


def find_record(stream: BinaryIO | _Watched, position: int) -> int | None:
    """Return the offset of the first record at or after ``position``, None where there is none.

    A record starts at a gzip member or zstd frame that unpacks to ``WARC/``, or at a plain ``WARC/1.`` after an
    empty line. This is how reading goes on behind a damaged record, and how one file is read by several tasks.
    """
    while True:
        stream.seek(position)
        window = stream.read(_WINDOW)
        candidates = []
        for magic in (_GZIP, _ZSTD, b"\r\n\r\nWARC/1.", b"WARC/1."):
            found = window.find(magic)
            while found >= 0:
                start = found + (4 if magic.startswith(b"\r\n") else 0)
                if magic != b"WARC/1." or position + found == 0:
                    candidates.append(start)
                found = window.find(magic, found + 1)
        for start in sorted(candidates):
            # 64 kB is ample to unpack the first line; at the window's end the next window looks again.
            if _first_bytes(window[start : start + (1 << 16)], 5) == b"WARC/":
                return position + start
        if len(window) < _WINDOW:
            return None
        position += _WINDOW - 64


class Archive:
    """The pages of one archive, or of a byte range of it.

    Args:
        stream: seekable binary stream of the archive.
        page_bytes: a longer page is cut there and marked.
        start: read records that start at or after this offset ...
        end: ... and before this one; None reads to the end.
    """

    def __init__(self, stream: BinaryIO, page_bytes: int, start: int = 0, end: int | None = None) -> None:
        self._stream = _Watched(stream)
        self._page_bytes = page_bytes
        self._start = start
        self._end = end
        self._cut_off = False
        self.counts = ArchiveCounts()

    def __iter__(self) -> Iterator[Record]:
        """Yield pages; everything else is counted in ``counts``.

        Raises:
            OSError: the stream itself fails (disk, network); damage to the archive is counted instead.
        """
        head = self._stream.read(1 << 16)
        self._stream.seek(0)
        if _first_bytes(head).startswith(b"filedesc:"):
            yield from self._arc()
        elif head:
            yield from self._warc()
        else:
            self.counts.dropped["empty_archive"] += 1

    def _warc(self) -> Iterator[Record]:
        position = find_record(self._stream, self._start)
        if position is None and self._start == 0:
            self.counts.dropped["not_an_archive"] += 1
        ahead = False  # the damage that ended the last reading is counted, and its record is still to come
        while position is not None and (self._end is None or position < self._end):
            self._stream.seek(position)
            start = at = position
            try:
                for record in ArchiveIterator(self._stream, parse_http=False, auto_decode="none"):
                    at = record.stream_pos or 0
                    if self._end is not None and at >= self._end:
                        return
                    page = self._page(record)
                    if page is not None:
                        yield page
                    if self._cut_off:  # its length is wrong: the next record may lie inside it
                        break
                if not self._cut_off:
                    return
                self._cut_off = False
                position = find_record(self._stream, at + 1)
            except OSError:
                if self._stream.failure is not None:
                    raise
                self.counts.dropped["damaged_record"] += not ahead
                ahead = not ahead and at > start
                position = find_record(self._stream, at + 1)

    def _page(self, record: Any) -> Record | None:
        kind, name = record.record_type, record.headers.get("WARC-Type")
        if not name or "Content-Length" not in record.headers:  # its header broke off
            return self._drop("damaged_record")
        self.counts.records[name.lower()[:20]] += 1
        if kind not in (WarcRecordType.response, WarcRecordType.resource, WarcRecordType.conversion):
            return None
        # Read raw and bounded; the codings of the body are undone from what is read here.
        block = record.reader.read(self._page_bytes + _HEAD_BYTES)
        if len(block) < min(record.content_length, self._page_bytes + _HEAD_BYTES):
            self._cut_off = True
            return self._drop("cut_off_record")
        declared = record.headers.get("Content-Type") or ""
        status, http, body = None, {"content-type": declared}, block
        if kind == WarcRecordType.response and ("http" in declared.lower() or not declared):
            status, http, body = split_http(block)
        if kind == WarcRecordType.conversion:
            http = {"content-type": "text/plain; charset=utf-8"}
        return self._finish(
            record_id=record.headers.get("WARC-Record-ID") or "",
            url=record.headers.get("WARC-Target-URI") or "",
            date=_parse_date(record.headers.get("WARC-Date")),
            status=status,
            content_type=_content_type(http.get("content-type")),
            codings=(http.get("transfer-encoding", ""), http.get("content-encoding", "")),
            body=body,
            offset=record.stream_pos,
        )

    def _drop(self, reason: str) -> Record | None:
        self.counts.dropped[reason] += 1
        return None

    def _finish(
        self,
        *,
        record_id: str,
        url: str,
        date: datetime | None,
        status: int | None,
        content_type: tuple[str, str | None],
        codings: tuple[str, str],
        body: bytes,
        offset: int,
    ) -> Record | None:
        """Turn a raw body into a page, or count why it is none."""
        raw_cut = len(body) > self._page_bytes
        body, cut = decode_payload(body, *codings, limit=self._page_bytes)
        media_type, charset = content_type
        if not body.strip(b"\x00\t\n\f\r "):
            return self._drop("empty_body")
        if not media_type:
            media_type = _sniff(body)
        if media_type in _HTML_TYPES:
            kind: Literal["html", "text"] = "html"
        elif media_type == "text/plain":
            kind = "text"
        else:
            return self._drop("not_html")
        url = url.strip().strip("<>")
        identity = record_id.strip().removeprefix("<").removesuffix(">").removeprefix("urn:uuid:")
        if not identity:
            digest = hashlib.blake2b(digest_size=16)
            for part in (url.encode("utf-8", "replace"), str(date).encode(), body):
                digest.update(len(part).to_bytes(8, "little") + part)
            identity = digest.hexdigest()
        return Record(identity, url, date, status, kind, charset, body, cut or raw_cut, offset)

    def _arc(self) -> Iterator[Record]:
        """Read the older ARC format through warcio, which knows its two header versions."""
        from warcio.archiveiterator import ArchiveIterator as ArcIterator
        from warcio.exceptions import ArchiveLoadFailed

        try:
            for record in ArcIterator(self._stream, arc2warc=True, no_record_parse=False):
                self.counts.records[record.rec_type] += 1
                if record.rec_type != "response" or self._start > 0:
                    continue
                http = record.http_headers
                page = self._finish(
                    record_id="",
                    url=record.rec_headers.get_header("WARC-Target-URI") or "",
                    date=_parse_date(record.rec_headers.get_header("WARC-Date")),
                    status=int(code) if http is not None and (code := http.get_statuscode()).isdigit() else None,
                    content_type=_content_type(http.get_header("Content-Type") if http is not None else None),
                    codings=(
                        (
                            http.get_header("Transfer-Encoding") or "",
                            http.get_header("Content-Encoding") or "",
                        )
                        if http is not None
                        else ("", "")
                    ),
                    body=record.raw_stream.read(self._page_bytes + 1),
                    offset=0,
                )
                if page is not None:
                    yield page
        except (ArchiveLoadFailed, EOFError, ValueError, OSError, zlib.error):
            if self._stream.failure is not None:
                raise
            self.counts.dropped["damaged_record"] += 1


def split_http(block: bytes) -> tuple[int | None, dict[str, str], bytes]:
    """Split an archived HTTP response into status, header fields by lower-case name, and body.

    Lenient where servers are: bare line feeds, no reason phrase, any protocol version, folded lines (ignored). A block
    without a status line is all body.
    """
    if not block.startswith((b"HTTP/", b"http/")):
        return None, {}, block
    end = _HEAD_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    first, *lines = head.replace(b"\r\n", b"\n").split(b"\n")
    parts = first.split(None, 2)
    status = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon and not line.startswith((b" ", b"\t")):
            fields.setdefault(name.strip().lower().decode("latin-1"), value.strip().decode("latin-1"))
    return status, fields, body


def _content_type(value: str | None) -> tuple[str, str | None]:
    """Split a ``Content-Type`` into the media type in lower case and the charset."""
    media_type, _, parameters = (value or "").partition(";")
    charset = None
    for parameter in parameters.split(";"):
        name, _, text = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = text.strip().strip("\"'") or None
    return media_type.strip().lower(), charset


def _sniff(body: bytes) -> str:
    """Return the media type of a page that came without one."""
    start = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "text/html" if start.startswith(b"<") or b"<html" in start else "unknown"


def _parse_date(value: str | None) -> datetime | None:
    """Parse a WARC date (ISO 8601, second to nanosecond precision); None where it is not one."""
    if not value:
        return None
    try:
        parsed = datetime.fromisoformat(value.strip()[:26].rstrip("Zz"))
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
