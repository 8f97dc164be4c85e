"""The report of real runs: what it says is what the run did, whatever the pages hold."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

import polars as pl
import pytest

from tests.report.conftest import ENGLISH, Made, RunPages, page

RULES = (
    "{language: \"language = 'en'\", size: text_bytes BETWEEN 100 AND 60000, "
    'score.high: "(edu_score >= 2.5) AND edu_score < 5"}'
)


class Elements(HTMLParser):
    """Collects elements with their attributes, and the text of each table row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._cell: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.rows[-1].append("".join(self._cell).strip())
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == name)


def hostile_pages() -> list[tuple[str, str]]:
    attacks = [
        "<script>alert(1)</script>",
        "</style></title></textarea><img src=x onerror=alert(1)>",
        "\u202eevil\u2066 \x1b[31mred\x00 {{ 7*7 }} {% raw %}",
        "W" * 6000,
        "]]></svg><svg onload=alert(1)>",
        "&lt;script&gt; &amp;lt;b&amp;gt;",
    ]
    pages = [
        (
            f"http://a{i}.example/<b>\"'{attack[:60]}",
            page(escape(attack), escape(attack), ENGLISH * 3, f"score={i}"),
        )
        for i, attack in enumerate(attacks)
    ]
    rtl = "הנהר זורם לאט בעמק והאנשים שגרים לידו למדו לקרוא את צבעו " * 8
    pages.append(("http://rtl.example/" + "long-path/" * 300, page(rtl[:200], rtl)))
    pages.append(("javascript:alert(1)", page("link", ENGLISH * 4, "score=2.6")))
    return pages


@pytest.fixture(scope="module")
def hostile(run_pages: RunPages) -> Made:
    return run_pages(hostile_pages(), rules=RULES)


