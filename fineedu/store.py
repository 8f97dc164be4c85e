"""The store on disk: where things lie, how they are written whole, and what made them.

Everything a run writes goes to a temporary name in the same folder and is renamed when complete, so a shard is
there whole or not at all, whatever kills the run. Layout and columns are specified in ``docs/data-format.md``.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from fineedu.errors import FineeduError
from fineedu.remote import as_url, mirror_of, register, work_folder

#: Rows of a row group, and of a batch in memory: about 3 MB of text, which bounds memory whatever the shard's size.
BATCH_ROWS = 1024
_META_KEY = b"fineedu"
_TEMPORARY = ".tmp-"

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One unit of work and of storage: the same name under documents, signals and decisions."""

    dump: str
    index: int

    @property
    def path(self) -> Path:
        """Relative path without suffix, e.g. ``dump=CC-MAIN-2024-10/00000``."""
        return Path(f"dump={self.dump}") / f"{self.index:05d}"

    def __str__(self) -> str:
        return f"{self.dump}/{self.index:05d}"


def fingerprint(value: Any) -> str:
    """Return 16 hex digits that stand for any JSON-ready value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """Return a file's SHA-256, 64 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def atomic_open(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under its name only when the block ends without an error.

    Raises:
        FineeduError: the folder cannot be written, or the disk is full; nothing is left behind.
    """
    # Random, because on a cluster two tasks of the same process number may be making the same shard: one of them on a
    # machine that was given up for lost.
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(6)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            mirror = mirror_of(path)
            if mirror is not None:
                mirror.put(temporary, path)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:
            raise
        raise FineeduError(
            f"cannot write {path}: {error.strerror}. Mend that and run the same command again: it resumes."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole, keys in the given order."""
    with atomic_open(path) as stream:
        stream.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of the store.

    Raises:
        FineeduError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise FineeduError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise FineeduError(f"{path} is damaged ({error}): delete it and run again") from error


def read_model(path: Path, kind: type[Model], missing: str, wrong: str) -> Model:
    """Read a JSON file that a command wrote from a pydantic model.

    Args:
        path: the file.
        kind: the model.
        missing: what to say where it cannot be read.
        wrong: what to say, before pydantic's reason, where it holds something else.

    Raises:
        FineeduError: with one of the two.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FineeduError(missing) from error
    except ValidationError as error:
        raise FineeduError(f"{wrong}: {error.errors()[0]['msg']}") from error


class _Sink(io.BufferedIOBase):
    """What a parquet writer writes to. Once it has failed or is closed, it takes the rest and drops it.

    A writer that is given up writes its footer when it is collected, and would print the same error once more.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._failed = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return 0 if self._failed or self._stream.closed else self._stream.tell()

    def flush(self) -> None:
        if not (self._failed or self._stream.closed):
            self._stream.flush()

    def write(self, data: Any) -> int:
        if not (self._failed or self._stream.closed):
            try:
                self._stream.write(data)
            except OSError:
                self._failed = True
                raise
        return len(data)


