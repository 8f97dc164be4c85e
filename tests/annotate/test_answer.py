from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.annotate.answer import Completion, expected_score, read_answer, score_alternatives
from fineedu.annotate.rubric import load_rubric
from fineedu.labels import STATES

EDU, BOTH, TOPIC = load_rubric("edu"), load_rubric("edu-topic"), load_rubric("topic")


def said(text: str, finish: str = "stop", **more: object) -> Completion:
    return Completion(text, finish, **more)  # type: ignore[arg-type]


def test_a_valid_answer() -> None:
    found = read_answer(said('{"justification": "a lesson", "score": 4}'), EDU)
    assert (found.state, found.score, found.justification) == ("ok", 4.0, "a lesson")
    assert read_answer(said('{"topic": "health"}'), TOPIC).topic == "health"
    assert read_answer(said('```json\n{"justification": "x", "score": 2}\n```'), EDU).score == 2.0


@pytest.mark.parametrize(
    ("completion", "state"),
    [
        (said('{"justification": "x", "score": null}'), "abstain"),
        (said('{"justification": "x", "sco', "length"), "truncated"),
        (said(""), "invalid"),
        (said("3"), "invalid"),
        (said('{"justification": "x", "score": 6}'), "invalid"),
        (said('{"justification": "x", "score": 2.5}'), "invalid"),
        (said('{"justification": "x", "score": true}'), "invalid"),
        (said('{"justification": "x", "score": "3"}'), "invalid"),
        (said('{"justification": "x", "score": 1, "score": 5}'), "invalid"),
        (said('{"score": 3}'), "invalid"),
        (said('{"justification": "x", "score": 3, "topic": "health"}'), "invalid"),
        (said('{"justification": 1, "score": 3}'), "invalid"),
        (said("[" * 100_000), "invalid"),
        (said("I'm sorry, but I can't rate this page."), "refusal"),
        (said("", refusal="no"), "refusal"),
        (said('{"justification": "x", "score": 3}', "content_filter"), "refusal"),
        (said("", "error", error="HTTP 500"), "error"),
    ],
)
def test_what_is_no_score_is_a_state(completion: Completion, state: str) -> None:
    found = read_answer(completion, EDU)
    assert (found.state, found.score) == (state, None)


def test_half_an_answer_abstains_but_keeps_its_half() -> None:
    found = read_answer(said('{"justification": "x", "score": 2, "topic": null}'), BOTH)
    assert (found.state, found.score, found.topic) == ("abstain", 2.0, None)
    assert read_answer(said('{"topic": "cooking"}'), TOPIC).state == "invalid"


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_state_and_never_a_made_up_score(text: str) -> None:
    for rubric in (EDU, BOTH, TOPIC):
        found = read_answer(said(text), rubric)
        assert found.state in STATES
        assert found.score is None and found.topic is None


@given(
    st.fixed_dictionaries(
        {
            "justification": st.text(max_size=20),
            "score": st.none() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(max_size=2),
        }
    )
)
def test_scores_are_of_the_scale_or_not_there(fields: dict[str, object]) -> None:
    found = read_answer(said(json.dumps(fields)), EDU)
    score = fields["score"]
    if isinstance(score, int | float) and score in range(6):
        assert (found.state, found.score) == ("ok", score)
    else:
        assert found.score is None and found.state == ("abstain" if score is None else "invalid")


def tokens(*parts: str, **top: dict[str, float]) -> list[dict[str, object]]:
    return [
        {
            "token": part,
            "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top.get(f"at{n}", {}).items()],
        }
        for n, part in enumerate(parts)
    ]


def test_expected_score_is_the_mean_over_the_digits() -> None:
    found = score_alternatives(
        tokens('{"', "score", '":', " 3", "}", at3={" 3": 0.5, " 4": 0.3, " null": 0.1, "}": 0.1})
    )
    assert expected_score(found, range(6)) == pytest.approx((3 * 0.5 + 4 * 0.3) / 0.8)


@pytest.mark.parametrize(
    "parts",
    [
        ('{"score": ', "2", "}"),
        ('{"score":', " 2", "}"),
        ('{"score"', ": 2", "}"),
        ('{"justification": "3", "score":', "2"),
    ],
)
def test_the_score_is_found_however_it_is_cut_into_tokens(parts: tuple[str, ...]) -> None:
    place = next(n for n, part in enumerate(parts) if part.endswith("2"))
    other = parts[place].replace("2", "0")
    top = {f"at{place}": {parts[place]: 0.75, other: 0.25}}
    assert expected_score(score_alternatives(tokens(*parts, **top)), range(6)) == pytest.approx(1.5)


def test_no_digit_no_expected_score() -> None:
    assert expected_score((("null", -0.1), ("7", -1.0), ("²", -1.0)), range(6)) is None
    assert score_alternatives(tokens("no", " score")) == ()
    assert score_alternatives([]) == ()
