"""trafilatura's XPaths over classes and ids, which were two thirds of its time: each value is looked at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from lxml import etree

from fineedu.extract.tuned.search import Search

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
#: ``.//*[self::div or self::p][what its attributes are]``: tags, then predicates.
_BY_ATTRIBUTES = re.compile(r"\s*\.//\*(\[self::\w+(?: or self::\w+)*\])?(\[.*\])\s*", re.DOTALL)
#: What such predicates may hold, without their strings, to be a matter of attributes and the element's own tag alone.
_OF_ATTRIBUTES = re.compile(
    r"(?:@[\w-]+|self::\w+|''|\b(?:or|and|not|contains|starts-with|translate|string|re:test)\b|[\[\]()|=,\s])*"
)
#: Bound on memory: names repeat within a page and a site, and a page of another site brings 120 new ones. 200,000 would
#: take 30 MB more and are no faster.
_MEMO_LIMIT = 20_000


def part(name: str) -> Any:
    """Return a module of trafilatura; by its name, as the package has functions of the same names."""
    return import_module(f"trafilatura.{name}")


class _Matches:
    """Whether a pattern is found in a string; what was asked before is remembered."""

    def __init__(self, pattern: str, fold: bool) -> None:
        self._search = Search(pattern, fold)
        self._fold = fold
        self._known: dict[str, bool] = {}

    def __call__(self, text: str) -> bool:
        found = self._known.get(text)
        if found is None:
            if len(self._known) > _MEMO_LIMIT:
                self._known.clear()
            found = self._known[text] = self._search(text.lower() if self._fold else text)
        return found


class PageNames:
    """The distinct classes, ids and roles of a page, about 160 on one of 680 elements, and what they can match.

    They are read once a page, before anything is done to its tree: what is left of it later has no others.
    """

    def __init__(self) -> None:
        paths = (f"descendant-or-self::*/@{name}" for name in _ATTRIBUTES)
        self._paths = [etree.XPath(path, smart_strings=False) for path in paths]
        self._patterns: list[str] = []
        self._searches: list[Search] = []
        self._any: Search | None = None
        #: name to a bit for each pattern that is found in it
        self._known: dict[str, int] = {}
        #: those of all names of the page; every bit where there is no page
        self._found = -1

    def watch(self, pattern: str) -> int:
        """Have a pattern looked for, in any case of letters; return its bit."""
        self._patterns.append(pattern)
        self._any = None
        self._known.clear()
        return 1 << (len(self._patterns) - 1)

    def read(self, tree: Any) -> None:
        """Take the names of a page."""
        if len(self._known) > _MEMO_LIMIT:
            self._known.clear()
        known, found = self._known, 0
        for name in set[str]().union(*(path(tree) for path in self._paths)):
            bits = known.get(name)
            if bits is None:
                bits = known[name] = self._bits(name.lower())
            found |= bits
        self._found = found

    def _bits(self, name: str) -> int:
        if self._any is None:  # all are watched by now
            self._any = Search("|".join(self._patterns), fold=True)
            self._searches = [Search(pattern, fold=True) for pattern in self._patterns]
        if not self._any(name):  # as of nearly all
            return 0
        return sum(1 << place for place, search in enumerate(self._searches) if search(name))

    def forget(self) -> None:
        """Be without a page: nothing is ruled out."""
        self._found = -1

    def may_match(self, bit: int) -> bool:
        """Tell whether a pattern is found in any of the page's names."""
        return bool(self._found & bit)


class _GuardedPath:
    """An XPath that is looked at only where some class or id of the page can match it.

    Args:
        path: the XPath.
        names: those of the page.
        pattern: found in every class or id that the XPath matches.
        otherwise: what gives the rest of its matches where none can.
    """

    def __init__(self, path: Any, names: PageNames, pattern: str, otherwise: Callable[[Any], Any]) -> None:
        self._path = path
        self._names = names
        self.bit = names.watch(pattern)
        self._otherwise = otherwise

    def __call__(self, tree: Any) -> Any:
        return self._path(tree) if self._names.may_match(self.bit) else self._otherwise(tree)


