"""Measures as people read them, in terminal and page alike."""

from __future__ import annotations

from fineedu.evaluate.evaluation import Evaluation
from fineedu.evaluate.resample import Estimate
from fineedu.report.display import clean

#: What has no value.
NONE = "–"


def figure(number: float | None) -> str:
    """Return a measure to three digits."""
    return NONE if number is None else f"{number:.3f}".replace("-", "−")


def signed(number: float | None) -> str:
    """Return a difference to three digits, with its sign."""
    return NONE if number is None else f"{number:+.3f}".replace("-", "−")


def interval(found: Estimate | None) -> str:
    """Return the interval in brackets, empty where there is none."""
    if found is None or found.low is None or found.high is None:
        return ""
    return f"[{figure(found.low)}, {figure(found.high)}]"


def cut(level: int, kind: str) -> str:
    """Return a decision in words, with the raw score that it means: FineWeb-Edu's "3" is raw > 2.5."""
    if kind == "raw":
        return f"raw ≥ {level}"
    # Halves go to the even neighbour: 2.5 becomes 2, 1.5 becomes 2.
    return f"rounded ≥ {level} (raw {'>' if level % 2 else '≥'} {level - 0.5:g})"


def headline(level: int) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return groups of measures: a title, and the measures with their words."""
    groups = [
        (
            "all documents",
            [
                ("spearman", "Spearman ρ"),
                ("quadratic_kappa", "quadratic kappa"),
                ("mae", "mean absolute error"),
                ("calibration_error", "calibration error"),
            ],
        ),
        (
            f"{level} or more against the rest",
            [(f"auc_{level}", "AUC"), (f"average_precision_{level}", "average precision")],
        ),
    ]
    for kind in ("rounded", "raw"):
        parts = [
            ("positive_f1", "positive F1"),
            ("precision", "precision"),
            ("recall", "recall"),
            ("macro_f1", "macro F1"),
        ]
        groups.append((f"kept: {cut(level, kind)}", [(f"{name}_{level}_{kind}", told) for name, told in parts]))
    return groups


def against(found: Evaluation) -> str:
    """Return whose labels a model was measured against."""
    names = list(found.annotators)
    return names[0] if len(names) == 1 else f"the mean of {len(names)} annotators ({names[0]} … {names[-1]})"


def ceiling_words(found: Evaluation) -> list[str]:
    """Return what the annotators' agreement says, in sentences."""
    if found.ceiling is None:
        return ["No document has scores of two annotators, so nobody knows how well a model could do."]
    main, bound = found.ceiling.main, found.ceiling.bound
    pair = f"{clean(main.one, 60)} and {clean(main.other, 60)}"
    if main.spearman is None or main.quadratic_kappa is None:
        return [f"Agreement of {pair}: they share {main.n} documents: too few to say how far they agree."]
    said = [
        f"Agreement of {pair}: Spearman ρ {figure(main.spearman.value)} {interval(main.spearman)}, quadratic kappa "
        f"{figure(main.quadratic_kappa.value)} {interval(main.quadratic_kappa)}, on {main.n:,} documents."
    ]
    if bound is not None:
        said.append(
            "Corrected for their errors (Spearman 1904: √ρ), no model that errs independently of them should come "
            f"above ρ {figure(bound.value)} {interval(bound)}; this one has {figure(found.measures['spearman'].value)}."
        )
    return said
