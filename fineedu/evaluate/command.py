"""``fineedu evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class SliceBy(StrEnum):
    """What documents are sliced by."""

    topic = "topic"
    length = "length"
    language = "language"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="A shipped model, a bundle's folder, or a .parquet or .jsonl file with columns id, score."),
    ],
    labels: Annotated[list[Path], typer.Option("--labels", "-l", help="Label file, parquet or .jsonl; repeatable.")],
    annotator: Annotated[
        str | None,
        typer.Option(help="Whose labels to measure against: a name, or a pattern such as 'panel-*' for their mean."),
    ] = None,
    threshold: Annotated[int, typer.Option(min=1, max=5, help="Level of the headline F1, curve and slices.")] = 3,
    by: Annotated[
        list[SliceBy] | None, typer.Option(help="Slices; repeatable. Default: all that are known.", show_default=False)
    ] = None,
    documents: Annotated[
        Path | None, typer.Option(help="Store that has the documents' text, url and language, if the labels do not.")
    ] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(help="What the model was trained on (id, text): left out, near-duplicates too. Repeatable."),
    ] = None,
    cluster_host: Annotated[bool, typer.Option("--cluster-host", help="Resample hosts, not documents.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for evaluation.html and evaluation.json.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the baselines' folds.")] = 0,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 1000,
) -> None:
    """Measure a model against labels: every figure with its interval, beside trivial baselines and the ceiling."""
    from rich.console import Console

    from fineedu.evaluate.evaluation import evaluate as measure
    from fineedu.evaluate.page import write_evaluation
    from fineedu.evaluate.scores import is_predictions, read_predictions, score_bundle
    from fineedu.evaluate.terminal import print_evaluation
    from fineedu.evaluate.votes import add_facts, document_labels, read_documents
    from fineedu.labels import read_labels

    votes = read_labels(labels)
    table = document_labels(votes, annotator).documents
    facts = None if documents is None else read_documents(documents, table["id"])
    table = table if facts is None else add_facts(table, facts)
    found = measure(
        read_predictions(Path(model)) if is_predictions(model) else score_bundle(model, table, labels),
        votes,
        annotator=annotator,
        threshold=threshold,
        by=by,
        documents=facts,
        training=read_labels(training) if training else None,
        cluster_by_host=cluster_host,
        seed=seed,
        resamples=resamples,
    )
    console = Console()
    print_evaluation(found, console)
    if output is not None:
        page = write_evaluation(output, found)
        console.print(f"\n{page}", highlight=False, markup=False, soft_wrap=True)


EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu evaluate edu-fasttext --labels labels.jsonl --output report[/]\n\n"
    "[dim]fineedu evaluate held-out.parquet -l votes.parquet --annotator 'panel-*' --training train.parquet[/]"
)
