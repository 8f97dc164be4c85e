"""Main text, title and date of one page. Runs inside the sandbox process: see ``sandbox.py``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from html import unescape
from typing import Any, Literal

Backend = Literal["trafilatura", "resiliparse"]
Mode = Literal["fast", "standard", "precision", "recall"]

_SPACES = re.compile(r"\s+")
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-/.]([01]?\d)[-/.]([0-3]?\d)(?!\d)")
#: How far into a page its head is looked for.
_HEAD_CHARACTERS = 200_000
#: resiliparse's main text of some pages is a cookie notice or a dialog; of the documents of 1.75 or more on 2,614 real
#: pages all that its score missed had less main text than this, and half of all pages have.
_SHORT_CHARACTERS = 2000
#: Shorter lines of a page are menus, buttons and headings.
_PROSE_WORDS = 10
_META = re.compile(r"<meta\s([^>]{1,2000})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_TITLE = re.compile(r"<title[^>]{0,500}>([^<]{1,2000})", re.IGNORECASE)
#: JSON-LD carries the date of most news pages.
_JSON_DATE = re.compile(r"""datePublished["']?\s*[:=]\s*["']([^"']{8,40})""")
_TIME = re.compile(r"""<time[^>]{0,500}?\sdatetime\s*=\s*["']([^"']{8,40})""")
_META_DATES = (
    "article:published_time",
    "og:published_time",
    "datepublished",
    "date",
    "dc.date",
    "dc.date.issued",
    "dcterms.created",
    "publishdate",
    "pubdate",
    "sailthru.date",
    "parsely-pub-date",
)
#: Unicode's control characters but for tab and line feed: none belongs in a corpus, and NUL breaks C strings.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
#: References to surrogates, NUL, controls and noncharacters: lxml keeps them, and then cannot encode the whole page.
_BAD_REFERENCE = re.compile(
    r"&#(?:x0*(?:d[89a-f][0-9a-f]{2}|fff[ef]|[0-8bcef]|1[0-9a-f])(?![0-9a-f])"
    r"|0*(?:5529[6-9]|55[3-9]\d\d|56\d{3}|57[0-2]\d\d|573[0-3]\d|5734[0-3]|6553[45]|[0-8]|1[124-9]|2\d|3[01])(?!\d));?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Page:
    """What extraction takes from a page; ``text`` is empty where there is none."""

    text: str
    title: str | None = None
    published: str | None = None
    #: long lines of the whole page where ``text`` is short and they were asked for; for the cascade's gate alone
    prose: str = ""


def _squeeze(text: str | None) -> str | None:
    squeezed = _SPACES.sub(" ", text or "").strip()
    return squeezed[:1000] or None


def _as_day(value: str | None) -> str | None:
    """Return ``YYYY-MM-DD`` where a value begins with, or holds, a plausible calendar day."""
    found = _DAY.search(value or "")
    if found is None:
        return None
    try:
        return date(*(int(part) for part in found.groups())).isoformat()
    except ValueError:
        return None


def _metadata(html: str) -> tuple[str | None, str | None]:
    """Return title and published day as the page's markup declares them.

    Our own reading and not trafilatura's: its metadata step halves the pages per second (96 to 45), almost all
    of it in guessing dates from running text. Patterns and not the parsed tree: walking a tree from Python costs
    resiliparse more than its whole extraction.
    """
    meta: dict[str, str] = {}
    for tag in _META.finditer(html, 0, _HEAD_CHARACTERS):
        attributes = {
            name.lower(): double or single or bare for name, double, single, bare in _ATTRIBUTE.findall(tag[1])
        }
        key = attributes.get("property") or attributes.get("name") or attributes.get("itemprop")
        if key and (content := attributes.get("content")):
            meta.setdefault(key.lower(), unescape(content))
    title = _squeeze(meta.get("og:title"))
    if title is None and (tag_title := _TITLE.search(html, 0, _HEAD_CHARACTERS)) is not None:
        title = _squeeze(unescape(tag_title[1]))
    candidates = [meta.get(key) for key in _META_DATES]
    for key, pattern in (("datePublished", _JSON_DATE), ("<time", _TIME)):
        if (at := html.find(key)) >= 0 and (found := pattern.match(html, at)) is not None:
            candidates.append(found[1])
    return title, next((day for value in candidates if (day := _as_day(value))), None)


def _fast_texts(html: str, prose: bool) -> tuple[str, str]:
    """Return resiliparse's main text and, where asked for and that text is short, the long lines of the whole page."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(html)
    main = str(extract_plain_text(tree, main_content=True, alt_texts=False))
    if not prose or len(main) >= _SHORT_CHARACTERS:
        return main, ""
    lines = str(extract_plain_text(tree, main_content=False, alt_texts=False)).split("\n")
    return main, "\n".join(line for line in lines if len(line.split()) >= _PROSE_WORDS)


@cache
def _options(mode: Mode) -> Any:
    """Return trafilatura's settings, which it would make anew from its configuration file for each page."""
    from trafilatura.settings import Extractor

    return Extractor(fast=mode == "fast", precision=mode == "precision", recall=mode == "recall", comments=False)


def _precise_text(html: str, mode: Mode) -> str:
    from trafilatura import extract

    text: str | None = extract(html, options=_options(mode))
    return text or ""


def extract_page(html: str, backend: Backend, mode: Mode, prose: bool = False) -> Page:
    """Take the main text, the title and the published day from a page.

    Args:
        html: the decoded page.
        backend: ``trafilatura`` (precise) or ``resiliparse`` (about ten times faster, less precise).
        mode: trafilatura's setting: ``fast`` has no fall-back extractors.
        prose: give ``prose`` too; resiliparse only.

    Returns:
        The page; its text has no control characters but tab and line feed.
    """
    html = _BAD_REFERENCE.sub("", html.replace("\x00", "")) if "&#" in html else html.replace("\x00", "")
    title, published = _metadata(html)
    text, long_lines = _fast_texts(html, prose) if backend == "resiliparse" else (_precise_text(html, mode), "")
    return Page(clean_text(text), title and clean_text(title), published, clean_text(long_lines))


def clean_text(text: str) -> str:
    """Unify line ends, drop control characters and lone surrogates, strip."""
    text = _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    return text.encode("utf-8", "ignore").decode("utf-8")
