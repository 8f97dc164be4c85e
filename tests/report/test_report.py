from __future__ import annotations

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fineedu.report.collect import Bound, find_bounds
from fineedu.runner import RunResult, execute, plan_run
from tests.archives import PARAGRAPH, html_page, numbered_pages, response, write_warc

ROOT = Path(__file__).resolve().parents[2]
EVIL = "Attack <script>alert(1)</script> </style> <img src=x onerror=alert(2)> &amp; \u202e reversed " + "x" * 500 + " "


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def run(inputs: Path, output: Path, recipe: str = "minimal", *overrides: str) -> RunResult:
    return execute(plan_run(recipe, inputs=[str(inputs)], output=output, overrides=overrides), workers=1)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    escaped = EVIL.replace("<", "&lt;").replace("\u202e", "&#x202e;")
    pages = [response(html_page(escaped + PARAGRAPH, PARAGRAPH, title=escaped), f"http://evil.example/{n}?<script>") for n in range(3)]
    return write_warc(tmp_path / "evil.warc.gz", [*pages, *numbered_pages(5)])


def test_page_text_is_never_markup(hostile: Path, tmp_path: Path) -> None:
    page = run(hostile, tmp_path / "out").report.read_text()
    parsed = Tags()
    parsed.feed(page)
    assert not {"script", "img", "iframe", "link", "object"} & set(parsed.tags)
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert "alert(1)" in page
    assert "\u202e" not in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)


def test_same_run_same_bytes(hostile: Path, tmp_path: Path) -> None:
    first, second = (run(hostile, tmp_path / name).report.read_bytes() for name in "ab")
    assert first == second


def test_figures_are_the_manifests(crawl: Path, tmp_path: Path) -> None:
    result = run(crawl, tmp_path, "minimal", "select.rules.length=text_bytes >= 700")
    page = result.report.read_text()
    assert f"<b>{result.kept}</b>documents kept" in page
    for reason in ("not_html", "empty_body"):
        assert f"<td>{reason}</td>" in page
    assert "text_bytes &gt;= 700" in page
    assert "Dropped: length" in page


@pytest.mark.parametrize("overrides", [("select.rules={}",), ("select.rules.none=text_bytes < 0",), ("report.samples=0", "report.borderline=0")])
def test_extremes(crawl: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    assert run(crawl, tmp_path, "minimal", *overrides).report.stat().st_size > 5000


def test_bounds_of_rules() -> None:
    assert find_bounds({"a": "x >= 2.5 AND y = 'z' AND w BETWEEN 3 AND 10", "b": "NOT c"}) == [
        Bound("a", "x", ">=", 2.5), Bound("a", "w", ">=", 3.0), Bound("a", "w", "<=", 10.0),
    ]  # fmt: skip


@pytest.mark.slow
def test_in_a_real_browser(tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        assert not os.environ.get("CI"), "CI must have Chromium"
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    report = run(ROOT / "pipelines" / "demo" / "demo.warc.gz", tmp_path, "edu").report
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        for width, scheme in ((1280, "light"), (400, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
            problems: list[str] = []
            requests: list[str] = []
            page.on("console", lambda message, problems=problems: problems.append(message.text))
            page.on("pageerror", lambda error, problems=problems: problems.append(str(error)))
            page.on("request", lambda request, requests=requests: requests.append(request.url))
            page.goto(report.as_uri())
            assert problems == []
            assert requests == [report.as_uri()]
            assert page.get_by_role("heading", name="From pages to corpus").is_visible()
            assert page.get_by_role("img", name="Histogram of the score, kept and dropped documents").is_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            summary = page.get_by_text("Dropped: edu", exact=False).first
            summary.click()
            assert page.locator("details[open] .doc").count() > 5
            page.screenshot(path=tmp_path / f"report-{width}.png", full_page=True)
            page.close()
        browser.close()
