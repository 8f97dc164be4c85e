"""One person's labelling of documents: what is shown, what was answered, and the labels in the end.

Every answer is on the disk before the next document is shown: a line of a journal, which only grows. An undo is a line
too. Whatever stops the program, replaying the journal gives the state that the person last saw.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

import polars as pl

from fineedu.annotate.prompt import document_hash
from fineedu.errors import FineeduError
from fineedu.labels import LABEL_SCHEMA, write_labels

#: Characters of a note: a sentence or two.
_NOTE = 2000
_FORMAT = 1


class LabelRubric(Protocol):
    """What the label page needs of a rubric."""

    @property
    def name(self) -> str:
        """Name, e.g. ``edu``."""

    @property
    def hash(self) -> str:
        """Stands for everything in the rubric: answers to another hash answer another question."""

    @property
    def text(self) -> str:
        """Instructions, in plain Markdown: headings, lists, bold, code."""

    @property
    def scale(self) -> tuple[int, int] | None:
        """Lowest and highest score, or None where the rubric asks for a topic only."""

    @property
    def topics(self) -> Sequence[tuple[str, str, str]] | None:
        """Slug, title and meaning of each topic, or None where the rubric asks for a score only."""


@dataclass(frozen=True, slots=True)
class PlainRubric:
    """A rubric given in code."""

    name: str
    hash: str
    text: str
    scale: tuple[int, int] | None = (0, 5)
    topics: tuple[tuple[str, str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What a person sees."""

    id: str
    url: str
    title: str
    text: str

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the text."""
        return document_hash(self.text)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as the journal keeps it."""

    id: str
    annotator: str
    state: str
    score: int | None
    topic: str | None
    note: str | None
    document_hash: str
    n_chars: int
    #: shown for so long before the answer
    seconds: float | None


def load_documents(path: Path) -> list[Document]:
    """Read documents to label: ``id`` and ``text``, and ``url`` and ``title`` where there are such columns.

    They come in the order of a hash of their ids, the same for every annotator: so strata and hosts are mixed, and
    two people who each do the first hundred have a hundred in common.

    Raises:
        FineeduError: the file is missing, damaged, empty, has no ids or texts, or an id twice.
    """
    try:
        scan = pl.scan_parquet(path)
        there = scan.collect_schema()
        for name in ("id", "text"):
            if there.get(name) != pl.String():
                raise FineeduError(f"{path} needs a text column {name!r}; it has {', '.join(there)}")
        names = [name for name in ("id", "url", "title", "text") if there.get(name) == pl.String()]
        frame = scan.select(names).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read the documents {path}: {str(error).splitlines()[0]}") from error
    if not frame.height or frame["id"].null_count() or frame["text"].null_count():
        raise FineeduError(f"{path} holds no documents, or some without id or text")
    if frame["id"].is_duplicated().any():
        raise FineeduError(f"{path} holds an id twice: a document is labelled once")
    rows = [{name: row.get(name) or "" for name in ("id", "url", "title", "text")} for row in frame.to_dicts()]
    return sorted((Document(**row) for row in rows), key=lambda document: sha256(document.id.encode()).digest())


