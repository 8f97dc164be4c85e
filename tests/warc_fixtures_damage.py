"""Hostile WARC files: damaged compression, wrong lengths and codings, bombs."""

from __future__ import annotations

import base64
import random

from tests.warc_bytes import (
    CRLF,
    brotli_stored,
    chunked,
    deflate,
    gzip_member,
    gzip_repeat,
    header_block,
    http_response,
    warc_record,
)
from tests.warc_pages import between, good, good_text, hostile, html, packed, page, uri

# ---- damaged compression


@hostile(2)
def truncated_member() -> bytes:
    """The file ends in the middle of its third member, as after an interrupted download."""
    last = gzip_member(good(3))
    return packed(good(1), good(2)) + last[: len(last) // 2]


@hostile(4)
def corrupt_member_then_good() -> bytes:
    """The third of five members has its middle overwritten with zeros: the two after it are whole."""
    bad = bytearray(gzip_member(good(3)))
    middle = len(bad) // 2
    bad[middle : middle + 60] = bytes(60)
    return packed(good(1), good(2)) + bytes(bad) + packed(good(4), good(5))


@hostile(4)
def cut_member_then_good() -> bytes:
    """The third of five members lacks its second half: the next member's magic comes inside the stream."""
    bad = gzip_member(good(3))
    return packed(good(1), good(2)) + bad[: len(bad) // 2] + packed(good(4), good(5))


@hostile(2, 3)
def flipped_bits() -> bytes:
    """One bit flipped in the deflate stream of the second of three members: the checksum tells.

    The damaged page may be dropped or kept with the text before the damage.
    """
    bad = bytearray(gzip_member(good(3)))
    bad[len(bad) * 3 // 4] ^= 0x10
    return packed(good(1)) + bytes(bad) + packed(good(2))


@hostile(2, 3)
def wrong_checksum() -> bytes:
    """The second member's CRC is wrong though its data are whole: the page may be kept."""
    bad = bytearray(gzip_member(good(3)))
    bad[-8] ^= 0xFF
    return packed(good(1)) + bytes(bad) + packed(good(2))


@hostile(2)
def garbage_between_members() -> bytes:
    """Three hundred random bytes between two members."""
    return packed(good(1)) + random.Random(5).randbytes(300) + packed(good(2))


@hostile(2)
def trailing_garbage() -> bytes:
    """Zeros after the last member, as a padded tape or disk block leaves them."""
    return packed(good(1), good(2)) + bytes(1024)


# ---- wrong lengths and codings


@hostile(3)
def http_length_short() -> bytes:
    """HTTP Content-Length is 50, the body longer: the WARC record's length rules."""
    return between(page(http_response(html(3), length=50)))


@hostile(3)
def http_length_long() -> bytes:
    """HTTP Content-Length claims 10 MB more than there are (a truncated fetch)."""
    return between(page(http_response(html(3), length=10_000_000)))


@hostile(3)
def http_length_not_a_number() -> bytes:
    """HTTP Content-Length is the word "chunked"."""
    extra = [("Content-Length", "chunked")]
    return between(page(http_response(html(3), length=-1, extra=extra)))


@hostile(2, 3)
def warc_length_short() -> bytes:
    """WARC Content-Length is half the block: page 3 may come with half its text or not, page 2 must come."""
    block = http_response(html(3))
    return between(warc_record(block, uri(3), length=len(block) // 2))


@hostile(2, 3)
def warc_length_long() -> bytes:
    """WARC Content-Length runs 5,000 bytes past its gzip member: the next member still begins a record."""
    block = http_response(html(3))
    return between(warc_record(block, uri(3), length=len(block) + 5000))


@hostile(2, 3)
def warc_length_huge() -> bytes:
    """WARC Content-Length is 2**63: nothing may be allocated for it."""
    return between(warc_record(http_response(html(3)), uri(3), length=2**63))


@hostile(2, 3)
def warc_length_negative() -> bytes:
    """WARC Content-Length is -1."""
    return between(warc_record(http_response(html(3)), uri(3), length=-1))


def _coded(body: bytes, coding: str | None = None, transfer: str | None = None) -> bytes:
    extra = [("Content-Encoding", coding)] if coding else []
    extra += [("Transfer-Encoding", transfer)] if transfer else []
    return page(http_response(body, length=-1 if transfer else None, extra=extra))


@hostile(3)
def chunked_good() -> bytes:
    """A valid chunked body: the chunk sizes must not show up in the text."""
    return between(_coded(chunked(html(3), 100), transfer="chunked"))


@hostile(3)
def chunked_without_terminator() -> bytes:
    """Chunked, but the closing empty chunk is missing."""
    return between(_coded(chunked(html(3), 100)[:-5], transfer="chunked"))


@hostile(2, 3)
def chunked_bad_size() -> bytes:
    """The second chunk's size line is not hexadecimal: page 3 may keep the first chunk or go."""
    body = b"12c\r\n" + html(3)[:300] + b"\r\nzz\r\n" + html(3)[300:] + b"\r\n0\r\n\r\n"
    return between(_coded(body, transfer="chunked"))


@hostile(2, 3)
def chunked_huge_size() -> bytes:
    """A chunk claims 2**60 bytes."""
    return between(_coded(b"1000000000000000\r\n" + html(3), transfer="chunked"))


@hostile(3)
def chunked_declared_but_plain() -> bytes:
    """Chunked declared, plain body stored, as crawlers write that decode the body and keep the header."""
    return between(_coded(html(3), transfer="chunked"))


@hostile(3)
def gzip_declared_but_plain() -> bytes:
    """Content-Encoding gzip declared, plain body stored: as usual as the case above."""
    return between(_coded(html(3), "gzip"))


@hostile(5)
def content_codings() -> bytes:
    """Valid gzip, zlib deflate, and gzip inside chunks."""
    raw = html(3)
    return between(
        _coded(gzip_member(raw), "gzip"),
        _coded(deflate(raw), "deflate"),
        _coded(chunked(gzip_member(raw)), "gzip", "chunked"),
    )


@hostile(3)
def brotli_coding() -> bytes:
    """Valid brotli, made of uncompressed metablocks."""
    return between(_coded(brotli_stored(html(3)), "br"))


@hostile(2, 3)
def gzip_body_cut() -> bytes:
    """A gzip-coded body that ends half way: page 3 may keep the text before the cut."""
    body = gzip_member(html(3))
    return between(_coded(body[: len(body) // 2], "gzip"))


@hostile(2, 3)
def unknown_content_encoding() -> bytes:
    """Content-Encoding names a coding that nobody has; the body is in fact plain."""
    return between(_coded(html(3), "x-squash"))


# ---- bombs: the reader has to bound what it inflates; page 3's text stands before the padding

BROTLI_256_MB_OF_ZEROS = base64.b64decode(
    b"z///fwAkAOKxQHLv//n//w+ABEAcFoDu/T////8BkACIwwLQvf/n//8/ABIAcVgAuvf//P//B0ACIA4LQPf+n////wBIAMRhAeje"
    b"//P//x8ACYA4LADd+3/+//8DIAEQhwWge//P//9/ACQA4rAAdO//+f//D4AEQBwWgO79P////wGQAIjDAtC9/+f//z8AEgBxWAC6"
    b"9//8//8HQAIgDgtA9/6f////AEgAxGEB6N7/8///HwAJgDgsAN37f/7//wMgARCHBaB7/z8="
)


@hostile(2, 3)
def bomb_gzip() -> bytes:
    """About 200 kB of gzip-coded body that inflate to 210 MB of spaces."""
    return between(_coded(gzip_repeat(html(3), b" " * 2**20, 200, b"</html>"), "gzip"))


@hostile(2, 3)
def bomb_gzip_twice() -> bytes:
    """A gzip of a gzip, 210 MB within, declared as "gzip, gzip"."""
    return between(_coded(gzip_member(gzip_repeat(html(3), b" " * 2**20, 200, b"</html>")), "gzip, gzip"))


@hostile(2, 3)
def bomb_deflate() -> bytes:
    """About 200 kB of raw deflate (without the zlib header, as some servers send it), 210 MB within."""
    return between(_coded(gzip_repeat(html(3), b" " * 2**20, 200, b"</html>")[10:-8], "deflate"))


@hostile(2)
def bomb_brotli() -> bytes:
    """Two hundred bytes of brotli that inflate to 256 MB of zeros: no text in them."""
    return between(_coded(BROTLI_256_MB_OF_ZEROS, "br"))


@hostile(2, 3)
def bomb_record() -> bytes:
    """The WARC member itself inflates to 210 MB, with the length to match."""
    return packed(good(1)) + big_page(200) + packed(good(2))


def big_page(megabytes: int = 100) -> bytes:
    """One record with a page of that many megabytes of prose, in one gzip member."""
    text = f"<p>{good_text(3)}</p>\n".encode()
    block = text * (2**20 // len(text))
    head, tail = html(3).removesuffix(b"</article></body></html>"), b"</article></body></html>"
    body_length = len(head) + len(block) * megabytes + len(tail)
    fields = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(body_length))]
    http = header_block("HTTP/1.1 200 OK", fields)
    empty = warc_record(b"", uri(3), length=len(http) + body_length)
    return gzip_repeat(empty.removesuffix(CRLF + CRLF) + http + head, block, megabytes, tail + CRLF + CRLF)
