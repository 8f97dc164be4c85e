from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fineedu.errors import FineeduError
from fineedu.extract.documents import DocumentReader
from fineedu.extract.inputs import dump_paths, resolve_inputs
from fineedu.recipe import ExtractConfig
from fineedu.store import Shard
from tests.archives import numbered_pages, write_warc


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """Common Crawl in small: a listing and three archives."""
    names = [f"crawl-data/CC-MAIN-2024-10/segments/1/warc/part-{n:05d}.warc.gz" for n in range(3)]
    for n, name in enumerate(names):
        write_warc(tmp_path / name, numbered_pages(3, f"host{n}.example"))
    listing = tmp_path / "crawl-data/CC-MAIN-2024-10/warc.paths.gz"
    listing.write_bytes(gzip.compress("\n".join(names).encode()))
    return tmp_path


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(crawl: Path) -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(crawl)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_files_folders_and_globs(crawl: Path) -> None:
    folder = crawl / "crawl-data/CC-MAIN-2024-10/segments/1/warc"
    for given in (
        [str(folder)],
        [f"{folder}/*.warc.gz"],
        [str(path) for path in sorted(folder.iterdir())],
        [str(crawl)],
    ):
        shards = resolve_inputs(given, None, None, 256)
        assert list(shards) == [Shard("CC-MAIN-2024-10", n) for n in range(3)]
        assert all(source.size for source in shards.values())


def test_the_same_file_twice_is_read_once(crawl: Path) -> None:
    assert len(resolve_inputs([str(crawl), f"{crawl}/**/*.warc.gz"], None, None, 256)) == 3


def test_dump_listing_over_http(server: str) -> None:
    assert len(dump_paths("CC-MAIN-2024-10", None, server)) == 3
    shards = resolve_inputs([], "CC-MAIN-2024-10", 2, 256, server)
    assert list(shards) == [Shard("CC-MAIN-2024-10", 0), Shard("CC-MAIN-2024-10", 1)]
    reader = DocumentReader(shards[Shard("CC-MAIN-2024-10", 1)], "CC-MAIN-2024-10", ExtractConfig())
    documents = [url for batch in reader for url in batch["url"]]
    assert documents == [f"http://host1.example/{n}" for n in range(3)]


def test_splits_cover_the_archive(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "a.warc.gz", [b"x" * 100])
    path.write_bytes(bytes(5 << 20))
    shards = list(resolve_inputs([str(path)], None, None, 2).values())
    assert [(source.start, source.end) for source in shards] == [
        (0, 2 << 20),
        (2 << 20, 4 << 20),
        (4 << 20, None),
    ]
    assert [source.length for source in shards] == [2 << 20, 2 << 20, 1 << 20]


@pytest.mark.parametrize(
    ("inputs", "dump", "expected"),
    [
        (["/no/such/file.warc.gz"], None, "input /no/such/file.warc.gz: no such file"),
        ([], None, "nothing to read"),
        ([], "CC-2024", "expected a name like CC-MAIN-2024-10"),
        (["/dev/null"], "../up", "letters, digits"),
        (["nosuch://x/y"], None, "input nosuch://x/y"),
    ],
)
def test_mistakes(inputs: list[str], dump: str | None, expected: str) -> None:
    with pytest.raises(FineeduError, match=expected):
        resolve_inputs(inputs, dump, None, 256)


def test_missing_over_http(server: str) -> None:
    with pytest.raises(FineeduError, match=r"no such file"):
        resolve_inputs([f"{server}/nothing.warc.gz"], None, None, 256)
    with pytest.raises(FineeduError, match=r"cannot read the listing"):
        dump_paths("CC-MAIN-1999-01", None, server)
