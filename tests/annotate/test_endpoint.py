"""The OpenAI-compatible engine against a server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from fineedu.annotate.answer import Completion, read_answer
from fineedu.annotate.engines.openai import Endpoint as Address
from fineedu.annotate.engines.openai import OpenAIEngine
from fineedu.annotate.prompt import make_body, make_prompt
from fineedu.annotate.rubric import load_rubric
from fineedu.errors import FineeduError
from tests.annotate.endpoint import Endpoint, serving

EDU = load_rubric("edu")


def ask(endpoint: Endpoint, count: int = 4, **settings: Any) -> list[Completion]:
    """Ask for so many documents at once."""

    async def go(url: str) -> list[Completion]:
        address = Address(url, "m", **({"backoff": 0.01, "attempts": 4} | settings))
        async with OpenAIEngine(address) as engine:
            bodies = [make_body(EDU, make_prompt(EDU, f"page {n}")) for n in range(count)]
            return list(await asyncio.gather(*(engine.complete(body) for body in bodies)))

    with serving(endpoint):
        return asyncio.run(go(endpoint.url))


@pytest.mark.parametrize("mood", ["429", "500", "503", "cut", "garbage"])
def test_what_passes_is_tried_again(mood: str) -> None:
    endpoint = Endpoint(moods=(mood, mood, "ok"))
    found = ask(endpoint)
    assert [read_answer(answer, EDU).state for answer in found] == ["ok"] * 4
    assert set(endpoint.asked.values()) == {3}


def test_a_hanging_request_is_given_up_and_tried_again() -> None:
    endpoint = Endpoint(moods=("hang", "ok"))
    started = time.monotonic()
    assert [answer.error for answer in ask(endpoint, timeout=0.5)] == [None] * 4
    assert time.monotonic() - started < 10


def test_one_document_that_never_gets_through_is_an_error_of_its_own() -> None:
    class Picky(Endpoint):
        async def _respond(self, request: Any, body: dict[str, Any], mood: str) -> Any:
            bad = "page 2" in body["messages"][1]["content"] and self.answered
            return await super()._respond(request, body, "500" if bad else "ok")

    endpoint = Picky(delay=0.0)
    found = ask(endpoint, concurrency=1)
    assert [answer.error is None for answer in found] == [True, True, False, True]
    assert found[2].error == "HTTP 500: status 500"
    assert read_answer(found[2], EDU).state == "error"


def test_a_server_that_never_answers_ends_the_run() -> None:
    with pytest.raises(FineeduError, match=r"no answer after 4 attempts \(HTTP 500"):
        ask(Endpoint(moods=("500",)))
    with pytest.raises(FineeduError, match="no answer after 2 attempts"):

        async def nobody() -> None:
            async with OpenAIEngine(Address("http://127.0.0.1:9/v1", "m", attempts=2, backoff=0.01)) as engine:
                await engine.complete(make_body(EDU, make_prompt(EDU, "x")))

        asyncio.run(nobody())


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("401", "key is not accepted .*OPENAI_API_KEY"),
        ("403", "may not do this"),
        ("404", "no such model"),
        ("400", "--without"),
    ],
)
def test_what_never_passes_is_not_tried_again(status: str, told: str) -> None:
    endpoint = Endpoint(moods=(status,))
    with pytest.raises(FineeduError, match=told):
        ask(endpoint, count=8)
    assert max(endpoint.asked.values()) == 1


def test_a_refused_document_among_good_ones_is_its_own_error() -> None:
    class Long(Endpoint):
        async def _respond(self, request: Any, body: dict[str, Any], mood: str) -> Any:
            return await super()._respond(
                request, body, "400" if "page 1\n" in body["messages"][1]["content"] else "ok"
            )

    found = ask(Long(), concurrency=1)
    assert [answer.error is None for answer in found] == [True, False, True, True]


def test_a_refusal_is_a_state() -> None:
    assert {read_answer(answer, EDU).state for answer in ask(Endpoint(moods=("refuse",)))} == {"refusal"}


def test_requests_in_flight_are_bounded_and_halved_when_told_to_slow_down() -> None:
    calm = Endpoint(delay=0.02)
    ask(calm, count=60, concurrency=16)
    assert 8 < calm.most_flying <= 16

    class Strict(Endpoint):
        async def _respond(self, request: Any, body: dict[str, Any], mood: str) -> Any:
            return await super()._respond(request, body, "429" if self.flying > 4 else "ok")

    strict = Strict(delay=0.01)
    found = ask(strict, count=60, concurrency=32, attempts=30)
    assert all(answer.error is None for answer in found)


def test_the_key_goes_to_the_server_and_fields_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    endpoint = Endpoint()
    ask(endpoint, count=1, key_variable="MY_KEY", without=("logprobs", "top_logprobs"))
    assert endpoint.headers[0]["Authorization"] == "Bearer s3cret"
    assert not {"logprobs", "top_logprobs"} & endpoint.bodies[0].keys()
    assert endpoint.bodies[0]["response_format"]["json_schema"]["strict"] is True
