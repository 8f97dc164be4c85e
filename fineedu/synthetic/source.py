"""Documents as they come: batches with period, cluster, strata and text, whatever they are stored as."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import polars as pl
import zstandard

from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids
from fineedu.pool import Pool, open_pool
from fineedu.signals.url import registered_domains
from fineedu.synthetic.recipe import InputConfig

#: of text in memory at a time; a row group of a store holds some 3 MB
BATCH_BYTES = 8_000_000
_JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")
_MONTHS = {"year": 12, "half": 6, "quarter": 3, "month": 1}


class Source(NamedTuple):
    """What documents are read from.

    Attributes:
        config: which columns say what.
        parts: files, or a pool's shards; each can be read by itself.
        columns: that there are.
        cluster: columns of what makes documents alike; of a document the first that is not null.
        pool: where it is one.
        dated: whether documents have periods.
    """

    config: InputConfig
    parts: tuple[str, ...]
    columns: tuple[str, ...]
    cluster: tuple[str, ...]
    pool: Pool | None
    dated: bool


def open_source(config: InputConfig, folder: Path, *, dated: bool = True) -> Source:
    """Open documents and check that the columns are there.

    Args:
        config: of the recipe.
        folder: that a relative path is looked for in first.
        dated: documents without a place in time do not count; else none needs one, and no cluster either.

    Raises:
        FineeduError: nothing there, or a column is missing.
    """
    beside = folder / config.path
    path = beside if not Path(config.path).is_absolute() and beside.exists() else Path(config.path)
    if path.name.endswith(_JSON_LINES):
        files = (path,) if path.is_file() else ()
        if not files:
            raise FineeduError(f"input.path: no file {path}")
        columns, parts, pool = tuple(_first_keys(path)), tuple(str(file) for file in files), None
    else:
        pool = open_pool(path)
        columns = tuple(pool.schema)
        parts = tuple(str(file) for file in next(iter(pool.parts.values())))
    cluster = tuple(name for name in config.cluster if name in columns)
    if not cluster and dated:
        raise FineeduError(f"input.cluster: none of {', '.join(config.cluster)} among {', '.join(sorted(columns))}")
    needed = [config.text, *([config.dump_or_date] if dated else [])]
    missing = next((name for name in needed if name not in columns), None)
    if missing is not None:
        raise FineeduError(f"{path} has no column {missing!r}; there are {', '.join(sorted(columns))}")
    return Source(config, parts, columns, cluster, pool, dated)


def _open_lines(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if path.suffix == ".zst":
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True))
    return path.open("rb")


def _first_keys(path: Path) -> list[str]:
    """Return the keys of the first 100 lines."""
    try:
        with _open_lines(path) as stream:
            head = b"".join(line for line, _ in zip(stream, range(100), strict=False))
        return list(pl.read_ndjson(head, infer_schema_length=None).columns) if head.strip() else []
    except (OSError, EOFError, zstandard.ZstdError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def read_part(source: Source, part: int, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield columns of one part, some megabytes of text at a time.

    Raises:
        FineeduError: the file is damaged; of JSON lines the line is named.
    """
    if source.pool is not None:
        yield from source.pool.part_batches(part, columns, rows=1)
        return
    path = Path(source.parts[part])
    lines, size, number = [], 0, 0
    try:
        with _open_lines(path) as stream:
            for line in stream:
                lines.append(line)
                size += len(line)
                if size >= BATCH_BYTES:
                    yield _parse(lines, columns, path, number)
                    number += len(lines)
                    lines, size = [], 0
    except (OSError, EOFError, zstandard.ZstdError) as error:
        raise FineeduError(f"cannot read {path}: {error}") from error
    if lines:
        yield _parse(lines, columns, path, number)


