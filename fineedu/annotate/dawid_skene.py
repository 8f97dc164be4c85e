"""The latent-class model of Dawid and Skene: true labels and each annotator's errors, estimated together.

A. P. Dawid and A. M. Skene (1979), Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm,
Applied Statistics 28(1):20-28; equation numbers below are theirs. Every annotator has a matrix of probabilities to say
one label where another is true; given the truth, annotators are taken to err independently. Scores are plain classes:
the model does not know that 2 is nearer to 3 than to 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from fineedu.annotate.figures import Array, Integers
from fineedu.annotate.parties import majority_score, majority_topic, name_parties
from fineedu.errors import FineeduError


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """A fitted model.

    Attributes:
        ids: the documents with a valid vote, sorted.
        levels: the labels that occur, sorted: scores or topics.
        annotators: by name.
        posterior: (documents, levels) probability of each label to be the true one.
        prior: (levels,) share of documents of each true label.
        confusion: (annotators, levels, levels) probability of what is said (last axis) given what is true.
        objective: log-likelihood plus the log of the smoothing prior, after each step; it never falls.
        converged: whether the posterior had settled before the steps ran out.
    """

    ids: list[str]
    levels: list[float] | list[str]
    annotators: list[str]
    posterior: Array
    prior: Array
    confusion: Array
    objective: list[float]
    converged: bool

    def consensus(self) -> pl.DataFrame:
        """Return ``id``, ``label`` (the most probable one; of equals the first), ``posterior`` (its probability)."""
        # Rounded, since labels that are equally probable may differ in their last digit.
        best = np.round(self.posterior, 9).argmax(1)
        label = pl.Series("label", self.levels).gather(best)
        chance = self.posterior[np.arange(len(best)), best]
        return pl.DataFrame({"id": pl.Series(self.ids, dtype=pl.String), "label": label, "posterior": chance})


def dawid_skene(
    votes: pl.DataFrame,
    what: str = "score",
    *,
    smoothing: float = 1.0,
    max_steps: int = 10_000,
    tolerance: float = 1e-6,
) -> DawidSkene:
    """Fit the model by expectation-maximisation, from shares of votes as the first guess.

    Several votes of one annotator on a document count as one, its most frequent: samples of a model are no independent
    witnesses. The votes alone settle the model only where three annotators or more have many documents in common;
    with fewer, smoothing decides between models that fit as well, and convergence is slow.

    Args:
        votes: one row a vote, as :func:`fineedu.labels.read_labels` returns them.
        what: ``score`` or ``topic``.
        smoothing: pseudo-votes that every annotator gets for every true label, half of them right and half spread
            evenly over the labels; and pseudo-documents, spread evenly (Dirichlet priors). What was never seen is then
            not impossible, and where few documents have several annotators, labels keep their meaning. 0 gives the
            paper's maximum likelihood.
        max_steps: of EM.
        tolerance: stop when no posterior probability moves by more.

    Raises:
        FineeduError: no valid votes of that kind, a negative smoothing, or SciPy missing.
    """
    if smoothing < 0:
        raise FineeduError(f"smoothing must not be negative, not {smoothing}")
    found = (majority_score if what == "score" else majority_topic)(name_parties(votes)).rename({what: "label"})
    if found.is_empty():
        raise FineeduError(f"no valid votes with a {what}: nothing to aggregate")
    ids, levels, annotators = (found[name].unique().sort().to_list() for name in ("id", "label", "annotator"))
    rows, said, who = (found[name].rank("dense").cast(pl.Int64).to_numpy() - 1 for name in ("id", "label", "annotator"))
    ballots = np.full((len(ids), len(annotators)), -1, dtype=np.int64)
    ballots[rows, who] = said
    # Equal votes, equal posterior: 10,000 documents with two annotators and 24 topics fit in 0.9 s so, else in 13 s.
    patterns, place, times = np.unique(ballots, axis=0, return_inverse=True, return_counts=True)
    fitted = _maximise(patterns, times, len(levels), smoothing, max_steps, tolerance)
    posterior, prior, confusion, objective, converged = fitted
    return DawidSkene(ids, levels, annotators, posterior[place], prior, confusion, objective, converged)


def _maximise(
    patterns: Integers, times: Integers, size: int, smoothing: float, max_steps: int, tolerance: float
) -> tuple[Array, Array, Array, list[float], bool]:
    """Run EM on (patterns, annotators) positions of labels, -1 for no vote, each with how often it occurs."""
    from scipy.sparse import csr_array

    party = patterns.shape[1]
    row, column = np.nonzero(patterns >= 0)
    cells = column * size + patterns[row, column]
    table = csr_array((np.ones(len(row)), (row, cells)), shape=(len(patterns), party * size))
    weighted = table.multiply(times[:, None]).T.tocsr()
    posterior = np.asarray(table @ np.tile(np.eye(size), (party, 1)))
    posterior /= posterior.sum(1, keepdims=True)
    # Pseudo-votes by label said and label true, and pseudo-documents by label.
    errors = smoothing * (np.eye(size) + 1 / size) / 2
    extra = smoothing / size
    objective: list[float] = []
    moved = np.inf
    for _ in range(max_steps):
        # Maximisation, (2.3) and (2.4): votes of each kind by the probable truth.
        prior = times @ posterior + extra
        prior /= prior.sum()
        confusion = (weighted @ posterior).reshape(party, size, size) + errors
        confusion /= np.maximum(confusion.sum(1, keepdims=True), np.finfo(float).tiny)
        # Expectation, (2.5), in logarithms; what was never said of a label stays impossible only without smoothing.
        log_prior, log_confusion = (np.log(np.maximum(part, np.finfo(float).tiny)) for part in (prior, confusion))
        joint = table @ log_confusion.reshape(party * size, size) + log_prior
        top = joint.max(1, keepdims=True)
        weight = np.exp(joint - top)
        total = weight.sum(1, keepdims=True)
        belief = extra * log_prior.sum() + (errors * log_confusion).sum()
        objective.append(float(times @ (top + np.log(total))[:, 0] + belief))
        moved = float(np.abs(weight / total - posterior).max())
        posterior = weight / total
        if moved <= tolerance:
            break
    return posterior, prior, confusion.transpose(0, 2, 1), objective, moved <= tolerance
