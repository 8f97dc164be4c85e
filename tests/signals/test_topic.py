from __future__ import annotations

import polars as pl

from fineedu.classify.bundle import bundle_folder, load_bundle
from fineedu.signals.families import make_family
from fineedu.signals.measure import measure

TEXTS = [
    "Preheat the oven. Mix flour, sugar, butter and eggs, then bake the cake for forty minutes. Serve with cream.",
    "The goalkeeper saved a penalty as the team won the football match and went top of the league table.",
    None,
    " ",
]


def test_topics_of_plain_cases() -> None:
    found = measure(make_family("topic", {}), pl.DataFrame({"text": TEXTS}))
    assert found["topic"].to_list() == ["Food & Dining", "Sports & Fitness", None, None]
    assert (found["topic_confidence"][:2] > 0.3).all()
    assert found["topic_confidence"].is_null().to_list() == [False, False, True, True]


def test_probabilities_of_24_topics_sum_to_one() -> None:
    model = load_bundle(bundle_folder("topic-fasttext"))
    found = model.outputs(pl.Series(TEXTS[:2]))
    assert found.shape == (2, 24) == (2, len(model.bundle.labels))
    assert abs(found.sum(1) - 1).max() < 1e-6
