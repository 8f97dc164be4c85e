"""Changes inside trafilatura that leave its output as it is and make it a third faster. For the sandbox process only.

Each applies where the installed version has the part it replaces, and is left out where not; a test compares the output
with untouched trafilatura page by page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

_REGEXP = "http://exslt.org/regular-expressions"
#: ``re:test(@id|@class, 'pattern', 'flags')``, the only form that trafilatura uses.
_TEST = re.compile(r"re:test\((@[\w-]+(?:\|@[\w-]+)*), ?('[^']*')((?:, ?'[^']*')?)\)")
#: A quoted string of an XPath, behind the letters of a ``translate``, which are no value of an attribute.
_TRANSLATE = re.compile(r"translate\((@[\w-]+), ?'[^']*', ?'[^']*'\)")
_QUOTED = re.compile(r"(re:test\([^']*|=\s*)?'([^']*)'")
_ATTRIBUTES = ("class", "id", "role", "itemprop")
#: XPaths that match only by one of these attributes, and on few pages: of 652 on 3, 3, 139, 139, 67, 196, 139 and 301.
_RARE = {
    "RAW_TREE_PRUNE_XPATH": (0, 1),
    "REMOVE_COMMENTS_XPATH": (0,),
    "REMOVE_COMMENTS_AND_LISTS_XPATH": (0,),
    "TEASER_DISCARD_XPATH": (0,),
    "BODY_XPATH": (0, 2, 3),
}
#: Bound on memory: class names repeat within a site, and sites come to an end.
_MEMO_LIMIT = 200_000


class _Matches:
    """Whether a pattern is found in a string; what was asked before is remembered."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._search = re.compile(pattern, flags).search
        self._known: dict[str, bool] = {}
        self._found: set[str] = set()

    def __call__(self, text: str) -> bool:
        found = self._known.get(text)
        if found is None:
            if len(self._known) > _MEMO_LIMIT:
                self._known.clear()
                self._found.clear()
            found = self._known[text] = self._search(text) is not None
            if found:
                self._found.add(text)
        return found

    def any(self, texts: set[str]) -> bool:
        """Tell whether it is found in any of the strings."""
        for text in texts.difference(self._known):
            self(text)
        return not self._found.isdisjoint(texts)


class _Names:
    """The distinct classes, ids and roles of a tree: about 160 on a page of 680 elements, for many questions."""

    def __init__(self, etree: Any) -> None:
        paths = (f"descendant-or-self::*/@{name}" for name in _ATTRIBUTES)
        self._paths = [etree.XPath(path, smart_strings=False) for path in paths]
        #: The tree last asked about. It only loses elements meanwhile, so its names stay enough to rule a match out.
        self._last: tuple[Any, set[str]] = (None, set())

    def __call__(self, tree: Any) -> set[str]:
        if self._last[0] is not tree:
            self._last = (tree, set[str]().union(*(path(tree) for path in self._paths)))
        return self._last[1]


class _GuardedPath:
    """An XPath that is looked at only where some class or id can match it.

    Args:
        path: the XPath.
        matches: whether a class or an id can match.
        names: classes and ids of a tree.
        otherwise: what gives the rest of its matches where none can.
    """

    def __init__(self, path: Any, matches: _Matches, names: _Names, otherwise: Callable[[Any], Any]) -> None:
        self._path = path
        self._matches = matches
        self._names = names
        self._otherwise = otherwise

    def __call__(self, tree: Any) -> Any:
        possible = self._matches.any(self._names(tree))
        return self._path(tree) if possible else self._otherwise(tree)


def _with_memory(path: Any, tests: dict[tuple[str, str], _Matches], etree: Any) -> Any:
    """Return the same XPath with ``re:test`` asked only where there is an attribute, and once for each value.

    lxml's own turns each attribute into a list of strings that know their element, and searches anew.
    """

    def test(_: Any, text: str, pattern: str, flags: str = "") -> bool:
        matches = tests.get((pattern, flags))
        if matches is None:
            matches = tests[pattern, flags] = _Matches(pattern, re.IGNORECASE if "i" in flags else 0)
        return matches(text)

    changed, count = _TEST.subn(r"(\1 and re:test(string(\1), \2\3))", path.path)
    if not count or count != path.path.count("re:test("):
        return path
    return etree.XPath(changed, namespaces={"re": _REGEXP}, extensions={(_REGEXP, "test"): test}, regexp=False)


def _any_value(path: str) -> str:
    """Return a pattern that is found in every attribute by which an XPath can match."""
    quoted = _QUOTED.findall(_TRANSLATE.sub(r"\1", path))
    values = []
    for before, text in quoted:
        if before.startswith("re:test"):
            values.append(text)
        elif text not in ("", "i"):
            values.append(f"^{re.escape(text)}$" if before.startswith("=") else re.escape(text))
    return "|".join(values)


def _tune_paths(etree: Any, names: _Names) -> list[str]:
    xpaths: Any = import_module("trafilatura.xpaths")
    tests: dict[tuple[str, str], _Matches] = {}
    applied = []
    for name, paths in vars(xpaths).items():
        if not isinstance(paths, list) or not all(isinstance(path, etree.XPath) for path in paths):
            continue
        tuned = [_with_memory(path, tests, etree) for path in paths]
        if name in _RARE:
            for place in _RARE[name][: len(paths)]:
                matches = _Matches(_any_value(paths[place].path), re.IGNORECASE)
                tuned[place] = _GuardedPath(tuned[place], matches, names, lambda _: [])
        if any(new is not old for new, old in zip(tuned, paths, strict=True)):
            paths[:] = tuned  # in place: other modules hold the same list
            applied.append(name)
    return applied


def _tune_links() -> bool:
    """Let an element without links, as most are, cost one look."""
    processing: Any = import_module("trafilatura.htmlprocessing")
    whole = getattr(processing, "link_density_test", None)
    if whole is None:
        return False

    def link_density_test(element: Any, favor_precision: bool = False) -> tuple[bool, bool]:
        if next(element.iterdescendants("ref"), None) is None:
            return False, False
        return whole(element, favor_precision)  # type: ignore[no-any-return]

    processing.link_density_test = link_density_test
    return True


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
    names = _Names(etree)
    applied += _tune_paths(etree, names)
    if _tune_links():
        applied.append("links")
    whole = getattr(baseline, "BASIC_CLEAN_XPATH", None)
    pattern = getattr(settings, "_COOKIE_CONSENT_RE", None)
    cheap, branch, _ = getattr(whole, "path", "").partition("|.//*[re:test(@class,")
    if branch and isinstance(pattern, str):
        matches = _Matches(pattern, re.IGNORECASE)
        baseline.BASIC_CLEAN_XPATH = _GuardedPath(whole, matches, names, etree.XPath(cheap))
        applied.append("cookie notices")
    return applied
