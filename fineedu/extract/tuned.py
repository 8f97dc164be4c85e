"""Two changes inside trafilatura that leave its output as it is and make it faster. For the sandbox process only.

Each applies where the installed version has the part it replaces, and is left out where not; a test compares the output
with untouched trafilatura page by page.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any


class _GuardedPath:
    """An XPath whose costly last branch is looked at only where some class or id can match it.

    ``re:test`` calls back into Python twice for every element of the page. One search over all classes and ids together
    answers for nearly every page that none of them matches.
    """

    def __init__(self, whole: Any, cheap: Any, pattern: re.Pattern[str], names: Any) -> None:
        self._whole = whole
        self._cheap = cheap
        self._pattern = pattern
        self._names = names

    def __call__(self, tree: Any) -> Any:
        possible = self._pattern.search("\n".join(self._names(tree)))
        return self._whole(tree) if possible else self._cheap(tree)


def tune_trafilatura() -> list[str]:
    """Apply the changes to this process; return the names of those that were."""
    from lxml import etree
    from lxml.html import HtmlComment, HtmlElement, HtmlEntity, HtmlProcessingInstruction
    from trafilatura import settings
    from trafilatura import utils as trafilatura_utils

    baseline: Any = import_module("trafilatura.baseline")  # the package has a function of that name
    applied = []
    parser = getattr(trafilatura_utils, "HTML_PARSER", None)
    if parser is not None:
        # lxml.html asks a Python function for the class of each element; trafilatura needs only the common one.
        lookup = etree.ElementDefaultClassLookup(
            element=HtmlElement, comment=HtmlComment, pi=HtmlProcessingInstruction, entity=HtmlEntity
        )
        parser.set_element_class_lookup(lookup)
        applied.append("element classes")
    whole = getattr(baseline, "BASIC_CLEAN_XPATH", None)
    pattern = getattr(settings, "_COOKIE_CONSENT_RE", None)
    cheap, branch, _ = getattr(whole, "path", "").partition("|.//*[re:test(@class,")
    if branch and isinstance(pattern, str):
        names = etree.XPath("descendant-or-self::*/@class|descendant-or-self::*/@id", smart_strings=False)
        guarded = _GuardedPath(whole, etree.XPath(cheap), re.compile(pattern, re.IGNORECASE), names)
        baseline.BASIC_CLEAN_XPATH = guarded
        applied.append("cookie notices")
    return applied
