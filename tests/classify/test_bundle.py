from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.classify.bundle import bundle_folder, load_bundle
from fineedu.classify.text import TextPreparation
from fineedu.errors import FineeduError
from fineedu.signals.edu import EduSignals
from fineedu.signals.measure import measure

LESSON = "Photosynthesis is how plants make sugar.\nThey use light, water and carbon dioxide.\n" * 4
SHOP = "Buy now! Free shipping on all orders. Add to cart. Sign in to see your price. " * 4


def score(*texts: str | None) -> np.ndarray:
    return load_bundle(bundle_folder("edu-fasttext")).score(pl.Series(texts, dtype=pl.String))


def test_lesson_beats_shop_on_the_scale() -> None:
    lesson, shop = score(LESSON, SHOP)
    assert 0 <= shop < 1.5 < lesson <= 5


def test_line_ends_are_spaces() -> None:
    first, second, third = score("one two\nthree", "one two three", "one two\r\n\r\n three ")
    assert first == second == third


def test_nothing_has_no_score() -> None:
    assert np.isnan(score(None, "", " \n\t ")).all()
    found = measure(EduSignals(), pl.DataFrame({"text": [None, "", LESSON]}))
    assert found["edu_score"].is_null().to_list() == [True, True, False]
    assert found["edu_int_score"].is_null().to_list() == [True, True, False]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5))
def test_any_text_scores_alone_as_in_a_batch(texts: list[str]) -> None:
    clean = [text.encode("utf-8", "ignore").decode() for text in texts]
    together = score(*clean)
    alone = [score(text)[0] for text in clean]
    np.testing.assert_array_equal(together, alone)
    assert ((together >= 0) & (together <= 5) | np.isnan(together)).all()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder("edu-fasttext"), tmp_path / "model"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_other_weights_are_refused(copy: Path) -> None:
    weights = bytearray((copy / "model.ftz").read_bytes())
    weights[len(weights) // 2] ^= 255
    (copy / "model.ftz").write_bytes(bytes(weights))
    with pytest.raises(FineeduError, match="is not the file that the bundle was made with"):
        load_bundle(copy)


def test_other_preparation_is_refused(copy: Path) -> None:
    edit(copy, preparation={"max_chars": 4000, "steps": ["one_space"]})
    with pytest.raises(FineeduError, match="golden input"):
        load_bundle(copy)


def test_damaged_and_missing_bundles_are_named(copy: Path) -> None:
    edit(copy, knots=[])
    with pytest.raises(FineeduError, match="model bundle"):
        load_bundle(copy)
    with pytest.raises(FineeduError, match=r"shipped are .*edu-fasttext"):
        EduSignals("edu-nonsense")


def test_fingerprint_names_the_weights() -> None:
    made_by = EduSignals().fingerprint
    assert len(made_by["weights_sha256"]) == 64
    assert json.loads(json.dumps(made_by)) == made_by


def test_preparation_steps() -> None:
    spec = TextPreparation(max_chars=17, steps=("lowercase", "separate_punctuation", "digits_to_zero", "one_space"))
    assert spec.apply(pl.Series(["Hello,\n World 42! and so on", None])).to_list() == [
        "hello , world 00 !",
        None,
    ]
