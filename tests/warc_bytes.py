"""Builds WARC records, HTTP responses and compressed members as plain bytes, without a WARC library.

The readers under test must not also be what wrote their input, so everything here is string work on the
standard library. Used by the demo file's builder and by the library of hostile files.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import uuid
import zlib

CRLF = b"\r\n"
DEFAULT_DATE = "2024-03-05T12:00:00Z"


def record_id(name: str) -> str:
    """The WARC-Record-ID that belongs to a name: the same in every build."""
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}>"


def digest(payload: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(payload).digest()).decode("ascii")


def header_block(first_line: str, fields: list[tuple[str, str]], encoding: str = "utf-8") -> bytes:
    """A start line and its fields, closed by the empty line."""
    lines = [first_line, *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode(encoding) + CRLF + CRLF


def http_response(
    body: bytes,
    content_type: str | None = "text/html; charset=utf-8",
    status: str = "200 OK",
    extra: list[tuple[str, str]] | None = None,
    length: int | None = None,
) -> bytes:
    """An HTTP/1.1 response; `length` overrides the true Content-Length, -1 leaves the field out."""
    fields: list[tuple[str, str]] = []
    if content_type is not None:
        fields.append(("Content-Type", content_type))
    if length != -1:
        fields.append(("Content-Length", str(len(body) if length is None else length)))
    fields += extra or []
    return header_block(f"HTTP/1.1 {status}", fields) + body


def warc_record(
    block: bytes,
    uri: str | None,
    kind: str = "response",
    content_type: str = "application/http; msgtype=response",
    date: str | None = DEFAULT_DATE,
    identity: str | None = "",
    extra: list[tuple[str, str]] | None = None,
    length: int | None = None,
) -> bytes:
    """One uncompressed WARC/1.0 record.

    `None` for `uri`, `date` or `identity` leaves that field out; an empty `identity` derives it from kind,
    URI and date; `length` overrides the true Content-Length.
    """
    fields = [("WARC-Type", kind)]
    if identity is not None:
        fields.append(("WARC-Record-ID", identity or record_id(f"{kind} {uri} {date}")))
    if date is not None:
        fields.append(("WARC-Date", date))
    if uri is not None:
        fields.append(("WARC-Target-URI", uri))
    fields += extra or []
    fields.append(("Content-Type", content_type))
    fields.append(("Content-Length", str(len(block) if length is None else length)))
    return header_block("WARC/1.0", fields) + block + CRLF + CRLF


def warcinfo(filename: str, fields: list[tuple[str, str]], date: str = DEFAULT_DATE) -> bytes:
    """The record that opens a WARC file and says what made it."""
    block = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
    name = [("WARC-Filename", filename)]
    identity = record_id(f"warcinfo {filename}")
    return warc_record(block, None, "warcinfo", "application/warc-fields", date, identity, name)


def chunked(body: bytes, size: int = 1000) -> bytes:
    """Chunked transfer coding of a body, with its terminator."""
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def deflate(data: bytes) -> bytes:
    """HTTP's "deflate": a zlib stream."""
    return zlib.compress(data, 9)


def gzip_member(data: bytes) -> bytes:
    """One gzip member without name and time, so that its bytes depend on the data alone."""
    return gzip_repeat(data, b"", 0, b"")


def gzip_repeat(head: bytes, block: bytes, times: int, tail: bytes) -> bytes:
    """A gzip member holding `head + block * times + tail`, with the block compressed once only.

    A full flush ends a deflate block on a byte boundary and forgets the window, so the compressed block can
    be copied: 200 MB take a fifth of a second (the checksum) and no memory.
    """
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [b"\x1f\x8b\x08" + bytes(5) + b"\x02\xff", pack.compress(head)]
    checksum = zlib.crc32(head)
    if times:
        parts.append(pack.flush(zlib.Z_FULL_FLUSH))
        parts.append((pack.compress(block) + pack.flush(zlib.Z_FULL_FLUSH)) * times)
        for _ in range(times):
            checksum = zlib.crc32(block, checksum)
    parts += [pack.compress(tail), pack.flush(zlib.Z_FINISH)]
    size = len(head) + len(block) * times + len(tail)
    return b"".join(parts) + struct.pack("<II", zlib.crc32(tail, checksum), size & 0xFFFFFFFF)


def brotli_stored(data: bytes) -> bytes:
    """A brotli stream of uncompressed metablocks (RFC 7932, 9.2): valid, and needs no brotli library."""
    bits, filled = 0, 0
    out = bytearray()

    def put(value: int, width: int) -> None:
        nonlocal bits, filled
        bits |= value << filled
        filled += width

    def align() -> None:
        nonlocal bits, filled
        out.extend(bits.to_bytes((filled + 7) // 8, "little"))
        bits, filled = 0, 0

    put(0, 1)  # WBITS: a window of 16
    for start in range(0, len(data), 1 << 16):
        part = data[start : start + (1 << 16)]
        put(0, 1)  # ISLAST
        put(0, 2)  # MNIBBLES: four
        put(len(part) - 1, 16)
        put(1, 1)  # ISUNCOMPRESSED
        align()
        out.extend(part)
    put(3, 2)  # ISLAST, ISLASTEMPTY
    align()
    return bytes(out)
