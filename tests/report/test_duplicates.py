"""What deduplication would remove, in the report of a run and on a page of its own."""

from __future__ import annotations

import pytest

from fineedu.report.duplicates import duplicates_shown, write_duplicates_page
from fineedu.store import read_json
from tests.report.conftest import ENGLISH, Made, RunPages, page
from tests.report.test_page import Elements

EVIL = "</pre><script>alert(1)</script> \x1b[31m"


@pytest.fixture(scope="module")
def copied(run_pages: RunPages) -> Made:
    story = "".join(f"{ENGLISH}In the year {year} the water was {year * 7} steps high. " for year in range(1900, 1912))
    pages = [
        (f"http://mirror{n % 2}.example/{n}", page("Story", story + (f"Told by teller {n}. {EVIL}" if n else "")))
        for n in range(6)
    ]
    pages += [(f"http://own.example/{n}", page("Own", f"{n} things. " + " ".join(f"w{n}x{i}" for i in range(80))))
              for n in range(5)]  # fmt: skip
    settings = ["dedup.substrings.bytes=100", "dedup.max_host_loss=1", "dedup.host_documents=2"]
    return run_pages(pages, rules="{copy: dup_keep}", settings=settings)


def test_the_report_tells_what_goes_by_host_and_shows_pairs(copied: Made) -> None:
    found = Elements(copied.html)
    told = read_json(copied.output / "runs" / copied.run_id / "dedup.json")
    assert told["removed"] == 5
    assert "5 of 11 documents (45.5 %)" in copied.html
    gone = {row["host"]: row for row in told["hosts"]}
    for host in ("mirror0.example", "mirror1.example"):
        own = [host, "", "3", str(gone[host]["removed"]), f"{100 * gone[host]['share']:.1f} %"]
        assert found.rows.count(own) == 2  # by number, and by share
    assert copied.html.count('class="diff"') == 1
    assert "Told by teller" in copied.html
    assert "none would." in copied.html
    assert "Exact substrings" in copied.html
    assert 'href="#duplicates"' in copied.html


def test_page_text_in_diffs_is_harmless(copied: Made) -> None:
    page_of_its_own = (copied.output / "dedup" / "report.html").read_text()
    for html in (copied.html, page_of_its_own):
        assert "<script" not in html
        assert "\x1b" not in html
        assert "default-src 'none'" in html
        assert {tag for tag, _ in Elements(html).seen}.isdisjoint({"script", "img", "iframe", "link", "form"})


def test_sizes_curve_and_the_rule(copied: Made, tmp_path) -> None:
    report = read_json(copied.output / "dedup" / "report.json")
    shown = duplicates_shown(report)
    assert [chart.name for chart in shown["charts"]] == ["Cluster sizes", "What MinHash finds"]
    assert "clusters of 5 to 9: 1, 6 documents" in shown["charts"][0].svg
    assert "0.8: 92.3 %" in shown["charts"][1].note
    strict = report | {"settings": report["settings"] | {"max_host_loss": 0.5}}
    assert duplicates_shown(strict)["rule"].endswith("2 would.")
    nothing = report | {"sizes": [], "largest": [], "hosts": [], "worst": [], "removed": 0, "by": {}, "checked": 0}
    html = write_duplicates_page(tmp_path / "none.html", nothing).read_text()
    assert "0 of 11 documents (0.0 %)" in html


def test_without_dedup_there_is_no_section(run_pages: RunPages) -> None:
    made = run_pages([("http://a.example/", page("One", ENGLISH))])
    assert 'id="duplicates"' not in made.html
