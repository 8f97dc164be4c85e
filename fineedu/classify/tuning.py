"""Let the upper layers of an encoder learn scores (soft ones too), classes or another encoder; on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.classify.encoder import EncoderSettings, Tuning
from fineedu.classify.family import Array
from fineedu.classify.head import balanced
from fineedu.classify.imitation import imitated, pieces
from fineedu.classify.windows import Reader
from fineedu.errors import FineeduError

Rows = npt.NDArray[np.int64]
#: characters of a text that layers learn from, for each window: some 126 tokens have 600
CHARS_A_WINDOW = 2000


@dataclass(frozen=True, slots=True)
class Lessons:
    """What layers learn from: n prepared texts, with scores, with classes, or with another encoder's vectors.

    ``scores`` is n×m as in :class:`~fineedu.classify.family.Targets` (m = 1: a score, any real number; more: soft
    probabilities of topics). ``classes`` are columns of class numbers. ``vectors`` is n×m, see ``imitation``.
    """

    texts: pl.Series
    scores: Array | None
    weights: Array
    classes: tuple[Rows, ...] = ()
    vectors: Array | None = None

    @classmethod
    def from_encoder(cls, settings: EncoderSettings, tokenizer: Path, texts: Sequence[str], seed: int) -> Lessons:
        """Take what a larger encoder makes of the windows of unlabelled texts.

        Raises:
            FineeduError: there are too few texts, or its checkpoint does not fit.
        """
        config = settings.tuning.distill
        assert config is not None
        chosen = np.sort(np.random.default_rng(seed).permutation(len(texts))[: config.documents])
        most = settings.windows.count * CHARS_A_WINDOW
        parts = pieces([texts[place][:most] for place in chosen], Reader(tokenizer, settings.windows))
        rows, vectors = imitated(config, parts, choose_device(settings.tuning.device))
        return cls(pl.Series(parts, dtype=pl.String)[rows], None, np.ones(len(rows)), vectors=vectors)

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]], columns: tuple[str, ...], max_chars: int) -> Lessons:
        """Take classes from columns of a text file.

        Raises:
            FineeduError: there are no rows, or a column is missing.
        """
        missing = [name for name in columns if not rows or name not in rows[0]]
        if missing:
            raise FineeduError(f"tuning learns from {', '.join(missing)}, which the unlabelled text does not have")
        numbers = [np.unique([str(row[name]) for row in rows], return_inverse=True)[1] for name in columns]
        texts = pl.Series([row["text"][:max_chars] for row in rows], dtype=pl.String)
        return cls(texts, None, np.ones(len(rows)), tuple(np.asarray(found, np.int64) for found in numbers))


def choose_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda``.

    Raises:
        FineeduError: CUDA is asked for and not there.
    """
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise FineeduError("tuning on cuda: torch sees no GPU here; use device: cpu or auto")
    return "cuda" if there and wanted != "cpu" else "cpu"


def choose_layers(body: Any, layers: int) -> list[Any]:
    """Freeze everything but so many of the highest layers (-1: nothing is frozen); return what learns."""
    from fineedu.classify.export import layer_stack

    for parameter in body.parameters():
        parameter.requires_grad_(layers < 0)
    if layers >= 0:
        stack = layer_stack(body)
        for layer in list(stack)[len(stack) - layers :] if layers else []:
            for parameter in layer.parameters():
                parameter.requires_grad_(True)
    return [parameter for parameter in body.parameters() if parameter.requires_grad]


def _batches(sizes: Rows, chosen: Rows, batch: int, chance: np.random.Generator) -> Iterator[Rows]:
    """Yield batches of alike lengths in random order: sorted within chunks of 32 batches, so that little is padding."""
    found = []
    for start in range(0, len(chosen), batch * 32):
        chunk = chosen[start : start + batch * 32]
        chunk = chunk[np.argsort(sizes[chunk], kind="stable")]
        found += [chunk[k : k + batch] for k in range(0, len(chunk), batch)]
    for place in chance.permutation(len(found)):
        yield found[place]


def _epoch_windows(starts: Rows, counts: Rows, chance: np.random.Generator) -> Rows:
    """Choose one window of each document that has any."""
    there = np.flatnonzero(counts)
    return starts[there] + (chance.random(len(there)) * counts[there]).astype(np.int64)


