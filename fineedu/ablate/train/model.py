"""One small language model: built, trained and measured, the same way whatever its corpus."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.ablate.config import ModelConfig, TrainConfig
from fineedu.ablate.train.corpora import END
from fineedu.errors import FineeduError


def need_torch() -> None:
    """Check that models can be trained here.

    Raises:
        FineeduError: torch or transformers is missing.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise FineeduError(
            "training models needs torch and transformers: pip install 'fineedu[encoder]', or --no-train for the "
            "figures without models"
        ) from error
    del torch


def pick_device(wanted: str) -> str:
    """Return ``cuda`` or ``cpu``.

    Raises:
        FineeduError: a GPU is asked for and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise FineeduError("train.device: cuda, and torch sees no GPU here")
    return "cuda" if there and wanted != "cpu" else "cpu"


def end_of(vocabulary: Any) -> int:
    """Return the token that ends a document."""
    return int(vocabulary.token_to_id(END))


def build(model: ModelConfig, vocabulary: int, end: int) -> Any:
    """Return a Llama with weights drawn from torch's seed: tied embeddings, 8/3 of the width inside a layer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if model.width % model.heads or (model.width // model.heads) % 2:
        raise FineeduError(f"train.model: width {model.width} is no even multiple of {model.heads} heads")
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=model.width,
        intermediate_size=max(16, round(model.width * 8 / 3 / 16) * 16),
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        max_position_embeddings=model.context,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def batches_of(tokens: npt.NDArray[np.uint32], config: TrainConfig, seed: int, steps: int) -> Any:
    """Yield (batch, context + 1) tokens: the corpus in pieces, in an order of the seed that is new at every reading."""
    length = config.model.context
    count = (len(tokens) - 1) // length
    chance = np.random.default_rng(seed)
    order = np.zeros(0, np.int64)
    for _ in range(steps):
        while len(order) < config.batch:
            order = np.concatenate([order, chance.permutation(count)])
        chosen, order = order[: config.batch], order[config.batch :]
        yield np.stack([tokens[at * length : at * length + length + 1] for at in chosen]).astype(np.int64)


def rate(step: int, steps: int, highest: float) -> float:
    """Return the learning rate: warm-up over 5 % of the steps, then a cosine down to a tenth."""
    warm = max(1, round(0.05 * steps))
    if step < warm:
        return highest * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return highest * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train_model(corpus: Path, tokenizer: Path, config: TrainConfig, seed: int) -> tuple[Any, dict[str, Any]]:
    """Train a model on a corpus: AdamW (0.9, 0.95, weight decay 0.1), gradients clipped at 1; bf16 on a GPU.

    Returns:
        The model, and ``steps``, ``tokens`` read, ``parameters`` and the mean ``loss`` of the last tenth of the steps.

    Raises:
        FineeduError: the corpus is shorter than one sequence.
    """
    import torch
    from tokenizers import Tokenizer

    tokens = np.fromfile(corpus, "<u4")
    if len(tokens) <= config.model.context:
        raise FineeduError(
            f"{corpus.parent.name} keeps {len(tokens):,} tokens, less than one sequence of {config.model.context}: "
            "leave the cell out (train.cells), or shorten train.model.context"
        )
    device = pick_device(config.device)
    vocabulary = Tokenizer.from_file(str(tokenizer))
    torch.manual_seed(seed)
    model = build(config.model, vocabulary.get_vocab_size(), end_of(vocabulary)).to(device)
    steps = max(1, config.tokens // (config.batch * config.model.context))
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))
    losses = []
    model.train()
    for step, rows in enumerate(batches_of(tokens, config, seed, steps)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, config.learning_rate)
        batch = torch.from_numpy(rows).to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            logits = model(batch[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    last = torch.stack(losses[-max(1, steps // 10) :]).mean().item()
    told = {
        "steps": steps,
        "tokens": steps * config.batch * config.model.context,
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": last,
    }
    return model, told


def measure_texts(model: Any, tokenizer: Path, texts: list[str], context: int) -> dict[str, float]:
    """Measure a model on texts.

    Every text begins anew after an end mark and is read in pieces of the context's length, side by side; every token
    but the first mark is predicted.

    Returns:
        ``perplexity`` by token, ``bits_per_byte``, and the numbers of ``tokens`` and ``bytes``.
    """
    import torch
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(tokenizer))
    end = end_of(vocabulary)
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    model.eval()
    pieces: list[list[int]] = []
    for found in vocabulary.encode_batch(texts, add_special_tokens=False):
        ids = [end, *found.ids, end]
        pieces += [ids[at : at + context + 1] for at in range(0, len(ids) - 1, context)]
    pieces.sort(key=len)
    with torch.inference_mode():
        for start in range(0, len(pieces), 16):
            group = pieces[start : start + 16]
            longest = max(len(piece) for piece in group)
            rows = torch.full((len(group), longest), -100)
            for at, piece in enumerate(group):
                rows[at, : len(piece)] = torch.tensor(piece)
            rows = rows.to(device)
            logits = model(rows[:, :-1].clamp(min=0)).logits.float()
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), rows[:, 1:].flatten(), ignore_index=-100, reduction="sum"
            )
            total += loss.item()
            tokens += int((rows[:, 1:] >= 0).sum())
    size = sum(len(text.encode()) for text in texts)
    return {
        "perplexity": math.exp(total / tokens),
        "bits_per_byte": total / math.log(2) / size,
        "tokens": tokens,
        "bytes": size,
    }