def _parse(lines: list[bytes], columns: Sequence[str], path: Path, before: int) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(b"".join(lines), infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        raise FineeduError(f"{path}: lines {before + 1} to {before + len(lines)}: {first}") from error
    missing = [pl.lit(None, pl.String).alias(name) for name in columns if name not in frame.columns]
    # A key that is null in all of these lines has no type yet.
    return frame.with_columns(missing).select(columns).with_columns(pl.col(pl.Null).cast(pl.String))


def prepare(source: Source, batch: pl.DataFrame, by: dict[str, str]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return documents that count, with ``period``, ``cluster``, the strata and ``text``.

    Args:
        source: where they are from.
        batch: columns as stored.
        by: name of a stratum: SQL.

    Returns:
        The frame, and how many documents were left out, by reason.

    Raises:
        FineeduError: an expression is wrong.
    """
    config, out = source.config, {}
    if config.where is not None:
        kept = batch.filter(_sql(config.where, "input.where"))
        out["where"] = batch.height - kept.height
        batch = kept
    made = [_sql(sql, f"by.{name}").cast(pl.String).fill_null("missing").alias(name) for name, sql in by.items()]
    try:
        strata = batch.select(made)
    except pl.exceptions.PolarsError as error:
        raise FineeduError(f"by: {str(error).splitlines()[0]}") from error
    clusters = [_cluster(batch[name], name) for name in source.cluster]
    if not source.dated:
        period = pl.lit("").alias("period")
    elif config.period == "dump":
        period = pl.col("dump").alias("period")
    else:
        period = pl.lit(_periods(batch[config.date], config.period)).alias("period")
    frame = batch.select(
        period,
        # Texts without an address are each by themselves.
        pl.coalesce(clusters).alias("cluster")
        if clusters
        else pl.col(config.text).hash().cast(pl.String).alias("cluster"),
        pl.col(config.text).alias("text"),
    ).hstack(strata)
    if config.since is not None and source.dated and config.period != "dump":
        frame = frame.filter(_day(batch[config.date]) >= config.since)
        out["since"] = batch.height - frame.height
    for column in ("text", "period"):
        kept = frame.filter(pl.col(column).is_not_null())
        out[f"no_{column}"] = frame.height - kept.height
        frame = kept
    frame = frame.with_columns(pl.col("cluster").fill_null("missing"))
    if config.groups is not None:
        # Domains are independent of each other, so sums over random groups of them vary as sums over domains do.
        group = hash_ids(frame["cluster"]) % np.uint64(config.groups)
        frame = frame.with_columns(pl.Series("cluster", group).cast(pl.String))
    return frame, out


def _sql(expression: str, where: str) -> pl.Expr:
    try:
        return pl.sql_expr(expression)
    except pl.exceptions.PolarsError as error:
        raise FineeduError(f"{where}: {expression!r}: {str(error).splitlines()[0]}") from error


def sql_columns(expression: str, where: str) -> list[str]:
    """Return the columns that an expression reads.

    Raises:
        FineeduError: it is no SQL expression.
    """
    return list(_sql(expression, where).meta.root_names())


def _day(dates: pl.Series) -> pl.Series:
    if dates.dtype == pl.String:
        return dates.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return dates.cast(pl.Date)


def _periods(dates: pl.Series, period: str) -> pl.Series:
    day = _day(dates)
    year, step = day.dt.year().cast(pl.String), _MONTHS[period]
    if step == 12:
        return year.alias("period")
    number = (day.dt.month() - 1) // step + 1
    if period == "month":
        return (year + "-" + number.cast(pl.String).str.zfill(2)).alias("period")
    return (year + f"-{period[0].upper()}" + number.cast(pl.String)).alias("period")


def _cluster(values: pl.Series, name: str) -> pl.Series:
    """Return an address's registered domain, or its host where it has none; any other value as it is."""
    if name not in ("url", "host"):
        return values.cast(pl.String).alias("cluster")
    urls = values if name == "url" else "http://" + values + "/"
    host = urls.str.extract(r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]+)", 1)
    # A host without a public suffix, such as an address in numbers, stands for itself.
    return registered_domains(urls).select(pl.coalesce("registered_domain", "fqdn", host).alias("cluster")).to_series()


def needed_columns(source: Source, expressions: dict[str, str]) -> list[str]:
    """Return the columns to read.

    Args:
        source: the documents.
        expressions: where an SQL expression stands, and what it is.

    Raises:
        FineeduError: an expression reads a column that is not there, or is no SQL.
    """
    config = source.config
    named: dict[str, Any] = dict.fromkeys((config.text, *source.cluster))
    if source.dated:
        named[config.dump_or_date] = None
    if config.where is not None:
        expressions = {"input.where": config.where} | expressions
    for where, expression in expressions.items():
        for column in sql_columns(expression, where):
            if column not in source.columns:
                raise FineeduError(f"{where}: no column {column!r}; there are {', '.join(sorted(source.columns))}")
            named[column] = None
    return list(named)
