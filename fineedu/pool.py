"""A pool of scored documents: the store of a run, or parquet files, read by column in large batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fineedu.errors import FineeduError
from fineedu.remote import as_url, open_output
from fineedu.store import Shard, Store, read_json

#: Rows read together: 2 MB a column of numbers; a store's own row groups of 1,024 cost ten times the overhead.
POOL_ROWS = 2**17


@dataclass(frozen=True, slots=True)
class Pool:
    """Parquet files side by side: part name to its files, of which those with the same number hold the same rows."""

    root: str
    parts: dict[str, tuple[Path, ...]]
    schema: dict[str, pl.DataType]
    owners: dict[str, str]
    #: signal family that some shards lack to what is there of it
    incomplete: dict[str, str] = field(default_factory=dict)

    def require(self, columns: Sequence[str]) -> None:
        """Check that columns are there.

        Raises:
            FineeduError: names the first that is not, and those there are.
        """
        for column in columns:
            if column not in self.schema:
                there = ", ".join(sorted(self.schema))
                raise FineeduError(f"{self.root} has no column {column!r}; there are {there}{self.lacking}")

    @property
    def lacking(self) -> str:
        """What to add to a message about a missing column: signals that are not complete."""
        return "".join(f"; signals/{name} has only {found}" for name, found in self.incomplete.items())

    def batches(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the columns, up to ``POOL_ROWS`` rows at a time.

        Raises:
            FineeduError: no such column, a damaged file, or files that do not hold the same documents.
        """
        self.require(columns)
        for number in range(len(next(iter(self.parts.values())))):
            yield from self.part_batches(number, columns)

    def part_batches(self, number: int, columns: Sequence[str], rows: int = POOL_ROWS) -> Iterator[pl.DataFrame]:
        """Yield the columns of one shard, whole row groups of ``rows`` rows or more at a time.

        Raises:
            FineeduError: no such column, a damaged file, or files that do not hold the same documents.
        """
        self.require(columns)
        wanted = list(dict.fromkeys(columns))
        by_part: dict[str, list[str]] = {}
        for column in wanted or list(self.schema)[:1]:
            by_part.setdefault(self.owners[column], []).append(column)
        if len(by_part) > 1:
            by_part = {part: ["id", *(name for name in names if name != "id")] for part, names in by_part.items()}
        readers = [_read(self.parts[part][number], names, rows) for part, names in by_part.items()]
        for frames in zip(*readers, strict=True):
            yield _beside(list(frames), self.root, number).select(wanted)


def _beside(frames: list[pl.DataFrame], root: str, number: int) -> pl.DataFrame:
    first, *others = frames
    for other in others:
        if not other["id"].equals(first["id"]):
            raise FineeduError(f"{root}: the files of shard {number} do not hold the same documents: make them anew")
        first = first.hstack(other.drop("id"))
    return first


