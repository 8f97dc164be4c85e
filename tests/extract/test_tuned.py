from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from trafilatura import xpaths

from fineedu.extract.archive import Archive
from fineedu.extract.tuned.search import Search, needed_words
from tests.archives import response, write_warc

SCRIPT = """
import json, sys
from pathlib import Path
from fineedu.extract.archive import Archive
from fineedu.extract.charset import decode_page
from fineedu.extract.html import extract_page
from fineedu.extract.tuned import steps, tune_trafilatura
if sys.argv[1] == "other":
    steps._KNOWN = dict.fromkeys(steps._KNOWN, "of another version")
applied = tune_trafilatura() if sys.argv[1] != "plain" else []
with Path(sys.argv[2]).open("rb") as stream:
    pages = [decode_page(r.body, r.charset)[0] for r in Archive(stream, 8 << 20) if r.kind == "html"][: int(sys.argv[3])]
print(json.dumps([applied, [extract_page(page, "trafilatura", mode).text for mode in ("fast", "standard") for page in pages]]))
"""


def texts(kind: str, path: Path, pages: int) -> tuple[list[str], list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(path), str(pages)], capture_output=True, text=True, check=True
    )
    return tuple(json.loads(done.stdout))  # type: ignore[return-value]


def test_output_is_trafilaturas(request: pytest.FixtureRequest) -> None:
    demo = Path(request.config.rootpath) / "pipelines" / "demo" / "demo.warc.gz"
    with demo.open("rb") as stream:
        assert len(list(Archive(stream, 8 << 20))) > 100
    applied, tuned = texts("tuned", demo, 200)
    steps = {"links", "copies", "length"}
    assert steps | {"element classes", "BODY_XPATH", "OVERALL_DISCARD_XPATH", "cookie notices", "names"} <= set(applied)
    plain = texts("plain", demo, 200)[1]
    assert tuned == plain
    fewer, other = texts("other", demo, 200)
    assert set(applied) - set(fewer) == steps
    assert other == plain


NAMES = str.split(
    "post entry-content article-body story main content comment-list comments share social newsletter tags sidebar banner "
    "footer nav menu -ad- widget byline meta hidden hide noprint teaser cookie-banner onetrust elementor-share-buttons "
    "infinite-scroll mvp-post-add-box Comment commentary caption related author text cell page-content Main-Content x y"
)
TAGS = str.split(
    "div p section article span ul ol li table tr td h2 a aside footer header nav main blockquote pre form strong br "
    "figure figcaption details dl dt dd q script style svg"
)
WORDS = str.split(
    "The sea is warm in summer . Plants turn light into sugar \u200b \u00ad \u00e9t\u00e9 \u4e2d\u6587 \ufffe"
)
ATTRIBUTES = {
    "class": NAMES, "id": NAMES, "style": ["display:none", "color:red"], "role": ["article", "Navigation", "main"],
    "aria-hidden": ["true", "false"], "itemprop": ["articleBody"], "data-component": ["MostPopularStories"],
}  # fmt: skip


def markup(chance: random.Random, depth: int) -> str:
    text = " ".join(chance.choices(WORDS, k=chance.choice([0, 3, 8, 40])))
    if depth == 0:
        return text
    tag = chance.choice(TAGS)
    named = {
        name: chance.choice(ATTRIBUTES[name]) for name in chance.sample(list(ATTRIBUTES), chance.choice([0, 1, 3]))
    }
    inner = "".join(markup(chance, depth - 1) + text[:20] for _ in range(chance.choice([1, 2, 5])))
    return f"<{tag} {' '.join(f'{name}={value!r}' for name, value in named.items())}>{text}{inner}</{tag}>"


def test_output_is_trafilaturas_on_any_markup(tmp_path: Path) -> None:
    chance = random.Random(0)
    pages = [
        f"<html><body>{''.join(markup(chance, chance.choice([2, 4])) for _ in range(12))}</body></html>".encode()
        for _ in range(50)
    ]
    write_warc(tmp_path / "any.warc.gz", [response(page, f"http://any.example/{n}") for n, page in enumerate(pages)])
    found = texts("tuned", tmp_path / "any.warc.gz", 50)[1]
    assert len(set(found)) > 45
    assert found == texts("plain", tmp_path / "any.warc.gz", 50)[1]


PATTERNS = sorted(
    {
        pattern
        for paths in vars(xpaths).values()
        if isinstance(paths, list) and isinstance(paths[0], etree.XPath)
        for path in paths
        for pattern in re.findall(r"re:test\([^']*'([^']*)'", path.path)
    }
)


def test_most_patterns_have_words_to_look_for_first() -> None:
    found = {pattern: needed_words(pattern) for pattern in PATTERNS}
    assert len(PATTERNS) > 25
    assert sum(map(bool, found.values())) >= len(PATTERNS) - 2  # but for two that begin with a group of classes
    assert needed_words("(?:entry|art)-content|^bar[-_]?code$|spa?ced") == ("-content", "ced", "code")
    assert needed_words("^(?:one|two(?:x|y))") == needed_words("ab|second") == needed_words("[abc]+") == ()


@given(st.data())
def test_words_are_in_all_that_a_pattern_finds(data: st.DataObject) -> None:
    pattern = data.draw(st.sampled_from(PATTERNS))
    text = data.draw(st.from_regex(pattern) | st.text(st.sampled_from("-_ adegintsmouv"), max_size=12))
    assert Search(pattern)(text) == (re.search(pattern, text) is not None)
    if text.isascii():
        found = re.search(pattern, text, re.IGNORECASE) is not None
        assert Search(pattern, fold=True)(text.lower()) == found


@pytest.mark.slow
def test_output_is_trafilaturas_on_real_pages(real_data: Path) -> None:
    path = real_data / "warc" / "pages-02.warc.gz"
    assert texts("tuned", path, 250)[1] == texts("plain", path, 250)[1]
