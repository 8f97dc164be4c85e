"""The page in a real browser: sliders give what the library counts, nothing is fetched, nothing runs out of bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fineedu.ablate.evaluate import Ablation
from fineedu.ablate.lab import Lab, run_ablation
from fineedu.ablate.page import write_ablation
from fineedu.evaluate.wording import figure
from fineedu.select.rules import Rules
from tests.ablate.pools import make_lab, make_pool
from tests.pages import open_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ablation, Lab]:
    folder = tmp_path_factory.mktemp("page")
    frame = make_pool(folder / "pool.parquet", 3000)
    # Text of the web is hostile: it ends scripts, and would be markup.
    hostile = pl.lit("</script><script>document.title='taken'</script><img src=x onerror=alert(1)> \u202e long ")
    frame = frame.with_columns(title=hostile, text=hostile + pl.col("id"))
    frame.write_parquet(folder / "pool.parquet", row_group_size=512)
    frame.head(400).select("id", score=(pl.col("other") * 5)).write_ndjson(folder / "labels.jsonl")
    lab = make_lab(
        folder,
        folder / "pool.parquet",
        set={"select.rules.edu": "edu_score >= {edu} AND other > {other}"},
        grid={
            "edu": [1, 2, 2.5, 3],
            "other": [0.2, 0.4],
            "url": {"open": {}, "shut": {"select.rules.url": "NOT blocked"}},
        },
        labels={"files": [str(folder / "labels.jsonl")]},
    )
    found = run_ablation(lab)
    return write_ablation(folder, found, lab.pool), found, lab


def move(tab: Any, number: int, value: int) -> None:
    tab.locator(f"#slider-{number}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def shown(tab: Any, name: str) -> str:
    return str(tab.locator(f"#{name}").get_attribute("data-value"))


def test_sliders_give_what_the_library_counts(browser: Any, made: tuple[Path, Ablation, Lab]) -> None:
    page, found, lab = made
    binned = found.binned
    assert binned is not None and [c.column for c in binned.controls] == ["edu_score", "other"]
    assert binned.toggles == ("NOT blocked",)
    tab = browser.new_page()
    tab.goto(page.as_uri())
    every = pl.concat(list(lab.pool.batches(list(lab.pool.schema))))
    labels = pl.read_ndjson(page.parent / "labels.jsonl")
    positive = labels.filter(pl.col("score").round(mode="half_to_even") >= 3)["id"].to_list()
    settings = [(1.0, 0.2, False), (2.5, 0.4, False), (3.0, 0.2, True), (None, 0.4, True), (None, None, False)]
    for edu, other, on in settings:
        for number, place in enumerate((edu, other)):
            move(tab, number, 0 if place is None else binned.controls[number].positions.index(place) + 1)
        tab.locator("#toggle-0").set_checked(on)
        rules = {"language": "language = 'en'"} | ({"url": "NOT blocked"} if on else {})
        rules |= {} if edu is None else {"edu": f"edu_score >= {edu}"}
        rules |= {} if other is None else {"other": f"other > {other}"}
        kept = every.filter(Rules(rules, lab.pool.schema).holds(every))
        tokens = int((kept["text_bytes"] / 4.3).round(mode="half_to_even").sum())
        assert (int(shown(tab, "documents")), int(shown(tab, "tokens"))) == (kept.height, tokens)
        places = {c.column: p for c, p in zip(binned.controls, (edu, other), strict=True) if p is not None}
        assert binned.at(places, binned.toggles if on else ()) == (kept.height, tokens)
        chosen = kept.filter(pl.col("id").is_in(labels["id"].implode()))
        hits = chosen.filter(pl.col("id").is_in(positive)).height
        assert float(shown(tab, "precision")) == pytest.approx(hits / chosen.height)
        assert float(shown(tab, "recall")) == pytest.approx(hits / len(positive))
    # A setting that is a cell of the grid: its figures and its interval are those of the table.
    cell = next(n for n, cell in enumerate(found.cells) if cell.name == "edu=2.5, other=0.4, shut")
    move(tab, 0, binned.controls[0].positions.index(2.5) + 1)
    move(tab, 1, binned.controls[1].positions.index(0.4) + 1)
    tab.locator("#toggle-0").set_checked(True)
    assert int(shown(tab, "documents")) == found.shared[cell, cell]
    assert found.scores is not None
    precision = found.scores.precision[cell]
    assert tab.locator("#precision").inner_text() == figure(precision.value)
    assert tab.locator("#precision-interval").inner_text() == f"[{figure(precision.low)}, {figure(precision.high)}]"
    tab.close()


def test_samples_follow_the_slider(browser: Any, made: tuple[Path, Ablation, Lab]) -> None:
    page, found, lab = made
    binned = found.binned
    assert binned is not None
    tab = browser.new_page()
    tab.goto(page.as_uri())
    score = dict(pl.concat(list(lab.pool.batches(["id", "edu_score"]))).iter_rows())
    move(tab, 1, 0)
    for place in (1.0, 3.0):
        move(tab, 0, binned.controls[0].positions.index(place) + 1)
        for name, wanted in (("just-kept", True), ("just-dropped", False)):
            texts = tab.locator(f"#{name} .excerpt").all_inner_texts()
            assert texts
            for text in texts:
                value = score[text.split()[-1]]
                assert value is None or (value >= place) == wanted
    tab.close()


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_in_a_browser(
    browser: Any, made: tuple[Path, Ablation, Lab], tmp_path: Path, width: int, scheme: str
) -> None:
    page = made[0]
    tab, wrong, requests = open_page(browser, page, width, scheme)
    assert requests == [page.as_uri()] and wrong == []
    assert tab.title() == "test: ablation"
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for name in ("Sliders", "Cells", "Overlap", "Shifts", "Samples"):
        assert tab.get_by_role("heading", name=name).first.is_visible()
    tab.locator("#slider-0").focus()
    before = shown(tab, "documents")
    for _ in range(8):
        tab.keyboard.press("ArrowRight")
    assert int(shown(tab, "documents")) < int(before)
    tab.context.close()
