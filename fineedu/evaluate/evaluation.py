"""An evaluation: scores against labels, with everything that keeps it honest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError
from fineedu.evaluate.baselines import baselines
from fineedu.evaluate.ceiling import Ceiling, ceiling
from fineedu.evaluate.curve import LearningCurve, curve_from_scores
from fineedu.evaluate.leakage import assign_folds, group_names, training_overlap
from fineedu.evaluate.measures import LEVELS, Curve, Measures, difference, measure, precision_recall, rounded
from fineedu.evaluate.resample import Array, Estimate
from fineedu.evaluate.scores import Scores
from fineedu.evaluate.slices import FEW_POSITIVES, TOO_FEW, Slice, length_bucket, length_names, slice_measures
from fineedu.evaluate.votes import Labelled, add_facts, document_labels, host_of

#: What documents can be sliced by.
SLICES = ("topic", "length", "language")
#: Folds that the baselines are held out in.
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured, on what, and what to beware of."""

    model: str
    threshold: int
    seed: int
    resamples: int
    #: what the bootstrap draws: ``documents`` (near-duplicates together) or ``hosts``
    unit: str
    annotators: dict[str, int]
    rubric: str | None
    #: fate to documents, in order: ``labelled documents``, what was left out and why, ``measured``
    counts: dict[str, int]
    #: state to votes of the chosen annotators
    states: dict[str, int]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    measures: Measures
    baselines: dict[str, Measures]
    #: baseline to measure to how far the model lies above it, on the same resamples
    gains: dict[str, dict[str, Estimate]]
    precision_recall: Curve | None
    #: 6 x 6 documents: label (rows) by rounded score
    confusion: tuple[tuple[int, ...], ...]
    slices: dict[str, tuple[Slice, ...]]
    ceiling: Ceiling | None
    learning_curve: LearningCurve | None

    def as_json(self) -> dict[str, Any]:
        """Return everything, JSON-ready; estimates as value, low, high and the share of undefined resamples."""
        curve, learning = self.precision_recall, self.learning_curve
        return {
            "model": self.model,
            "threshold": self.threshold,
            "interval": "95 % percentile bootstrap",
            "seed": self.seed,
            "resamples": self.resamples,
            "unit": self.unit,
            "annotators": self.annotators,
            "rubric": self.rubric,
            "counts": self.counts,
            "states": self.states,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "measures": self.measures.as_json(),
            "baselines": {name: found.as_json() for name, found in self.baselines.items()},
            "gains": {
                name: {measure_name: found.as_json() for measure_name, found in gain.items()}
                for name, gain in self.gains.items()
            },
            "precision_recall": None if curve is None else curve.as_json(),
            "confusion": [list(row) for row in self.confusion],
            "slices": {by: [part.as_json() for part in parts] for by, parts in self.slices.items()},
            "ceiling": None if self.ceiling is None else self.ceiling.as_json(),
            "learning_curve": None if learning is None else learning.as_json(),
        }


def evaluate(
    scores: Scores | pl.DataFrame,
    labels: pl.DataFrame,
    *,
    annotator: str | None = None,
    threshold: int = 3,
    by: Sequence[str] | None = None,
    documents: pl.DataFrame | None = None,
    training: pl.DataFrame | None = None,
    cluster_by_host: bool = False,
    seed: int = 0,
    resamples: int = 1000,
) -> Evaluation:
    """Measure scores against labels.

    Documents seen in training, and duplicates and near-duplicates of training documents, are left out and counted; if
    that leaves nothing, they are measured with a warning, since such figures flatter. A document without a valid label
    or without a score is counted and left out: a failure is never a 0.

    Args:
        scores: from :mod:`fineedu.evaluate.scores`, or a table of ``id`` and ``score``.
        labels: votes, as :func:`fineedu.labels.read_labels` gives them.
        annotator: whose votes to measure against: a name, or a pattern such as ``panel-*`` for the mean of several;
            default the only one. The other annotators' votes serve for the ceiling.
        threshold: level of the headline F1, curve and slices, 1 to 5.
        by: what to slice by, of :data:`SLICES`; default: what is known of the documents.
        documents: ``id`` with ``text``, ``url``, ``host`` or ``language``, where the labels do not have them.
        training: ``id`` and, if known, ``text`` of what the model was trained on.
        cluster_by_host: draw hosts instead of documents in the bootstrap, for documents that come many from a host.
        seed: of the bootstrap and of the baselines' folds.
        resamples: of the bootstrap.

    Raises:
        FineeduError: the annotator is not clear, no document has label and score, or a slice is asked for that
            nothing is known about.
    """
    if threshold not in LEVELS:
        raise FineeduError(f"threshold {threshold} is no level of the rubric: {LEVELS[0]} to {LEVELS[-1]}")
    given = scores if isinstance(scores, Scores) else Scores("scores", scores.select("id", "score"))
    labelled = document_labels(labels, annotator)
    table = labelled.documents if documents is None else add_facts(labelled.documents, documents)
    test = _Test(given, table, training, cluster_by_host, seed)
    found = ceiling(labels, sorted(labelled.annotators), seed=seed, count=resamples)
    return _measured(test, labelled, found, threshold, by, resamples)


