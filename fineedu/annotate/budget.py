"""Money and tokens: prices, estimates, and a hard stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fineedu.annotate.answer import Completion
from fineedu.assets import asset_dir
from fineedu.errors import FineeduError

#: Chat templates put some tokens around the messages.
_TEMPLATE_TOKENS = 64


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _PerMillion(_Strict):
    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)


class Price(_Strict):
    """What a model costs: by the token, or by the hour of the machine that runs it."""

    per_million_tokens: _PerMillion | None = None
    gpu_hour: float | None = Field(None, ge=0)
    tokens_per_second: float | None = Field(None, gt=0)

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return dollars for so many tokens."""
        if self.per_million_tokens is not None:
            rate = self.per_million_tokens
            return (prompt_tokens * rate.prompt + completion_tokens * rate.completion) / 1e6
        if self.gpu_hour is not None and self.tokens_per_second is not None:
            return (prompt_tokens + completion_tokens) / self.tokens_per_second / 3600 * self.gpu_hour
        return 0.0


def find_price(model: str, file: Path | None = None) -> Price | None:
    """Return the price of a model; None where the file has none.

    Args:
        model: its name.
        file: a price file; by default the one that ships with the package.

    Raises:
        FineeduError: the file is missing or wrong.
    """
    path = file or asset_dir("annotate") / "prices.yaml"
    try:
        entries: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
        prices = {name: Price.model_validate(entry) for name, entry in entries.items()}
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise FineeduError(f"cannot read the prices {path}: expected a mapping 'models:' ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise FineeduError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return next((price for name, price in prices.items() if name.lower() in model.lower()), None)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use; None for no limit."""

    cost: float | None = None
    tokens: int | None = None


class BudgetSpent(Exception):
    """The next request might go over the budget, and none is in flight that could free some of it."""


class Budget:
    """Counts tokens and dollars, and lets no request start that might go over the limits.

    A request first reserves the most that it can use (a token has at least one byte; ``max_tokens`` for the answer) and
    then gives back what it did not; so the limits hold even if every answer is as long as allowed.
    """

    def __init__(self, price: Price | None, limits: Limits) -> None:
        self._price = price or Price()
        self._limits = limits
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._reserved: dict[int, tuple[int, int]] = {}
        self._next = 0
        self._freed = asyncio.Condition()

    @property
    def cost(self) -> float:
        """Dollars spent."""
        return self._price.cost(self.prompt_tokens, self.completion_tokens)

    def _fits(self, prompt: int, completion: int) -> bool:
        prompt += self.prompt_tokens + sum(p for p, _ in self._reserved.values())
        completion += self.completion_tokens + sum(c for _, c in self._reserved.values())
        if self._limits.tokens is not None and prompt + completion > self._limits.tokens:
            return False
        return self._limits.cost is None or self._price.cost(prompt, completion) <= self._limits.cost

    async def reserve(self, body: dict[str, Any]) -> int:
        """Wait until a request fits into the budget, and set its most aside.

        Returns:
            A ticket for :meth:`settle`.

        Raises:
            BudgetSpent: it does not fit, and nothing in flight can change that.
        """
        if self._limits.cost is None and self._limits.tokens is None:
            return -1
        most = sum(len(message["content"].encode()) for message in body["messages"]) + _TEMPLATE_TOKENS
        async with self._freed:
            while not self._fits(most, body["max_tokens"]):
                if not self._reserved:
                    raise BudgetSpent
                await self._freed.wait()
            self._next += 1
            self._reserved[self._next] = (most, body["max_tokens"])
            return self._next

    async def settle(self, ticket: int, answer: Completion | None) -> None:
        """Count what a request used, and give the rest of its reservation back."""
        if answer is not None:
            self.prompt_tokens += answer.prompt_tokens
            self.completion_tokens += answer.completion_tokens
        if ticket >= 0:
            async with self._freed:
                self._reserved.pop(ticket, None)
                self._freed.notify_all()
