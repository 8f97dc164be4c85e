"""Labels: what annotators, machines or people, said of documents. The format that annotate writes and classify reads.

One row is one vote: one annotator's answer for one document and one sample. Specified in ``docs/data-format.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from fineedu.errors import FineeduError
from fineedu.store import TableWriter, atomic_open

#: Where a vote has no score, why: a failure is a state of its own, and never a 0.
#: ``ok``: a valid answer; ``abstain``: the annotator said it cannot tell; ``refusal``: it declined to answer;
#: ``truncated``: the answer ran into the token limit; ``invalid``: the answer does not fit the rubric's schema;
#: ``error``: no answer came, after all retries.
STATES = ("ok", "abstain", "refusal", "truncated", "invalid", "error")

LABEL_SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "rubric": pl.String(),
    "rubric_hash": pl.String(),
    "annotator": pl.String(),
    "engine": pl.String(),
    "sample": pl.Int32(),
    "state": pl.String(),
    "score": pl.Float64(),
    "expected_score": pl.Float64(),
    "topic": pl.String(),
    "justification": pl.String(),
    "raw": pl.String(),
    "document_hash": pl.String(),
    "n_chars": pl.Int64(),
    "prompt_tokens": pl.Int64(),
    "completion_tokens": pl.Int64(),
}

#: What a label file may have besides, and is read where it is there: the document's text, address and language; the
#: place of the chosen topic among the choices as they were shown (from 0), and their number.
DOCUMENT_COLUMNS = ("text", "url", "host", "language")
FURTHER_COLUMNS: dict[str, pl.DataType] = {
    **dict.fromkeys(DOCUMENT_COLUMNS, pl.String()),
    "choice_position": pl.Int32(),
    "n_choices": pl.Int32(),
}


def write_labels(path: Path, votes: pl.DataFrame, facts: dict[str, object]) -> None:
    """Write votes to a parquet file, which appears whole; ordered by id, annotator, rubric and sample.

    Args:
        path: where, ``.parquet``.
        votes: columns of :data:`LABEL_SCHEMA`; missing ones become null, further ones are kept behind them.
        facts: JSON-ready facts for the file's metadata.
    """
    schema = LABEL_SCHEMA | {name: kind for name, kind in votes.schema.items() if name not in LABEL_SCHEMA}
    missing = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in votes.columns]
    ordered = votes.with_columns(missing).sort("id", "annotator", "rubric_hash", "sample", nulls_last=True)
    with atomic_open(path) as stream:
        writer = TableWriter(stream, schema)
        writer.write(ordered)
        writer.close(facts)


def read_labels(paths: Path | Iterable[Path]) -> pl.DataFrame:
    """Read votes from parquet files of ours, or JSON lines (``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``).

    JSON lines need ``id``; ``score``, ``topic``, ``annotator``, ``rubric``, ``state`` and ``text`` are taken where they
    are. A vote without a state has ``ok`` where it has a score or a topic, else ``invalid``; the votes of one annotator
    on one document are numbered as samples where they are not.

    Returns:
        The columns of :data:`LABEL_SCHEMA` in their order, then those of :data:`FURTHER_COLUMNS` that a file has.

    Raises:
        FineeduError: a file is missing, damaged, or has no ids.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    frames = [_read_one(path) for path in paths]
    if not frames:
        raise FineeduError("no label files given")
    return pl.concat(frames, how="diagonal_relaxed")


def _read_one(path: Path) -> pl.DataFrame:
    try:
        parquet = path.suffix == ".parquet"
        raw = pl.read_parquet(path) if parquet else pl.read_ndjson(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FineeduError(f"cannot read the labels {path}: {str(error).splitlines()[0]}") from error
    if "id" not in raw.columns:
        raise FineeduError(f"{path} has no column 'id': labels need one row a vote, with the id of its document")
    try:
        return _complete(raw, path.name.partition(".")[0])
    except pl.exceptions.PolarsError as error:
        raise FineeduError(
            f"{path}: a column has another type than labels have: {str(error).splitlines()[0]}"
        ) from error


def _complete(raw: pl.DataFrame, stem: str) -> pl.DataFrame:
    """Bring the columns of any label file to the schema."""
    further = [name for name in FURTHER_COLUMNS if name in raw.columns]
    raw = raw.with_columns(pl.col(name).cast(FURTHER_COLUMNS[name]) for name in further)
    if "text" in further and "n_chars" not in raw.columns:
        raw = raw.with_columns(n_chars=pl.col("text").str.len_chars())
    found = raw.with_columns(
        [pl.lit(None, kind).alias(name) for name, kind in LABEL_SCHEMA.items() if name not in raw.columns]
    ).with_columns(pl.col(name).cast(kind) for name, kind in LABEL_SCHEMA.items())
    answered = pl.col("score").is_not_nan() & pl.col("score").is_not_null() | pl.col("topic").is_not_null()
    found = found.with_columns(
        pl.col("annotator").fill_null(stem),
        pl.col("state").fill_null(pl.when(answered).then(pl.lit("ok")).otherwise(pl.lit("invalid"))),
        pl.col("score").fill_nan(None),
    )
    number = pl.int_range(pl.len(), dtype=pl.Int32).over("id", "annotator", "rubric")
    return found.with_columns(pl.col("sample").fill_null(number)).select(*LABEL_SCHEMA, *further)
