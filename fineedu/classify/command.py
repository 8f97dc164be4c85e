"""``fineedu train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "Examples:\n\n"
    "[dim]fineedu train models/edu-minilm/train.yaml --data data --output my-model[/]\n\n"
    "[dim]fineedu train mine.yaml --held-out held.parquet --curve 100 --curve 300[/], then "
    "[dim]fineedu evaluate held.parquet -l labels.jsonl[/]\n\n"
    "Then score with it in any recipe: [dim]signals: [{classifier: {model: my-model, prefix: mine}}][/]"
)


def train(
    recipe: Annotated[Path, typer.Argument(help="Training recipe, e.g. models/edu-minilm/train.yaml.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="Folder that the recipe's paths start from.")] = Path(),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the bundle; default: the recipe's own.")
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option(help="Parquet file for the cross-validated scores, for fineedu evaluate.")
    ] = None,
    curve: Annotated[
        list[int] | None, typer.Option(help="Fit on so many labels too, for a learning curve; repeatable.")
    ] = None,
) -> None:
    """Train a classifier: cross-validate it, fit it on everything, calibrate it, write a bundle with its card."""
    from rich.console import Console

    from fineedu.classify.training import train as train_bundle

    err, out = Console(stderr=True), Console()
    folder = output or recipe.parent
    bundle = train_bundle(
        recipe,
        data,
        folder,
        lambda line: err.print(line, highlight=False, markup=False),
        held_out=held_out,
        sizes=curve or (),
    )
    names: tuple[str, ...] = ("spearman", "quadratic_kappa", "auc_3", "accuracy", "macro_f1")
    if "positives" in bundle.training:
        names = ("auc_1", "positive_f1_1_rounded")
    parts = {"cross-validated": bundle.metrics["cross_validated"]}
    for part in ("before_calibration", "topics"):
        if part in bundle.metrics:
            parts[part.replace("_", " ")] = bundle.metrics[part]
    for part, measured in parts.items():
        told = {
            name.replace("_", " "): measured[name] for name in names if measured.get(name, {}).get("low") is not None
        }
        figures = ", ".join(
            f"{name} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" for name, found in told.items()
        )
        line = f"{part} over {measured['n']:,} documents: {figures}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    out.print(f"bundle and card: {folder}", highlight=False, markup=False, soft_wrap=True)
