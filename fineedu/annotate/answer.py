"""From a model's raw answer to a vote: its state, score, expected score and topic."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fineedu.annotate.rubric import Rubric

_SCORE = re.compile(r'"score"\s*:\s*')
_FENCED = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)
#: What refusals of chat models begin with, where they do not come as a field of their own.
_REFUSAL = re.compile(
    r"^\W*(?:I(?:['’]m| am)? (?:sorry|unable|afraid)|(?:Sorry|Unfortunately)\b.{0,40}\bI\b|"
    r"I (?:can(?:['’]t|not)|won['’]t|will not|must decline|refuse)|As an AI\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine gave back for one request."""

    text: str
    #: ``stop``, ``length``, ``content_filter`` … as the API says
    finish_reason: str
    refusal: str | None = None
    #: tokens that could have stood where the score stands, with their log-probabilities
    alternatives: tuple[tuple[str, float], ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    #: why there is none, after all retries; such a one is not kept in the cache
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A vote's content."""

    state: str
    score: float | None = None
    expected_score: float | None = None
    topic: str | None = None
    justification: str | None = None


def score_alternatives(tokens: Sequence[dict[str, Any]]) -> tuple[tuple[str, float], ...]:
    """Return what could have stood at the score's place.

    Args:
        tokens: ``choices[0].logprobs.content`` of a chat completion: of each token ``token`` and ``top_logprobs``.

    Returns:
        Texts that begin where the score begins, with natural log-probabilities; empty where there is no score, or its
        first character is not where a token's own text begins (blanks aside).
    """
    found = _SCORE.search("".join(token["token"] for token in tokens))
    if found is None:
        return ()
    start = 0
    for token in tokens:
        end = start + len(token["token"])
        if found.end() < end:
            before = token["token"][: found.end() - start]
            return tuple(
                (other["token"][len(before) :], float(other["logprob"]))
                for other in token.get("top_logprobs") or []
                if other["token"].startswith(before) and other.get("logprob") is not None
            )
        start = end
    return ()


def expected_score(alternatives: Sequence[tuple[str, float]], values: range) -> float | None:
    """Return the mean of the scale's values, weighed by the probabilities of their tokens.

    Tokens that are no value of the scale, ``null`` among them, do not count; None where no value is among them.
    """
    weights = [(int(text.strip()), math.exp(p)) for text, p in alternatives if text.strip().isdecimal()]
    inside = [(value, weight) for value, weight in weights if value in values]
    total = sum(weight for _, weight in inside)
    return sum(value * weight for value, weight in inside) / total if total > 0 else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that names a field twice: which one counts would be up to the parser."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field occurs twice")
    return found


def _parse(text: str) -> dict[str, Any] | None:
    fenced = _FENCED.match(text.strip())
    try:
        found = json.loads(fenced[1] if fenced else text, strict=False, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _score(found: Any, rubric: Rubric) -> float | None:
    """Return a score of the scale; raise ValueError for anything else but null."""
    if found is None and rubric.abstain:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or found not in rubric.scale.values:  # type: ignore[union-attr]
        raise ValueError(f"no score of the scale: {found!r}")
    return float(found)


def _topic(found: Any, rubric: Rubric) -> str | None:
    if found is None and rubric.abstain:
        return None
    if not isinstance(found, str) or all(found != topic.slug for topic in rubric.topics):
        raise ValueError(f"no topic of the taxonomy: {found!r}")
    return found


def read_answer(completion: Completion, rubric: Rubric) -> Answer:
    """Read an answer strictly: what does not fit the rubric is a state of its own, and never a score.

    Args:
        completion: what the engine gave back.
        rubric: the question that it answers.
    """
    if completion.error is not None:
        return Answer("error")
    if completion.refusal or completion.finish_reason == "content_filter":
        return Answer("refusal")
    found = _parse(completion.text)
    if found is None:
        if completion.finish_reason == "length":
            return Answer("truncated")
        return Answer("refusal" if _REFUSAL.match(completion.text) else "invalid")
    if found.keys() != set(rubric.schema_of_answer["required"]):
        return Answer("invalid")
    told = found.get("justification")
    if told is not None and not isinstance(told, str):
        return Answer("invalid")
    try:
        score = _score(found["score"], rubric) if rubric.scale is not None else None
        topic = _topic(found["topic"], rubric) if rubric.topics else None
    except ValueError:
        return Answer("invalid")
    missing = (rubric.scale is not None and score is None) or (bool(rubric.topics) and topic is None)
    expected = None
    if rubric.scale is not None and score is not None:
        expected = expected_score(completion.alternatives, rubric.scale.values)
    return Answer("abstain" if missing else "ok", score, expected, topic, told)
