from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from fineedu.extract.archive import Archive, Record
from tests.archives import html_page, numbered_pages, response, write_warc

LIMIT = 1 << 20


def read(data: bytes, start: int = 0, end: int | None = None) -> tuple[list[Record], Archive]:
    archive = Archive(io.BytesIO(data), LIMIT, start, end)
    return list(archive), archive


@pytest.mark.parametrize(
    "pack", [bytes, lambda r: gzip.compress(r, mtime=0), zstandard.compress], ids=["plain", "gzip", "zstd"]
)
def test_compressions(pack) -> None:
    records = numbered_pages(5)
    pages, archive = read(b"".join(map(pack, records)))
    assert [page.url for page in pages] == [f"http://school.example/{n}" for n in range(5)]
    assert archive.counts.dropped == {}


def test_one_gzip_member_for_all() -> None:
    pages, _ = read(gzip.compress(b"".join(numbered_pages(4))))
    assert len(pages) == 4


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_splits_read_every_record_once(tmp_path: Path, parts: int) -> None:
    data = write_warc(tmp_path / "a.warc.gz", numbered_pages(40)).read_bytes()
    step = len(data) // parts
    bounds = [(n * step, (n + 1) * step if n < parts - 1 else None) for n in range(parts)]
    found = [page.id for start, end in bounds for page in read(data, start, end)[0]]
    assert found == [page.id for page in read(data)[0]]


def test_reading_goes_on_behind_a_damaged_record() -> None:
    members = [gzip.compress(record, mtime=0) for record in numbered_pages(6)]
    broken = bytearray(members[2])
    broken[len(broken) // 2 : len(broken) // 2 + 8] = b"\xff" * 8
    pages, archive = read(b"".join([*members[:2], bytes(broken), *members[3:]]))
    assert [page.url[-1] for page in pages] == list("01345")
    assert archive.counts.dropped == {"damaged_record": 1}


def test_two_damaged_records_in_a_row_are_two() -> None:
    members = [gzip.compress(record, mtime=0) for record in numbered_pages(6)]
    for n in (2, 3):
        broken = bytearray(members[n])
        broken[len(broken) // 2 : len(broken) // 2 + 8] = b"\xff" * 8
        members[n] = bytes(broken)
    pages, archive = read(b"".join(members))
    assert [page.url[-1] for page in pages] == list("0145")
    assert archive.counts.dropped == {"damaged_record": 2}


def test_cut_off_file_keeps_what_is_whole() -> None:
    data = b"".join(gzip.compress(record, mtime=0) for record in numbered_pages(4))
    pages, archive = read(data[:-40])
    assert len(pages) == 3
    assert archive.counts.dropped.total() == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_archive"),
        (b"<html>no archive</html>", "not_an_archive"),
        (gzip.compress(b"just text", mtime=0), "not_an_archive"),
        (bytes(range(256)) * 50, "not_an_archive"),
    ],
    ids=["empty", "html", "gzip_of_text", "binary"],
)
def test_not_an_archive(data: bytes, reason: str) -> None:
    pages, archive = read(data)
    assert pages == []
    assert archive.counts.dropped == {reason: 1}


def test_non_html_and_empty_are_counted() -> None:
    records = [
        response(b"%PDF-1.4", "http://a.example/1", headers="Content-Type: application/pdf"),
        response(b"", "http://a.example/2", status="301 Moved"),
        response(b"  \x00\n", "http://a.example/3"),
        response(b"plain text", "http://a.example/4", headers="Content-Type: text/plain"),
        response(html_page("x"), "http://a.example/5", headers="X-Nothing: 1"),
    ]
    pages, archive = read(b"".join(gzip.compress(record) for record in records))
    assert [(page.url[-1], page.kind) for page in pages] == [("4", "text"), ("5", "html")]
    assert archive.counts.dropped == {"not_html": 1, "empty_body": 2}


def test_long_page_is_cut_and_marked() -> None:
    pages, _ = read(gzip.compress(response(b"<html>" + b"x" * (2 * LIMIT))))
    assert (len(pages[0].body), pages[0].truncated) == (LIMIT, True)


def test_id_where_the_record_has_none_depends_on_content_alone() -> None:
    record = response(html_page("one"), record_id="x").replace(b"WARC-Record-ID: x\r\n", b"")
    other = response(html_page("two"), record_id="x").replace(b"WARC-Record-ID: x\r\n", b"")
    first, again, second = (read(gzip.compress(r))[0][0].id for r in (record, record, other))
    assert first == again != second
    assert len(first) == 32


def test_disk_failure_is_not_taken_for_a_damaged_archive() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100:
                raise OSError(5, "Input/output error")
            return super().read(100)

    with pytest.raises(OSError, match="Input/output"):
        list(Archive(Failing(b"".join(gzip.compress(r) for r in numbered_pages(50))), LIMIT))


def test_agrees_with_warcio_on_real_archives(real_data: Path) -> None:
    for path in sorted((real_data / "warc" / "real").glob("*.warc.gz")):
        with path.open("rb") as stream:
            expected = {
                record.rec_headers.get_header("WARC-Record-ID")[10:-1]: record.content_stream().read()
                for record in WarcioIterator(stream)
                if record.rec_type == "response"
            }
        pages, archive = read(path.read_bytes())
        found = {page.id: page.body for page in pages if page.id in expected}
        assert len(found) == len(expected) - archive.counts.dropped.total()
        assert all(expected[identity] == body for identity, body in found.items())


def test_odd_archives_end_well(real_data: Path) -> None:
    counts = {path.name: len(read(path.read_bytes())[0]) for path in sorted((real_data / "warc" / "odd").iterdir())}
    assert counts == {
        "clueweb-quirk.warc.gz": 29,
        "example-bad-non-chunked.warc.gz": 1,
        "example-iana.org-chunked.warc": 1,
        "example-space-in-target-uri.warc.gz": 0,
        "example-trunc.warc": 1,
        "example-wrong-chunks.warc.gz": 1,
        "example.arc.gz": 1,
        "example.warc.gz": 1,
    }


@settings(max_examples=60)
@given(st.data())
def test_any_damage_ends_well(data: st.DataObject) -> None:
    archive = bytearray(b"".join(gzip.compress(record, mtime=0) for record in numbered_pages(4)))
    for _ in range(data.draw(st.integers(1, 6))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    archive = archive[: data.draw(st.integers(0, len(archive)))]
    pages, reader = read(bytes(archive))
    assert len(pages) <= 4
    assert len({page.offset for page in pages}) == len(pages)
    assert len(pages) + reader.counts.dropped.total() > 0
