"""Steps of trafilatura that do what is not needed, or do it twice.

Each is wrapped only where its source is the one that the change was made for, told by a digest: another version
keeps its own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from copy import copy
from hashlib import sha256
from typing import Any

from lxml import etree

from fineedu.extract.tuned.paths import PageNames, part

#: function to the first digits of the SHA-256 of its source, in trafilatura 2.3
_KNOWN = {
    "core._prepare_tree": "9595f0642825c2c7",
    "core.trafilatura_sequence": "f03dc4d2946dacbd",
    "baseline.html2txt": "a8c97eab2097c57d",
    "baseline._spaced_text": "d04314f988c6afae",
    "htmlprocessing.delete_by_link_density": "306ab5a31636cd08",
    "htmlprocessing.link_density_test": "0b3d71f252bf1963",
    "main_extractor.prune_unwanted_sections": "e6eb7afcc64d3f37",
}
#: in bytes of UTF-8, what XML has no place for
_CONTROLS = bytes([*range(9), 11, 12, *range(14, 32)])
_NONCHARACTERS = ("\ufffe".encode(), "\uffff".encode())


def _digest(function: Any) -> str:
    try:
        return sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


def _known(*names: str) -> bool:
    """Tell whether functions, as ``module.name``, are those that a change was made for."""
    for name in names:
        module, _, function = name.partition(".")
        if _digest(getattr(part(module), function, None)) != _KNOWN[name]:
            return False
    return True


def tune_links() -> list[str]:
    """Test by link density only what holds links and has changed since the last test.

    Most elements hold no link; and of the two rounds over a page's blocks the second finds nothing new where the
    first deleted nothing.
    """
    processing, extractor = part("htmlprocessing"), part("main_extractor")
    if not _known(
        "htmlprocessing.link_density_test",
        "htmlprocessing.delete_by_link_density",
        "main_extractor.prune_unwanted_sections",
    ):
        return []
    test, delete, by_density = (
        processing.link_density_test,
        processing.delete_element,
        processing.delete_by_link_density,
    )
    prune = extractor.prune_unwanted_sections
    clean: set[tuple[Any, ...]] = set()  # tests that have found nothing since the last deletion

    def link_density_test(element: Any, favor_precision: bool = False) -> tuple[bool, bool]:
        if next(element.iterdescendants("ref"), None) is None:
            return False, False
        return test(element, favor_precision)  # type: ignore[no-any-return]

    def delete_element(element: Any, keep_tail: bool = True) -> None:
        clean.clear()
        delete(element, keep_tail)

    def delete_by_link_density(subtree: Any, *settings: Any, **named: Any) -> Any:
        asked = (*settings, *sorted(named.items()))
        if asked not in clean:
            clean.add(asked)
            by_density(subtree, *settings, **named)
        return subtree

    def prune_unwanted_sections(*given: Any, **named: Any) -> Any:
        clean.clear()
        return prune(*given, **named)

    processing.link_density_test = link_density_test
    processing.delete_element = delete_element
    extractor.delete_by_link_density = delete_by_link_density
    extractor.prune_unwanted_sections = prune_unwanted_sections
    return ["links"]


def tune_copies() -> list[str]:
    """Copy a page only where the copy is read: the one before conversion is for comments and other extractors."""
    core = part("core")
    if not _known("core._prepare_tree", "core.trafilatura_sequence"):
        return []
    whole = core._prepare_tree

    def prepare_tree(tree: Any, options: Any, url: str | None) -> tuple[Any, Any]:
        if options.comments or not options.fast:
            return whole(tree, options, url)  # type: ignore[no-any-return]
        converted = core.convert_tags(core.tree_cleaning(copy(tree), options), options, url)
        return converted, converted

    core._prepare_tree = prepare_tree
    return ["copies"]


def tune_names(names: PageNames) -> list[str]:
    """Read a page's names before its tree is worked on."""
    core = part("core")
    whole = getattr(core, "trafilatura_sequence", None)
    if whole is None:
        return []

    def trafilatura_sequence(tree: Any, *given: Any, **named: Any) -> Any:
        names.read(tree)
        try:
            return whole(tree, *given, **named)
        finally:
            names.forget()

    core.trafilatura_sequence = trafilatura_sequence
    return ["names"]


def tune_length(names: PageNames, notice: int) -> list[str]:
    """Measure the text of a whole page by one transformation in C, and not by deletions and spaces set from Python."""
    core, baseline = part("core"), part("baseline")
    if not notice or not _known("baseline.html2txt", "baseline._spaced_text"):
        return []
    cleaned, _, _ = part("settings").BASIC_CLEAN_XPATH.path.partition("|.//*[")
    whole, text = core.html2txt, _spaced_text(cleaned, baseline._BLOCK_ELEMS)

    def html2txt(content: Any, clean: bool = True) -> str:
        quick = clean and isinstance(content, etree._Element) and not names.may_match(notice)
        found = text(content) if quick else None
        return str(whole(content, clean)) if found is None else found

    core.html2txt = html2txt
    return ["length"]


def _spaced_text(cleaned: str, blocks: set[str]) -> Callable[[Any], str | None]:
    """Return what gives the text of a page with a space around each block, without some elements.

    It returns None where that is not enough: without a body, or where characters that do not print stand, which are
    dropped from some places only.
    """
    patterns = "|".join(path.removeprefix(".//") for path in cleaned.split("|.//"))
    style = etree.fromstring(
        f"""<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
        <xsl:output method="text" encoding="UTF-8"/>
        <xsl:template match="{"|".join(sorted(blocks))}"
            ><xsl:text> </xsl:text><xsl:apply-templates/><xsl:text> </xsl:text></xsl:template>
        <xsl:template match="{patterns}" priority="2"/>
        </xsl:stylesheet>"""
    )
    transform = etree.XSLT(style)

    def text(tree: Any) -> str | None:
        body = tree.find(".//body")
        try:
            found = "\0" if body is None else " ".join(str(transform(body)).split())
        except etree.XSLTError:  # nested too deep
            return None
        return found if found.isprintable() else None

    return text


class _QuickSearch:
    """A pattern of characters that nearly no page has, looked for in bytes: 5 ns a character otherwise."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def sub(self, replacement: str, text: str) -> str:
        encoded = text.encode("utf-8", "surrogatepass")
        if len(encoded.translate(None, _CONTROLS)) == len(encoded) and not any(c in encoded for c in _NONCHARACTERS):
            return text
        return self._pattern.sub(replacement, text)


def tune_characters() -> list[str]:
    """Look for characters that XML does not allow in bytes."""
    module = part("utils")
    pattern: Any = getattr(module, "INVALID_XML_CHARS", None)
    if getattr(pattern, "pattern", None) != r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]":
        return []
    module.INVALID_XML_CHARS = _QuickSearch(pattern)
    return ["characters"]
