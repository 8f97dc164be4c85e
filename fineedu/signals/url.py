"""Signals of the address: registered domain, and whether a block list names it."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.signals.base import SignalFamily
from fineedu.store import atomic_open

_LISTS = "url_filterblacklistsv0_3_0.tar.gz"
#: datatrove's default: a URL may hold one soft word, two are too many.
_SOFT_WORDS = 2


def _asset(name: str) -> Path:
    return Path(str(files("datatrove") / "assets" / name))


def _words(name: str) -> list[str]:
    """Return a word list of datatrove, in lower case and without punctuation, as its filter compares them."""
    lines = _asset(name).read_text(encoding="utf-8").splitlines(keepends=True)
    return sorted({re.sub(r"[^a-zA-Z0-9]+", "", line).lower() for line in lines if not line.startswith("#")} - {""})


def _hashes(values: pl.Series) -> npt.NDArray[np.uint64]:
    return values.hash(seed=0).to_numpy()


def _hashed_lists() -> dict[str, npt.NDArray[np.uint64]]:
    """Return sorted 64-bit hashes of the block list's domains and URLs, read in one pass over the archive."""
    found = {}
    with tarfile.open(_asset(_LISTS), "r|gz") as archive:
        for member in archive:
            if member.name in ("domains", "urls") and (stream := archive.extractfile(member)) is not None:
                names = pl.Series(stream.read().splitlines()).cast(pl.String).str.strip_chars()
                found[member.name] = np.sort(_hashes(names))
    return found


@cache
def _blocked() -> Mapping[str, npt.NDArray[np.uint64]]:
    """Return sorted hashes of what is blocked (UT1 Toulouse, as shipped by datatrove): ``domains`` and ``urls``.

    The 4.6 million names take 37 MB as hashes and some 500 MB as a Python set. They are hashed once per machine (to
    unpack them alone takes 0.7 s) and mapped into memory from the user's cache folder, so that workers share them. A
    name looked up shares its hash with a listed one by chance once in 4e12 (2**64 / 4.6e6).
    """
    version = f"{sha256(_LISTS.encode()).hexdigest()[:8]}-polars{pl.__version__}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fineedu"
    paths = {name: folder / f"blocked-{name}-{version}.npy" for name in ("domains", "urls")}
    try:
        if not all(path.exists() for path in paths.values()):
            for name, hashes in _hashed_lists().items():
                with atomic_open(paths[name]) as stream:
                    np.save(stream, hashes)
        return {name: np.load(path, mmap_mode="r", allow_pickle=False) for name, path in paths.items()}
    except Exception:  # no cache folder to write to, or a damaged file in it: do without the cache
        return _hashed_lists()


@cache
def _extractor() -> Any:
    from tldextract import TLDExtract

    # The public suffix list inside the wheel; never a download, never a cache written beside the package.
    return TLDExtract(suffix_list_urls=(), cache_dir=None)


def _in_sorted(values: pl.Series, haystack: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    hashes = _hashes(values)
    at = np.minimum(np.searchsorted(haystack, hashes), len(haystack) - 1)
    return np.asarray((haystack[at] == hashes) & values.is_not_null().to_numpy())


def registered_domains(urls: pl.Series) -> pl.DataFrame:
    """Split addresses by the public suffix list.

    Args:
        urls: n addresses.

    Returns:
        n rows of ``registered_domain`` (null where there is none) and ``fqdn``, the full host name.
    """
    hosts = urls.str.extract(r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]+)", 1).rename("host")
    split = _extractor()
    parts = {host: split(host) for host in hosts.unique().to_list() if host}
    table = pl.DataFrame(
        {
            "host": list(parts),
            "registered_domain": [part.top_domain_under_public_suffix or None for part in parts.values()],
            "fqdn": [part.fqdn or None for part in parts.values()],
        },
        schema={"host": pl.String, "registered_domain": pl.String, "fqdn": pl.String},
    )
    joined = hosts.to_frame().join(table, on="host", how="left", maintain_order="left")
    return joined.select("registered_domain", "fqdn")


class UrlSignals(SignalFamily):
    """Registered domain and block list hit, by the rules and lists of datatrove's ``URLFilter``.

    Args:
        extra_domains: domains or hosts to block besides the shipped list.
    """

    name: ClassVar[str] = "url"
    inputs: ClassVar[tuple[str, ...]] = ("url",)

    def __init__(self, extra_domains: Iterable[str] = ()) -> None:
        self._extra = sorted({str(domain).lower().strip() for domain in extra_domains})

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns; ``url_block_reason`` is null where nothing blocks the address."""
        return {
            "registered_domain": pl.String(),
            "url_blocked": pl.Boolean(),
            "url_block_reason": pl.String(),
        }

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the values depend on."""
        return super().fingerprint | {"list": _LISTS, "extra_domains": self._extra}

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Measure a batch of addresses. A null address gives nulls."""
        urls = documents["url"].set(documents["url"] == "", None)
        names = registered_domains(urls)
        blocked = _blocked()
        words = urls.str.replace_all(r"[^a-zA-Z0-9]+", " ").str.split(" ").list.unique()
        squeezed = urls.str.replace_all(r"[^a-zA-Z0-9]+", "").str.to_lowercase()
        hard, soft = _words("banned_words.txt"), _words("soft_banned_words.txt")
        checks = {
            "domain": pl.Series(_in_sorted(names["registered_domain"], blocked["domains"]))
            | names["registered_domain"].is_in(self._extra).fill_null(False),
            "subdomain": pl.Series(_in_sorted(names["fqdn"], blocked["domains"]))
            | names["fqdn"].is_in(self._extra).fill_null(False),
            "url": pl.Series(_in_sorted(urls, blocked["urls"])),
            "hard_word": words.list.set_intersection(hard).list.len() > 0,
            "soft_words": words.list.set_intersection(soft).list.len() >= _SOFT_WORDS,
            "subword": squeezed.str.contains_any(_words("banned_subwords.txt")),
        }
        frame = pl.DataFrame({name: hit.fill_null(False) for name, hit in checks.items()})
        reason = pl.coalesce([pl.when(pl.col(name)).then(pl.lit(name)) for name in checks])
        return (
            frame.with_columns(reason.alias("url_block_reason"), names["registered_domain"], urls.alias("url_given"))
            .with_columns(
                pl.when(pl.col("url_given").is_not_null())
                .then(pl.col("url_block_reason").is_not_null())
                .alias("url_blocked")
            )
            .select(list(self.schema))
        )
