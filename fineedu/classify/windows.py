"""Long documents as windows of tokens: how they are cut, and how what the windows say becomes one answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

Array = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Pooling = Literal["mean", "max", "top_bottom"]


class WindowRule(BaseModel):
    """How a document is cut into windows.

    ``tokens`` counts content only; the model's special tokens come on top. A last window of fewer than ``shortest``
    tokens is left out, unless it is the only one. ``pooling``: ``mean`` averages the windows' vectors weighted by
    their tokens; ``max`` takes the highest score of a window; ``top_bottom`` the mean of the highest and the lowest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int = Field(126, gt=0)
    count: int = Field(4, gt=0)
    shortest: int = Field(32, ge=1)
    pooling: Pooling = "mean"

    def cut(self, ids: list[int]) -> list[list[int]]:
        """Cut token ids into windows; none for none."""
        ids = ids[: self.tokens * self.count]
        parts = [ids[start : start + self.tokens] for start in range(0, len(ids), self.tokens)]
        if len(parts) > 1 and len(parts[-1]) < self.shortest:
            parts.pop()
        return parts


@dataclass(frozen=True, slots=True)
class WindowVectors:
    """Vectors of the windows of n documents.

    ``vectors`` is w×d, ``owner`` the w documents that they belong to (rising), ``tokens`` the w counts of tokens, and
    ``share_read`` the n shares of each text's characters that the windows cover: NaN where there is no text.
    """

    vectors: Vectors
    owner: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    share_read: Array
    #: n bags of token ids, from the beginning of each text and beyond the windows, where the reader keeps them
    bags: tuple[npt.NDArray[np.int64], ...] = ()

    def take(self, rows: npt.NDArray[np.int64]) -> WindowVectors:
        """Return some of the documents, in the order asked for."""
        starts = np.searchsorted(self.owner, rows, "left")
        ends = np.searchsorted(self.owner, rows, "right")
        places = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [np.zeros(0)])
        places = places.astype(np.int64)
        owner = np.repeat(np.arange(len(rows)), ends - starts)
        bags = tuple(self.bags[row] for row in rows) if self.bags else ()
        return WindowVectors(self.vectors[places], owner, self.tokens[places], self.share_read[rows], bags)

    def mean(self, first: int | None = None) -> Array:
        """Return n×d means over windows, weighted by their tokens; NaN for documents without windows.

        Args:
            first: so many windows of each document; default all.
        """
        if first is not None:
            place = np.arange(len(self.owner)) - np.searchsorted(self.owner, self.owner)
            kept = place < first
            vectors, owner, tokens = self.vectors[kept], self.owner[kept], self.tokens[kept]
            return WindowVectors(vectors, owner, tokens, self.share_read).mean()
        total = np.zeros((len(self.share_read), self.vectors.shape[1]))
        weight = np.zeros(len(self.share_read))
        np.add.at(total, self.owner, self.vectors * self.tokens[:, None])
        np.add.at(weight, self.owner, self.tokens)
        total[weight == 0] = np.nan
        return total / np.maximum(weight, 1)[:, None]

    def pool(self, predict: Callable[[Array], Array], pooling: Pooling) -> Array:
        """Return n×m predictions over documents, NaN for those without windows.

        Args:
            predict: k×d vectors to k×m predictions.
            pooling: see ``WindowRule``.
        """
        if pooling == "mean":
            return predict(self.mean())
        found = predict(self.vectors.astype(np.float64))
        out = np.full((len(self.share_read), found.shape[1]), np.nan)
        for row in np.unique(self.owner):
            own = found[self.owner == row]
            out[row] = own.max(0) if pooling == "max" else (own.max(0) + own.min(0)) / 2
        return out


class Reader:
    """A tokenizer with its window rule.

    Args:
        path: ``tokenizer.json``.
        rule: how documents are cut.
        bag: how many tokens of a text its bag holds.
    """

    def __init__(self, path: Path, rule: WindowRule, bag: int = 0) -> None:
        from tokenizers import Tokenizer

        self.rule, self.bag = rule, bag
        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        marked = self._tokenizer.encode("a")
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        start = next((k for k in range(len(marked.ids)) if marked.ids[k : k + len(bare)] == bare), 0)
        #: special tokens before and after the content
        self.before, self.after = marked.ids[:start], marked.ids[start + len(bare) :]

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Return where each window of each text begins and ends, in characters."""
        found = []
        for encoded in self._tokenizer.encode_batch(list(texts), add_special_tokens=False):
            places = self.rule.cut(list(range(len(encoded.ids))))
            found.append([(encoded.offsets[part[0]][0], encoded.offsets[part[-1]][1]) for part in places])
        return found

    def read(
        self, texts: pl.Series
    ) -> tuple[list[list[int]], npt.NDArray[np.int64], Array, tuple[npt.NDArray[np.int64], ...]]:
        """Tokenise a batch.

        Args:
            texts: n texts; null and blank ones have no windows.

        Returns:
            Windows of token ids with the special ones, the document of each, n shares of characters read, and n bags.
        """
        given = texts.fill_null("").to_list()
        windows: list[list[int]] = []
        owner: list[int] = []
        share = np.full(len(given), np.nan)
        bags = []
        for row, found in enumerate(self._tokenizer.encode_batch(given, add_special_tokens=False)):
            bags.append(np.array(found.ids[: self.bag], dtype=np.int64))
            parts = self.rule.cut(found.ids)
            used = sum(map(len, parts))
            if not used or not given[row].strip():
                continue
            whole = used == len(found.ids)
            share[row] = 1.0 if whole else found.offsets[used - 1][1] / len(given[row])
            windows += [[*self.before, *part, *self.after] for part in parts]
            owner += [row] * len(parts)
        return windows, np.array(owner, dtype=np.int64), share, tuple(bags)
