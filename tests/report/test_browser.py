"""The report in a real browser: nothing fetched, nothing executed, nothing out of bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pages import open_page
from tests.report.conftest import ENGLISH, RunPages, page
from tests.report.test_page import RULES, hostile_pages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(run_pages: RunPages) -> Path:
    plain = [
        (f"http://site{i % 9}.example/{i}", page(f"page {i}", ENGLISH * (1 + i % 30), f"score={i / 12:.2f}"))
        for i in range(60)
    ]
    return run_pages(plain, hostile_pages(), rules=RULES).path


@pytest.mark.parametrize("width", [400, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser(browser: Any, report: Path, tmp_path: Path, width: int, scheme: str) -> None:
    tab, wrong, requests = open_page(browser, report, width, scheme)
    tab.screenshot(path=tmp_path / f"report-{width}-{scheme}.png", full_page=True)
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")

    assert requests == [report.as_uri()]
    assert wrong == []
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for name in (
        "From records to the corpus",
        "Rules",
        "Distributions",
        "Borderline documents",
        "Provenance",
    ):
        assert tab.get_by_role("heading", name=name).first.is_visible()
    spilled = """[...document.querySelectorAll('.card, figure, .tiles li')].filter(box =>
        box.getBoundingClientRect().right > innerWidth || box.scrollWidth > box.clientWidth + 1).length"""
    assert tab.evaluate(spilled) == 0
    assert (
        tab.evaluate("document.scripts.length + document.links.length - document.querySelectorAll('nav a').length") == 0
    )
    assert (tmp_path / f"report-{width}-{scheme}.png").stat().st_size > 10_000
    tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(browser: Any, report: Path, scheme: str) -> None:
    """WCAG contrast: text 4.5 to 1; bars against their ground 3 to 1 (kept) and 2 to 1 (dropped)."""
    context = browser.new_context(color_scheme=scheme)
    tab = context.new_page()
    tab.goto(report.as_uri())
    names = ("paper", "panel", "ink", "soft", "kept", "dropped", "kept-ink", "dropped-ink")
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    colours = {name: tab.evaluate(f"{style}('--{name}').trim()") for name in names}
    context.close()

    def light(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = digits if len(digits) == 6 else "".join(c * 2 for c in digits)
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((light(colours[one]), light(colours[other])))
        return (high + 0.05) / (low + 0.05)

    for ground in ("paper", "panel"):
        assert min(contrast(name, ground) for name in ("ink", "soft", "kept-ink", "dropped-ink")) >= 4.5
        assert contrast("kept", ground) >= 3 and contrast("dropped", ground) >= 2
