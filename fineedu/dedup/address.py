"""The canonical form of an address: two addresses of one page come out the same."""

from __future__ import annotations

import re

import polars as pl

#: Parameters that say where a reader came from, not what the page is.
_TRACKING = re.compile(
    r"^(utm_\w+|gclid|gclsrc|dclid|fbclid|msclkid|yclid|igshid|mc_cid|mc_eid|_ga|ref_src|phpsessid|jsessionid|sid|sessionid)$",
    re.IGNORECASE,
)


def _query(query: str) -> str:
    """Sort the parameters and leave out those that only track."""
    parts = [part for part in re.split("[&;]", query) if part and not _TRACKING.match(part.partition("=")[0])]
    return f"?{'&'.join(sorted(parts))}" if parts else ""


def canonical_urls(urls: pl.Series) -> pl.Series:
    """Return addresses in canonical form.

    Scheme, ``www.``, default port, fragment, session and tracking parameters, a default document's name and slashes
    at the end are left out; the host is in lower case; parameters are sorted. Path and values keep their case.

    Args:
        urls: n addresses; null and empty ones give null.
    """
    parts = urls.str.strip_chars().str.extract_groups(
        r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://)?(?:[^/?#@]*@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?"
    )
    table = pl.DataFrame({"host": parts.struct[0], "path": parts.struct[1], "query": parts.struct[2]})
    host = (
        pl.col("host")
        .str.to_lowercase()
        .str.replace(r":(?:80|443)$", "")
        .str.strip_chars_end(".")
        .str.replace(r"^www\d?\.", "")
    )
    path = (
        pl.col("path")
        .str.replace(r"(?i);jsessionid=[^/]*", "")
        .str.replace(r"(?i)/(?:index|default)\.(?:html?|php|aspx?|jsp)$", "/")
        .str.replace_all(r"//+", "/")
        .str.strip_chars_end("/")
    )
    queries = [None if query is None else _query(query) for query in table["query"]]
    query = pl.lit(pl.Series("q", queries, dtype=pl.String)).fill_null("")
    whole = host + path + query
    return table.select(pl.when(pl.col("host").str.len_bytes() > 0).then(whole).alias("url"))["url"]
