"""What an engine is, and how a chat completion's JSON is read."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from fineedu.annotate.answer import Completion, score_alternatives


class Engine(ABC):
    """Answers requests, many at a time, between ``async with`` and its end."""

    #: requests in flight at most
    concurrency: int

    @abstractmethod
    async def complete(self, body: dict[str, Any]) -> Completion:
        """Answer one request.

        Args:
            body: an OpenAI-style chat completion request without ``model``.

        Returns:
            The answer; one with ``error`` where none came for this request after all retries.

        Raises:
            FineeduError: no request can be answered: wrong key, no such model, an engine that died.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(  # noqa: B027
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of what the engine holds."""


class OnDemand(Engine):
    """An engine that starts with its first request: where the cache has every answer, no model is loaded."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.concurrency = engine.concurrency
        self._starting = asyncio.Lock()
        self._started = False

    async def complete(self, body: dict[str, Any]) -> Completion:
        """Start the engine where it is not, and answer."""
        if not self._started:
            async with self._starting:
                if not self._started:
                    await self._engine.__aenter__()
                    self._started = True
        return await self._engine.complete(body)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started:
            await self._engine.__aexit__(kind, error, trace)


def read_completion(response: dict[str, Any]) -> Completion:
    """Read the JSON of a chat completion.

    Raises:
        KeyError, IndexError, TypeError: it is no chat completion.
    """
    choice = response["choices"][0]
    message = choice["message"]
    tokens = (choice.get("logprobs") or {}).get("content") or []
    usage = response.get("usage") or {}
    finish = choice.get("finish_reason") or "stop"
    return Completion(
        text=message.get("content") or "",
        finish_reason=finish,
        refusal=message.get("refusal"),
        alternatives=score_alternatives(tokens),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        error=f"the engine ended it: {finish}" if finish in ("error", "abort") else None,
    )
