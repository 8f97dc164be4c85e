"""The page in a real browser: nothing fetched, nothing out of bounds, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fineedu.evaluate.evaluation import evaluate
from fineedu.evaluate.page import write_evaluation
from fineedu.evaluate.scores import Scores
from tests.pages import open_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(votes: pl.DataFrame, scores: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = np.random.default_rng(1).normal(0, 1, 200)
    sizes = {size: scores.with_columns(pl.col("score") + noise / size) for size in (1, 2, 4)}
    long_topics = votes.with_columns(topic=pl.col("topic").replace("games", "g" * 90))
    given = Scores("model-of-a-" + "long-" * 12 + "name", scores, sizes, "files", seen=frozenset(scores["id"]))
    return write_evaluation(
        tmp_path_factory.mktemp("page"), evaluate(given, long_topics, annotator="large", resamples=100)
    )


@pytest.mark.parametrize("width", [400, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_in_a_browser(browser: Any, page: Path, tmp_path: Path, width: int, scheme: str) -> None:
    tab, wrong, requests = open_page(browser, page, width, scheme)
    tab.screenshot(path=tmp_path / "page.png", full_page=True)
    assert requests == [page.as_uri()] and wrong == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for name in ("Figures", "At each threshold", "Curves", "Slices", "Ceiling", "Documents"):
        assert tab.get_by_role("heading", name=name, exact=True).is_visible()
    assert tab.get_by_role("note").count() >= 1
    # No label of a chart is cut off at the picture's edge.
    cut = """[...document.querySelectorAll('figure svg')].flatMap(svg => [...svg.querySelectorAll('text')].filter(text => {
        const [a, b] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
        return a.left < b.left - 1 || a.right > b.right + 1 || a.bottom > b.bottom + 1}).map(text => text.textContent))"""
    assert tab.evaluate(cut) == []
    assert tab.evaluate("document.scripts.length") == 0
    assert (tmp_path / "page.png").stat().st_size > 30_000
    tab.context.close()
