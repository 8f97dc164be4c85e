"""From cells to corpora of tokens: one tokenizer for all, the same documents held out of all, in one random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.ablate.config import TrainConfig
from fineedu.ablate.grid import Cell
from fineedu.ablate.judge import Judge
from fineedu.ablate.source import Signals
from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids, reshuffle, uniform
from fineedu.store import atomic_open, fingerprint, hash_file, read_json, write_json

END = "<|end|>"
#: Characters that the tokenizer learns from, and documents of the held-out set at most.
_LEARN_CHARACTERS = 8_000_000
_HELD_OUT_DOCUMENTS = 1000
#: Streams of dice apart from the samples': holding out, and order.
_HOLD, _ORDER = 11, 12
#: More documents than the budget is thought to need are encoded, since bytes a token vary.
_SPARE = 1.3


@dataclass(frozen=True, slots=True)
class Corpora:
    """Token files of cells, the tokenizer, and text sets to measure perplexity on."""

    #: of each cell, little-endian UInt32 tokens, every document ended by ``END``
    files: tuple[Path, ...]
    #: of each cell: tokens in the file, and fingerprint of what made it
    tokens: tuple[int, ...]
    marks: tuple[str, ...]
    tokenizer: Path
    #: name to texts
    texts: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class _Text:
    """One batch of documents with text: which are kept by which cells, held out or not, and in which order."""

    counts: npt.NDArray[np.uint16]
    texts: pl.Series
    order: npt.NDArray[np.float64]
    held: npt.NDArray[np.bool_]


def make_corpora(
    config: TrainConfig,
    cells: Sequence[Cell],
    judge: Judge,
    signals: Signals,
    copies: str | None,
    kept: npt.NDArray[Any],
    folder: Path,
    mark: str,
) -> Corpora:
    """Write the corpora of cells; what is there already and made the same way stays.

    Args:
        config: the train block.
        cells: to train on, in the judge's order.
        judge: of these cells.
        signals: the pool.
        copies: column that copies share: all copies of a held-out document are held out.
        kept: bytes that each cell keeps.
        folder: where files go.
        mark: fingerprint of the pool.

    Raises:
        FineeduError: no text, or a text set that cannot be read.
    """
    made = fingerprint([2, mark, config.model.vocabulary, config.held_out, config.tokens])
    tokenizer, held = folder / "tokenizer.json", folder / "held-out.json"
    state = folder / "corpora.json"
    known = read_json(state) if state.exists() else {}
    if not (tokenizer.exists() and held.exists() and known.get("made") == made):
        _learn(config, judge, signals, copies, tokenizer, held)
        known = {"made": made, "cells": {}}
        write_json(state, known)
    files = tuple(folder / cell.folder / "corpus.bin" for cell in cells)
    missing = [n for n, cell in enumerate(cells) if not (files[n].exists() and cell.hash in known["cells"])]
    if missing:
        sizes = _encode(config, judge, signals, copies, kept, tokenizer, {n: files[n] for n in missing})
        known["cells"] |= {cells[n].hash: size for n, size in sizes.items()}
        write_json(state, known)
    texts = {"held out": read_json(held)} | {name: read_texts(path) for name, path in config.texts.items()}
    return Corpora(
        files,
        tuple(known["cells"][cell.hash] for cell in cells),
        tuple(fingerprint([made, hash_file(path)]) for path in files),
        tokenizer,
        {name: each for name, each in texts.items() if each},
    )


def read_texts(path: Path) -> list[str]:
    """Read a text set: a .txt file is one text, .jsonl and .parquet have a column ``text``.

    Raises:
        FineeduError: it cannot be read, or has no text.
    """
    try:
        if path.suffix == ".txt":
            found = [path.read_text(encoding="utf-8")]
        else:
            table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path)
            found = table["text"].drop_nulls().to_list()
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read the text set {path}: {str(error).splitlines()[0]}") from error
    if not any(found):
        raise FineeduError(f"the text set {path} holds no text")
    return [text for text in found if text]


def _batches(config: TrainConfig, judge: Judge, signals: Signals, copies: str | None) -> Iterator[_Text]:
    extra = [copies] if copies is not None else []
    for batch in signals.batches(list(dict.fromkeys(["id", *judge.columns, *extra, "text"]))):
        members = judge.memberships(batch)
        counts = judge.counts[members]
        ids = batch["id"]
        together = ids if copies is None else pl.select(pl.coalesce(batch[copies].cast(pl.String), ids)).to_series()
        chosen = counts.any(axis=1) & batch["text"].is_not_null().to_numpy()
        held = uniform(reshuffle(hash_ids(together), _HOLD)) < config.held_out
        order = uniform(reshuffle(hash_ids(ids), _ORDER))
        yield _Text(counts[chosen], batch["text"].filter(pl.Series(chosen)), order[chosen], held[chosen])


def _learn(
    config: TrainConfig, judge: Judge, signals: Signals, copies: str | None, tokenizer_path: Path, held_path: Path
) -> None:
    """Train the tokenizer on documents that any cell keeps, and put held-out ones by."""
    learn: list[tuple[float, str]] = []
    held: list[tuple[float, str]] = []
    characters = 0
    for batch in _batches(config, judge, signals, copies):
        for order, is_held, text in zip(batch.order, batch.held, batch.texts, strict=True):
            (held if is_held else learn).append((float(order), text))
            characters += 0 if is_held else len(text)
        if characters > 2 * _LEARN_CHARACTERS:
            learn, characters = _lowest(learn)
        held = sorted(held)[:_HELD_OUT_DOCUMENTS]
    learn, _ = _lowest(learn)
    if not learn:
        raise FineeduError("no cell keeps a document to train on")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.model.vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for _, text in learn), trainer)
    with atomic_open(tokenizer_path) as stream:
        stream.write(tokenizer.to_str().encode())
    write_json(held_path, [text for _, text in held])


def _lowest(learn: list[tuple[float, str]]) -> tuple[list[tuple[float, str]], int]:
    """Keep the first documents in order, up to the characters that the tokenizer needs."""
    found: list[tuple[float, str]] = []
    characters = 0
    for order, text in sorted(learn):
        if characters >= _LEARN_CHARACTERS:
            break
        found.append((order, text))
        characters += len(text)
    return found, characters


def _encode(
    config: TrainConfig,
    judge: Judge,
    signals: Signals,
    copies: str | None,
    kept: npt.NDArray[Any],
    tokenizer_path: Path,
    files: dict[int, Path],
) -> dict[int, int]:
    """Encode each document once for all cells that want it; write each cell's in the order of the dice."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    end = np.array([tokenizer.token_to_id(END)], np.uint32)
    # A token of a small vocabulary stands for 2 to 4 bytes: 4.5 errs on the side of more documents.
    share = np.minimum(_SPARE * config.tokens * 4.5 / np.maximum(kept * (1 - config.held_out), 1), 1)
    parts: dict[int, list[tuple[float, npt.NDArray[np.uint32]]]] = {n: [] for n in files}
    for batch in _batches(config, judge, signals, copies):
        wanted = {n: (batch.counts[:, n] > 0) & ~batch.held & (batch.order < share[n]) for n in files}
        rows = np.flatnonzero(np.any(list(wanted.values()), axis=0))
        encoded = tokenizer.encode_batch([batch.texts[int(row)] for row in rows], add_special_tokens=False)
        for row, found in zip(rows, encoded, strict=True):
            tokens = np.concatenate([np.array(found.ids, np.uint32), end])
            for n, mask in wanted.items():
                if mask[row]:
                    parts[n] += [(float(batch.order[row]), tokens)] * int(batch.counts[row, n])
    sizes = {}
    for n, path in files.items():
        ordered = [tokens for _, tokens in sorted(parts[n], key=lambda pair: pair[0])]
        together = (np.concatenate(ordered) if ordered else np.zeros(0, np.uint32))[: config.tokens]
        with atomic_open(path) as stream:
            stream.write(together.astype("<u4").tobytes())
        sizes[n] = len(together)
    return sizes
