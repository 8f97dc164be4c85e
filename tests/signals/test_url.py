from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import URLFilter

from fineedu.signals.measure import measure
from fineedu.signals.url import UrlSignals

URLS = [
    "http://a.b.example.co.uk/x", "https://user:pw@www.example.org:8080/p?q=1#f", "https://news.site.org/sex-porn/escort", "http://192.168.1.1/x",
    "http://[::1]/x", "not a url", "https://xn--bcher-kva.example/ä", "HTTPS://EXAMPLE.ORG/", "https://pornhub.com/video", "https://blog.example/adult",
    "https://shop.example/viagra-casino-poker", "https://school.example/sussex/essex",
]  # fmt: skip


def signals(urls: list[str | None], **settings: object) -> pl.DataFrame:
    return measure(UrlSignals(**settings), pl.DataFrame({"url": pl.Series(urls, dtype=pl.String)}))  # type: ignore[arg-type]


def test_domains_and_missing() -> None:
    found = signals(["http://a.b.example.co.uk/x", None, "", "http://192.168.1.1/x", "https://www.example.org:80/"])
    assert found["registered_domain"].to_list() == ["example.co.uk", None, None, None, "example.org"]
    assert found["url_blocked"].to_list() == [False, None, None, False, False]


def test_extra_domains() -> None:
    found = signals(["https://a.bad.com/x", "https://good.com/"], extra_domains=["a.bad.com"])
    assert found["url_block_reason"].to_list() == ["subdomain", None]


@pytest.fixture(scope="module")
def reference() -> URLFilter:
    step = URLFilter()
    # Its extractor would ask the network for the public suffix list; the one inside the package is the same.
    from tldextract import TLDExtract

    step.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)
    return step


NAMES = {
    "domain": "domain",
    "subdomain": "subdomain",
    "url": "url",
    "hard_blacklisted": "hard_word",
    "soft_blacklisted": "soft_words",
    "blacklisted_subword": "subword",
}


def decisions(step: URLFilter, urls: list[str]) -> list[str | None]:
    found = [step.filter(Document(text="x", id="x", metadata={"url": url})) for url in urls]
    return [None if keep is True else NAMES[keep[1]] for keep in found]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_blocks_what_datatrove_blocks(reference: URLFilter) -> None:
    assert signals(list(URLS))["url_block_reason"].to_list() == decisions(reference, URLS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_blocks_what_datatrove_blocks_on_real_addresses(reference: URLFilter, real_data: Path) -> None:
    with gzip.open(real_data / "text" / "cc-topics-formats.jsonl.gz", "rt") as stream:
        urls = [json.loads(line)["url"] for line in stream][:3000]
    assert signals(list(urls))["url_block_reason"].to_list() == decisions(reference, urls)
