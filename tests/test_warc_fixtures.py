"""Sanity of the hostile files themselves: they are what their names say, small, quick and stable."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
import zstandard
from warcio.archiveiterator import ArchiveIterator

from tests.warc_bytes import brotli_stored, chunked, gzip_repeat
from tests.warc_fixtures import EXPECTED, HOSTILE, big_page, good, marker, packed
from tests.warc_fixtures_damage import BROTLI_256_MB_OF_ZEROS

READABLE = {
    "chunked_good": 3, "content_codings": 5, "http_length_short": 3, "http_length_long": 3, "empty_body": 4,
    "other_content_types": 6, "nul_bytes": 3, "utf16_with_bom": 4, "unknown_charset": 3, "missing_date": 3,
    "duplicate_record_ids": 4, "invalid_dates": 8, "revisit_records": 5, "requests_only": 2, "zero_bytes": 0,
    "resource_records": 2, "error_statuses": 5, "uncompressed": 4, "wet": 3, "arc": 3,
    "arc_gz": 3, "brotli_coding": 3,
}  # fmt: skip
DECODED = ("chunked_good", "content_codings", "chunked_declared_but_plain", "gzip_declared_but_plain")


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_every_file_is_small_and_stable_and_explained(name: str) -> None:
    first = HOSTILE[name]()
    assert isinstance(first, bytes)
    assert len(first) < 2_000_000
    expected = EXPECTED[name]
    assert 0 <= expected.least <= expected.most
    assert expected.note


@pytest.mark.parametrize("name", sorted(READABLE))
def test_well_formed_ones_are_read_by_warcio(name: str) -> None:
    assert sum(1 for _ in ArchiveIterator(io.BytesIO(HOSTILE[name]()), arc2warc=True)) == READABLE[name]


@pytest.mark.parametrize("name", DECODED)
def test_codings_decode_to_the_same_page(name: str) -> None:
    records = ArchiveIterator(io.BytesIO(HOSTILE[name]()))
    texts = [record.content_stream().read().decode() for record in records]
    assert len(texts) == EXPECTED[name].least
    assert all("the harbour log" in text and "</html>" in text for text in texts)


def test_damage_is_damage() -> None:
    for name in ("corrupt_member_then_good", "flipped_bits", "wrong_checksum", "cut_member_then_good"):
        with pytest.raises((OSError, EOFError, zlib.error)):
            gzip.decompress(HOSTILE[name]())


def test_pages_after_the_damage_are_whole() -> None:
    for name in ("corrupt_member_then_good", "cut_member_then_good"):
        data = HOSTILE[name]()
        rest = gzip.decompress(data[data.index(packed(good(4))) :])
        assert marker(4).encode() in rest
        assert marker(5).encode() in rest


def test_zstd_frames_hold_one_record_each() -> None:
    data, records = HOSTILE["zstd_frames"](), 0
    while data:
        unpack = zstandard.ZstdDecompressor().decompressobj()
        assert unpack.decompress(data).startswith(b"WARC/1.0")
        data, records = unpack.unused_data, records + 1
    assert records == EXPECTED["zstd_frames"].least


def test_bombs_are_bombs() -> None:
    assert len(HOSTILE["bomb_gzip"]()) < 100_000
    size = 0
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = gzip_repeat(b"head", b" " * 2**20, 200, b"tail")
    while not unpack.eof:
        size += len(unpack.decompress(data, 2**22))
        data = unpack.unconsumed_tail
    assert size == 200 * 2**20 + 8


def test_brotli_bomb_inflates_to_256_megabytes() -> None:
    brotli = pytest.importorskip("brotli")
    record = list(ArchiveIterator(io.BytesIO(HOSTILE["bomb_brotli"]())))
    assert len(record) == 3
    raw = HOSTILE["bomb_brotli"]()
    assert len(raw) < 3000
    unpack, size = brotli.Decompressor(), 0
    size += len(unpack.process(BROTLI_256_MB_OF_ZEROS, output_buffer_limit=2**22))
    assert size >= 2**22
    assert not unpack.is_finished()


def test_big_page_has_the_size_asked_for() -> None:
    data = big_page(3)
    (body,) = [record.content_stream().read() for record in ArchiveIterator(io.BytesIO(data))]
    assert len(body) > 2.9 * 2**20
    assert body.endswith(b"</html>")


def test_stored_brotli_is_valid() -> None:
    brotli = pytest.importorskip("brotli")
    for size in (0, 1, 65_536, 65_537, 200_000):
        assert brotli.decompress(brotli_stored(b"x" * size)) == b"x" * size


def test_chunks_end_with_the_empty_one() -> None:
    assert chunked(b"abcdef", 4) == b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n"
