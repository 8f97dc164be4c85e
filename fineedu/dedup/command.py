"""``fineedu dedup``: find copies, write them as signals, and say what would go."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class By(StrEnum):
    """How documents meet."""

    minhash = "minhash"
    exact = "exact"
    url = "url"


class Keep(StrEnum):
    """Who stays."""

    best = "best"
    newest = "newest"
    longest = "longest"
    first = "first"


class Scope(StrEnum):
    """What is compared."""

    dump = "dump"
    language = "language"
    world = "global"


class Shingle(StrEnum):
    """What n-grams are of."""

    word = "word"
    character = "character"


class Preset(StrEnum):
    """Settings of known corpora."""

    fineweb = "fineweb"
    nemotron = "nemotron"


def dedup(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the store.")] = Path("fineedu-output"),
    preset: Annotated[
        Preset, typer.Option(help="fineweb: word 5-grams, 14 x 8; nemotron: character 24-grams, 20 x 13.")
    ] = Preset.fineweb,
    by: Annotated[list[By] | None, typer.Option(help="minhash, exact, url; repeatable; default the first two.")] = None,
    shingle: Annotated[Shingle | None, typer.Option(help="What n-grams are of.")] = None,
    bands: Annotated[int | None, typer.Option(min=1, help="Bands of a signature.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Hashes of a band.")] = None,
    n: Annotated[int | None, typer.Option("--ngram", min=1, help="Words or characters of a shingle.")] = None,
    scope: Annotated[Scope, typer.Option(help="Compare within a dump, within a language, or all.")] = Scope.dump,
    keep: Annotated[
        Keep | None, typer.Option(help="Who stays of a cluster; default longest, by url alone newest.")
    ] = None,
    score: Annotated[str, typer.Option(help="Signal that --keep best goes by.")] = "edu_score",
    verify: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Compare texts; below this Jaccard they are no copies.")
    ] = None,
    lines: Annotated[
        int | None, typer.Option(min=2, help="Measure lines that stand in so many documents, e.g. 6.")
    ] = None,
    substrings: Annotated[
        int | None,
        typer.Option(
            min=16, help="Measure runs of so many bytes that stand in texts twice, e.g. 200 (about 50 tokens)."
        ),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="Index that several stores share, e.g. of earlier dumps.")] = None,
    memory_mb: Annotated[
        int, typer.Option(min=100, help="Resident memory of the process that clusters and searches, MB.")
    ] = 4000,
    max_host_loss: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Fail when a host would lose more than this share.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Shards signed at a time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Find copies among a store's documents, write them as signals dup_*, and print what would go. Removes nothing."""
    from fineedu.dedup.run import dedup_store
    from fineedu.dedup.signature import PRESETS
    from fineedu.recipe import DedupConfig

    base = PRESETS[preset.value]
    config = DedupConfig(
        by=[way.value for way in by] if by else ["minhash", "exact"],
        shingle=shingle.value if shingle else base.shingle,
        n=n or base.n,
        bands=bands or base.bands,
        rows=rows or base.rows,
        scope=scope.value,
        **({"keep": keep.value} if keep else {}),
        score=score,
        verify={"at_least": verify} if verify else None,
        lines={"documents": lines} if lines else None,
        substrings={"bytes": substrings} if substrings else None,
        index=str(index) if index else None,
        memory_mb=memory_mb,
        max_host_loss=max_host_loss,
    )
    radius = dedup_store(output, config, workers=workers, stop=False)  # first print what a host would lose
    if as_json:
        import json

        typer.echo(json.dumps(radius.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(radius, config)
        typer.echo(f"with all pairs: {output / 'dedup' / 'report.html'}")
    from fineedu.dedup.radius import check_hosts

    check_hosts(radius, max_host_loss, config.host_documents, output / "dedup" / "report.html")


def _safe(text: object) -> str:
    """Make page text safe for a terminal and for markup."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "\ufffd" for c in str(text)))


def _print(radius: Any, config: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console()
    curve = ", ".join(
        f"{row['similarity']:.2f}: {row['found']:.1%}" for row in radius.curve if row["similarity"] >= 0.6
    )
    if "minhash" in config.by:
        out.print(
            f"{config.bands} bands of {config.rows}, {config.shingle} {config.n}-grams find {curve}", highlight=False
        )
    share = radius.removed / max(radius.documents, 1)
    ways = ", ".join(f"{way} {count:,}" for way, count in radius.by.items()) or "none"
    out.print(f"[bold]{radius.removed:,} of {radius.documents:,} documents would go ({share:.1%})[/]", highlight=False)
    out.print(f"documents in clusters by: {ways}", highlight=False)
    for title, name, rows in (
        ("dumps", "dump", radius.dumps),
        ("hosts that lose most documents", "host", radius.hosts[:10]),
        (f"hosts of {config.host_documents} documents or more that lose the greatest share", "host", radius.worst[:10]),
    ):
        table = Table(name, "documents", "would go", "share", box=None, title=title, title_justify="left")
        for row in rows:
            table.add_row(
                _safe(row[name] or "none"), f"{row['documents']:,}", f"{row['removed']:,}", f"{row['share']:.1%}"
            )
        if rows:
            out.print(table, highlight=False)
    sizes = Table("documents or more", "clusters", "documents", box=None, title="cluster sizes", title_justify="left")
    for row in radius.sizes:
        sizes.add_row(f"{row['at_least']:,}", f"{row['clusters']:,}", f"{row['documents']:,}")
    out.print(sizes, highlight=False)
    _print_found(out, radius, config)
    for pair in radius.largest[:5]:
        out.print(
            f"[bold]cluster of {pair.size:,}[/], Jaccard {pair.jaccard:.2f}: "
            f"{_safe(pair.kept)} stays, {_safe(pair.removed)} goes",
            highlight=False,
        )
        for line in pair.diff[2:12] or ["(the same lines)"]:
            colour = {"+": "green", "-": "red"}.get(line[0], "dim")
            out.print(f"  [{colour}]{_safe(line)}[/]", highlight=False)


def _print_found(out: Any, radius: Any, config: Any) -> None:
    """Print what comparing texts, lines and substrings came to."""
    if radius.verified:
        checked, failed = radius.verified["checked"], radius.verified["failed"]
        out.print(
            f"verified: {failed:,} of {checked:,} candidates were no copies of their survivor "
            f"({failed / max(checked, 1):.1%} false positives), and stay",
            highlight=False,
        )
    if radius.checked:
        low, high = radius.false_positives
        out.print(
            f"estimated false positives: {radius.below} of {radius.checked} sampled are less alike than Jaccard "
            f"{radius.bound:.2f} ({low:.1%} to {high:.1%} of what would go)",
            highlight=False,
        )
    if radius.lines:
        found = radius.lines
        out.print(
            f"repeated {config.lines.unit}s: {found['lines']:,} stand in {config.lines.documents} documents or more, "
            f"about {found['repeated_bytes'] / max(found['bytes'], 1):.1%} of the text ({found['touched']:,} "
            f"documents; {found['mostly']:,} consist of them by half or more)",
            highlight=False,
        )
    if radius.substrings:
        found = radius.substrings
        out.print(
            f"exact substrings: {found['repeated_bytes'] / max(found['bytes'], 1):.1%} of the text stands in runs of "
            f"{config.substrings.bytes} bytes or more that the corpus holds twice ({found['touched']:,} documents); "
            f"all but the first of each: {found['later_copy_bytes'] / max(found['bytes'], 1):.1%}",
            highlight=False,
        )
