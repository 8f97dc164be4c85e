"""Token embeddings from an encoder: each token of the vocabulary through it, alone (needs the ``encoder`` extra)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fineedu.classify.export import load_body, pooled_module, require_encoder_training, save_tokenizer
from fineedu.classify.static import TABLE, TOKENIZER, StaticSettings

#: characters of a text that token shares are counted on
COUNTED = 4000


def distill(settings: StaticSettings, folder: Path, texts: Sequence[str]) -> None:
    """Write ``vectors.npz`` (int8 with one scale a token) and ``tokenizer.json``.

    Args:
        settings: checkpoint, layers, dimensions and weights.
        folder: where to.
        texts: what tokens are counted on; without any, all weigh the same.

    Raises:
        FineeduError: a package is missing, or the checkpoint does not fit.
    """
    require_encoder_training()
    from sklearn.decomposition import PCA
    from tokenizers import Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(settings.checkpoint, folder / TOKENIZER)
    tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    vectors = _token_vectors(settings, tokenizer)
    reduced = PCA(min(settings.dimensions, *vectors.shape), random_state=0, svd_solver="full").fit_transform(vectors)
    counts = np.zeros(len(vectors))
    for found in tokenizer.encode_batch_fast([text[:COUNTED] for text in texts], add_special_tokens=False):
        counts += np.bincount(found.ids, minlength=len(counts))
    shares = counts / max(counts.sum(), 1)
    weighted = reduced * (settings.sif / (settings.sif + shares))[:, None]
    scale = np.maximum(np.abs(weighted).max(1, keepdims=True), 1e-12) / 127
    np.savez_compressed(
        folder / TABLE, vectors=np.round(weighted / scale).astype(np.int8), scale=scale.astype(np.float16)
    )


def _token_vectors(settings: StaticSettings, tokenizer: Any) -> npt.NDArray[np.float32]:
    """Return V×d pooled vectors of single tokens, special tokens around each as the model is used to."""
    import torch

    marked = tokenizer.encode("a").ids
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    place = marked.index(bare[0])
    module = pooled_module(load_body(settings.checkpoint, settings.pool), settings.pool)
    size = tokenizer.get_vocab_size()
    parts = []
    with torch.inference_mode():
        for start in range(0, size, 1024):
            ids = torch.tensor(marked[: place + 1] + marked[place + len(bare) :]).repeat(min(1024, size - start), 1)
            ids[:, place] = torch.arange(start, start + len(ids))
            parts.append(module(ids, torch.ones_like(ids)).numpy())
    return np.vstack(parts)
