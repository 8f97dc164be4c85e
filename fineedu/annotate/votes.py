"""Asking for the votes of one annotator: cache first, then the engine, within the budget."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from fineedu.annotate.answer import Completion, read_answer
from fineedu.annotate.budget import Budget, BudgetSpent
from fineedu.annotate.cache import AnswerCache, Key
from fineedu.annotate.engines.base import Engine
from fineedu.annotate.prompt import document_hash, make_body, make_prompt, shuffled_topics
from fineedu.annotate.rubric import Rubric
from fineedu.labels import FURTHER_COLUMNS, LABEL_SCHEMA

#: Batches worked on at a time: the next one's requests fill in while the last answers of this one are awaited.
_OPEN_BATCHES = 3


@dataclass(frozen=True, slots=True)
class Annotator:
    """Who votes: a model under a rubric, so many times a document."""

    name: str
    engine: str
    rubric: Rubric
    samples: int = 1


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    documents: int = 0
    votes: int = 0
    cached: int = 0
    asked: int = 0
    not_asked: int = 0
    no_text: int = 0
    states: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the figures, states by name."""
        names = ("documents", "votes", "cached", "asked", "not_asked", "no_text", "prompt_tokens", "completion_tokens")
        return {name: getattr(self, name) for name in names} | {
            "cost": round(self.cost, 6),
            "states": dict(sorted(self.states.items())),
        }


class VoteCollector:
    """Collects an annotator's votes on batches of documents.

    Args:
        annotator: who.
        engine: what answers, already entered; None where only the cache may answer.
        cache: answers paid for.
        budget: what may be spent.
        note: called with the tally after every answer.
    """

    def __init__(
        self,
        annotator: Annotator,
        engine: Engine | None,
        cache: AnswerCache,
        budget: Budget,
        note: Callable[[Tally], None] = lambda _: None,
    ) -> None:
        self._annotator = annotator
        self._engine = engine
        self._cache = cache
        self._budget = budget
        self._note = note
        self._slots = asyncio.Semaphore(engine.concurrency if engine is not None else 1)
        #: answers being waited for: the same text twice is asked once
        self._flying: dict[tuple[str, int], asyncio.Future[Completion | None]] = {}
        self.spent = False
        self.tally = Tally()

    async def collect(
        self, batches: Iterator[tuple[int, pl.DataFrame]], write: Callable[[int, pl.DataFrame], None]
    ) -> None:
        """Collect the votes of all batches; ``write`` gets each one's, in any order.

        Raises:
            FineeduError: the engine cannot answer anything.
        """
        opened: set[asyncio.Task[None]] = set()
        try:
            for number, batch in batches:
                opened.add(asyncio.create_task(self._batch(number, batch, write)))
                if len(opened) >= _OPEN_BATCHES:
                    done, opened = await asyncio.wait(opened, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            for result in asyncio.as_completed(opened):
                await result
        finally:
            for task in opened:
                task.cancel()
            await asyncio.gather(*opened, return_exceptions=True)

    async def _batch(self, number: int, batch: pl.DataFrame, write: Callable[[int, pl.DataFrame], None]) -> None:
        texts = batch["text"].to_list()
        rows = [row for row, text in enumerate(texts) if text and not text.isspace()]
        hashes = {row: document_hash(texts[row]) for row in rows}
        samples = range(self._annotator.samples)
        wanted = [(hashes[row], sample) for row in rows for sample in samples]
        known = self._cache.get(self._annotator.rubric.hash, self._annotator.name, wanted)
        self.tally.cached += sum(key in known for key in wanted)
        missing = {key: texts[row] for row in rows for sample in samples if (key := (hashes[row], sample)) not in known}
        await _all(self._ask(digest, sample, text, known) for (digest, sample), text in missing.items())
        self.tally.documents += batch.height
        self.tally.no_text += batch.height - len(rows)
        ids = batch["id"].to_list()
        votes = [
            self._row(ids[row], texts[row], hashes[row], sample, known[hashes[row], sample])
            for row in rows
            for sample in samples
            if (hashes[row], sample) in known
        ]
        self.tally.votes += len(votes)
        self.tally.states.update(vote["state"] for vote in votes)
        write(number, pl.DataFrame(votes, schema=vote_schema(self._annotator.rubric)))
        self._note(self.tally)

    async def _ask(self, digest: str, sample: int, text: str, known: dict[tuple[str, int], Completion]) -> None:
        """Put one answer into ``known``, unless the budget is spent."""
        key = (digest, sample)
        flying = self._flying.get(key)
        if flying is None:
            flying = self._flying[key] = asyncio.get_running_loop().create_future()
            try:
                flying.set_result(await self._request(digest, sample, text))
            except BaseException:
                flying.cancel()
                raise
            finally:
                del self._flying[key]
        answer = await flying
        if answer is not None:
            known[key] = answer

    async def _request(self, digest: str, sample: int, text: str) -> Completion | None:
        annotator = self._annotator
        async with self._slots:
            if self._engine is None or self.spent:
                self.tally.not_asked += 1
                return None
            body = make_body(annotator.rubric, make_prompt(annotator.rubric, text, sample), sample)
            try:
                ticket = await self._budget.reserve(body)
            except BudgetSpent:
                self.spent = True
                self.tally.not_asked += 1
                return None
            answer: Completion | None = None
            try:
                answer = await self._engine.complete(body)
            finally:
                await self._budget.settle(ticket, answer)
        self._cache.put(Key(annotator.rubric.hash, annotator.name, digest, sample), answer)
        self.tally.asked += 1
        self.tally.prompt_tokens = self._budget.prompt_tokens
        self.tally.completion_tokens = self._budget.completion_tokens
        self.tally.cost = self._budget.cost
        self._note(self.tally)
        return answer

    def _row(self, document: str, text: str, digest: str, sample: int, completion: Completion) -> dict[str, Any]:
        rubric = self._annotator.rubric
        answer = read_answer(completion, rubric)
        row: dict[str, Any] = {
            "id": document,
            "rubric": rubric.name,
            "rubric_hash": rubric.hash,
            "annotator": self._annotator.name,
            "engine": self._annotator.engine,
            "sample": sample,
            "state": answer.state,
            "score": answer.score,
            "expected_score": answer.expected_score,
            "topic": answer.topic,
            "justification": answer.justification,
            "raw": completion.error or completion.refusal or completion.text,
            "document_hash": digest,
            "n_chars": len(text),
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
        }
        if rubric.topics:
            choices = shuffled_topics(rubric, digest, sample)
            row["choice_position"] = choices.index(answer.topic) if answer.topic is not None else None
            row["n_choices"] = len(choices)
        return row


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; the first that fails ends the others, and its own error is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def vote_schema(rubric: Rubric) -> dict[str, pl.DataType]:
    """Return the columns of an annotator's votes."""
    places = ("choice_position", "n_choices") if rubric.topics else ()
    return LABEL_SCHEMA | {name: FURTHER_COLUMNS[name] for name in places}
