"""The cache of paid answers and the budget."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.annotate.answer import Completion
from fineedu.annotate.budget import Budget, BudgetSpent, Limits, Price, find_price
from fineedu.annotate.cache import AnswerCache, Key
from fineedu.errors import FineeduError

PRICE = Price.model_validate({"per_million_tokens": {"prompt": 1.0, "completion": 4.0}})


def completion(n: int) -> Completion:
    return Completion(f"answer {n}", "stop", alternatives=(("3", -0.5), ("4", -1.0)), prompt_tokens=n)


def test_what_was_put_is_found(tmp_path: Path) -> None:
    with AnswerCache(tmp_path, "a") as cache:
        for n in range(30):
            cache.put(Key("r", "m", f"d{n}", n % 2), completion(n))
    with AnswerCache(tmp_path, "b") as cache:
        cache.put(Key("r", "m", "d99", 0), completion(99))
        found = cache.get("r", "m", [(f"d{n}", n % 2) for n in range(40)] + [("d99", 0), ("d0", 1)])
        assert found == {(f"d{n}", n % 2): completion(n) for n in range(30)} | {("d99", 0): completion(99)}
        assert cache.get("other", "m", [("d0", 0)]) == cache.get("r", "other", [("d0", 0)]) == {}


def test_the_first_answer_stays_and_errors_are_not_kept(tmp_path: Path) -> None:
    with AnswerCache(tmp_path) as cache:
        cache.put(Key("r", "m", "d", 0), completion(1))
        cache.put(Key("r", "m", "d", 0), completion(2))
        cache.put(Key("r", "m", "e", 0), Completion("", "error", error="HTTP 500"))
        assert cache.get("r", "m", [("d", 0), ("e", 0)]) == {("d", 0): completion(1)}


def test_an_answer_survives_the_kill_that_follows_it(tmp_path: Path) -> None:
    script = """
import sys, pathlib
from fineedu.annotate.answer import Completion
from fineedu.annotate.cache import AnswerCache, Key
cache = AnswerCache(pathlib.Path(sys.argv[1]))
for n in range(10**9):
    cache.put(Key("r", "m", f"d{n}", 0), Completion("x", "stop"))
    print(n, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while child.stdout.readline() != "200\n":
            pass
        os.kill(child.pid, signal.SIGKILL)
        told = [200, *(int(line) for line in child.stdout.read().split())]
    with AnswerCache(tmp_path) as cache:
        assert len(cache.get("r", "m", [(f"d{n}", 0) for n in range(told[-1] + 1)])) == told[-1] + 1


def test_a_cache_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 50)
    with pytest.raises(FineeduError, match="cannot use the cache"):
        AnswerCache(tmp_path)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1), st.integers(1, 60)), max_size=40),
    st.integers(0, 8000),
    st.integers(1, 8),
)
def test_no_limit_is_ever_passed(requests: list[tuple[int, float, int]], limit: int, lanes: int) -> None:
    """However long prompts and answers turn out, and however many are in flight."""
    budget = Budget(PRICE, Limits(cost=limit / 1e6, tokens=limit))

    async def one(slots: asyncio.Semaphore, size: int, share: float, most: int) -> bool:
        async with slots:
            try:
                ticket = await budget.reserve({"messages": [{"content": "x" * size}], "max_tokens": most})
            except BudgetSpent:
                return False
            await asyncio.sleep(0)
            used = Completion("", "stop", prompt_tokens=int(size * share), completion_tokens=int(most * share))
            await budget.settle(ticket, used)
            return True

    async def go() -> list[bool]:
        slots = asyncio.Semaphore(lanes)
        return list(await asyncio.gather(*(one(slots, *request) for request in requests)))

    asyncio.run(go())
    assert budget.cost <= limit / 1e6
    assert budget.prompt_tokens + budget.completion_tokens <= limit


def test_prices() -> None:
    assert PRICE.cost(1_000_000, 500_000) == pytest.approx(3.0)
    rented = Price(gpu_hour=3.6, tokens_per_second=1000)
    assert rented.cost(900_000, 100_000) == pytest.approx(1.0)
    assert find_price("some-70b-instruct") == find_price("Llama-70B")
    assert find_price("unheard of") is None


def test_a_wrong_price_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    for text, told in (("models: {a: {gpu_hour: -1}}", "gpu_hour"), ("nothing: 1", "models"), ("[", "cannot read")):
        path.write_text(text)
        with pytest.raises(FineeduError, match=told):
            find_price("a", path)
