"""Batches of documents to the cells that keep them: by combination of factors, each judged once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.ablate.factors import Clauses, Codes, Factor, Part, Ranked, Repeats
from fineedu.ablate.source import Signals
from fineedu.errors import FineeduError
from fineedu.recipe import SelectConfig
from fineedu.select.choose import Fitting, Selector

#: Combinations of factors remembered; an older one is worked out anew when it comes again. 8 bytes and a key each.
_REMEMBERED = 2**19
_WORD = 2**62


@dataclass(frozen=True, slots=True)
class _Ranking:
    """Selections that share one ranking: they differ in ``top.share`` and ``budget`` alone."""

    selector: Selector
    members: list[int]
    #: plain cuts of the ranking, and no groups, caps or repeats
    simple: bool


class Judge:
    """Cells, ready to judge.

    Args:
        names: of the cells, for messages.
        selects: what each keeps; columns are those of ``signals``.
        signals: the pool. It is read once for all cells that have a cut to find, twice where one has a cap.

    Raises:
        FineeduError: a rule is wrong, or a column is missing; the message names the cell.
    """

    def __init__(self, names: Sequence[str], selects: Sequence[SelectConfig], signals: Signals) -> None:
        self._schema = schema = signals.schema
        rankings = _rankings(names, selects, signals)
        cuts = _fit(rankings, signals)
        complex_cells = {n for ranking in rankings if not ranking.simple for n in ranking.members}
        plain = [select.rules for n, select in enumerate(selects) if n not in complex_cells]
        self.clauses = Clauses(plain, schema)
        self.factors: list[Factor] = list(self.clauses.factors)
        parts = [[] if n in complex_cells else self.clauses.parts(select.rules) for n, select in enumerate(selects)]
        for ranking, fitting in zip(rankings, cuts, strict=True):
            self._add(ranking, fitting, names, selects, parts)
        self._lookups, self._refs, self._starts = _flat(parts)
        self.n_cells = len(selects)
        self._ids: dict[object, int] = {}
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the memberships seen so far."""
        self._ids.clear()
        self._rows: dict[bytes, int] = {np.zeros(self.n_cells, np.uint16).tobytes(): 0}
        self._table = np.zeros((64, self.n_cells), np.uint16)

    @property
    def columns(self) -> list[str]:
        """Columns that are read."""
        return list(dict.fromkeys(column for factor in self.factors for column in factor.columns))

    @property
    def counts(self) -> npt.NDArray[np.uint16]:
        """(m, c): how often a document of each membership is in each cell; membership 0 is in none."""
        return self._table[: len(self._rows)]

    def _add(
        self,
        ranking: _Ranking,
        fitting: Fitting,
        names: Sequence[str],
        selects: Sequence[SelectConfig],
        parts: list[list[Part]],
    ) -> None:
        """Add the factors of a ranking."""
        found = {}
        for n in ranking.members:
            try:
                found[n] = fitting.cuts(selects[n])
            except FineeduError as error:
                raise FineeduError(f"cell {names[n]!r}: {error}") from error
        if not ranking.simple:
            for n in ranking.members:
                self.factors.append(Repeats(Selector(selects[n], self._schema), (found[n], fitting.caps)))
                parts[n].append(Part(len(self.factors) - 1, np.arange(2**16).astype(np.uint16)))
            return
        lowest: dict[int, int] = {}
        for n, cuts in found.items():
            top = 0 if selects[n].top is None else cuts.top.get(0, 2**64 - 1)
            lowest[n] = max(top, cuts.budget or 0)
        shift = next(iter(found.values())).shift
        factor = Ranked(ranking.selector, shift, list(lowest.values()))
        self.factors.append(factor)
        for n, cut in lowest.items():
            parts[n].append(Part(len(self.factors) - 1, factor.lookup(cut)))

    def memberships(self, batch: pl.DataFrame) -> Codes:
        """Return for each of n documents its membership, a row of ``counts``."""
        if not batch.height:
            return np.zeros(0, np.int64)
        codes = [factor.codes(batch) for factor in self.factors]
        word, first, back = _combine(codes, [factor.radix for factor in self.factors], batch.height)
        ids = np.empty(len(first), np.int64)
        if len(self._ids) > _REMEMBERED:
            self._ids.clear()
        new = []
        for at, key in enumerate(word):
            known = self._ids.get(key)
            if known is None:
                new.append(at)
            else:
                ids[at] = known
        for start in range(0, len(new), 4096):
            chosen = np.array(new[start : start + 4096])
            ids[chosen] = self._learn([c[first[chosen]] for c in codes], [word[at] for at in chosen])
        return ids[back]

    def _learn(self, codes: Sequence[Codes], keys: Sequence[object]) -> Codes:
        """Work out the memberships of combinations that are new."""
        always = np.ones(len(keys), np.uint16)
        told = np.stack([always if factor < 0 else lookup[codes[factor]] for factor, lookup in self._lookups], axis=1)
        counts = np.multiply.reduceat(told[:, self._refs], self._starts, axis=1)
        ids = np.empty(len(keys), np.int64)
        for at, (key, row) in enumerate(zip(keys, counts, strict=True)):
            known = self._rows.setdefault(row.tobytes(), len(self._rows))
            if known >= len(self._table):
                self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            self._table[known] = row
            self._ids[key] = ids[at] = known
        return ids


