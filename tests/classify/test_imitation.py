from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.classify.encoder import EncoderSettings
from fineedu.classify.imitation import components, pieces
from fineedu.classify.windows import Reader, WindowRule
from fineedu.errors import FineeduError
from tests.classify.conftest import lesson

torch = pytest.importorskip("torch")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), dimensions=st.integers(1, 6), shift=st.floats(-50, 50), size=st.floats(0.1, 100))
def test_components_do_not_depend_on_a_layers_place_and_scale(
    seed: int, dimensions: int, shift: float, size: float
) -> None:
    layers = np.random.default_rng(seed).normal(size=(60, 2, 5)) * np.arange(1, 6)
    found = components(layers.astype(np.float32), dimensions)
    assert found.shape == (60, dimensions)
    assert np.square(found).mean() == pytest.approx(1)
    products = found.T @ found / 60
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-6)
    assert (np.diff(np.diag(products)) <= 1e-9).all()
    moved = layers.copy()
    moved[:, 1] = moved[:, 1] * size + shift
    again = components(moved.astype(np.float32), dimensions)
    np.testing.assert_allclose(np.abs(again), np.abs(found), atol=0.02)


def test_components_are_half_whitened() -> None:
    """Variances of components become their roots: checked against scikit-learn's PCA."""
    from sklearn.decomposition import PCA

    table = np.random.default_rng(1).normal(size=(500, 1, 4)) * [4, 2, 1, 0.5]
    wanted = np.sqrt(PCA(3).fit(table[:, 0]).explained_variance_)
    found = components(table.astype(np.float32), 3).var(0)
    np.testing.assert_allclose(found / found.sum(), wanted / wanted.sum(), rtol=1e-3)


def test_pieces_are_the_windows_texts(checkpoint: Path) -> None:
    reader = Reader(checkpoint / "tokenizer.json", WindowRule(tokens=10, count=2, shortest=3))
    text = lesson(random.Random(1), 3)
    found = pieces([text, "", "light", "  "], reader)
    assert len(found) == 3 and found[2] == "light"
    assert text.startswith(found[0]) and found[1] in text
    windows, owner, _, _ = reader.read(pl.Series(found))
    whole, _, _, _ = reader.read(pl.Series([text, "light"]))
    assert windows == whole and owner.tolist() == [0, 1, 2]


@pytest.mark.slow
def test_layers_come_nearer_to_the_larger_encoder(tmp_path: Path, checkpoint: Path) -> None:
    from sklearn.linear_model import Ridge

    from fineedu.classify.export import layer_stack, load_body, pooled_module, save_tokenizer
    from fineedu.classify.tuning import Lessons, pad, tune

    chance = random.Random(5)
    texts = [lesson(chance, number % 5) for number in range(600)]
    distill = {"checkpoint": str(checkpoint), "pool": [1], "dimensions": 6}
    config: dict[str, Any] = {"checkpoint": str(checkpoint), "pool": [1], "windows": {"tokens": 20, "count": 3}}
    tuning = {"layers": 1, "distill": distill, "epochs": 12, "rate": 1e-2, "device": "cpu"}
    made = EncoderSettings.model_validate(config | {"tuning": tuning})
    save_tokenizer(str(checkpoint), tmp_path / "tokenizer.json")
    lessons = Lessons.from_encoder(made, tmp_path / "tokenizer.json", texts, 1)
    assert lessons.vectors is not None and lessons.vectors.shape == (len(lessons.texts), 6)
    few = Lessons(lessons.texts[:900], None, lessons.weights[:900], vectors=lessons.vectors[:900])
    windows, _, _, _ = Reader(tmp_path / "tokenizer.json", made.windows).read(lessons.texts)

    def error(body: Any) -> float:
        """Tell what a linear map from the layer's means to the larger encoder's vectors misses on unseen windows."""
        with torch.inference_mode():
            vectors = pooled_module(body, (1,))(*pad(windows, "cpu")).numpy()
        told = Ridge(1e-3).fit(vectors[:900], lessons.vectors[:900]).predict(vectors[900:])
        return float(np.square(told - lessons.vectors[900:]).sum() / np.square(lessons.vectors[900:]).sum())

    body = load_body(str(checkpoint), (1,))
    torch.manual_seed(2)
    with torch.no_grad():
        for weights in layer_stack(body).parameters():
            weights += 0.5 * torch.randn_like(weights)
    before = error(body)
    tune(body, made, tmp_path / "tokenizer.json", few, 1)
    assert error(body) < 0.5 * before


def test_mistakes_are_named(tmp_path: Path, checkpoint: Path) -> None:
    from fineedu.classify.export import export

    distill = {"checkpoint": str(checkpoint), "pool": [2]}
    for odd in ({"layers": 0}, {"layers": 1, "columns": ["topic"]}):
        with pytest.raises(ValueError, match="distill needs layers that learn, and no columns"):
            EncoderSettings.model_validate({"tuning": odd | {"distill": distill}})
    made = EncoderSettings.model_validate(
        {"checkpoint": str(checkpoint), "pool": [1], "tuning": {"layers": 1, "distill": distill}}
    )
    with pytest.raises(FineeduError, match="distillation has 1 windows of unlabelled text for 256 dimensions"):
        export(made, tmp_path, texts=["plant light"])
