"""An encoder bundle run by torch: bf16 on a GPU, batches of alike lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fineedu.classify.encoder import TOKENIZER, EncoderSettings
from fineedu.classify.windows import Reader, Vectors, WindowVectors
from fineedu.errors import FineeduError

#: Tokens in a batch, padding included: fills a large GPU, and fits a small one.
BATCH_TOKENS = 32_768


class TorchEmbedder:
    """An encoder run by torch, with the interface of ``OnnxEmbedder``.

    Vectors are not bit-identical to those of the int8 file (cosine about .995), and depend on the batch in the last
    bits.

    Args:
        folder: of a bundle that was trained with ``torch_weights: true``.
        settings: of the bundle.
        device: ``cuda``, ``cpu``, or None for the best there is.

    Raises:
        FineeduError: torch, transformers or the weights for torch are missing.
    """

    def __init__(self, folder: Path, settings: EncoderSettings, device: str | None = None) -> None:
        try:
            import torch
            import transformers  # noqa: F401
        except ImportError as error:
            raise FineeduError(
                "the torch backend needs torch and transformers: pip install 'fineedu[encoder]'"
            ) from error
        if not (folder / "torch").is_dir():
            raise FineeduError(
                f"model bundle {folder} holds no weights for torch: train it with torch_weights: true, "
                "or use backend onnx"
            )
        from fineedu.classify.export import encoder_module, load_body

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.reader = Reader(folder / TOKENIZER, settings.windows, settings.bag)
        body = load_body(str(folder / "torch"), settings.pool, "sdpa")
        if self.device == "cuda":
            # Weights in bf16, not only arithmetic: autocast would convert them in every batch.
            body = body.bfloat16()
        self.body: Any = body
        self._module: Any = encoder_module(body, settings).to(self.device)
        self._size = body.config.hidden_size * len(settings.pool)

    def embed(self, texts: pl.Series) -> WindowVectors:
        """Embed n prepared texts."""
        windows, owner, share, bags = self.reader.read(texts)
        sizes = np.array([len(window) for window in windows], dtype=np.int64)
        return WindowVectors(self.embed_windows(windows), owner, sizes, share, bags)

    def embed_windows(self, windows: list[list[int]]) -> Vectors:
        """Return w×d vectors of w windows of token ids."""
        import torch

        from fineedu.classify.tuning import pad

        vectors: Vectors = np.empty((len(windows), self._size), np.float32)
        sizes = np.array([len(window) for window in windows], dtype=np.int64)
        with torch.inference_mode():
            # Nothing is fetched before all is under way: the GPU works while the next batches are laid out.
            batches = length_batches(sizes, BATCH_TOKENS)
            found = [self._module(*pad([windows[row] for row in rows], self.device)) for rows in batches]
            for rows, part in zip(batches, found, strict=True):
                vectors[rows] = part.float().cpu().numpy()
        return vectors


def length_batches(sizes: Any, tokens: int) -> list[Any]:
    """Return rows in batches of alike sizes, the longest first, each of at most so many tokens once padded.

    A single row may be longer than that.
    """
    order = np.argsort(-sizes, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, tokens // max(1, int(sizes[order[start]])))
        batches.append(order[start : start + count])
        start += count
    return batches