def _measured(
    test: _Test, labelled: Labelled, found: Ceiling | None, threshold: int, by: Sequence[str] | None, resamples: int
) -> Evaluation:
    """Measure the documents of a test; all on the same resamples."""
    truth, score = test.truth, test.score
    draw: dict[str, Any] = {"clusters": test.clusters, "seed": test.seed, "count": resamples}
    main = measure(truth, score, **draw)
    trivial = {name: measure(truth, scores, **draw) for name, scores in test.baselines().items()}
    shown = ("spearman", f"positive_f1_{threshold}_rounded", f"auc_{threshold}", "mae")
    return Evaluation(
        model=test.scores.model,
        threshold=threshold,
        seed=test.seed,
        resamples=resamples,
        unit=test.unit,
        annotators=labelled.annotators,
        rubric=labelled.rubric,
        counts=test.counts,
        states=labelled.states,
        warnings=(*test.warnings, *_scale_warnings(truth, score, main, threshold)),
        notes=tuple(test.notes),
        measures=main,
        baselines=trivial,
        gains={name: {part: difference(main, other, part) for part in shown} for name, other in trivial.items()},
        precision_recall=precision_recall(truth, score, threshold, **draw),
        confusion=_confusion(truth, score),
        slices=test.slices(by, threshold, draw),
        ceiling=found,
        learning_curve=_learning_curve(test, threshold, draw),
    )


