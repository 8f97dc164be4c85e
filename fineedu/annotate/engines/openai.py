"""Any OpenAI-compatible endpoint: vLLM, llama.cpp's server, TGI, SGLang, or a company's."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from types import TracebackType
from typing import Any, Self

import aiohttp

from fineedu.annotate.answer import Completion
from fineedu.annotate.engines.base import Engine, read_completion
from fineedu.errors import FineeduError

#: Answers that say that every request will fare the same.
_HOPELESS = {401: "the key is not accepted", 403: "the key may not do this", 404: "no such model or address"}
#: So many refused in a row, and none answered: the requests' form is at fault, not a document.
_REFUSED_IN_A_ROW = 5
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an endpoint is and how it is treated."""

    url: str
    model: str
    #: environment variable that holds the key: the key itself is kept out of recipes, manifests and logs
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 32
    #: seconds for one answer
    timeout: float = 300.0
    attempts: int = 8
    #: first wait before a retry, seconds; doubles with each
    backoff: float = 0.5
    #: fields of the request that this endpoint does not take, e.g. ``logprobs``
    without: tuple[str, ...] = field(default=())


class _Window:
    """How many requests may be in flight: one more for every round answered, half after a 429, as TCP does."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(most)
        self._flying = 0
        self._changed = asyncio.Condition()
        self._last_cut = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._flying < max(int(self._now), 1))
            self._flying += 1
        try:
            yield
        finally:
            async with self._changed:
                self._flying -= 1
                self._changed.notify()

    def answered(self) -> None:
        self._now = min(self._now + 1 / max(self._now, 1.0), float(self._most))

    def throttled(self, now: float) -> None:
        if now - self._last_cut > 1.0:  # one cut for all the requests that were in flight together
            self._now, self._last_cut = max(self._now / 2, 1.0), now


class OpenAIEngine(Engine):
    """Asks an endpoint over HTTP, with retries.

    429 and 5xx answers, timeouts and broken connections are tried again after an exponentially growing wait with full
    jitter, or after what ``Retry-After`` says; 429 also halves the number of requests in flight.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.concurrency = endpoint.concurrency
        self._window = _Window(endpoint.concurrency)
        self._session: aiohttp.ClientSession | None = None
        self._answered = 0
        self._refused = 0

    async def __aenter__(self) -> Self:
        key = os.environ.get(self._endpoint.key_variable)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=self._endpoint.timeout),
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def complete(self, body: dict[str, Any]) -> Completion:
        """Ask, and ask again; see the class."""
        sent = {"model": self._endpoint.model} | {k: v for k, v in body.items() if k not in self._endpoint.without}
        problem, wait = "no attempt was made", 0.0
        for attempt in range(self._endpoint.attempts):
            if attempt:
                await asyncio.sleep(wait)
            wait = random.uniform(0, min(self._endpoint.backoff * 2**attempt, _LONGEST_WAIT))
            try:
                async with self._window.slot():
                    outcome, asked = await self._once(sent)
            except (TimeoutError, aiohttp.ClientError) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
                continue
            if isinstance(outcome, Completion):
                return outcome
            problem, wait = outcome, max(asked, wait) if asked else wait
        if not self._answered:
            raise FineeduError(
                f"{self._endpoint.url} gives no answer after {self._endpoint.attempts} attempts ({problem})"
            )
        return Completion("", "error", error=problem)

    async def _once(self, sent: dict[str, Any]) -> tuple[Completion | str, float]:
        """Send a request once; return the answer, or what is wrong and for how long the server asks to wait."""
        assert self._session is not None
        address = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        async with self._session.post(address, json=sent) as response:
            if response.status == 200:
                try:
                    found = read_completion(await response.json(content_type=None))
                except (KeyError, IndexError, TypeError, ValueError):
                    return "the answer is no chat completion", 0.0
                self._answered += 1
                self._window.answered()
                return found, 0.0
            told = (await response.text(errors="replace"))[:300].replace("\n", " ")
            if response.status == 429:
                self._window.throttled(asyncio.get_running_loop().time())
            if response.status == 429 or response.status >= 500:
                return f"HTTP {response.status}: {told}", _retry_after(response.headers.get("Retry-After"))
            return self._refusal(response.status, told), 0.0

    def _refusal(self, status: int, told: str) -> Completion:
        """Take a request that the server will not have: this document's fault, or that of all requests."""
        if status in _HOPELESS:
            hint = f" (the key is read from ${self._endpoint.key_variable})" if status in (401, 403) else ""
            raise FineeduError(f"{self._endpoint.url}: {_HOPELESS[status]}{hint}: HTTP {status}: {told}")
        self._refused += 1
        if not self._answered and self._refused >= _REFUSED_IN_A_ROW:
            raise FineeduError(
                f"{self._endpoint.url} refuses these requests: HTTP {status}: {told}. If it does not know a field of "
                "theirs, leave that out, e.g. --without logprobs,top_logprobs"
            )
        return Completion("", "error", error=f"HTTP {status}: {told}")


def _retry_after(value: str | None) -> float:
    """Return seconds from a ``Retry-After`` header, which holds seconds or a date; 0 where there is none."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT)
