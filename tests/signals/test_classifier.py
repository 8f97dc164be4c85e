from __future__ import annotations

import pickle

import polars as pl
import pytest

from fineedu.errors import FineeduError
from fineedu.signals.families import make_family, signal_columns
from fineedu.signals.measure import measure

LESSON = "Photosynthesis is how plants make sugar. They use light, water and carbon dioxide from the air. " * 4


@pytest.mark.parametrize("model", ["edu-fasttext", "edu-minilm", "edu-mpnet", "edu-static"])
def test_any_bundle_is_a_signal(model: str) -> None:
    family = make_family("classifier", {"model": model, "prefix": "mine"})
    found = measure(pickle.loads(pickle.dumps(family)), pl.DataFrame({"text": [LESSON, None]}))
    assert found["mine_score"][0] > 1.5
    assert found["mine_int_score"][0] == round(found["mine_score"][0])
    assert found.row(1) == (None,) * len(family.schema)
    assert ("mine_share_read" in found.columns) == (model in ("edu-minilm", "edu-mpnet"))


def test_two_bundles_in_a_recipe_do_not_meet() -> None:
    families = [make_family("classifier", {"model": name}) for name in ("edu-fasttext", "edu-minilm")]
    assert len({family.name for family in families}) == 2
    assert {"edu_fasttext_score", "edu_minilm_score"} <= set(signal_columns(families))
    assert families[0].fingerprint != families[1].fingerprint


def test_edu_takes_any_scoring_bundle() -> None:
    found = measure(make_family("edu", {"model": "edu-minilm"}), pl.DataFrame({"text": [LESSON]}))
    assert found.columns == ["edu_score", "edu_int_score"]


def test_mistakes_are_named() -> None:
    with pytest.raises(FineeduError, match="prefix 'a-b'"):
        make_family("classifier", {"model": "edu-fasttext", "prefix": "a-b"})
    with pytest.raises(FineeduError, match="has scores, not topics"):
        make_family("topic", {"model": "edu-fasttext"})
    with pytest.raises(FineeduError, match="'model'"):
        make_family("classifier", {})
