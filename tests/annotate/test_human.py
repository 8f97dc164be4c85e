"""Labels by people, without a browser: the journal loses nothing, the server answers nobody but its page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fineedu.annotate.human.server import LabelServer
from fineedu.annotate.human.session import Document, PlainRubric, Session, load_documents
from fineedu.annotate.human_command import label
from fineedu.annotate.rubric import load_rubric
from fineedu.errors import FineeduError
from fineedu.labels import LABEL_SCHEMA, read_labels

RUBRIC = PlainRubric("edu", "0123456789abcdef", "# Score it")
TOPICS = PlainRubric("topics", "fedcba9876543210", "Choose", None, (("law", "Law", "courts"), ("games", "Games", "")))
DOCUMENTS = [Document(f"d{n}", f"http://x.example/{n}", f"Title {n}", f"Text {n} \u00e4\U0001f600") for n in range(4)]


def rows(output: Path) -> list[tuple[Any, ...]]:
    return read_labels(output).select("id", "annotator", "state", "score", "topic").rows()


def test_answers_become_ordinary_labels(tmp_path: Path) -> None:
    output = tmp_path / "labels" / "human.parquet"
    with Session(RUBRIC, DOCUMENTS, output, "ada") as session:
        session.answer("d1", "ok", score=4, note=" good ", seconds=2.5)
        session.answer("d0", "abstain")
        session.answer("d1", "ok", score=3)
        assert session.export() == 2
    labels = pl.read_parquet(output)
    assert labels.columns[: len(LABEL_SCHEMA)] == list(LABEL_SCHEMA)
    assert labels.schema == labels.schema | LABEL_SCHEMA
    last = labels.row(1, named=True)
    assert last == {
        **dict.fromkeys(labels.columns),
        "id": "d1",
        "rubric": "edu",
        "rubric_hash": RUBRIC.hash,
        "annotator": "ada",
        "engine": "human",
        "sample": 0,
        "state": "ok",
        "score": 3.0,
        "document_hash": sha256(DOCUMENTS[1].text.encode()).hexdigest()[:16],
        "n_chars": 9,
    }
    assert labels.row(0, named=True)["score"] is None


def test_without_any_answer_the_labels_are_empty(tmp_path: Path) -> None:
    with Session(RUBRIC, DOCUMENTS, tmp_path / "h.parquet", "ada") as session:
        assert session.export() == 0
    assert read_labels(tmp_path / "h.parquet").height == 0


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 3), st.integers(0, 5) | st.none()),
        st.just("undo"),
        st.just("restart"),
        st.just("torn"),
        st.sampled_from(["ada", "bob"]),
    ),
    max_size=25,
)


@given(ACTIONS)
def test_whatever_happens_the_journal_gives_the_state_last_seen(
    tmp_path_factory: pytest.TempPathFactory, actions: list[Any]
) -> None:
    output = tmp_path_factory.mktemp("session") / "h.parquet"
    session = Session(RUBRIC, DOCUMENTS, output, "ada")
    stacks: dict[str, list[tuple[int, int | None]]] = {"ada": [], "bob": []}
    annotator = "ada"
    for action in actions:
        if action == "undo":
            expected = stacks[annotator].pop()[0] if stacks[annotator] else None
            assert session.undo() == expected
        elif isinstance(action, tuple):
            index, score = action
            session.answer(f"d{index}", "abstain" if score is None else "ok", score=score)
            stacks[annotator].append(action)
        else:
            if action == "torn":
                session._stream.write(b'{"id": "d1", "annot')
            annotator = action if action in stacks else annotator
            session.close()
            session = Session(RUBRIC, DOCUMENTS, output, annotator)
    latest = {name: dict(stack) for name, stack in stacks.items()}
    assert session.answered() == [index in latest[annotator] for index in range(4)]
    session.export()
    session.close()
    expected_rows = sorted(
        (f"d{index}", name, "abstain" if score is None else "ok", score, None)
        for name, answers in latest.items()
        for index, score in answers.items()
    )
    assert rows(output) == expected_rows


def test_another_text_under_the_same_id_is_asked_again(tmp_path: Path) -> None:
    with Session(RUBRIC, DOCUMENTS, tmp_path / "h.parquet", "ada") as session:
        session.answer("d2", "ok", score=1)
    changed = [*DOCUMENTS[:2], Document("d2", "", "", "Other text"), DOCUMENTS[3]]
    with Session(RUBRIC, changed, tmp_path / "h.parquet", "ada") as session:
        assert session.answered() == [False] * 4


@pytest.mark.parametrize(
    ("rubric", "answer"),
    [
        (RUBRIC, {"state": "ok", "score": 6}),
        (RUBRIC, {"state": "ok", "score": True}),
        (RUBRIC, {"state": "ok", "score": 2.0}),
        (RUBRIC, {"state": "ok", "score": "3"}),
        (RUBRIC, {"state": "ok"}),
        (RUBRIC, {"state": "ok", "score": 3, "topic": "law"}),
        (RUBRIC, {"state": "abstain", "score": 3}),
        (RUBRIC, {"state": "refusal"}),
        (RUBRIC, {"state": "ok", "score": 3, "note": ["x"]}),
        (RUBRIC, {"state": "ok", "score": 3, "seconds": "x"}),
        (TOPICS, {"state": "ok", "topic": "tax"}),
        (TOPICS, {"state": "ok", "topic": "law", "score": 1}),
    ],
)
def test_answers_that_the_rubric_does_not_allow_are_refused(
    tmp_path: Path, rubric: PlainRubric, answer: dict[str, Any]
) -> None:
    with Session(rubric, DOCUMENTS, tmp_path / "h.parquet", "ada") as session:
        with pytest.raises(FineeduError):
            session.answer("d0", **answer)
        assert session.answered() == [False] * 4
        assert len(session.journal.read_text().splitlines()) == 1


def test_mistakes_are_told(tmp_path: Path) -> None:
    output = tmp_path / "h.parquet"
    session = Session(RUBRIC, DOCUMENTS, output, "ada")
    with pytest.raises(FineeduError, match="open in another session"):
        Session(RUBRIC, DOCUMENTS, output, "bob")
    session.answer("d0", "ok", score=1)
    session.export()
    session.close()
    with pytest.raises(FineeduError, match="holds answers to rubric edu"):
        Session(TOPICS, DOCUMENTS, output, "ada")
    content = session.journal.read_text()
    session.journal.write_text(content.replace('"state"', '"stat"') + '{"undo": "ada", "id": "d0"}\n')
    with pytest.raises(FineeduError, match="line 2 is damaged"):
        Session(RUBRIC, DOCUMENTS, output, "ada")
    session.journal.unlink()
    with pytest.raises(FineeduError, match="without its journal"):
        Session(RUBRIC, DOCUMENTS, output, "ada")
    with pytest.raises(FineeduError, match="nothing to ask"):
        Session(PlainRubric("r", "h", "t", None), DOCUMENTS, tmp_path / "o.parquet", "ada")


def test_documents_come_in_one_order_and_bad_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    frame = pl.DataFrame({"id": [f"d{n}" for n in range(30)], "text": ["t"] * 30, "title": [None, *["x"] * 29]})
    frame.write_parquet(path)
    order = [document.id for document in load_documents(path)]
    assert order != frame["id"].to_list()
    frame[::-1].write_parquet(path)
    assert [document.id for document in load_documents(path)] == order
    for wrong, message in (
        (frame.drop("text"), "needs a text column 'text'"),
        (pl.concat([frame, frame]), "an id twice"),
        (frame[:0], "holds no documents"),
    ):
        wrong.write_parquet(path)
        with pytest.raises(FineeduError, match=message):
            load_documents(path)
    with pytest.raises(FineeduError, match="cannot read"):
        load_documents(tmp_path / "none.parquet")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LabelServer]:
    made = LabelServer(Session(RUBRIC, DOCUMENTS, tmp_path / "h.parquet", "ada"))
    made.start()
    yield made
    made.stop()
    made.session.close()


def ask(
    server: LabelServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(server.hosts[0], timeout=10)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | given
    connection.request(method, path.replace("TOKEN", server.token), body, given)
    reply = connection.getresponse()
    try:
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def test_page_is_served_with_a_policy_that_runs_nothing_else(server: LabelServer) -> None:
    for path, kind in (("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")):
        status, headers, content = ask(server, "GET", f"/TOKEN/{path}")
        assert status == 200 and headers["content-type"].startswith(kind) and content
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
    status, _, content = ask(server, "GET", "/TOKEN/api/document/2")
    assert status == 200 and json.loads(content)["text"] == DOCUMENTS[2].text


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 403),
        ("/wrong-token/", {}, 403),
        ("/w%C3%B6/", {}, 403),
        ("/TOKEN", {"Host": "evil.example"}, 403),
        ("/TOKEN/", {"Host": "evil.example:80"}, 403),
        ("/TOKEN/", {"Host": "127.0.0.1"}, 403),
        ("/TOKEN/api/session", {"Origin": "http://evil.example"}, 403),
        ("/TOKEN/api/session", {"Origin": "null"}, 403),
        ("/TOKEN/api/document/4", {}, 404),
        ("/TOKEN/api/document/-1", {}, 404),
        ("/TOKEN/../session.py", {}, 404),
        ("/TOKEN/session.py", {}, 404),
    ],
)
def test_strangers_get_nothing(server: LabelServer, path: str, headers: dict[str, str], status: int) -> None:
    assert ask(server, "GET", path, **headers)[0] == status
    answer = {"document_id": "d0", "state": "ok", "score": 5}
    if status == 403:
        assert ask(server, "POST", f"{path}api/answer", answer, **headers)[0] == 403
    assert not any(server.session.answered())


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"document_id": "d0", "state": "ok", "score": 3}, {"Content_Type": "text/plain"}, 400),
        (b"document_id=d0&state=ok", {"Content_Type": "application/x-www-form-urlencoded"}, 400),
        (b"{", {"Content_Type": "application/json"}, 400),
        ([1], {}, 400),
        ({"document_id": "d0"}, {}, 400),
        ({"document_id": ["d0"], "state": "ok", "score": 3}, {}, 400),
        ({"document_id": "d9", "state": "ok", "score": 3}, {}, 400),
        ({"document_id": "d0", "state": "ok", "score": 9}, {}, 400),
        ({"document_id": "d0", "state": "ok", "score": 3, "self": 1}, {}, 400),
        (b" " * 40_000, {"Content_Type": "application/json"}, 413),
        ({"document_id": "d0", "state": "ok", "score": 3}, {"Content_Length": "x"}, 413),
    ],
)
def test_what_is_no_answer_is_refused(server: LabelServer, body: Any, headers: dict[str, str], status: int) -> None:
    found, _, content = ask(server, "POST", "/TOKEN/api/answer", body, **headers)
    assert found == status and json.loads(content)["error"]
    assert not any(server.session.answered())


def test_answer_undo_finish(server: LabelServer) -> None:
    own = {"Origin": server.url[: server.url.index("/", 7)]}
    status, _, content = ask(
        server, "POST", "/TOKEN/api/answer", {"document_id": "d1", "state": "ok", "score": 3}, **own
    )
    assert (status, json.loads(content)) == (200, {"answered": [False, True, False, False]})
    assert json.loads(ask(server, "POST", "/TOKEN/api/undo", {})[2])["index"] == 1
    assert json.loads(ask(server, "POST", "/TOKEN/api/undo", {})[2])["index"] is None
    assert json.loads(ask(server, "POST", "/TOKEN/api/finish", {})[2])["labels"] == 0
    assert server.finished.wait(5)


def test_a_port_that_is_taken_is_told(server: LabelServer) -> None:
    port = int(server.hosts[0].rpartition(":")[2])
    with pytest.raises(FineeduError, match="cannot listen on port"):
        LabelServer(server.session, port)


COMMAND = """
import typer
from fineedu.annotate.human_command import label
typer.run(label)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_exports(tmp_path: Path, stop: signal.Signals) -> None:
    source, output = tmp_path / "d.parquet", tmp_path / "h.parquet"
    pl.DataFrame({"id": ["a", "b"], "text": ["one", "two"]}).write_parquet(source)
    asked = PlainRubric("edu", load_rubric("edu").hash, "")
    with Session(asked, load_documents(source), output, "ada") as session:
        session.answer("a", "ok", score=2)
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "edu", "-i", str(source), "-o", str(output), "--annotator", "ada"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "300", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        assert "2 documents, 1 answered by ada" in process.stdout.readline()
        assert process.stdout.readline().startswith("open http://127.0.0.1:")
        assert "Ctrl-C" in process.stdout.readline()
        process.send_signal(stop)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0 and "1 labels in" in rest
    assert rows(output) == [("a", "ada", "ok", 2.0, None)]


def test_the_command_takes_the_rubric_and_tells_mistakes(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(label)
    wrong = CliRunner().invoke(app, ["edu", "-i", str(tmp_path / "none.parquet"), "-o", str(tmp_path / "h.parquet")])
    assert isinstance(wrong.exception, FineeduError) and "cannot read the documents" in str(wrong.exception)
    assert not list(tmp_path.iterdir())
    unknown = CliRunner().invoke(app, ["none", "-i", "d.parquet"])
    assert isinstance(unknown.exception, FineeduError) and "no rubric 'none'" in str(unknown.exception)


def test_undo_leaves_answers_to_documents_that_are_not_shown(tmp_path: Path) -> None:
    with Session(RUBRIC, DOCUMENTS, tmp_path / "h.parquet", "ada") as session:
        session.answer("d0", "ok", score=1)
        session.answer("d3", "ok", score=2)
    with Session(RUBRIC, DOCUMENTS[:2], tmp_path / "h.parquet", "ada") as session:
        assert session.undo() == 0
        assert session.undo() is None
        assert session.export() == 1
    assert rows(tmp_path / "h.parquet") == [("d3", "ada", "ok", 2.0, None)]
