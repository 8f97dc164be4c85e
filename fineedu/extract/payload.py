"""HTTP bodies as archived: undo chunking and compression, within bounds, and survive what servers get wrong."""

from __future__ import annotations

import re
import zlib

import brotli
import zstandard

_CHUNK_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


def _dechunk(body: bytes) -> bytes:
    """Undo chunked transfer coding; a body that is not chunked after all, or breaks off, gives what is there."""
    parts: list[bytes] = []
    position = 0
    while (size_line := _CHUNK_SIZE_LINE.match(body, position)) is not None:
        size = int(size_line[1], 16)
        if size == 0:
            return b"".join(parts)
        start = size_line.end()
        parts.append(body[start : start + size])
        position = start + size
        position += 2 if body[position : position + 2] == b"\r\n" else body[position : position + 1] == b"\n"
    # Archives often keep the header and store the body already unchunked: then the first "size" is page text.
    return b"".join(parts) + body[position:] if parts else body


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    """Inflate up to ``limit`` bytes; a stream that breaks off or turns bad gives what came before."""
    inflater = zlib.decompressobj(wbits)
    parts: list[bytes] = []
    room, pending = limit, body
    try:
        while pending and room > 0 and not inflater.eof:
            part = inflater.decompress(pending, min(room, 1 << 16))
            parts.append(part)
            room -= len(part)
            pending = inflater.unconsumed_tail
    except zlib.error:
        pass
    return b"".join(parts)


def _unbrotli(body: bytes, limit: int) -> bytes:
    reader = brotli.Decompressor()
    parts: list[bytes] = []
    room = limit
    try:
        part = reader.process(body, output_buffer_limit=min(room, 1 << 20))
        while part and room > 0:
            parts.append(part)
            room -= len(part)
            part = reader.process(b"", output_buffer_limit=min(max(room, 1), 1 << 20))
    except brotli.error:
        pass
    return b"".join(parts)[:limit]


def _unzstd(body: bytes, limit: int) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body) as reader:
            return bytes(reader.read(limit))
    except zstandard.ZstdError:
        return b""


def _decompress(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip"):
        return _inflate(body, 31, limit) if body[:2] == b"\x1f\x8b" else b""
    if coding == "deflate":  # zlib by the standard, raw by what many servers send
        return _inflate(body, 15, limit) or _inflate(body, -15, limit)
    if coding == "br":
        return _unbrotli(body, limit)
    return _unzstd(body, limit) if coding == "zstd" else b""


def decode_payload(body: bytes, transfer: str, content: str, limit: int) -> tuple[bytes, bool]:
    """Undo the transfer and content codings of an HTTP body.

    Args:
        body: the body as archived.
        transfer: value of ``Transfer-Encoding``, may be empty.
        content: value of ``Content-Encoding``, may be empty.
        limit: bytes of decoded body to keep: a decompression bomb costs no more memory than that.

    Returns:
        The decoded body, and whether it was cut at ``limit``. A body that contradicts its headers (declared gzip,
        sent plain) is returned as it is.
    """
    if "chunked" in transfer.lower():
        body = _dechunk(body)
    for coding in reversed([part.strip().lower() for part in content.split(",")]):
        if coding and coding != "identity":
            body = _decompress(body, coding, limit + 1) or body
    return body[:limit], len(body) > limit