class _AttributePath:
    """An XPath that asks only for attributes and tag of an element: each such set is asked about once.

    Args:
        tags: predicate of the tags, or nothing.
        rest: the other predicates.
        settings: for the XPath of them all.
    """

    def __init__(self, tags: str, rest: str, settings: dict[str, Any]) -> None:
        self._names = sorted(set(re.findall(r"@([\w-]+)", rest)))
        self._tagged = "self::" in rest
        self._candidates = etree.XPath(f".//*{tags}[{' or '.join('@' + name for name in self._names)}]")
        self._test = etree.XPath(f"boolean(self::*{tags}{rest})", **settings)
        self._known: dict[tuple[Any, ...], bool] = {}

    def __call__(self, tree: Any) -> list[Any]:
        known, names, tagged, found = self._known, self._names, self._tagged, []
        one = len(names) - 1
        for element in self._candidates(tree):
            asked = tuple(map(element.get, names))
            if asked.count(None) < one:  # their order counts: string(@id|@class) is whichever stands first
                asked += tuple(name for name in element.keys() if name in names)  # noqa: SIM118  # of an element
            if tagged:
                asked += (element.tag,)
            matches = known.get(asked)
            if matches is None:
                if len(known) > _MEMO_LIMIT:
                    known.clear()
                matches = known[asked] = self._test(element)
            if matches:
                found.append(element)
        return found


def _tuned_path(path: Any, tests: dict[tuple[str, str], _Matches]) -> Any:
    """Return the same XPath with ``re:test`` asked only where there is an attribute, and once for each value.

    lxml's own turns each attribute into a list of strings that know their element, and searches anew.
    """

    def test(_: Any, text: str, pattern: str, flags: str = "") -> bool:
        matches = tests.get((pattern, flags))
        if matches is None:
            matches = tests[pattern, flags] = _Matches(pattern, fold="i" in flags)
        return matches(text)

    changed, count = _TEST.subn(r"(\1 and re:test(string(\1), \2\3))", path.path)
    if not count or count != path.path.count("re:test("):
        return path
    settings = {"namespaces": {"re": _REGEXP}, "extensions": {(_REGEXP, "test"): test}, "regexp": False}
    shape = _BY_ATTRIBUTES.fullmatch(changed)
    if shape is None or not _OF_ATTRIBUTES.fullmatch(re.sub("'[^']*'", "''", shape[2])):
        return etree.XPath(changed, **settings)
    return _AttributePath(shape[1] or "", shape[2], settings)


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


def tune_paths(names: PageNames) -> list[str]:
    """Put quicker XPaths in the place of trafilatura's; return the names of the lists that changed."""
    xpaths = part("xpaths")
    tests: dict[tuple[str, str], _Matches] = {}
    applied = []
    for name, paths in vars(xpaths).items():
        if not isinstance(paths, list) or not all(isinstance(path, etree.XPath) for path in paths):
            continue
        tuned = [_tuned_path(path, tests) for path in paths]
        for place in _RARE.get(name, ())[: len(paths)]:
            tuned[place] = _GuardedPath(tuned[place], names, _any_value(paths[place].path), lambda _: [])
        if any(new is not old for new, old in zip(tuned, paths, strict=True)):
            paths[:] = tuned  # in place: other modules hold the same list
            applied.append(name)
    return applied


def tune_cleaning(names: PageNames) -> int:
    """Look for cookie notices only where a class or id can be one; return the bit of that, 0 where not applied."""
    settings, baseline = part("settings"), part("baseline")
    whole = getattr(baseline, "BASIC_CLEAN_XPATH", None)
    pattern = getattr(settings, "_COOKIE_CONSENT_RE", None)
    cheap, branch, _ = getattr(whole, "path", "").partition("|.//*[re:test(@class,")
    if not branch or not isinstance(pattern, str):
        return 0
    baseline.BASIC_CLEAN_XPATH = guarded = _GuardedPath(whole, names, pattern, etree.XPath(cheap))
    return guarded.bit
