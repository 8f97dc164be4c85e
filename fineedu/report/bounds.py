"""The numeric bounds inside rules: what histograms mark, and what a document can lie close to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from fineedu.select.rules import clauses

_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_COLUMN = r"(?:\"([^\"]+)\"|([A-Za-z_]\w*))"
_COMPARE = re.compile(rf"{_COLUMN}\s*(>=|<=|>|<)\s*{_NUMBER}")
_REVERSED = re.compile(rf"{_NUMBER}\s*(>=|<=|>|<)\s*{_COLUMN}")
_BETWEEN = re.compile(rf"{_COLUMN}\s+BETWEEN\s+{_NUMBER}\s+AND\s+{_NUMBER}", re.IGNORECASE)
_MIRROR = {">=": "<=", "<=": ">=", ">": "<", "<": ">"}


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a rule; the rule holds where all of its clauses hold."""

    rule: str
    sql: str

    @property
    def name(self) -> str:
        """Rule and clause, e.g. ``length: text_bytes >= 250``."""
        return f"{self.rule}: {self.sql}"


@dataclass(frozen=True, slots=True)
class Bound:
    """A clause's comparison of a column with a number."""

    clause: Clause
    column: str
    #: what a document that fulfils the clause is to the bound: ``>=``, ``<=``, ``>`` or ``<``
    op: str
    value: float


def rule_clauses(rules: Mapping[str, str]) -> list[Clause]:
    """Split every rule at its outermost ``AND``, parentheses around a whole part taken off first."""
    return [Clause(name, part) for name, sql in rules.items() for part in _split(sql)]


def _split(sql: str) -> list[str]:
    parts = clauses(_bare(sql))
    return parts if len(parts) == 1 else [inner for part in parts for inner in _split(part)]


def _bare(sql: str) -> str:
    """Take off the parentheses that enclose all of an expression."""
    sql = sql.strip()
    while sql.startswith("(") and sql.endswith(")") and _closes_at_end(sql):
        sql = sql[1:-1].strip()
    return sql


def _closes_at_end(sql: str) -> bool:
    depth = 0
    for token in re.finditer(r"'(?:[^']|'')*'|\"[^\"]*\"|[()]", sql):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == 0:
            return token.end() == len(sql)
    return False


def rule_bounds(rules: Mapping[str, str], schema: Mapping[str, pl.DataType]) -> list[Bound]:
    """Find the clauses of the form ``column op number``, ``number op column`` and ``column BETWEEN a AND b``.

    Args:
        rules: name to SQL.
        schema: columns and their types; only numeric ones have bounds.

    Returns:
        Bounds in the order of the rules; a ``BETWEEN`` gives two, and other clauses (``OR``, functions, text)
        give none.
    """
    found = []
    for clause in rule_clauses(rules):
        for column, op, value in _parse(clause.sql):
            if column in schema and schema[column].is_numeric():
                found.append(Bound(clause, column, op, value))
    return found


def _parse(sql: str) -> list[tuple[str, str, float]]:
    if match := _COMPARE.fullmatch(sql):
        return [(match[1] or match[2], match[3], float(match[4]))]
    if match := _REVERSED.fullmatch(sql):
        return [(match[3] or match[4], _MIRROR[match[2]], float(match[1]))]
    if match := _BETWEEN.fullmatch(sql):
        column = match[1] or match[2]
        return [(column, ">=", float(match[3])), (column, "<=", float(match[4]))]
    return []
