from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

LEARNED = [
    "cell",
    "plant",
    "light",
    "energy",
    "water",
    "experiment",
    "explain",
    "example",
    "number",
    "equation",
    "history",
    "war",
    "empire",
    "sentence",
]
SOLD = [
    "price",
    "cart",
    "shipping",
    "discount",
    "login",
    "click",
    "offer",
    "sale",
    "deal",
    "buy",
    "shop",
    "store",
    "coupon",
    "brand",
]
PLAIN = [
    "the",
    "and",
    "of",
    "to",
    "in",
    "is",
    "on",
    "that",
    "for",
    "with",
    "as",
    "was",
    "at",
    "by",
    "it",
    "be",
    "this",
    "have",
    "from",
]


def lesson(chance: random.Random, score: int) -> str:
    words = [
        chance.choice(LEARNED if chance.random() < 0.05 + score / 6 else SOLD if chance.random() < 0.5 else PLAIN)
        for _ in range(60)
    ]
    return " ".join(words)


@pytest.fixture(scope="session")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label files of two annotators and other text with topics."""
    folder = tmp_path_factory.mktemp("lessons")
    chance = random.Random(3)
    for name, count in (("target", 160), ("second", 60), ("other", 300)):
        rows = []
        for n in range(count):
            score = chance.choice([0, 1, 1, 1, 2, 2, 3, 4])
            place = f"{name if name == 'other' else 'doc'}-{n}"
            rows.append({"id": place, "text": lesson(chance, score), "score": score, "topic": int(score >= 2)})
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    (folder / "names.json").write_text(json.dumps({"topics": ["shop", "school"]}))
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of the published ones' architecture, tiny and random."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("checkpoint")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *".!,", *LEARNED, *SOLD, *PLAIN]
    words += [f"##{letter}" for letter in letters]
    words = list(dict.fromkeys(words))
    transformers.BertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        num_labels=1, classifier_dropout=0.0, hidden_dropout_prob=0.0, problem_type="regression", initializer_range=0.5,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder
