"""Texts of known similarity, made from made-up words."""

from __future__ import annotations

import random

import numpy as np


def words(count: int, seed: int) -> list[str]:
    """Return words that hardly ever repeat a 5-gram."""
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(count)]


def revised(text: list[str], share: float, seed: int) -> list[str]:
    """Replace the end of a text: the share of its words that stays is the beginning."""
    kept = round(len(text) * share)
    return text[:kept] + words(len(text) - kept, seed + 1_000_003)


def pairs(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return texts and revisions of them, of all similarities from 0 to 1."""
    draw = np.random.default_rng(seed)
    first = [words(int(draw.integers(60, 400)), seed * 7919 + n) for n in range(count)]
    second = [revised(text, share, n) for n, (text, share) in enumerate(zip(first, draw.random(count), strict=True))]
    return [" ".join(text) for text in first], [" ".join(text) for text in second]


def jaccard(first: str, second: str, n: int = 5) -> float:
    """Jaccard similarity of two texts' sets of word n-grams, counted the plain way."""
    sets = []
    for text in (first, second):
        split = text.lower().split()
        sets.append({tuple(split[i : i + n]) for i in range(max(len(split) - n + 1, 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])
