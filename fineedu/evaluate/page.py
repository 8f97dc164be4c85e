"""The page of an evaluation: one HTML file that needs nothing beside it, and the same as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fineedu.evaluate.charts import forest_chart, learning_chart, precision_recall_chart, reliability_chart
from fineedu.evaluate.evaluation import Evaluation
from fineedu.evaluate.measures import LEVELS
from fineedu.evaluate.resample import Estimate
from fineedu.evaluate.slices import FEW_POSITIVES, Slice
from fineedu.evaluate.wording import against, ceiling_words, cut, figure, headline, interval, signed
from fineedu.report.display import clean
from fineedu.report.html import write_page
from fineedu.store import write_json

_PAIRS = 10


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart with its words."""

    title: str
    svg: Markup
    note: str


def write_evaluation(folder: Path, found: Evaluation) -> Path:
    """Write ``evaluation.html`` and ``evaluation.json``; the same evaluation gives the same bytes.

    Args:
        folder: made where it is missing.
        found: the evaluation.

    Returns:
        The path of the page.

    Raises:
        FineeduError: a file cannot be written.
    """
    write_json(folder / "evaluation.json", found.as_json())
    shown: dict[str, Any] = {
        "found": found,
        "against": against(found),
        "tiles": _tiles(found),
        "standing": _standing(found),
        "groups": headline(found.threshold),
        "levels": LEVELS,
        "pictures": _pictures(found),
        "slices": [(by, parts, _slice_picture(found, by, parts)) for by, parts in found.slices.items()],
        "ceiling_words": ceiling_words(found),
        "pairs": () if found.ceiling is None else found.ceiling.pairs[:_PAIRS],
        "figure": figure,
        "interval": interval,
        "signed": signed,
        "few": FEW_POSITIVES,
        "cut": cut,
    }
    return write_page(folder / "evaluation.html", Path(__file__).with_name("template.html.j2"), shown)


def _tiles(found: Evaluation) -> list[tuple[str, str, str]]:
    """Return the figures of the top: value, interval, words."""
    level, measures = found.threshold, found.measures
    shown: list[tuple[Estimate, str]] = [
        (measures["spearman"], "Spearman ρ with the labels"),
        (measures[f"positive_f1_{level}_rounded"], f"positive F1 at {level}: {cut(level, 'rounded')}"),
        (measures[f"average_precision_{level}"], f"average precision at {level}"),
        (measures["mae"], "mean absolute error, in points"),
    ]
    return [(figure(value.value), interval(value), words) for value, words in shown]


def _standing(found: Evaluation) -> Picture:
    """Draw the model between the baselines and the ceiling."""
    rows = [(name, measured["spearman"]) for name, measured in found.baselines.items()]
    rows.append(("this model", found.measures["spearman"]))
    if found.ceiling is not None and found.ceiling.main.spearman is not None:
        rows.append(("two annotators", found.ceiling.main.spearman))
        if found.ceiling.bound is not None:
            rows.append(("upper bound", found.ceiling.bound))
    missing = [name for name, value in rows if value.value is None]
    note = "Dots: the value; lines: its 95 % interval."
    if missing:
        note += f" Not defined for {', '.join(missing)}: constant scores order nothing."
    label = "Spearman correlation of the model, the trivial baselines and the annotators."
    svg = forest_chart(rows, "Spearman ρ", label, strong="this model")
    return Picture("Between the trivial and the possible", svg, note)


def _pictures(found: Evaluation) -> list[Picture]:
    level, pictures = found.threshold, []
    if found.precision_recall is not None:
        note = (
            f"Documents labelled {level} or more. Band: pointwise 95 % interval. Dashed: precision of keeping "
            f"everything, {figure(found.precision_recall.base_rate)}. Dots: the rounded and the raw cut at {level}."
        )
        svg = precision_recall_chart(found.precision_recall, found.measures)
        pictures.append(Picture("Precision and recall", svg, note))
    error = found.measures["calibration_error"]
    note = (
        "Documents in bins of half a point of score; a dot's area is their number. On the dashed line a score means "
        f"what it says. Expected calibration error {figure(error.value)} points {interval(error)}, biased upwards in "
        "small samples."
    )
    pictures.append(Picture("Reliability", reliability_chart(found.measures.reliability), note))
    if found.learning_curve is not None:
        for name, title in (
            ("spearman", "Spearman ρ"),
            (f"average_precision_{level}", f"average precision at {level}"),
        ):
            gain = found.learning_curve.last_gain[name]
            ends = "" if gain.low is None else f" [{signed(gain.low)}, {signed(gain.high)}]"
            note = f"Held-out scores. The last step brought {signed(gain.value)}{ends}, on the same documents."
            svg = learning_chart(found.learning_curve, name, title)
            pictures.append(Picture(f"More labels: {title}", svg, note))
    return pictures


def _slice_picture(found: Evaluation, by: str, parts: tuple[Slice, ...]) -> Picture | None:
    rows = [(clean(part.name, 28), part.estimates["spearman"]) for part in parts if part.estimates is not None]
    rows = [(name, value) for name, value in rows if value.value is not None]
    if len(rows) < 2:
        return None
    overall = found.measures["spearman"].value
    label = f"Spearman correlation by {by}."
    return Picture("", forest_chart(rows, "Spearman ρ", label, reference=overall), "Dashed: all documents.")
