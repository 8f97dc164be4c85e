"""The commands ``fineedu agree`` and ``fineedu aggregate``."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

    from fineedu.annotate.agreement import Agreement
    from fineedu.annotate.alarms import Alarm
    from fineedu.annotate.dawid_skene import DawidSkene

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="LABELS...", help="Label files: .parquet, .jsonl, .jsonl.gz, .jsonl.zst.", show_default=False
    ),
]
Rubric = Annotated[
    str | None, typer.Option(help="Only votes by this rubric: its name, or its hash or the beginning of it.")
]


#: Below so many documents with three annotators, error matrices of 6 levels (30 free figures each) are mostly prior.
FEW_SHARED = 100


class By(StrEnum):
    """What documents are grouped by."""

    topic = "topic"
    length = "length"


class Method(StrEnum):
    """How votes become a label."""

    median = "median"
    majority = "majority"
    dawid_skene = "dawid-skene"


def agree(
    files: Files,
    rubric: Rubric = None,
    by: Annotated[list[By] | None, typer.Option(help="Also within groups of documents; repeatable.")] = None,
    length_edges: Annotated[
        str | None, typer.Option(help="Upper bounds of length buckets, e.g. 1000,4000; default: terciles.")
    ] = None,
    levels: Annotated[str, typer.Option(help="Scores of the rubric, for the alarms.")] = "0,1,2,3,4,5",
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Print the confusions of every pair, not of a single one only.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this JSON file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    resamples: Annotated[int, typer.Option(min=0, help="Of the bootstrap; 0 for no intervals.")] = 1000,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 when an alarm fires.")] = False,
) -> None:
    """Measure how far annotators agree, with intervals, and look for alarms in their votes.

    Every annotator that occurs in the files is a party. Of several votes of one annotator on a document, the median
    score and the most frequent topic count; votes that are not ok are missing.
    """
    from fineedu.annotate.agreement import measure_agreement
    from fineedu.annotate.alarms import find_alarms

    votes = _read(files, rubric)
    found = measure_agreement(
        votes,
        by=[group.value for group in by or []],
        length_edges=None if length_edges is None else _numbers(length_edges, "--length-edges"),
        resamples=resamples,
        seed=seed,
    )
    alarms = find_alarms(votes, levels=_numbers(levels, "--levels"))
    _print_agreement(found, alarms, confusion)
    if json_file:
        _write_agreement(json_file, found, alarms, seed, resamples)
    if strict and any(alarm.fires for alarm in alarms):
        raise typer.Exit(1)


def aggregate(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="Label file to write, .parquet.", show_default=False)],
    method: Annotated[Method, typer.Option(help="How votes become a label.")] = Method.median,
    rubric: Rubric = None,
    annotator: Annotated[str | None, typer.Option(help="Name to write as annotator; default: the method.")] = None,
    smoothing: Annotated[float, typer.Option(min=0, help="Of dawid-skene: pseudo-votes for every true label.")] = 1.0,
) -> None:
    """Make one label a document from the votes of several annotators."""
    from rich.console import Console

    from fineedu.annotate.aggregate import aggregate as make
    from fineedu.annotate.aggregate import as_labels, fit
    from fineedu.errors import FineeduError
    from fineedu.labels import write_labels

    if output.suffix != ".parquet":
        raise FineeduError(f"labels are written as parquet: give --output a name that ends in .parquet, not {output}")
    votes = _read(files, rubric)
    models = fit(votes, smoothing=smoothing) if method is Method.dawid_skene else {}
    found = make(votes, method.value, models=models)
    labels = as_labels(found, votes, annotator or method.value)
    facts = {
        "made_by": "aggregate",
        "method": method.value,
        "annotators": votes["annotator"].unique().sort().to_list(),
        "files": [path.name for path in files],
    }
    write_labels(output, labels, facts | ({"smoothing": smoothing} if method is Method.dawid_skene else {}))
    done = int((labels["state"] == "ok").sum())
    lost = f", {labels.height - done:,} without any valid vote" if done < labels.height else ""
    several = int((found["agreement"].is_not_null() | found["topic_agreement"].is_not_null()).sum())
    console = Console()
    console.print(
        f"{votes.height:,} votes on {labels.height:,} documents ({several:,} with several annotators): "
        f"{done:,} labels{lost} → {output}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for note in _notes(votes, models) if method is Method.dawid_skene else []:
        console.print(f"[yellow]note:[/] {note}", highlight=False, soft_wrap=True)


def _notes(votes: pl.DataFrame, models: dict[str, DawidSkene]) -> Iterator[str]:
    """Say where the latent model is not to be trusted."""
    import polars as pl

    heard = votes.filter(pl.col("state") == "ok").group_by("id").agg(pl.col("annotator").n_unique())
    if (many := int((heard["annotator"] >= 3).sum())) < FEW_SHARED:
        yield (
            f"{many:,} documents have three annotators or more, too few for dawid-skene to learn their errors from: "
            "its labels rest on its smoothing (prefer median)"
        )
    for what, model in models.items():
        if not model.converged:
            yield f"dawid-skene had not converged on {what}s after {len(model.objective):,} steps"


def _read(files: list[Path], rubric: str | None) -> pl.DataFrame:
    import polars as pl

    from fineedu.errors import FineeduError
    from fineedu.labels import read_labels

    votes = read_labels(files)
    if rubric is None:
        return votes
    digits = pl.col("rubric_hash").str.starts_with(rubric) if rubric else pl.lit(False)
    chosen = votes.filter((pl.col("rubric") == rubric) | digits)
    if chosen.is_empty():
        known = votes["rubric"].drop_nulls().unique().sort().to_list()
        raise FineeduError(f"no votes by rubric {rubric!r}; the files have {', '.join(known) or 'no rubric named'}")
    return chosen


def _numbers(text: str, option: str) -> list[int]:
    from fineedu.errors import FineeduError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise FineeduError(f"{option} needs whole numbers with commas between them, not {text!r}") from None


def _print_agreement(found: Agreement, alarms: list[Alarm], confusion: bool) -> None:
    from rich.console import Console

    from fineedu.annotate import display

    console = Console(highlight=False)
    names = {name: display.printable(name) for name in found.annotators["annotator"]}
    console.print(display.annotator_table(found, names))
    for table in display.agreement_tables(found, names):
        console.print(table)
    if confusion or found.confusions.select("first", "second").unique().height <= display.FEW_PAIRS:
        for table in display.confusion_tables(found, names):
            console.print(table)
    console.print(display.alarm_table(alarms, names))
    console.print(display.key())


def _write_agreement(path: Path, found: Agreement, alarms: list[Alarm], seed: int, resamples: int) -> None:
    from dataclasses import asdict

    from fineedu.store import write_json

    write_json(
        path,
        {
            "bootstrap": {"resamples": resamples, "seed": seed, "interval": 0.95, "over": "documents"},
            "annotators": found.annotators.to_dicts(),
            "figures": found.figures.to_dicts(),
            "confusions": found.confusions.to_dicts(),
            "alarms": [asdict(alarm) for alarm in alarms],
        },
    )
