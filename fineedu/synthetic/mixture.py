"""The share of machine-written text from two reference corpora, by maximum likelihood.

Liang et al. 2024 (arXiv:2404.01268) model a sentence by the words that are in it: log P(s) sums log p_w over words in
s and log(1 - p_w) over all others, for a human and a machine corpus, and the share maximises the likelihood of the
mixture. Words are not independent, so the two likelihoods are wrong by more the longer a text is. Here their log ratio
is only a score: how often it falls into each bin is counted on halves of the reference corpora that the model has not
seen, and the mixture is fitted to these counts. The score may then be any function, and resampling the domains of all
three corpora gives intervals that hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fineedu.synthetic.boundary import Array, Share, invert

#: probability of a word that a corpus does not have: exp(-13.8), as in Liang et al.'s code
_FLOOR = 1e-6
#: texts of each reference corpus in a bin, at least
MIN_TEXTS = 40


class WordModel(NamedTuple):
    """Log-likelihood ratio of a text as a sum over the words that are in it.

    Attributes:
        words: the vocabulary.
        weights: what each adds.
        constant: of a text without any of them.
    """

    words: tuple[str, ...]
    weights: Array
    constant: float


def fit_words(words: Sequence[str], human: Array, n_human: int, machine: Array, n_machine: int) -> WordModel:
    """Fit the model of word presence.

    Args:
        words: n words.
        human: (n,) human texts that each is in.
        n_human: human texts.
        machine: (n,) machine-written texts that each is in.
        n_machine: machine-written texts.
    """
    p = np.clip(human / n_human, _FLOOR, 1 - _FLOOR)
    q = np.clip(machine / n_machine, _FLOOR, 1 - _FLOOR)
    absent = np.log1p(-q) - np.log1p(-p)
    return WordModel(tuple(words), np.log(q) - np.log(p) - absent, float(absent.sum()))


def published_share(log_ratios: Array) -> float:
    """Return the share that maximises the mixture likelihood, as published: between 0 and 1, ratios as they are.

    Args:
        log_ratios: (n,) log Q(s) - log P(s).
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    # d/da log(1 - a + a L) = (L - 1) / (1 - a + a L), written so that no exponential overflows.
    def slope(share: float) -> float:
        odds = log_ratios + np.log(share) - np.log1p(-share)
        return float(np.mean(expit(odds) / share - expit(-odds) / (1 - share)))

    if slope(1e-9) <= 0:
        return 0.0
    return 1.0 if slope(1 - 1e-9) >= 0 else float(brentq(slope, 1e-9, 1 - 1e-9))


def bin_edges(human: Array, machine: Array, bins: int) -> Array:
    """Return inner edges of the score.

    Both corpora together fill all bins alike; bins that hold fewer than ``MIN_TEXTS`` of either are put together with
    the next, so that no bin's ratio of probabilities hangs on a handful of texts.
    """
    pooled = np.concatenate([human, machine])
    weight = np.concatenate([np.full(len(human), 0.5 / len(human)), np.full(len(machine), 0.5 / len(machine))])
    order = np.argsort(pooled, kind="stable")
    share = np.cumsum(weight[order])
    at = np.searchsorted(share, np.arange(1, bins) / bins)
    edges = np.unique(pooled[order][np.minimum(at, len(pooled) - 1)])
    kept: list[float] = []
    below = np.array([[(part < edge).sum() for part in (human, machine)] for edge in edges])
    last, total = np.zeros(2), np.array([len(human), len(machine)])
    for edge, number in zip(edges, below, strict=True):
        if (number - last).min() >= MIN_TEXTS and (total - number).min() >= MIN_TEXTS:
            kept.append(float(edge))
            last = number
    return np.array(kept)


def histogram(clusters: npt.NDArray[np.int64], scores: Array, edges: Array, n_clusters: int) -> Array:
    """Return (n clusters, bins) counts."""
    bins = len(edges) + 1
    cell = clusters * bins + np.searchsorted(edges, scores, side="right")
    return np.bincount(cell, minlength=n_clusters * bins).reshape(n_clusters, bins).astype(np.float64)


def _distribution(counts: Array, prior: Array) -> Array:
    """Return shares of bins; half a text, spread as ``prior``, keeps them above zero in every resample."""
    filled = counts + 0.5 * prior
    return np.asarray(filled / filled.sum(-1, keepdims=True))


def mixture_share(target: Array, human: Array, machine: Array, *, resamples: int = 300, seed: int = 0) -> Share:
    """Estimate the share of machine-written texts with its 95 % interval.

    The interval holds all shares whose likelihood slope is within sampling error of zero, the error from resampling
    the domains of all three corpora; at its ends it follows :mod:`fineedu.synthetic.boundary`.

    Args:
        target: (domains, bins) texts by score, of what is to be measured.
        human: (domains, bins) the same of human texts that the model was not fitted on.
        machine: (domains, bins) the same of machine-written texts.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    from scipy.stats import norm, t

    parts = [part[part.sum(1) > 0] for part in (target, human, machine)]
    if not all(len(part) for part in parts):
        return Share(float("nan"), 0.0, 1.0, float("nan"))
    whole = [part.sum(0) for part in parts]
    prior = (whole[1] / whole[1].sum() + whole[2] / whole[2].sum()) / 2
    p, q = _distribution(whole[1], prior), _distribution(whole[2], prior)
    observed = whole[0] / whole[0].sum()
    drawn = [_resample(part, resamples, seed + number) for number, part in enumerate(parts)]
    fewest = min(len(part) for part in parts)
    # Resamples of G domains spread too little by (G - 1) / G, and their spread is itself estimated: Student's t.
    widen = float(np.sqrt(fewest / max(fewest - 1, 1)) * t.ppf(0.975, max(fewest - 1, 1)) / norm.ppf(0.975))

    def test(share: Array) -> tuple[Array, Array]:
        mixed = (1 - share[:, None]) * p + share[:, None] * q
        weight = ((q - p) / mixed).T
        # The slope is how far the observed bins lie from the mixed ones, so weighted; of weights held fixed it is
        # linear in all three corpora, and 1 / p of a thin bin does not blow up its resamples.
        target, human, machine = (part @ weight for part in drawn)
        error = np.maximum(widen * (target - (1 - share) * human - share * machine).std(0, ddof=1), 1e-12)
        return observed @ weight / error, error / ((q - p) @ weight)

    return invert(test, _raw_share(observed, p, q), points=121)


def _resample(counts: Array, resamples: int, seed: int) -> Array:
    """Return (resamples, bins) shares of bins over domains drawn with replacement."""
    chance = np.random.default_rng(seed)
    weights = chance.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=resamples)
    sums = weights.astype(np.float64) @ counts
    return np.asarray(sums / np.maximum(sums.sum(1, keepdims=True), 1e-300))


def _raw_share(observed: Array, human: Array, machine: Array) -> float:
    """Return the maximum of the likelihood over all shares that give no bin a negative probability."""
    from scipy.optimize import brentq

    difference = machine - human
    lowest = -np.min(human[difference > 0] / difference[difference > 0], initial=1e6)
    highest = np.min(human[difference < 0] / -difference[difference < 0], initial=1e6)
    low, high = (0.999 * end for end in (lowest, highest))

    def slope(share: float) -> float:
        return float((observed * difference / ((1 - share) * human + share * machine)).sum())

    if slope(low) <= 0:
        return float(low)
    return float(high) if slope(high) >= 0 else float(brentq(slope, low, high))
