"""Feature distillation: what a larger encoder makes of unlabelled text, for the layers of a small one to learn.

No label is seen, so one distillation serves every fold of a cross-validation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from fineedu.classify.family import Array
from fineedu.classify.windows import Reader, Vectors, WindowRule
from fineedu.errors import FineeduError

Rows = npt.NDArray[np.int64]
#: tokens of a piece that the larger encoder reads at most
LONGEST = 510
#: padded tokens in one of its batches
BATCH_TOKENS = 2048


class Distillation(BaseModel):
    """Whom the layers imitate, and on how much text.

    ``checkpoint`` as in ``EncoderSettings``; ``pool``: its layers whose means over a window's tokens are learned, as
    their first ``dimensions`` principal components; ``documents``: of the unlabelled text, drawn by the seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str
    pool: tuple[int, ...]
    dimensions: int = Field(256, ge=1)
    documents: int = Field(6000, ge=1)


def pieces(texts: Sequence[str], reader: Reader) -> list[str]:
    """Return the text of every window that the small encoder would read."""
    found = []
    for text, windows in zip(texts, reader.spans(texts), strict=True):
        found += [text[start:end] for start, end in windows if text[start:end].strip()]
    return found


def imitated(config: Distillation, texts: Sequence[str], device: str) -> tuple[Rows, Array]:
    """Return what the larger encoder makes of pieces of text (bf16 arithmetic).

    Returns:
        Places of the n pieces in which its tokenizer finds something, and n×m targets.

    Raises:
        FineeduError: its checkpoint cannot be loaded, or there are fewer pieces than dimensions.
    """
    import torch

    from fineedu.classify.export import load_body, pooled_module, save_tokenizer
    from fineedu.classify.torch_encoder import length_batches
    from fineedu.classify.tuning import pad

    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(config.checkpoint, Path(folder) / "tokenizer.json")
        reader = Reader(Path(folder) / "tokenizer.json", WindowRule(tokens=LONGEST, count=1))
    windows, owner, _, _ = reader.read(pl.Series(texts, dtype=pl.String))
    if len(windows) < config.dimensions:
        raise FineeduError(
            f"distillation has {len(windows):,} windows of unlabelled text for {config.dimensions} dimensions: "
            "give more text"
        )
    body = load_body(config.checkpoint, config.pool)
    module: Any = pooled_module(body, config.pool).to(device)
    vectors: Vectors = np.empty((len(windows), body.config.hidden_size * len(config.pool)), np.float32)
    with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16):
        for rows in length_batches(np.array([len(window) for window in windows]), BATCH_TOKENS):
            vectors[rows] = module(*pad([windows[row] for row in rows], device)).float().cpu().numpy()
    return owner, components(vectors.reshape(len(vectors), len(config.pool), -1), config.dimensions)


def components(layers: Vectors, dimensions: int) -> Array:
    """Return n×m principal components of n×l×d layer means, of total variance m.

    Layers are centred and scaled to a mean length of 1 first. Each component is divided by the root of its standard
    deviation: half way between errors that a few large ones decide and errors in which all weigh the same.
    """
    table = layers - layers.mean(0)
    table = table / np.maximum(np.linalg.norm(table, axis=2).mean(0)[None, :, None], 1e-12)
    table = table.reshape(len(table), -1).astype(np.float64)
    variance, axes = np.linalg.eigh(table.T @ table / len(table))
    best = np.argsort(-variance, kind="stable")[:dimensions]
    found = table @ axes[:, best]
    found /= np.maximum(np.sqrt(found.std(0)), 1e-12)
    return np.asarray(found / np.sqrt(np.square(found).mean()))