class _Test:
    """The documents that are measured, and the account of those that are not.

    Args:
        scores: of the model.
        documents: labelled documents, one row each, by id.
        training: what the model was trained on, beside what the scores know of it.
        cluster_by_host: see :func:`evaluate`.
        seed: of folds.
    """

    def __init__(
        self, scores: Scores, documents: pl.DataFrame, training: pl.DataFrame | None, cluster_by_host: bool, seed: int
    ) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.counts: dict[str, int] = {"labelled documents": len(documents)}
        self.scores, self.seed = scores, seed
        table = documents.join(scores.table.select("id", "score"), on="id", how="left", maintain_order="left")
        unlabelled = table["label"].is_null()
        unscored = ~unlabelled & (table["score"].is_null() | ~table["score"].is_finite().fill_null(False))
        self.counts |= {"no valid label": int(unlabelled.sum()), "no score": int(unscored.sum())}
        self.documents = self._unseen(table.filter(~unlabelled & ~unscored), scores, training)
        self.counts["measured"] = len(self.documents)
        if not len(self.documents):
            told = ", ".join(f"{name}: {number:,}" for name, number in self.counts.items())
            raise FineeduError(f"no document has both a label and a score, so there is nothing to measure ({told})")
        self.truth: Array = self.documents["label"].to_numpy().astype(np.float64)
        self.score: Array = self.documents["score"].to_numpy().astype(np.float64)
        self.hosts = host_of(self.documents)
        self.groups = self._groups()
        self.clusters = self._clusters(cluster_by_host)
        self.unit = "hosts" if cluster_by_host else "documents"

    def _unseen(self, table: pl.DataFrame, scores: Scores, training: pl.DataFrame | None) -> pl.DataFrame:
        """Return the documents that training has not seen, or all of them where there are no others."""
        ids = sorted(scores.seen) + ([] if training is None else training["id"].cast(pl.String).to_list())
        text = table["text"] if "text" in table.columns else None
        known = training["text"] if training is not None and "text" in training.columns else None
        if training is None and scores.training == "nothing":
            self.notes.append("what the model was trained on is not known: give it with --training to be sure")
            return table
        if not ids and scores.training == "files":
            self.notes.append(
                "the model tells the label files it was trained on, and these are others; documents that both have "
                "would not be noticed: give the training labels with --training to be sure"
            )
            return table
        overlap = training_overlap(table["id"].to_list(), text, ids, known)
        found = {"seen in training": overlap.same_id}
        if known is not None and text is not None:
            found |= {"duplicate of training": overlap.exact, "near-duplicate of training": overlap.near}
        else:
            self.notes.append("duplicates of training documents were not looked for: give the texts with --training")
        self.counts |= {name: int(rows.sum()) for name, rows in found.items()}
        seen = int(overlap.any.sum())
        if seen < len(table):
            if seen:
                self.notes.append(f"{seen:,} documents that training has seen are left out")
            return table.filter(~overlap.any)
        if seen:
            self.warnings.append(
                f"all {seen:,} documents were seen in training: these figures flatter the model and say nothing of "
                "how it does on others"
            )
        return table

    def _groups(self) -> list[str]:
        """Return the duplicate group of each document; without texts, each is alone."""
        ids: list[str] = self.documents["id"].to_list()
        if "text" not in self.documents.columns:
            return ids
        groups = group_names(ids, self.documents["text"])
        again = len(groups) - len(set(groups))
        if again:
            self.notes.append(
                f"{again:,} documents are near-duplicates of others in the test; they are resampled together"
            )
        return groups

    def _clusters(self, by_host: bool) -> npt.NDArray[Any]:
        if not by_host:
            return np.array(self.groups, dtype=str)
        if self.hosts is None:
            raise FineeduError("no host or url is known of the documents: give --documents STORE, or no --cluster-host")
        # A document without a host is a cluster of its own.
        parts = zip(self.hosts, self.groups, strict=True)
        return np.array([host or f"document {group}" for host, group in parts], dtype=str)

    def baselines(self) -> dict[str, Array]:
        """Return the baselines' held-out scores; duplicates share a fold."""
        if "n_chars" not in self.documents.columns or self.documents["n_chars"].null_count():
            self.notes.append("no length-only baseline: the texts' lengths are not known")
            return {}
        folds = assign_folds(self.groups, _FOLDS, self.seed)
        hosts = None if self.hosts is None else self.hosts.to_list()
        return baselines(self.truth, self.documents["n_chars"].to_numpy(), folds, hosts)

    def slices(self, by: Sequence[str] | None, threshold: int, draw: dict[str, Any]) -> dict[str, tuple[Slice, ...]]:
        """Return the measures by slice."""
        found = {}
        for name in by or SLICES:
            column = self._slice_names(name)
            if column is not None:
                order = length_names() if name == "length" else ()
                found[name] = slice_measures(
                    self.truth, self.score, column.to_list(), level=threshold, order=order, **draw
                )
            elif by:
                raise FineeduError(f"cannot slice by {name}: neither the labels nor --documents tell it")
        return found

    def _slice_names(self, name: str) -> pl.Series | None:
        """Return the slice of each document, None where nothing is known."""
        if name not in SLICES:
            raise FineeduError(f"cannot slice by {name!r}: there are {', '.join(SLICES)}")
        if name == "length":
            column = length_bucket(self.documents["n_chars"])
        elif name == "language" and "language" not in self.documents.columns and "text" in self.documents.columns:
            from fineedu.extract.language import identify

            column = identify(self.documents["text"])["language"]
        else:
            column = self.documents[name] if name in self.documents.columns else pl.Series([], dtype=pl.String)
        return None if column.null_count() == len(column) else column


def _scale_warnings(truth: Array, score: Array, found: Measures, threshold: int) -> list[str]:
    warnings = []
    if len(truth) < TOO_FEW:
        warnings.append(f"only {len(truth)} documents: bootstrap intervals of so few are too narrow")
    if score.max() <= 1 and score.min() >= 0 and truth.max() > 1:
        warnings.append(
            "all scores lie between 0 and 1 but labels go higher: thresholds, kappa, MAE and calibration mean little "
            "until scores are calibrated to the rubric's scale"
        )
    positives = found.positives[threshold]
    if positives < FEW_POSITIVES:
        warnings.append(f"only {positives} documents are labelled {threshold} or more: F1 and curves there are guesses")
    return warnings


def _confusion(truth: Array, score: Array) -> tuple[tuple[int, ...], ...]:
    cells = rounded(truth) * 6 + rounded(score)
    return tuple(tuple(row) for row in np.bincount(cells.astype(int), minlength=36).reshape(6, 6).tolist())


def _learning_curve(test: _Test, threshold: int, draw: dict[str, Any]) -> LearningCurve | None:
    if len(test.scores.by_labels) < 2:
        return None
    ids = test.documents.select("id")
    found = {
        size: ids.join(table, on="id", how="left", maintain_order="left")["score"].fill_null(np.nan).to_numpy()
        for size, table in test.scores.by_labels.items()
    }
    return curve_from_scores(found, test.truth, level=threshold, **draw)
