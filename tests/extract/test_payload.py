from __future__ import annotations

import gzip
import tracemalloc
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fineedu.extract.payload import decode_payload

BODY = b"<html><body>" + b"plain words and more of them. " * 200 + b"</body></html>"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def chunked(data: bytes, size: int = 100) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CODINGS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("coding", CODINGS)
def test_content_codings(coding: str) -> None:
    assert decode_payload(CODINGS[coding](BODY), "", coding, 1 << 20) == (BODY, False)


def test_raw_deflate_and_stacked_codings() -> None:
    assert decode_payload(raw_deflate(BODY), "", "deflate", 1 << 20)[0] == BODY
    assert decode_payload(gzip.compress(brotli.compress(BODY)), "", "br, gzip", 1 << 20)[0] == BODY


@pytest.mark.parametrize("coding", [*CODINGS, "identity", "no-such"])
def test_declared_but_sent_plain(coding: str) -> None:
    assert decode_payload(BODY, "", coding, 1 << 20) == (BODY, False)


def test_chunked_also_with_codings_and_cut_off() -> None:
    packed = gzip.compress(BODY)
    assert decode_payload(chunked(packed), "chunked", "gzip", 1 << 20)[0] == BODY
    assert decode_payload(chunked(BODY)[:-7], "chunked", "", 1 << 20)[0].startswith(BODY[:-200])
    assert decode_payload(BODY, "chunked", "", 1 << 20)[0] == BODY


@pytest.mark.parametrize("coding", CODINGS)
def test_bomb_costs_the_limit_only(coding: str) -> None:
    bomb = CODINGS[coding](b" " * (64 << 20))
    tracemalloc.start()
    body, cut = decode_payload(bomb, "", coding, 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(body), cut) == (1 << 20, True)
    assert peak < 16 << 20


@given(
    st.binary(max_size=300),
    st.sampled_from(["", "chunked"]),
    st.sampled_from(["", "gzip", "deflate", "br", "zstd", "br,gzip"]),
)
def test_any_bytes_are_bounded(body: bytes, transfer: str, content: str) -> None:
    decoded, _ = decode_payload(body, transfer, content, 1000)
    assert len(decoded) <= 1000


@given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
def test_chunked_round_trip(body: bytes, size: int) -> None:
    assert decode_payload(chunked(body, size), "chunked", "", 1 << 20)[0] == body
