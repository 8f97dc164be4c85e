"""Answers already paid for, on disk: SQLite files that survive a kill."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from fineedu.annotate.answer import Completion
from fineedu.errors import FineeduError

_TABLE = """CREATE TABLE IF NOT EXISTS answers (
    rubric TEXT NOT NULL, annotator TEXT NOT NULL, document TEXT NOT NULL, sample INTEGER NOT NULL,
    answer TEXT NOT NULL, PRIMARY KEY (rubric, annotator, document, sample)
) WITHOUT ROWID"""
#: SQLite takes 32,766 parameters in a statement.
_KEYS_AT_ONCE = 10_000


class Key(NamedTuple):
    """What an answer depends on."""

    rubric: str
    annotator: str
    document: str
    sample: int


class AnswerCache:
    """The answers of a folder: any number of files are read, one is written.

    Several tasks may share a folder, also over a network: each writes a file of its own, so that no two machines ever
    lock the same one. A write is in the file when :meth:`put` returns, whatever kills this process then; only the loss
    of the whole machine may take the last second's.

    Args:
        folder: where the files lie; made where it is missing.
        writer: name of the file that this process writes.
    """

    def __init__(self, folder: Path, writer: str = "answers") -> None:
        self._own = folder / f"{writer}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._own, isolation_level=None, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_TABLE)
            self._others = [self._open(path) for path in sorted(folder.glob("*.sqlite")) if path != self._own]
        except (OSError, sqlite3.Error) as error:
            raise FineeduError(f"cannot use the cache of answers {self._own}: {error}") from error

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        connection.execute(_TABLE)
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in (self._connection, *self._others):
            connection.close()

    def get(self, rubric: str, annotator: str, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Completion]:
        """Return what is there of an annotator's answers.

        Args:
            rubric: hash of the rubric.
            annotator: who answered.
            keys: document hash and sample of each answer asked for.
        """
        wanted = set(keys)
        found: dict[tuple[str, int], Completion] = {}
        for document, sample, answer in self._rows(rubric, annotator, sorted({document for document, _ in wanted})):
            if (document, sample) in wanted and (document, sample) not in found:
                found[document, sample] = _decode(answer)
        return found

    def _rows(self, rubric: str, annotator: str, documents: list[str]) -> Iterator[tuple[str, int, str]]:
        for start in range(0, len(documents), _KEYS_AT_ONCE):
            part = documents[start : start + _KEYS_AT_ONCE]
            sql = (
                "SELECT document, sample, answer FROM answers WHERE rubric = ? AND annotator = ? "
                f"AND document IN ({','.join('?' * len(part))})"
            )
            for connection in (self._connection, *self._others):
                with closing(connection.execute(sql, (rubric, annotator, *part))) as cursor:
                    yield from cursor

    def put(self, key: Key, answer: Completion) -> None:
        """Keep an answer. One with an error is not kept: it is asked for again."""
        if answer.error is None:
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", (*key, _encode(answer)))


def _encode(answer: Completion) -> str:
    return json.dumps(asdict(answer), ensure_ascii=False, separators=(",", ":"))


def _decode(text: str) -> Completion:
    raw = json.loads(text)
    raw["alternatives"] = tuple((token, float(p)) for token, p in raw["alternatives"])
    return Completion(**raw)
