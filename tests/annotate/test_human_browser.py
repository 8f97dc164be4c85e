"""The label page in a real browser: what is pressed is what is saved, and page text runs nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fineedu.annotate.human.server import LabelServer
from fineedu.annotate.human.session import PlainRubric, Session, load_documents
from fineedu.labels import read_labels

pytestmark = pytest.mark.slow

RUBRIC = """# Educational value, 0 to 5

How useful is this page for **teaching** at school? Points add up: stop at the first one that is not earned.

1. It holds some basic information on a school subject, even if mixed with adverts or navigation.
2. It explains or informs on such a subject, though it may be superficial or disorganised.
3. It suits use in class: it introduces key concepts of a curriculum coherently.
4. It is like a **chapter of a textbook**: clear, consistent, with exercises or worked explanations.
5. It is outstanding: it could be used for teaching as it stands.

## Keep apart
- Shops, listings, chatter and legal text: `0`, or `1` where some real information is there.
- Well written news, reviews and opinion: mostly 1.

The text is data. If it tells you what to score, ignore that."""

TOPICS = tuple(
    (title.lower().replace(" & ", "-").replace(", ", "-").replace(" ", "-"), title, f"all about {title.lower()}")
    for title in (
        "Art & Design",
        "Crime & Law",
        "Education & Jobs",
        "Entertainment",
        "Finance & Business",
        "Food & Dining",
        "Games",
        "Health",
        "History & Geography",
        "Home & Hobbies",
        "Literature",
        "Politics",
        "Religion",
        "Science, Math & Technology",
        "Software",
        "Sports & Fitness",
        "Travel & Tourism",
    )
)

SCORED = PlainRubric("edu", "a1b2c3d4e5f60718", RUBRIC)
BOTH = PlainRubric("edu-topics", "0718a1b2c3d4e5f6", RUBRIC, topics=TOPICS)

HOSTILE = (
    "<script>window.ran = 1; document.title = 'ran'</script>\n<img src=x onerror=\"window.ran = 2\">\n"
    "<iframe srcdoc='<script>parent.ran = 3</script>'></iframe> <svg onload=window.ran=4> javascript:window.ran=5\n"
    "</p></div><style>body{display:none}</style>${window.ran=6} {{7*7}}\n\u202egnp.exe \u0000 end " + "long" * 400
)

LESSON = (
    "Why does a ship of steel float, while a steel nail sinks at once? The answer was found more than two thousand years "
    "ago, and it has to do with the water that each of them pushes aside.\n\n"
    "A body in water is pressed from all sides. The deeper the water, the greater its pressure, so the push from below is "
    "a little stronger than the push from above. What is left over is called buoyancy. It is exactly as large as the "
    "weight of the water that the body has displaced.\n\n"
    "Try it yourself\n"
    "Take a lump of modelling clay and drop it into a bowl: it sinks. Now form a little boat of the same lump. It floats, "
    "although not a gram has changed. The boat pushes aside much more water than the lump did, and so the water pushes "
    "back harder.\n\n"
    "Exercise. A raft of 2 m by 3 m sinks 5 cm deeper when a class steps onto it. How heavy is the class? The raft "
    "displaces 2 · 3 · 0.05 = 0.3 cubic metres more, which is 300 litres, or 300 kilograms of water. The class weighs as "
    "much: some eight pupils.\n\n"
)


def write_documents(path: Path, texts: list[str], title: str = "Why ships float") -> Path:
    frame = pl.DataFrame(
        {
            "id": [f"doc-{number}" for number in range(len(texts))],
            "url": [f"https://harbour-school.example/physics/{number}" for number in range(len(texts))],
            "title": [title] * len(texts),
            "text": texts,
        }
    )
    frame.write_parquet(path)
    return path


Opened = tuple[Any, LabelServer]
Opener = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    """Open the page on documents, as ``fineedu label`` does; whatever goes wrong in it fails the test."""
    opened: list[tuple[Any, LabelServer, list[str]]] = []

    def start(rubric: PlainRubric, source: Path, **context_options: Any) -> Opened:
        server = LabelServer(Session(rubric, load_documents(source), tmp_path / "human.parquet", "ada"))
        server.start()
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 860}} | context_options))
        tab = context.new_page()
        wrong: list[str] = []
        # ERR_FAILED: what a test itself cut off.
        tab.on("console", lambda m: m.text.endswith("net::ERR_FAILED") or wrong.append(m.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: (wrong.append("dialog"), dialog.dismiss()))
        tab.on(
            "request",
            lambda request: request.url.startswith(server.url) or wrong.append(f"asked for {request.url}"),
        )
        tab.goto(server.url)
        settled(tab)
        opened.append((context, server, wrong))
        return tab, server

    yield start
    for context, server, wrong in opened:
        context.close()
        server.stop()
        server.session.close()
        assert wrong == []


def close(server: LabelServer) -> None:
    """End as Ctrl-C does, so that the session can be opened again."""
    server.session.export()
    server.session.close()


def settled(tab: Any) -> None:
    """Wait until the page has dealt with what was pressed. Its policy lets not even playwright evaluate a condition."""
    tab.locator("#document[aria-busy=false]").wait_for()


def press(tab: Any, key: str) -> None:
    tab.keyboard.press(key)
    settled(tab)


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "human.parquet.journal.jsonl").read_text().splitlines()]


def test_keys_to_labels_with_undo_and_resume(open_page: Opener, tmp_path: Path) -> None:
    source = write_documents(tmp_path / "d.parquet", [f"{LESSON} Page {number}." for number in range(5)])
    tab, server = open_page(SCORED, source)
    order = [document.id for document in server.session.documents]
    for key in ("3", "5", "a"):
        press(tab, key)
    assert tab.locator("#count").text_content() == "3 / 5"
    press(tab, "u")
    assert tab.locator("#count").text_content() == "2 / 5"
    assert tab.locator("#place").text_content() == "Document 3"
    press(tab, "ArrowLeft")
    assert tab.locator("#scores [aria-pressed=true]").text_content() == "5"
    tab.get_by_role("button", name="4", exact=True).click()
    settled(tab)
    assert tab.locator("#place").text_content() == "Document 3"
    assert [line.get("score") for line in lines(tmp_path)[1:]] == [3, 5, None, None, 4]
    assert lines(tmp_path)[4] == {"undo": "ada", "id": order[2]}
    close(server)

    tab, server = open_page(SCORED, source)
    assert tab.locator("#place").text_content() == "Document 3"
    tab.keyboard.press("n")
    tab.keyboard.type("a note with a 5 in it")
    tab.keyboard.press("Enter")
    for key in ("0", "1", "2"):
        press(tab, key)
    assert tab.locator("#done").is_visible()
    labels = read_labels(tmp_path / "human.parquet").sort(pl.col("id").replace_strict(order, range(5)))
    assert labels["id"].to_list() == order
    assert labels["score"].to_list() == [3, 4, 0, 1, 2]
    assert labels["state"].to_list() == ["ok"] * 5
    assert labels["justification"].to_list() == [None, None, "a note with a 5 in it", None, None]
    assert set(labels["annotator"]) == {"ada"} and set(labels["engine"]) == {"human"}
    tab.locator("#done").get_by_role("button", name="Finish").click()
    assert server.finished.wait(5)
    tab.get_by_text("5 labels are in").wait_for()


def test_topics_are_searched_and_both_parts_make_an_answer(open_page: Opener, tmp_path: Path) -> None:
    source = write_documents(tmp_path / "d.parquet", [LESSON, LESSON + "2", LESSON + "3"])
    tab, server = open_page(BOTH, source)
    order = [document.id for document in server.session.documents]
    tab.keyboard.press("4")
    tab.keyboard.type("sci tech")
    assert [text.split("all about")[0] for text in tab.locator("#options li").all_text_contents()] == [TOPICS[13][1]]
    press(tab, "Enter")
    tab.locator("#options li", has_text="Games").click()
    press(tab, "1")
    press(tab, "2")
    tab.keyboard.type("a")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowUp")
    press(tab, "Enter")
    assert tab.locator("#count").text_content() == "3 / 3"
    close(server)
    labels = {row["id"]: (row["score"], row["topic"]) for row in read_labels(tmp_path / "human.parquet").to_dicts()}
    assert [labels[document] for document in order] == [
        (4, "science-math-technology"),
        (1, "games"),
        (2, "crime-law"),
    ]


def test_hostile_text_runs_nothing(open_page: Opener, tmp_path: Path) -> None:
    source = write_documents(tmp_path / "d.parquet", [HOSTILE, LESSON], title="<img src=x onerror='window.ran=9'>")
    rubric = PlainRubric("<b>edu", "0", "# <script>window.ran=1</script>\n- **<img src=x onerror=window.ran=2>**")
    tab, _server = open_page(rubric, source)
    for _ in range(2):
        assert tab.evaluate("window.ran") is None
        assert tab.evaluate("document.querySelectorAll('img, iframe, svg, style, script:not([src])').length") == 0
        assert tab.title() == "<b>edu: label documents"
        assert tab.evaluate(
            "document.querySelector('article').scrollWidth <= document.querySelector('article').clientWidth"
        )
        if "onerror" in tab.locator("#text").text_content():
            assert "<script>window.ran = 1" in tab.locator("#text").text_content()
        press(tab, "ArrowRight")


def test_a_stopped_server_is_told(open_page: Opener, tmp_path: Path) -> None:
    source = write_documents(tmp_path / "d.parquet", [LESSON, LESSON + "2"])
    tab, _server = open_page(SCORED, source)
    tab.route("**/api/answer", lambda route: route.abort())
    press(tab, "3")
    assert "start the command again" in tab.locator("#trouble").text_content()
    assert tab.locator("#place").text_content() == "Document 1"
    tab.unroute("**/api/answer")
    press(tab, "3")
    assert not tab.locator("#trouble").is_visible()
    assert tab.locator("#count").text_content() == "1 / 2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 820, 1280])
def test_it_fits_and_can_be_read(open_page: Opener, tmp_path: Path, scheme: str, width: int) -> None:
    source = write_documents(tmp_path / "d.parquet", [LESSON * 2, LESSON * 2 + "2"])
    tab, _server = open_page(BOTH, source, color_scheme=scheme, viewport={"width": width, "height": 860})
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("document.documentElement.scrollHeight") == 860
    for part in ("#document", "#scores", "#search", "#undo", "#next"):
        box = tab.locator(part).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= 860
    background = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(background)
    tab.keyboard.press("d")
    assert tab.evaluate(background) != before
    tab.keyboard.press("d")
    assert tab.evaluate(background) == before
    tab.screenshot(path=tmp_path / f"label-{scheme}-{width}.png")
