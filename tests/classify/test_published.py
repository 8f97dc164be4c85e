from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.classify.published import PUBLISHED, Published, load_published
from fineedu.errors import FineeduError

TEXTS = [
    "Photosynthesis is how plants make sugar.\nThey use light.\r\n\r\nAnd water.",
    "Buy now!\tFree shipping",
    "plants " * 900,
    "",
    None,
    " \n ",
    "a",
]
DCLM = PUBLISHED["mlfoundations/fasttext-oh-eli5"]


@given(st.text(st.sampled_from("ab \n\r\t\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029\u00a0\u3000"), max_size=30))
def test_dclm_lines_are_those_of_its_script(text: str) -> None:
    assert DCLM.preparation.apply(pl.Series([text]))[0] == " ".join(text.strip().splitlines())


def test_dclm_score_is_the_probability_of_hq(tmp_path: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    if not hasattr(fasttext, "train_supervised"):
        pytest.skip("the installed fasttext can only predict")
    lessons = tmp_path / "train.txt"
    lessons.write_text("__label__hq explain why plants need light\n__label__cc buy shoes cheap sale now\n" * 40)
    model = fasttext.train_supervised(str(lessons), thread=1, verbose=0, wordNgrams=2, dim=8, epoch=10, bucket=1000)
    model.save_model(str(tmp_path / DCLM.file))
    found = load_published("mlfoundations/fasttext-oh-eli5", str(tmp_path)).score(pl.Series(TEXTS))
    for text, score in zip(TEXTS, found, strict=True):
        if not (text or "").strip():
            assert np.isnan(score)
            continue
        # The script takes the first label, and its complement where that is cc.
        told = dict((label, p) for p, label in model.f.predict(" ".join(text.strip().splitlines()) + "\n", 1, 0.0, ""))
        ((label, p),) = told.items()
        assert score == pytest.approx(p if label == "__label__hq" else 1 - p, abs=1e-4)


@pytest.mark.parametrize("name", [name for name, found in PUBLISHED.items() if found.head == "sequence"])
def test_bert_scores_are_those_of_its_script(checkpoint: Path, name: str) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    found = load_published(name, str(checkpoint), device="cpu").score(pl.Series(TEXTS))
    for text, score in zip(TEXTS, found, strict=True):
        if not (text or "").strip():
            assert np.isnan(score)
            continue
        inputs = tokenizer([text], return_tensors="pt", padding="longest", truncation=True, max_length=512)
        with torch.inference_mode():
            expected = model(**inputs).logits.squeeze(-1).float().item()
        if "nvidia" in name:
            expected = min(max(expected, 0.0), 5.0)
        assert score == pytest.approx(expected, abs=1e-5)


def test_share_of_a_long_text_is_told(checkpoint: Path) -> None:
    model = load_published("HuggingFaceFW/fineweb-edu-classifier", str(checkpoint), device="cpu")
    found = model.classifier.score(pl.Series(TEXTS))[:, 1]
    assert found[0] == found[1] == found[6] == 1
    assert 0 < found[2] < 0.3
    assert np.isnan(found[3:6]).all()


def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FineeduError, match=r"known are HuggingFaceFW/fineweb-edu-classifier"):
        load_published("nobody/nothing")
    with pytest.raises(FineeduError, match="no fastText model at"):
        load_published("mlfoundations/fasttext-oh-eli5", str(tmp_path))


def test_every_published_model_reads_512_tokens_or_lines() -> None:
    assert all(isinstance(found, Published) and (found.file or found.max_tokens == 512) for found in PUBLISHED.values())