class TableWriter:
    """Writes batches as the row groups of one parquet file, which appears whole at the end.

    Args:
        stream: from :func:`atomic_open`.
        schema: column names and Polars types; batches are cast to it.
    """

    def __init__(self, stream: IO[bytes], schema: Mapping[str, pl.DataType]) -> None:
        self._empty = pl.DataFrame(schema=dict(schema))
        # Zstandard 3 is 2.6 times smaller than snappy here at the same speed of the whole run.
        schema_there = self._empty.to_arrow().schema
        self._writer = pq.ParquetWriter(_Sink(stream), schema_there, compression="zstd", compression_level=3)
        self.rows = 0

    def write(self, batch: pl.DataFrame) -> None:
        """Append a batch as one row group."""
        if batch.height:
            self._writer.write_table(batch.select(self._empty.columns).cast(self._empty.schema).to_arrow())
            self.rows += batch.height

    def close(self, facts: Mapping[str, Any]) -> None:
        """Finish the file; ``facts`` (JSON-ready) travel in its metadata: counts, reasons, what made it."""
        self._writer.add_key_value_metadata({_META_KEY: json.dumps(facts, ensure_ascii=False).encode()})
        self._writer.close()


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts that :meth:`TableWriter.close` stored.

    Raises:
        FineeduError: the file is missing, damaged or not one of ours.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        facts: dict[str, Any] = json.loads(metadata[_META_KEY])
        return facts
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise FineeduError(
            f"{path} is damaged or not a shard of fineedu ({type(error).__name__}): delete it and run again"
        ) from error


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    """Yield a parquet file row group by row group.

    Raises:
        FineeduError: the file is missing or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = pl.from_arrow(file.read_row_group(group, columns=columns, use_threads=False))
                assert isinstance(table, pl.DataFrame)
                yield table
    except MemoryError:
        raise  # Arrow's is an ArrowException too, but says nothing of the file
    except (OSError, pa.ArrowException) as error:
        raise FineeduError(f"{path} is damaged ({error}): delete it and run again, it is made anew") from error


def read_rows(path: Path, rows: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
    """Return single rows of a parquet file; only the row groups that hold them are read, one at a time.

    Args:
        path: the file.
        rows: their numbers, ascending.
        columns: columns to read.

    Raises:
        FineeduError: the file is missing or damaged.
    """
    parts: list[pl.DataFrame] = []
    try:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            for group in np.unique(np.searchsorted(ends, rows, side="right")):
                inside = [
                    row - (ends[group] - sizes[group]) for row in rows if 0 <= ends[group] - row - 1 < sizes[group]
                ]
                table = file.read_row_group(int(group), columns=list(columns), use_threads=False)
                parts.append(pl.DataFrame(table)[inside])  # pyarrow's take would import pandas: 0.4 s
    except (OSError, pa.ArrowException) as error:
        raise FineeduError(f"{path} is damaged ({error}): delete it and run again, it is made anew") from error
    return pl.concat(parts)


@dataclass(frozen=True, slots=True)
class Store:
    """One output folder, kept at ``url`` as well where there is one."""

    root: Path
    url: str | None = None

    def __post_init__(self) -> None:
        """Tell this process where the files are kept."""
        if self.url is not None:
            register(self.root, self.url)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.root, self.url)  # so that a worker is told too

    def documents(self, shard: Shard) -> Path:
        """Return the path of a documents shard."""
        return self.root / "documents" / shard.path.with_suffix(".parquet")

    def signals(self, family: str, shard: Shard) -> Path:
        """Return the path of a signals shard."""
        return self.root / "signals" / family / shard.path.with_suffix(".parquet")

    def run(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self.root / "runs" / run_id

    def decisions(self, run_id: str, shard: Shard) -> Path:
        """Return the path of a run's decisions on a shard."""
        return self.run(run_id) / "decisions" / shard.path.with_suffix(".parquet")

    def corpus(self, run_id: str) -> Path:
        """Return the folder of a run's selected documents."""
        return self.root / "corpus" / run_id

    def claim(self, folder: str, made_by: dict[str, Any]) -> str:
        """Say what makes the files of a folder; refuse where they were made by something else.

        Args:
            folder: ``documents`` or ``signals/<family>``.
            made_by: everything its values depend on, JSON-ready.

        Returns:
            The fingerprint, which every shard carries too.

        Raises:
            FineeduError: the folder holds shards of another making; names the settings that differ.
        """
        path = self.root / folder / "_fingerprint.json"
        mark = fingerprint(made_by)
        if not path.exists():
            write_json(path, {"fingerprint": mark, "made_by": made_by})
            return mark
        found = read_json(path)
        if found["fingerprint"] != mark:
            old = found["made_by"]
            differing = [
                f"{key}: {old.get(key)!r} there, {made_by.get(key)!r} now"
                for key in sorted(old.keys() | made_by.keys())
                if old.get(key) != made_by.get(key)
            ]
            raise FineeduError(
                f"{self.root / folder} was made by something else ({'; '.join(differing)}). "
                f"Take another --output, or delete that folder to have it made anew."
            )
        return mark

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for one run; leftovers of killed runs, and of machines that were lost, are cleared.

        Raises:
            FineeduError: another run holds it, or the folder cannot be made.
        """
        with hold(self.root / ".lock", f"another run is writing to {self.root}: wait for it, or take another --output"):
            self._clear_leftovers()
            with self._kept():
                yield
            self._clear_leftovers()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        mirror = mirror_of(self.root / "documents") if self.url else None
        if mirror is None:
            yield
            return
        with mirror.lock():
            mirror.pull()
            yield

    def _clear_leftovers(self) -> None:
        for leftover in self.root.rglob(f"{_TEMPORARY}*"):
            leftover.unlink(missing_ok=True)


def open_store(output: str | Path) -> Store:
    """Return the store of a folder, or of a URL such as ``s3://bucket/store``, which has a work folder here."""
    return Store(work_folder(output), as_url(output))


@contextmanager
def hold(path: Path, held: str) -> Iterator[None]:
    """Hold a lock file.

    Raises:
        FineeduError: with the message ``held`` where another process holds it; or its folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    except OSError as error:
        raise FineeduError(f"cannot write to the output folder {path.parent}: {error.strerror}") from error
    with stream:
        try:
            # A POSIX lock belongs to this process alone: no forked child can keep it when we are killed.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FineeduError(held) from error
        yield


def is_current(path: Path, mark: str) -> bool:
    """Tell whether a file is there and made by what ``mark`` stands for; one of another making is made anew."""
    return path.exists() and read_facts(path).get("fingerprint") == mark


def is_made(path: Path, mark: str) -> bool:
    """Tell whether a shard is there and made by what ``mark`` stands for.

    Raises:
        FineeduError: it is there, but damaged or of another making.
    """
    if not path.exists():
        mirror = mirror_of(path)
        if mirror is None or not mirror.fetch(path):
            return False
    found = read_facts(path).get("fingerprint")
    if found != mark:
        raise FineeduError(
            f"{path} was made by something else (fingerprint {found}, expected {mark}): delete it and run again"
        )
    return True
