"""``fineedu sample``: choose documents to label."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu sample --input out --n 500 --per-host 3 --output sample.parquet[/]\n\n"
    "[dim]fineedu sample -i out --by edu_score:0.5 --by language --output sample.parquet[/]\n\n"
    "[dim]fineedu sample -i out --method uncertainty --by edu_score --threshold 2.5 -o sample.parquet[/]"
)


class Method(StrEnum):
    """How documents are chosen."""

    stratified = "stratified"
    random = "random"
    uncertainty = "uncertainty"
    disagreement = "disagreement"


class Allocation(StrEnum):
    """How many documents each stratum gets."""

    equal = "equal"
    proportional = "proportional"


def sample(
    source: Annotated[Path, typer.Option("--input", "-i", help="A store, a parquet file, or a folder of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Documents to choose.")] = 500,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Column, repeatable: makes strata (COLUMN or COLUMN:WIDTH), or is the score to look at where the "
            "method is uncertainty or disagreement. [default: edu_score]",
            show_default=False,
        ),
    ] = None,
    method: Annotated[Method, typer.Option(help="How documents are chosen.")] = Method.stratified,
    allocation: Annotated[Allocation, typer.Option(help="How many of each stratum.")] = Allocation.equal,
    threshold: Annotated[float, typer.Option(help="Where one score is uncertain.")] = 3.0,
    per_host: Annotated[int | None, typer.Option(min=1, help="At most so many of a registered domain.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another sample.")] = 0,
) -> None:
    """Choose documents to label: the same ones whatever the order of rows and shards."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fineedu.annotate.sampling import sample_documents, write_sample

    scored = method in (Method.uncertainty, Method.disagreement)
    columns = by or ([] if method in (Method.random, Method.disagreement) else ["edu_score"])
    found = sample_documents(
        source,
        n,
        seed,
        strata=[] if scored else columns,
        scores=columns if scored else [],
        per_host=per_host,
        method=method.value,
        allocation=allocation.value,
        threshold=threshold,
    )
    write_sample(output, found)
    out = Console()
    table = Table("stratum", "population", "sampled", box=None)
    for stratum, population, sampled in found.strata.iter_rows():
        table.add_row(escape(stratum), f"{population:,}", f"{sampled:,}")
    out.print(table, highlight=False)
    height = found.documents.height
    out.print(f"{height:,} documents in {output}", highlight=False, markup=False, soft_wrap=True)
    if height < n:
        out.print(f"fewer than the {n:,} asked for: there are no more, or --per-host leaves no more", highlight=False)
    missed = found.strata.filter(sampled=0)["stratum"].to_list()
    if missed:
        out.print(f"not reached, other strata used up their hosts: {', '.join(missed)}", highlight=False, markup=False)
    if found.unscored:
        out.print(f"{found.unscored:,} documents have no such score and could not be chosen", highlight=False)
