"""Named rules over signals, in SQL as Polars reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
import polars.selectors as cs
from polars.exceptions import ColumnNotFoundError, PolarsError

from fineedu.errors import FineeduError

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|[()]|\b(?:AND|BETWEEN|CASE|END)\b", re.IGNORECASE)

_STRING = re.compile(r"'(?:[^']|'')*'")
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_KEYWORDS = frozenset({"and", "or", "not", "in", "between", "when", "then", "else", "like", "ilike", "is"})
#: The functions of Polars' SQL that look at one row only. An aggregate would make a decision depend on the batch
#: that a document happens to sit in.
_BY_ROW = _KEYWORDS | frozenset(
    [
        "abs",
        "array_contains",
        "array_length",
        "ceil",
        "char_length",
        "coalesce",
        "concat",
        "date_part",
        "ends_with",
        "exp",
        "extract",
        "floor",
        "greatest",
        "if",
        "ifnull",
        "least",
        "left",
        "length",
        "ln",
        "log10",
        "lower",
        "ltrim",
        "nullif",
        "octet_length",
        "pow",
        "regexp_like",
        "replace",
        "right",
        "round",
        "rtrim",
        "sign",
        "sqrt",
        "starts_with",
        "strpos",
        "substr",
        "trim",
        "upper",
        "cast",
    ]
)


def clauses(sql: str) -> list[str]:
    """Split an expression at its outermost ``AND``; the parts hold where, and only where, the whole holds."""
    parts, start, depth, between = [], 0, 0, 0
    for token in _TOKEN.finditer(sql):
        word = token[0].upper()
        if word in ("(", "CASE"):
            depth += 1
        elif word in (")", "END"):
            depth -= 1
        elif depth == 0 and word == "BETWEEN":
            between += 1
        elif depth == 0 and word == "AND":
            if between:
                between -= 1
            else:
                parts.append(sql[start : token.start()])
                start = token.end()
    parts.append(sql[start:])
    return [part.strip() for part in parts]


def compile_rule(sql: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """Compile an expression and check it against the columns there are.

    Args:
        sql: e.g. ``language = 'en' AND edu_score >= 2.5``.
        schema: columns that may be named.

    Returns:
        A Boolean expression, row by row; null where a value it needs is missing.

    Raises:
        FineeduError: it does not parse, names an unknown column, compares what cannot be compared, is not a
            yes-or-no expression, or looks beyond its own row.
    """
    try:
        expression = pl.sql_expr(sql)
        dtype = _one_row(tuple(schema.items())).select(expression.alias("rule"))["rule"].dtype
    except ColumnNotFoundError as error:
        name = re.search(r'column "([^"]*)"', str(error))
        column = name[1] if name else "?"
        hint = f"; a text value takes single quotes: '{column}'" if f'"{column}"' in sql else _nearest(column, schema)
        raise FineeduError(f"{sql!r} names {column!r}, which is no column{hint}") from error
    except PolarsError as error:
        raise FineeduError(f"{sql!r} is no valid expression: {str(error).splitlines()[0]}") from error
    beyond = [name.lower() for name in _CALL.findall(_STRING.sub("", sql)) if name.lower() not in _BY_ROW]
    if beyond:
        raise FineeduError(
            f"{sql!r} calls {beyond[0]!r}: rules judge one document each, with {', '.join(sorted(_BY_ROW - _KEYWORDS))}"
        )
    if dtype != pl.Boolean:
        raise FineeduError(f"{sql!r} gives {dtype}, not yes or no")
    return expression


@cache
def _one_row(schema: tuple[tuple[str, pl.DataType], ...]) -> pl.DataFrame:
    """Return one row of zeros and empty strings: comparing text with a number fails on values only."""
    return (
        pl.DataFrame(schema=dict(schema))
        .clear(1)
        .with_columns(pl.col(pl.String).fill_null(""), cs.numeric().fill_null(0), pl.col(pl.Boolean).fill_null(False))
    )


def _nearest(column: str, schema: Mapping[str, pl.DataType]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(column, schema, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else f"; there are {', '.join(sorted(schema))}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One clause of a rule on one document."""

    rule: str
    clause: str
    #: None where a value is missing
    holds: bool | None
    values: dict[str, object]


class Rules:
    """The rules of a recipe, ready to judge batches.

    Args:
        rules: name to SQL.
        schema: columns of documents and signals that may be named.

    Raises:
        FineeduError: the first rule that is wrong; the message starts with its name.
    """

    def __init__(self, rules: Mapping[str, str], schema: Mapping[str, pl.DataType]) -> None:
        self._schema = dict(schema)
        self._expressions: dict[str, pl.Expr] = {}
        #: of every clause its rule, its SQL, its expression and the columns that it reads
        self._clauses: list[tuple[str, str, pl.Expr, list[str]]] = []
        for name, sql in rules.items():
            self._expressions[name] = compile_rule(sql, schema)
            for clause in clauses(sql):
                part = compile_rule(clause, schema)
                self._clauses.append((name, clause, part, list(dict.fromkeys(part.meta.root_names()))))

    @property
    def columns(self) -> list[str]:
        """Columns that the rules read, in schema order."""
        named = {root for expression in self._expressions.values() for root in expression.meta.root_names()}
        return [column for column in self._schema if column in named]

    def judge(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Judge a batch.

        Args:
            batch: at least ``columns``; n rows.

        Returns:
            n rows of ``keep`` (Boolean) and ``reasons`` (list of rule names that do not hold, in recipe order; a rule
            that cannot be told because a value is missing is named ``<rule>:missing``, and drops too).
        """
        if not self._expressions:
            return batch.select(
                pl.repeat(True, pl.len()).alias("keep"),
                pl.repeat([], pl.len(), dtype=pl.List(pl.String)).alias("reasons"),
            )
        told = batch.select(expression.alias(name) for name, expression in self._expressions.items())
        # Few combinations of reasons occur: telling each once is ten times as fast as building a list for each row.
        pattern = np.zeros(batch.height, np.int64)
        states: list[list[str]] = [[]]
        for name in told.columns:
            state = told[name].cast(pl.Int8).fill_null(2).to_numpy()
            codes, pattern = np.unique(pattern * 3 + state, return_inverse=True)
            states = [states[code // 3] + [[name], [], [f"{name}:missing"]][code % 3] for code in codes]
        reasons = pl.Series("reasons", states, dtype=pl.List(pl.String)).gather(pattern)
        return pl.DataFrame([(reasons.list.len() == 0).alias("keep"), reasons])

    def holds(self, batch: pl.DataFrame) -> pl.Series:
        """Return ``keep`` of :meth:`judge` alone, without the work of telling reasons."""
        told = [expression.fill_null(False) for expression in self._expressions.values()]
        return batch.select(pl.repeat(True, pl.len()).and_(*told).alias("keep"))["keep"]

    def explain(self, row: pl.DataFrame) -> list[Verdict]:
        """Return the verdict of every clause on one document.

        Args:
            row: one row with at least ``columns``.
        """
        if not self._clauses:
            return []
        values = row.select(self.columns).row(0, named=True)
        told = row.select(part.alias(str(n)) for n, (_, _, part, _) in enumerate(self._clauses))
        return [
            Verdict(rule, clause, told[str(n)][0], {column: values[column] for column in columns})
            for n, (rule, clause, _, columns) in enumerate(self._clauses)
        ]