def _rankings(names: Sequence[str], selects: Sequence[SelectConfig], signals: Signals) -> list[_Ranking]:
    found: dict[str, _Ranking] = {}
    checked: set[str] = set()
    for n, select in enumerate(selects):
        settings = select.model_dump(mode="json")
        settings.pop("budget")
        if settings["top"] is not None:
            settings["top"].pop("share")
        key = json.dumps(settings, sort_keys=True)
        if key in found and select.beyond_rules:
            found[key].members.append(n)
            continue
        rules = json.dumps(settings["rules"])
        if not select.beyond_rules and rules in checked:
            continue
        try:
            selector = Selector(select, signals.schema)
        except FineeduError as error:
            raise FineeduError(f"cell {names[n]!r}: {error}") from error
        checked.add(rules)
        if select.beyond_rules:
            grouped = select.top is not None and select.top.per
            further = select.cap or select.mixture or select.upsample
            found[key] = _Ranking(selector, [n], not (grouped or further))
    return list(found.values())


def _fit(rankings: Sequence[_Ranking], signals: Signals) -> list[Fitting]:
    """Find the cuts of all rankings in the same passes."""
    fittings = [Fitting(ranking.selector) for ranking in rankings]
    for number in range(max((ranking.selector.passes for ranking in rankings), default=0)):
        active = [
            (fitting, ranking.selector)
            for fitting, ranking in zip(fittings, rankings, strict=True)
            if number < ranking.selector.passes
        ]
        wanted = list(dict.fromkeys(["id", *(column for _, selector in active for column in selector.columns)]))
        for batch in signals.batches(wanted):
            for fitting, _ in active:
                fitting.update(batch)
        for fitting, _ in active:
            fitting.end_pass()
    return fittings


def _flat(parts: list[list[Part]]) -> tuple[list[tuple[int, npt.NDArray[np.uint16]]], Codes, Codes]:
    """Return the distinct conditions of all cells, those of each cell one after the other, and where each begins."""
    distinct: dict[tuple[int, bytes], int] = {}
    lookups: list[tuple[int, npt.NDArray[np.uint16]]] = []
    refs: list[int] = []
    starts: list[int] = []
    for each in parts:
        starts.append(len(refs))
        for part in each or [Part(-1, np.ones(1, np.uint16))]:
            key = (part.factor, part.lookup.tobytes())
            if key not in distinct:
                distinct[key] = len(lookups)
                lookups.append((part.factor, part.lookup))
            refs.append(distinct[key])
    return lookups, np.array(refs, np.int64), np.array(starts, np.int64)


def _combine(codes: Sequence[Codes], radices: Sequence[int], n: int) -> tuple[list[object], Codes, Codes]:
    """Return the distinct combinations of codes as keys, a row of each, and for each row its combination."""
    words = [np.zeros(n, np.int64)]
    size = 1
    for code, radix in zip(codes, radices, strict=True):
        if size * radix > _WORD:
            words.append(np.zeros(n, np.int64))
            size = 1
        words[-1] = words[-1] * radix + code
        size *= radix
    if len(words) == 1:
        found, first, back = np.unique(words[0], return_index=True, return_inverse=True)
        return found.tolist(), first, back
    rows, first, back = np.unique(np.stack(words, axis=1), axis=0, return_index=True, return_inverse=True)
    return [tuple(row) for row in rows.tolist()], first, back.ravel()
