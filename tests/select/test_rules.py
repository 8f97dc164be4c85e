from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.errors import FineeduError
from fineedu.select.rules import Rules, clauses, compile_rule

SCHEMA = {"score": pl.Float32(), "language": pl.String(), "blocked": pl.Boolean(), "words": pl.UInt32()}
RULES = {
    "language": "language = 'en'",
    "score": "score > 2.5 AND score <= 5",
    "words": "words BETWEEN 50 AND 100",
    "url": "NOT blocked",
}

rows = st.lists(
    st.tuples(
        st.none() | st.floats(0, 6, width=32),
        st.none() | st.sampled_from(["en", "de"]),
        st.none() | st.booleans(),
        st.none() | st.integers(0, 200),
    ),
    max_size=30,
)


@given(rows)
def test_judges_as_plain_python_does(
    data: list[tuple[float | None, str | None, bool | None, int | None]],
) -> None:
    frame = pl.DataFrame(data, schema=SCHEMA, orient="row")
    expected = []
    for score, language, blocked, words in data:
        holds = {
            "language": None if language is None else language == "en",
            "score": None if score is None else 2.5 < score <= 5,
            "words": None if words is None else 50 <= words <= 100,
            "url": None if blocked is None else not blocked,
        }
        expected.append([name if holds[name] is False else f"{name}:missing" for name in RULES if not holds[name]])
    found = Rules(RULES, SCHEMA).judge(frame)
    assert found["reasons"].to_list() == expected
    assert found["keep"].to_list() == [not reasons for reasons in expected]


@given(rows, st.integers(0, 30))
def test_a_verdict_does_not_depend_on_the_batch(data, cut: int) -> None:
    frame = pl.DataFrame(data, schema=SCHEMA, orient="row")
    rules = Rules(RULES, SCHEMA)
    assert rules.judge(frame).equals(pl.concat([rules.judge(frame[:cut]), rules.judge(frame[cut:])]))


def test_no_rules_keep_everything() -> None:
    found = Rules({}, SCHEMA).judge(pl.DataFrame({"score": [1.0, None]}))
    assert found.to_dict(as_series=False) == {"keep": [True, True], "reasons": [[], []]}


@pytest.mark.parametrize(
    ("sql", "parts"),
    [
        ("a > 1", ["a > 1"]),
        ("a > 1 AND b < 2 and c", ["a > 1", "b < 2", "c"]),
        ("a BETWEEN 1 AND 2 AND b = 'x AND y'", ["a BETWEEN 1 AND 2", "b = 'x AND y'"]),
        ("(a AND b) OR c", ["(a AND b) OR c"]),
        ("CASE WHEN a AND b THEN c ELSE d END AND e", ["CASE WHEN a AND b THEN c ELSE d END", "e"]),
        ("a NOT BETWEEN 1 AND 2 AND b BETWEEN 3 AND 4", ["a NOT BETWEEN 1 AND 2", "b BETWEEN 3 AND 4"]),
    ],
)
def test_clauses(sql: str, parts: list[str]) -> None:
    assert clauses(sql) == parts


def test_explain_names_clause_and_value() -> None:
    row = pl.DataFrame([(1.5, "en", None, 70)], schema=SCHEMA, orient="row")
    found = {(v.rule, v.clause): (v.holds, v.values) for v in Rules(RULES, SCHEMA).explain(row)}
    assert found[("score", "score > 2.5")] == (False, {"score": 1.5})
    assert found[("score", "score <= 5")] == (True, {"score": 1.5})
    assert found[("url", "NOT blocked")] == (None, {"blocked": None})
    assert found[("words", "words BETWEEN 50 AND 100")][0] is True


@pytest.mark.parametrize(
    "sql",
    [
        "sum(score) > 1",
        "score > max(score)",
        "rank() OVER (ORDER BY score) < 3",
        "row_number() over (order by words) = 1",
        "score > (SELECT 1)",
        "score > 1; DROP TABLE x",
        "read_csv('x') > 1",
        "",
        "'text'",
    ],
)
def test_what_a_rule_may_not_be(sql: str) -> None:
    with pytest.raises(FineeduError):
        compile_rule(sql, SCHEMA)


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_one_clear_error(sql: str) -> None:
    try:
        compile_rule(sql, SCHEMA)
    except FineeduError as error:
        assert len(str(error)) < 2000
