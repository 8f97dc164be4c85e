"""Tokenizers of checkpoints: a first token for every window, and vocabularies that are cut to what occurs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.errors import FineeduError

#: characters of a text that tokens are counted on
COUNTED = 4000


def lead(held: dict[str, Any], token: str) -> None:
    """Let a tokenizer put a token before what it reads.

    Args:
        held: content of ``tokenizer.json``, changed in place.
        token: of its vocabulary.

    Raises:
        FineeduError: there is no such token.
    """
    number = _numbers(held).get(token)
    if number is None:
        raise FineeduError(f"the vocabulary has no token {token!r} for sink")
    content: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    held["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, *content],
        "pair": [*content, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def cut(held: dict[str, Any], size: int, texts: Sequence[str]) -> None:
    """Cut a vocabulary to the tokens that occur most often, and to what they are merged from.

    Other words are read in more pieces, down to single bytes (byte pairs) or characters (word pieces): what the whole
    vocabulary can read, the cut one can.

    Args:
        held: content of ``tokenizer.json``, changed in place.
        size: so many tokens are kept.
        texts: what tokens are counted on.

    Raises:
        FineeduError: it is another kind of vocabulary, there are no texts, or the size does not hold single characters.
    """
    model = held["model"]
    numbers = model.get("vocab")
    if model["type"] not in ("BPE", "WordPiece"):
        raise FineeduError(f"only byte pairs and word pieces can be cut, not {model['type']}; leave vocabulary out")
    if not texts:
        raise FineeduError("a vocabulary is cut to what occurs in the unlabelled text: name unlabelled in the recipe")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", ())]
    sources = {first + second: (first, second) for first, second in reversed(pairs)}
    kept = set(numbers) - set(sources) if model["type"] == "BPE" else _characters(held)
    if size <= len(kept):
        raise FineeduError(f"a vocabulary of {size:,} does not hold all {len(kept):,} single characters")
    counts = _counts(held, texts)
    for token in sorted(numbers, key=lambda token: (-counts[numbers[token]], numbers[token])):
        parts = _parts(token, sources) - kept
        if len(kept) + len(parts) <= size:
            kept |= parts
    order = {token: place for place, token in enumerate(sorted(kept, key=lambda token: int(numbers[token])))}
    model["vocab"] = order
    if "merges" in model:
        model["merges"] = [[a, b] for a, b in pairs if a in order and b in order and a + b in order]
    held["added_tokens"] = [
        token | {"id": order[token["content"]]} for token in held["added_tokens"] if token["content"] in order
    ]
    _renumber(held.get("post_processor") or {}, order)


def _characters(held: dict[str, Any]) -> set[str]:
    """Return the word pieces of one character, and what is no text: those are read by name, not by what occurs."""
    model = held["model"]
    prefix = model["continuing_subword_prefix"]
    special = {token["content"] for token in held["added_tokens"]} | {model["unk_token"]}
    return {token for token in model["vocab"] if token in special or len(token.removeprefix(prefix)) == 1}


def _renumber(processor: dict[str, Any], order: dict[str, int]) -> None:
    """Give the tokens that are put around a text their new numbers."""
    for name in ("cls", "sep"):
        if name in processor:
            processor[name] = [processor[name][0], order[processor[name][0]]]
    for found in (processor.get("special_tokens") or {}).values():
        found["ids"] = [order[token] for token in found["tokens"]]
    for part in processor.get("processors") or ():
        _renumber(part, order)


def rows(whole: dict[str, Any], part: dict[str, Any]) -> npt.NDArray[np.int64]:
    """Return the number that each token of a cut vocabulary has in the whole one."""
    before, after = _numbers(whole), _numbers(part)
    return np.array([before[token] for token in sorted(after, key=lambda token: after[token])], np.int64)


def _numbers(held: dict[str, Any]) -> dict[str, int]:
    found = held["model"].get("vocab")
    added = {token["content"]: int(token["id"]) for token in held["added_tokens"]}
    return added | (found if isinstance(found, dict) else {})


def _parts(token: str, sources: dict[str, tuple[str, str]]) -> set[str]:
    """Return a token and all that it is merged from."""
    found, left = set[str](), [token]
    while left:
        part = left.pop()
        if part not in found:
            found.add(part)
            left += sources.get(part, ())
    return found


def _counts(held: dict[str, Any], texts: Iterable[str]) -> npt.NDArray[np.int64]:
    import json

    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_str(json.dumps(held))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    counts = np.zeros(1 + max(_numbers(held).values()), np.int64)
    for found in tokenizer.encode_batch([text[:COUNTED] for text in texts], add_special_tokens=False):
        counts += np.bincount(found.ids, minlength=len(counts))
    return counts