def test_nothing_of_a_page_becomes_markup(hostile: Made) -> None:
    elements = Elements(hostile.html).seen
    tags = {tag for tag, _ in elements}
    assert not tags & {
        "script",
        "img",
        "iframe",
        "link",
        "object",
        "embed",
        "form",
        "base",
        "foreignobject",
        "image",
    }
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#"), (tag, attributes)
        assert not {"src", "srcset", "action", "xlink:href"} & set(attributes), (tag, attributes)
    assert hostile.html.count("</style>") == 1
    assert hostile.html.count("<body>") == hostile.html.count("</html>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile.html
    assert "url(" not in hostile.html and "@import" not in hostile.html


def test_no_control_or_reordering_characters_reach_the_page(hostile: Made) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", hostile.html)
    assert "\ufffdevil" in hostile.html
    assert "W" * 1000 not in hostile.html
    assert "הנהר" in hostile.html


def test_page_forbids_itself_scripts_and_network(hostile: Made) -> None:
    policies = [
        a["content"] for tag, a in Elements(hostile.html).seen if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_equal_runs_give_equal_bytes(hostile: Made, run_pages: RunPages) -> None:
    again = run_pages(hostile_pages(), rules=RULES)
    assert again.path.read_bytes() == hostile.path.read_bytes()


def test_counts_are_the_manifests(hostile: Made) -> None:
    counts, shown = hostile.manifest["counts"], Elements(hostile.html)
    assert counts["pages"] == len(hostile_pages())
    funnel = {row[0].split("in the")[0]: row[2] for row in shown.rows if row and row[0].startswith("records")}
    assert int(funnel["records"]) == sum(counts["records"].values())
    for stage, told in (("pages", "records that"), ("documents", "pages with"), ("kept", "documents that")):
        row = next(row for row in shown.rows if row and row[0].startswith(f"{stage}{told}"))
        assert int(row[2].replace(",", "")) == counts[stage]
    for rule, sql in hostile.manifest["recipe"]["select"]["rules"].items():
        row = shown.row(rule)
        missing = counts["reasons"].get(f"{rule}:missing", 0)
        assert row[1] == sql
        assert int(row[2]) == counts["reasons"].get(rule, 0) + missing
        assert int(row[4]) == missing
        assert int(row[5]) == counts["only_reason"].get(rule, 0) + counts["only_reason"].get(f"{rule}:missing", 0)
    for reason, number in counts["reasons"].items():
        assert re.search(rf"<summary><b>{re.escape(reason)}</b> {number} document", hostile.html)


def test_languages_are_counted_before_and_after(hostile: Made) -> None:
    shown = Elements(hostile.html)
    documents = hostile.documents()
    for language, group in documents.group_by("language"):
        row = shown.row(str(language[0]))
        assert [int(row[2]), int(row[4])] == [group.height, group["keep"].sum()]


def test_dropped_samples_name_the_failed_clause_with_its_value(run_pages: RunPages) -> None:
    pages = [
        ("http://x.example/", page("low", ENGLISH * 3, "score=1.25")),
        ("http://y.example/", page("none", ENGLISH * 3)),
    ]
    made = run_pages(pages, rules='{edu: "edu_score >= 2.5"}')
    assert "<code>edu_score &gt;= 2.5</code> <span>edu_score = 1.25</span>" in made.html
    assert "<summary><b>edu:missing</b> 1 document, 1 shown" in made.html
    assert "<span>edu_score = missing</span>" in made.html


def test_borderline_shows_the_nearest_that_one_bound_decides(run_pages: RunPages) -> None:
    scores = [0.1, 0.9, 1.7, 2.3, 2.44, 2.5, 2.61, 3.1, 4.2, 4.9]
    pages = [
        (f"http://s{i}.example/", page(f"page of {s}", ENGLISH * (3 + i), f"score={s}")) for i, s in enumerate(scores)
    ]
    # Nearest of all, but another rule drops it as well: the bound does not decide.
    pages.append(("http://other.example/", page("page of two rules", "score=2.499 The short one, in English.")))
    rules = '{edu: "edu_score >= 2.5", size: "text_bytes >= 200"}'
    html = run_pages(pages, rules=rules, settings=["report.borderline=4", "report.samples=0"]).html
    section = html[html.index('<section id="borderline">') : html.index('<section id="kept">')]
    shown = re.findall(r"edu_score is ([\d.]+), bound ≥ 2.5", section)
    assert sorted(map(float, shown)) == [2.3, 2.44, 2.5, 2.61]
    assert "page of two rules" not in section
    assert section.count('"badge">kept') == section.count('"badge">dropped') == 2


def test_samples_and_figures_do_not_depend_on_how_pages_are_sharded(run_pages: RunPages) -> None:
    pages = [
        (f"http://h{i % 7}.example/{i}", page(f"title {i}", ENGLISH * (1 + i % 5), f"score={i / 12}"))
        for i in range(60)
    ]
    rules = '{edu: "edu_score >= 2.5"}'
    one, three = run_pages(pages, rules=rules), run_pages(pages[:10], pages[10:45], pages[45:], rules=rules)
    cut = slice(one.html.index('<section id="funnel">'), one.html.index('<section id="provenance">'))
    other = slice(three.html.index('<section id="funnel">'), three.html.index('<section id="provenance">'))
    assert one.html[cut] == three.html[other]


def test_duplicates_and_phrases(run_pages: RunPages) -> None:
    twins = [("http://t.example/", page(f"t{i}", ENGLISH * 2, "twin=a Certainly! Certainly!")) for i in range(3)]
    single = [("http://u.example/", page("u", ENGLISH * 2, "twin=b"))]
    html = run_pages(twins + single).html
    assert "75.0 % of the kept documents share their text" in html
    assert "keeping one of each would drop 50.0 %" in html
    assert Elements(html).row("bot_total") == ["bot_total", "6", "6", "3", "75.0 %", "3", "75.0 %"]


@pytest.mark.parametrize(
    ("pages", "rules", "told"),
    [
        ([], "{}", "No documents, so nothing to draw."),
        ([("http://e.example/", page("", ""))], RULES, "No documents, so nothing to draw."),
        ([("http://e.example/", page("e", ENGLISH * 2))], '{never: "text_bytes < 0"}', "0 of 0, chosen"),
        ([("http://e.example/", page("e", ENGLISH * 2))], "{}", "This recipe has no rules"),
    ],
    ids=["no page", "no document", "none kept", "no rules"],
)
def test_empty_stages(run_pages: RunPages, pages: list[tuple[str, str]], rules: str, told: str) -> None:
    made = run_pages(pages, rules=rules)
    assert told in made.html
    assert "nan" not in re.sub(r"<[^>]*>", "", made.html).split()


def test_without_any_signals(run_pages: RunPages) -> None:
    rules = '{sure: "language_score > 0.5"}'
    made = run_pages([("http://e.example/", page("e", ENGLISH * 2))], rules=rules, settings=["signals=[]"])
    assert "Histogram of language_score. 1 documents" in made.html
    assert "Exact duplicates" not in made.html and "Proxy phrases" not in made.html


def test_many_rules_stay_small(run_pages: RunPages) -> None:
    rules = "{" + ", ".join(f'r{i}: "edu_score < {i / 4} OR edu_score >= {i / 4} - 9"' for i in range(39))
    pages = [(f"http://h{i}.example/", page(f"p{i}", ENGLISH * 9, f"score={i}")) for i in range(9)]
    made = run_pages(pages, rules=rules + ', low: "edu_score >= 8"}', settings=["report.samples=20"])
    assert len(made.html) < 300_000


def test_real_pages_are_counted_to_the_byte(real_data, tmp_path) -> None:
    from fineedu.runner import run

    result = run(
        "minimal",
        inputs=[str(real_data / "warc" / "real")],
        output=tmp_path / "out",
        overrides=["signals=[]", "extract.backend=resiliparse"],
        workers=1,
    )
    shards = sorted((tmp_path / "out" / "documents").rglob("*.parquet"))
    size = sum(
        pl.read_parquet(shard, columns=["text_bytes"], hive_partitioning=False)["text_bytes"].sum() for shard in shards
    )
    html = result.report.read_text(encoding="utf-8")
    assert f"of {size / 1e3:,.1f} kB" in html
    assert f"{result.kept:,} of {result.documents:,}" in html