def tune(body: Any, settings: EncoderSettings, tokenizer: Path, lessons: Lessons, seed: int) -> None:
    """Fine-tune a body in place; heads that it learns with are thrown away.

    Each epoch shows one window of each document, chosen at random. bf16 arithmetic with fp32 weights, AdamW, a linear
    warm-up over a tenth of the steps and a linear decay, heads at ten times the rate.

    Args:
        body: from ``load_body``.
        settings: layers, epochs, rate.
        tokenizer: ``tokenizer.json``.
        lessons: what to learn.
        seed: of all chance; on one machine and number of threads the result is the same each time.
    """
    import torch

    from fineedu.classify.export import encoder_module

    config = settings.tuning
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    device = choose_device(config.device)
    windows, owner, _, _ = Reader(tokenizer, settings.windows).read(lessons.texts)
    if not windows:
        raise FineeduError("tuning has no text to learn from")
    sizes = np.array([len(window) for window in windows])
    numbers = np.arange(len(lessons.texts))
    starts = np.searchsorted(owner, numbers)
    counts = np.searchsorted(owner, numbers, "right") - starts
    learning = choose_layers(body, config.layers)
    module = encoder_module(body, settings).to(device).train()
    width = body.config.hidden_size * len(settings.pool)
    heads = torch.nn.ModuleList([torch.nn.Linear(width, size) for size in _head_sizes(lessons)]).to(device)
    optimizer = torch.optim.AdamW(
        [{"params": learning, "lr": config.rate}, {"params": heads.parameters(), "lr": 10 * config.rate}],
        weight_decay=0.01,
    )
    steps = config.epochs * -(-int((counts > 0).sum()) // config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / max(1, steps // 10), max(0.0, (steps - step) / (steps * 0.9)))
    )
    odds = _sampling(lessons, config)
    for _ in range(config.epochs):
        chosen = _epoch_windows(starts, counts, chance)
        if odds is not None:
            share = odds[owner[chosen]]
            chosen = chance.choice(chosen, len(chosen), p=share / share.sum())
        else:
            chosen = chance.permutation(chosen)
        for rows in _batches(sizes, chosen, config.batch, chance):
            ids, mask = pad([windows[row] for row in rows], device)
            with torch.autocast(device, dtype=torch.bfloat16):
                vectors = module(ids, mask)
            loss = _loss(heads, vectors.float(), lessons, owner[rows], device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*learning, *heads.parameters()], 1.0)
            optimizer.step()
            schedule.step()
    body.to("cpu").eval()
    for parameter in body.parameters():
        parameter.requires_grad_(False)


def pad(windows: list[list[int]], device: str) -> tuple[Any, ...]:
    """Return ids and mask of a batch (b×longest each)."""
    import torch

    sizes = np.fromiter(map(len, windows), np.int64, len(windows))
    there = np.arange(sizes.max()) < sizes[:, None]
    ids = np.zeros(there.shape, np.int64)
    ids[there] = np.fromiter(chain.from_iterable(windows), np.int64, int(sizes.sum()))
    tensors = torch.from_numpy(ids), torch.from_numpy(there.astype(np.int64))
    return tuple(tensor.to(device, non_blocking=True) for tensor in tensors)


def _head_sizes(lessons: Lessons) -> list[int]:
    tables = [found.shape[1] for found in (lessons.scores, lessons.vectors) if found is not None]
    return tables + [int(numbers.max()) + 1 for numbers in lessons.classes]


def _sampling(lessons: Lessons, config: Tuning) -> Array | None:
    """Return odds of documents that even out the levels, or None to show each once."""
    if not config.balance or lessons.scores is None:
        return None
    scores = lessons.scores
    levels = np.clip(np.round(scores[:, 0]), 0, 5) if scores.shape[1] == 1 else scores.argmax(1)
    return balanced(levels.astype(np.int64), np.ones(len(scores)), config.balance)


def _loss(heads: Any, vectors: Any, lessons: Lessons, rows: Rows, device: str) -> Any:
    import torch
    from torch.nn.functional import cross_entropy

    parts, place = [], 0
    if lessons.scores is not None:
        wanted = torch.tensor(lessons.scores[rows], dtype=torch.float32, device=device)
        weights = torch.tensor(lessons.weights[rows], dtype=torch.float32, device=device)
        told = heads[0](vectors)
        each = (told - wanted).square()[:, 0] if wanted.shape[1] == 1 else cross_entropy(told, wanted, reduction="none")
        parts.append((each * weights).sum() / weights.sum())
        place = 1
    if lessons.vectors is not None:
        taught = torch.tensor(lessons.vectors[rows], dtype=torch.float32, device=device)
        parts.append((heads[place](vectors) - taught).square().mean())
        place += 1
    for head, numbers in zip(heads[place:], lessons.classes, strict=True):
        parts.append(cross_entropy(head(vectors), torch.tensor(numbers[rows], device=device), label_smoothing=0.1))
    return torch.stack(parts).sum()