def _read(path: Path, columns: list[str], at_least: int) -> Iterator[pl.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            groups: list[int] = []
            rows = 0
            for group in range(file.num_row_groups):
                groups.append(group)
                rows += file.metadata.row_group(group).num_rows
                if rows >= at_least or group == file.num_row_groups - 1:
                    table = pl.from_arrow(file.read_row_groups(groups, columns=columns))
                    assert isinstance(table, pl.DataFrame)
                    yield table.select(columns)
                    groups, rows = [], 0
    except (OSError, pa.ArrowException) as error:
        raise FineeduError(f"cannot read {path}: {error}") from error


def open_pool(source: str | Path) -> Pool:
    """Open a store (its documents and all of its signals), a parquet file, a folder of them, or a glob.

    Raises:
        FineeduError: nothing there, or signals that are not complete.
    """
    root = open_output(source) if as_url(source) else Path(source)
    if (root / "documents").is_dir():
        return _open_store(root)
    if root.is_dir():
        files = sorted(root.rglob("*.parquet"))
    elif root.is_file():
        files = [root]
    else:
        base = Path(root.anchor) if root.is_absolute() else Path()
        files = sorted(base.glob(str(root.relative_to(root.anchor)) if root.is_absolute() else str(root)))
    if not files:
        raise FineeduError(f"no parquet files at {source}: give a store, a folder, a file or a glob")
    schema = _schema(files[0])
    return Pool(str(source), {"files": tuple(files)}, schema, dict.fromkeys(schema, "files"))


def _open_store(root: Path) -> Pool:
    names = sorted(path.relative_to(root / "documents") for path in (root / "documents").rglob("*.parquet"))
    if not names:
        raise FineeduError(f"{root} has no documents: run a recipe first")
    parts = {"documents": tuple(root / "documents" / name for name in names)}
    schema = _schema(parts["documents"][0])
    owners = dict.fromkeys(schema, "documents")
    incomplete: dict[str, str] = {}
    families = sorted(path for path in (root / "signals").glob("*") if path.is_dir())
    for folder in families:
        files = tuple(folder / name for name in names)
        found_files = sum(file.is_file() for file in files)
        if found_files < len(files):  # left by another recipe on fewer archives, or a run that was stopped
            incomplete[folder.name] = f"{found_files} of {len(files)} shards (finish the run that makes it)"
            continue
        found = _schema(files[0])
        new = {name: dtype for name, dtype in found.items() if name not in schema}
        parts[folder.name] = files
        schema |= new
        owners |= dict.fromkeys(new, folder.name)
    return Pool(str(root), parts, schema, owners, incomplete)


def store_pool(
    store: Store, shards: Sequence[Shard], schema: Mapping[str, pl.DataType], owners: Mapping[str, str]
) -> Pool:
    """Return the documents of a run with its signals.

    Args:
        store: the store.
        shards: the run's shards.
        schema: columns of documents and signals.
        owners: signal column to its family.
    """
    parts = {"documents": tuple(store.documents(shard) for shard in shards)}
    for family in dict.fromkeys(owners.values()):
        parts[family] = tuple(store.signals(family, shard) for shard in shards)
    return Pool(str(store.root), parts, dict(schema), {column: owners.get(column, "documents") for column in schema})


def _schema(path: Path) -> dict[str, pl.DataType]:
    try:
        return dict(pl.read_parquet_schema(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, slots=True)
class Weight:
    """What a document counts: ``tokens``, ``bytes`` or ``documents``, and the column that tells it."""

    unit: str
    #: None: each document counts 1
    column: str | None

    @property
    def expression(self) -> pl.Expr:
        """The weight as Int64; a missing size counts 0."""
        if self.column is None:
            return pl.repeat(1, pl.len(), dtype=pl.Int64)
        column = pl.col(self.column)
        return (column.str.len_bytes() if self.column == "text" else column).cast(pl.Int64).fill_null(0)


def describe_weight(pool: Pool, weight: Weight) -> str:
    """Return the unit with its column and, where the store says it, what the tokens are counted by."""
    if weight.column is None:
        return weight.unit
    made = Path(pool.root) / "signals" / pool.owners[weight.column] / "_fingerprint.json"
    by = read_json(made)["made_by"] if weight.unit == "tokens" and made.is_file() else {}
    rule = ""
    if "tokenizer_sha256" in by:
        rule = f", by the tokenizer {by['tokenizer_sha256'][:8]}"
    elif by.get("rule") == "gpt2-pieces":
        rule = ", pieces of GPT-2's first step, fewer than a model's tokens"
    return f"{weight.unit} ({weight.column}{rule})"


UNITS = ("tokens", "bytes", "documents")


def find_weight(columns: Sequence[str], unit: str | None) -> Weight:
    """Find the column of a unit.

    Args:
        columns: what there is.
        unit: one of ``UNITS``; None takes tokens where there is ``n_tokens`` (the family ``tokens``) or
            ``token_count`` (datatrove's), else bytes, else documents.

    Raises:
        FineeduError: no column tells that unit.
    """
    known = {"tokens": ["n_tokens", "token_count"], "bytes": ["text_bytes", "n_bytes", "text"]}
    if unit not in (*UNITS, None):
        raise FineeduError(f"no unit {unit!r}: there are {', '.join(UNITS)}")
    if unit == "documents":
        return Weight("documents", None)
    for name in [unit] if unit else list(known):
        for column in known[name]:
            if column in columns:
                return Weight(name, column)
    if unit is None:
        return Weight("documents", None)
    instead = "add the signal family tokens, or weigh by bytes" if unit == "tokens" else "weigh by documents"
    raise FineeduError(f"no column tells {unit} ({', '.join(known[unit])}): {instead} instead")