class Session:
    """The answers of one annotator, kept in ``<output>.journal.jsonl``, exported to ``output``.

    Several annotators may use one output after each other: the export holds them all.

    Args:
        rubric: what is asked.
        documents: what it is asked of.
        output: parquet file of labels.
        annotator: name of the person.

    Raises:
        FineeduError: the journal is damaged, of another rubric, or open in another session; or labels are there without
            a journal, which an export would overwrite.
    """

    def __init__(self, rubric: LabelRubric, documents: Sequence[Document], output: Path, annotator: str) -> None:
        if rubric.scale is None and not rubric.topics:
            raise FineeduError(f"the rubric {rubric.name} has neither a scale nor topics: there is nothing to ask")
        self.rubric = rubric
        self.documents = list(documents)
        self.output = output
        self.annotator = annotator
        self.lock = RLock()
        self._hashes = [document.hash for document in self.documents]
        self._place = {document.id: place for place, document in enumerate(self.documents)}
        #: all answers that were not undone, oldest first
        self._answers: list[Answer] = []
        self._open()

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.output.with_name(f"{self.output.name}.journal.jsonl")

    def _open(self) -> None:
        new = not self.journal.exists()
        if new and self.output.exists():
            raise FineeduError(
                f"{self.output} is there without its journal {self.journal.name}: take another --output, so that "
                f"those labels are not overwritten"
            )
        try:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.journal.open("ab", buffering=0)
        except OSError as error:
            raise FineeduError(f"cannot write {self.journal}: {error.strerror}") from error
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            whole = self._replay()
            self._stream.truncate(whole)
        except OSError as error:
            self._stream.close()
            raise FineeduError(f"{self.journal} is open in another session: stop that first") from error
        except FineeduError:
            self._stream.close()
            raise
        if not whole:
            self._append({"journal": _FORMAT, "rubric": self.rubric.name, "rubric_hash": self.rubric.hash})

    def _replay(self) -> int:
        """Take in the journal; return the bytes of its whole lines (a kill may have cut off the last)."""
        content = self.journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                self._take(json.loads(line), number)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise FineeduError(f"{self.journal}, line {number} is damaged: mend or remove that line") from error
        return whole

    def _take(self, entry: dict[str, Any], number: int) -> None:
        if number == 1:
            if entry["journal"] != _FORMAT or entry["rubric_hash"] != self.rubric.hash:
                raise FineeduError(
                    f"{self.journal} holds answers to rubric {entry['rubric']} ({entry['rubric_hash']}), not to "
                    f"{self.rubric.name} ({self.rubric.hash}): take another --output"
                )
        elif "undo" in entry:
            del self._answers[self._last(entry["undo"], {entry["id"]})]
        else:
            self._answers.append(Answer(**entry))

    def _append(self, entry: Mapping[str, object]) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        size = os.fstat(self._stream.fileno()).st_size
        try:
            if self._stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, "disk full")
            os.fsync(self._stream.fileno())
        except OSError as error:
            # Half a line would spoil the one after it.
            self._stream.truncate(size)
            raise FineeduError(f"cannot write {self.journal}: {error.strerror}: the answer is not saved") from error

    def _last(self, annotator: str, ids: Container[str]) -> int:
        """Return the place of an annotator's last answer to one of these documents.

        Raises:
            IndexError: there is none.
        """
        answers = self._answers
        return [n for n, answer in enumerate(answers) if answer.annotator == annotator and answer.id in ids][-1]

    def answer_of(self, index: int) -> Answer | None:
        """Return this annotator's latest answer to a document; None too where its text was another."""
        return self._current().get(index)

    def _current(self) -> dict[int, Answer]:
        current: dict[int, Answer] = {}
        for answer in self._answers:
            place = self._place.get(answer.id)
            if place is not None and answer.annotator == self.annotator and answer.document_hash == self._hashes[place]:
                current[place] = answer
        return current

    def answered(self) -> list[bool]:
        """Return for each document whether it has an answer."""
        current = self._current()
        return [place in current for place in range(len(self.documents))]

    def answer(
        self,
        document_id: str,
        state: str,
        score: int | None = None,
        topic: str | None = None,
        note: str | None = None,
        seconds: float | None = None,
    ) -> None:
        """Save an answer; it is on the disk when this returns.

        Raises:
            FineeduError: no such document, or an answer that the rubric does not allow.
        """
        with self.lock:
            if document_id not in self._place:
                raise FineeduError(f"no document {document_id!r} in this session")
            self._check(state, score, topic)
            if not (note is None or isinstance(note, str)) or not (seconds is None or isinstance(seconds, int | float)):
                raise FineeduError("a note is text, and seconds are a number")
            place = self._place[document_id]
            answer = Answer(
                id=document_id,
                annotator=self.annotator,
                state=state,
                score=score,
                topic=topic,
                note=(note or "").strip()[:_NOTE] or None,
                document_hash=self._hashes[place],
                n_chars=len(self.documents[place].text),
                seconds=seconds,
            )
            self._append(asdict(answer))
            self._answers.append(answer)

    def _check(self, state: str, score: int | None, topic: str | None) -> None:
        rubric = self.rubric
        if state == "abstain":
            if score is not None or topic is not None:
                raise FineeduError("an abstention has neither score nor topic")
            return
        if state != "ok":
            raise FineeduError(f"a person answers ok or abstain, not {state!r}")
        allowed = [None] if rubric.scale is None else list(range(rubric.scale[0], rubric.scale[1] + 1))
        if score not in allowed or isinstance(score, bool | float):
            raise FineeduError(f"the score {score} is not on the rubric's scale {rubric.scale}")
        slugs = [slug for slug, _, _ in rubric.topics] if rubric.topics else [None]
        if topic not in slugs:
            raise FineeduError(f"the rubric has no topic {topic!r}")

    def undo(self) -> int | None:
        """Take this annotator's last answer back; return its document's index, None where there is no answer.

        Answers to documents that are not in this session stay: they could not be seen.
        """
        with self.lock:
            try:
                last = self._last(self.annotator, self._place)
            except IndexError:
                return None
            document = self._answers[last].id
            self._append({"undo": self.annotator, "id": document})
            del self._answers[last]
            return self._place[document]

    def export(self) -> int:
        """Write the labels of all annotators in the journal; return their number. The latest answer counts."""
        with self.lock:
            latest = {(answer.annotator, answer.id): answer for answer in self._answers}
            rows = [asdict(answer) for answer in latest.values()]
            kinds = {"note": pl.String, "seconds": pl.Float64}
            schema = {name: LABEL_SCHEMA.get(name, kinds.get(name)) for name in Answer.__slots__}
            frame = pl.DataFrame(rows, schema=schema).rename({"note": "justification"})
            votes = frame.with_columns(
                rubric=pl.lit(self.rubric.name),
                rubric_hash=pl.lit(self.rubric.hash),
                engine=pl.lit("human"),
                sample=pl.lit(0, pl.Int32),
            )
            facts: dict[str, object] = {
                "rubric": self.rubric.name,
                "rubric_hash": self.rubric.hash,
                "journal": self.journal.name,
            }
            write_labels(self.output, votes, facts)
            return votes.height

    def close(self) -> None:
        """Let go of the journal."""
        self._stream.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
