"""From paths, globs, URLs or a dump's name to the list of archives, and from that to shards."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.core import url_to_fs

from fineedu.download import public_url
from fineedu.errors import FineeduError
from fineedu.extract.tables import TABLES, is_table
from fineedu.job import Source
from fineedu.store import Shard

#: Common Crawl's own address; ``FINEEDU_COMMON_CRAWL`` in the environment names a mirror.
COMMON_CRAWL = "https://data.commoncrawl.org"
_ARCHIVES = (".warc", ".warc.gz", ".warc.zst", ".wet", ".wet.gz", ".arc", ".arc.gz")
_DUMP = re.compile(r"CC-MAIN-\d{4}-\d{2}(?!\d)")
#: A listing of a dump unpacks to 13 MB; a bomb ends here.
_LISTING_BYTES = 1 << 28
_SAFE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,80}$")


def _extra_for(protocol: str) -> str:
    return {"s3": " (pip install 'fineedu[s3]')"}.get(protocol, "")


def _expand(pattern: str) -> list[tuple[str, int | None]]:
    """Return the archives that a path, folder, glob or URL names, with their sizes where told."""
    protocol = pattern.partition("://")[0] if "://" in pattern else "file"
    try:
        fs, path = url_to_fs(pattern)
        if fs.protocol == "file" or "file" in fs.protocol:
            path = str(Path(pattern.removeprefix("file://")).absolute())
        if any(mark in path for mark in "*?[") and not (
            protocol.startswith("http") and not fs.exists(path) and "?" in path
        ):
            found = sorted(fs.glob(path))
        elif fs.isdir(path) and not protocol.startswith("http"):
            everything = sorted(fs.find(path))
            found = [name for name in everything if name.endswith(_ARCHIVES)]
            found = found or [name for name in everything if is_table(name)]
        else:
            found = [path] if fs.exists(path) else []
        sizes = [fs.info(name).get("size") for name in found]
    except ImportError as error:
        raise FineeduError(
            f"input {pattern}: reading {protocol}:// needs an extra package{_extra_for(protocol)}: {error}"
        ) from error
    except Exception as error:  # every file system of fsspec raises its own kind
        shown = public_url(pattern)
        told = str(error).replace(pattern, shown)
        raise FineeduError(f"input {shown}: cannot be read: {type(error).__name__}: {told}") from error
    if not found:
        raise FineeduError(
            f"input {public_url(pattern)}: no such file, or none of {', '.join((*_ARCHIVES, *TABLES))} in it"
        )
    return [(str(fs.unstrip_protocol(name)), size) for name, size in zip(found, sizes, strict=True)]


def dump_paths(dump: str, limit: int | None, base: str = COMMON_CRAWL) -> list[str]:
    """Return the addresses of a Common Crawl dump's WARC files, in the order of its own listing.

    Args:
        dump: e.g. ``CC-MAIN-2024-10``.
        limit: how many files to take; None takes all (about 90,000, some 80 TB).
        base: address or local folder that holds ``crawl-data/``.

    Raises:
        FineeduError: not a dump's name, or the listing cannot be read.
    """
    if not _DUMP.fullmatch(dump):
        raise FineeduError(f"--dump {dump}: expected a name like CC-MAIN-2024-10")
    listing = f"{base.rstrip('/')}/crawl-data/{dump}/warc.paths.gz"
    try:
        with fsspec.open(listing, "rb") as stream, gzip.open(stream) as listed:
            lines = listed.read(_LISTING_BYTES).decode().split()
    except Exception as error:  # every file system of fsspec raises its own kind
        raise FineeduError(
            f"--dump {dump}: cannot read the listing {listing}: {type(error).__name__}: {error}"
        ) from error
    return [f"{base.rstrip('/')}/{line}" for line in lines[:limit]]


def _splits(url: str, size: int | None, split_bytes: int) -> list[Source]:
    """Cut an archive into ranges; only gzip and zstd members can be found again from the middle of a file."""
    if not split_bytes or not size or size <= split_bytes or not url.endswith((".warc.gz", ".warc.zst")):
        return [Source(url, size)]
    starts = range(0, size, split_bytes)
    return [Source(url, size, start, start + split_bytes if start + split_bytes < size else None) for start in starts]


def resolve_inputs(
    inputs: Sequence[str], dump: str | None, limit_files: int | None, split_mb: int, base: str = COMMON_CRAWL
) -> dict[Shard, Source]:
    """Lay out the shards of a run. Depends on the inputs alone, never on tasks or workers.

    Args:
        inputs: paths, folders, globs or URLs; where empty, the dump's own listing is taken.
        dump: name of the dump; without it the name is read from each path, ``local`` where there is none.
        limit_files: take only so many archives.
        split_mb: compressed MB of an archive that make one shard; 0 for whole archives.
        base: where Common Crawl lies.

    Returns:
        Shard to source, numbered within each dump in the order of the inputs.

    Raises:
        FineeduError: an input is missing or unreadable, or there is none.
    """
    if not inputs and dump is None:
        raise FineeduError("nothing to read: give --input PATH (file, folder, glob or URL) or --dump CC-MAIN-YYYY-WW")
    if dump is not None and not _SAFE.match(dump):
        raise FineeduError(f"--dump {dump}: letters, digits, '.', '_' and '-' only")
    if inputs:
        archives = [archive for pattern in inputs for archive in _expand(pattern)]
    else:
        assert dump is not None
        archives = [archive for url in dump_paths(dump, limit_files, base) for archive in _expand(url)]
    seen: set[str] = set()
    shards: dict[Shard, Source] = {}
    counts: dict[str, int] = {}
    for url, size in archives[:limit_files]:
        if url in seen:
            continue
        seen.add(url)
        named = _DUMP.search(PurePosixPath(url).as_posix())
        name = dump or (named[0] if named else "local")
        for source in _splits(url, size, split_mb << 20):
            shards[Shard(name, counts.get(name, 0))] = source
            counts[name] = counts.get(name, 0) + 1
    return shards
