from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.classify.bundle import Model, bundle_folder, load_bundle, percentile_of
from fineedu.classify.family import Targets
from fineedu.classify.head import Head, HeadSettings, balanced
from fineedu.classify.lexicon import Lexicon
from fineedu.classify.windows import WindowRule, WindowVectors

LESSON = "Photosynthesis is how plants make sugar. They use light, water and carbon dioxide from the air. " * 4
SHOP = "Buy now! Free shipping on all orders. Add to cart. Sign in to see your price. " * 4


@pytest.fixture(scope="module", params=["edu-minilm", "edu-mpnet"])
def model(request: pytest.FixtureRequest) -> Model:
    return load_bundle(bundle_folder(request.param))


def test_lesson_beats_shop_on_the_scale(model: Model) -> None:
    lesson, shop = model.score(pl.Series([LESSON, SHOP]))
    assert 0 <= shop < 1.5 < lesson <= 5


def test_nothing_is_missing_not_zero(model: Model) -> None:
    found = model.measure(pl.Series([None, "", " \n", LESSON]))
    assert found["score"].is_null().to_list() == [True, True, True, False]
    assert found["share_read"].is_null().to_list() == [True, True, True, False]
    assert found["percentile"][3] > 50


@pytest.mark.parametrize("name", ["edu-minilm", "edu-mpnet"])
@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=80), min_size=2, max_size=4))
def test_any_text_scores_alone_as_in_a_batch(name: str, texts: list[str]) -> None:
    model = load_bundle(bundle_folder(name))
    together = model.score(pl.Series([*texts, LESSON], dtype=pl.String))
    alone = [model.score(pl.Series([text]))[0] for text in [*texts, LESSON]]
    np.testing.assert_array_equal(together, alone)


def test_share_read_counts_the_whole_text(model: Model) -> None:
    short, long, longer = model.measure(pl.Series([LESSON, LESSON * 10, LESSON * 100]))["share_read"]
    assert short == 1
    assert 0.2 < long < 0.7
    assert longer == pytest.approx(long / 10, rel=0.02)


def test_windows_cover_the_ids_once() -> None:
    rule = WindowRule(tokens=10, count=3, shortest=4)
    assert [len(part) for part in rule.cut(list(range(25)))] == [10, 10, 5]
    assert [len(part) for part in rule.cut(list(range(23)))] == [10, 10]  # a rest of 3 is too short
    assert [len(part) for part in rule.cut(list(range(99)))] == [10, 10, 10]
    assert rule.cut([7]) == [[7]]
    assert rule.cut([]) == []


def test_poolings_of_windows() -> None:
    vectors = np.float32([[1.0], [4.0], [2.0]])
    found = WindowVectors(vectors, np.array([0, 0, 2]), np.array([3, 1, 5]), np.array([1.0, np.nan, 1.0]))

    def same(values: np.ndarray) -> np.ndarray:
        return values

    np.testing.assert_allclose(found.pool(same, "mean")[:, 0], [1.75, np.nan, 2.0])
    np.testing.assert_allclose(found.pool(same, "max")[:, 0], [4.0, np.nan, 2.0])
    np.testing.assert_allclose(found.pool(same, "top_bottom")[:, 0], [2.5, np.nan, 2.0])
    taken = found.take(np.array([2, 0, 2]))
    np.testing.assert_allclose(taken.mean()[:, 0], [2.0, 1.75, 2.0])
    np.testing.assert_array_equal(taken.tokens, [5, 3, 1, 5])


def test_head_learns_and_is_the_same_after_saving(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("sklearn")
    chance = np.random.default_rng(5)
    vectors = chance.normal(size=(300, 8))
    truth = np.clip(vectors[:, 0] + 2, 0, 5)
    vectors[7] = np.nan
    head = Head(HeadSettings(alpha=0.1)).fit(vectors, Targets(truth[:, None], np.ones(300)))
    found = head.predict(vectors)[:, 0]
    assert np.isnan(found[7])
    known = ~np.isnan(found)
    assert np.corrcoef(found[known], truth[known])[0, 1] > 0.95
    path = tmp_path_factory.mktemp("head") / "head.npz"
    head.save(path)
    np.testing.assert_array_equal(Head.load(path).predict(vectors), head.predict(vectors))


@pytest.mark.parametrize("count", [2, 3])
def test_topic_head_gives_probabilities(count: int) -> None:
    pytest.importorskip("sklearn")
    chance = np.random.default_rng(6)
    topics = chance.integers(0, count, 300)
    vectors = np.eye(4)[topics] + chance.normal(scale=0.2, size=(300, 4))
    found = Head(HeadSettings()).fit(vectors, Targets(np.eye(4)[topics], np.ones(300))).predict(vectors)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found.argmax(1) == topics).mean() > 0.95
    assert found[:, 3].max() < 1e-6  # no document had it


def test_balanced_weights_keep_the_sum() -> None:
    levels, weights = np.array([0] * 90 + [1] * 10), np.ones(100)
    even = balanced(levels, weights, 1.0)
    assert even.sum() == pytest.approx(100)
    assert even[:90].sum() == pytest.approx(even[90:].sum())
    np.testing.assert_allclose(balanced(levels, weights, 0.0), weights)


def test_lexicon_is_ridge_on_tf_idf() -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    from sklearn.linear_model import Ridge

    chance = np.random.default_rng(8)
    bags = [chance.integers(1, 30, chance.integers(1, 40)) for _ in range(60)]
    scores, weights = chance.normal(size=60), chance.random(60)
    lines = [" ".join(map(str, bag)) for bag in bags]
    features = text.TfidfVectorizer(token_pattern=r"\d+", min_df=2, sublinear_tf=True)
    peer = Ridge(alpha=0.5).fit(features.fit_transform(lines[:50]), scores[:50], sample_weight=weights[:50])
    found = Lexicon.fit(bags[:50], scores[:50], weights[:50], 0.5)
    again = Lexicon.from_arrays(found.arrays())
    np.testing.assert_allclose(again.predict(bags[50:]), peer.predict(features.transform(lines[50:])), atol=1e-4)
    unknown = again.predict([np.array([999]), np.array([], dtype=np.int64)])
    assert unknown[0] == pytest.approx(found.offset)
    assert np.isnan(unknown[1])


def test_percentiles_with_ties() -> None:
    found = percentile_of(np.float32([-1, 0, 1, 2, 9, np.nan]), (0.0, 0.0, 0.0, 1.0, 2.0))
    np.testing.assert_allclose(found, [25, 25, 75, 100, 100, np.nan])
