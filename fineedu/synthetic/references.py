"""The passes of the mixture estimate: the model is fitted on halves of the reference corpora, all else is scored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.phrases.matching import Matcher, find_phrases, make_matcher
from fineedu.synthetic.boundary import Array
from fineedu.synthetic.frequency import FrequencyTable
from fineedu.synthetic.mixture import WordModel, bin_edges, fit_words, histogram, mixture_share
from fineedu.synthetic.period import make_span
from fineedu.synthetic.recipe import MixtureConfig, SyntheticRecipe
from fineedu.synthetic.source import Source, needed_columns, open_source, prepare, read_part

#: reference texts that edges of bins are made from, at most
_SAMPLE = 200_000
_FIT, _TEST = 0, 1


def sentences(texts: pl.Series) -> pl.Series:
    """Split texts at the ends of sentences and lines; a list a text, of pieces of two words or more."""
    lines = texts.str.replace_all(r"([.!?])\s+", "$1\n").str.split("\n")
    return lines.list.eval(pl.element().filter(pl.element().str.strip_chars().str.contains(r"\S\s+\S")))


def _units(source: Source, unit: str) -> Iterator[pl.DataFrame]:
    """Yield period, cluster, half (by the cluster's hash) and text of every unit."""
    columns = needed_columns(source, {})
    for part in range(len(source.parts)):
        for batch in read_part(source, part, columns):
            frame, _ = prepare(source, batch, {})
            half = (pl.col("cluster").hash(seed=7) % 2).cast(pl.Int8).alias("half")
            frame = frame.with_columns(half)
            if unit == "sentence":
                frame = frame.with_columns(sentences(frame["text"])).explode("text").drop_nulls("text")
            if frame.height:
                yield frame


def _is_before(source: Source, periods: pl.Series, recipe: SyntheticRecipe) -> pl.Series:
    if not source.dated:
        return pl.Series([True]).new_from_index(0, periods.len())
    before = make_span(periods.unique().to_list(), recipe.cutoff).before
    return periods.is_in(pl.Series(before, dtype=pl.String).implode())


def _vocabulary(source: Source, recipe: SyntheticRecipe, unit: str) -> tuple[dict[str, int], int]:
    """Return words of the fitting half with the texts that they are in, and the number of texts."""
    table, n = FrequencyTable(), 0
    for units in _units(source, unit):
        chosen = units.filter(_is_before(source, units["period"], recipe) & (units["half"] == _FIT))
        if chosen.height:
            same = pl.Series([""]).new_from_index(0, chosen.height)
            table.add(text_buffer(chosen["text"]), same, same)
            n += chosen.height
    return dict(table.finish().select("word", "documents").iter_rows()), n


def fit_model(recipe: SyntheticRecipe, config: MixtureConfig, human: Source, machine: Source) -> WordModel:
    """Fit word presence on one half of each reference corpus.

    The vocabulary is the commonest words that are in five or more human and three or more machine-written texts.

    Raises:
        FineeduError: a corpus has no text in its fitting half, or they share no words.
    """
    (h, n_human), (m, n_machine) = (_vocabulary(source, recipe, config.unit) for source in (human, machine))
    if not n_human or not n_machine:
        empty = "human" if not n_human else "machine"
        raise FineeduError(f"mixture.{empty}: too few texts: half of its domains fit the model, the others test it")
    shared = [word for word in h if h[word] >= 5 and m.get(word, 0) >= 3]
    shared = sorted(shared, key=lambda word: (-h[word] / n_human - m[word] / n_machine, word))[: config.words]
    if not shared:
        raise FineeduError("mixture: no word is in five human and three machine-written texts; give larger corpora")
    counts = [np.array([table[word] for word in shared], np.float64) for table in (h, m)]
    return fit_words(shared, counts[0], n_human, counts[1], n_machine)


def score(model: WordModel, matcher: Matcher, texts: pl.Series) -> Array:
    """Return the log-likelihood ratio of every text: constant, plus the weight of each word that is in it."""
    found = find_phrases(text_buffer(texts), matcher)
    cells = np.unique(found.document * len(model.words) + found.phrase)
    weights = model.weights[cells % len(model.words)]
    summed = np.bincount(cells // len(model.words), weights=weights, minlength=texts.len())
    return np.asarray(summed + model.constant, np.float64)


def _scored(source: Source, unit: str, model: WordModel, matcher: Matcher) -> Iterator[pl.DataFrame]:
    for units in _units(source, unit):
        yield units.select("period", "cluster", "half", score=pl.Series(score(model, matcher, units["text"])))


def _counts(frames: list[pl.DataFrame], edges: Array) -> Array:
    """Return (clusters, bins) counts."""
    if not frames:
        return np.zeros((0, len(edges) + 1))
    frame = pl.concat(frames)
    row = frame["cluster"].rank("dense").cast(pl.Int64).to_numpy() - 1
    return histogram(row, frame["score"].to_numpy(), edges, int(row.max()) + 1)


def estimate(recipe: SyntheticRecipe, source: Source, folder: Path) -> tuple[pl.DataFrame, dict[str, float]]:
    """Estimate the share of machine-written texts by period.

    Periods before the cut-off are measured on the half of their domains that the model has not seen, as a check: their
    share should be 0 where they are the human corpus.

    Args:
        recipe: with ``mixture``.
        source: the documents.
        folder: that relative paths are looked for in first.

    Returns:
        ``period``, ``texts``, ``share``, ``share_low``, ``share_high``, ``share_raw``; and facts: words of the model,
        texts of the corpora, bins.

    Raises:
        FineeduError: a reference corpus is missing or too small.
    """
    config = recipe.mixture
    assert config is not None
    plain = recipe.input.model_copy(update={"where": None, "since": None})
    machine = open_source(plain.model_copy(update={"path": config.machine}), folder, dated=False)
    human = source
    if config.human is not None:
        human = open_source(plain.model_copy(update={"path": config.human}), folder, dated=False)
    model = fit_model(recipe, config, human, machine)
    matcher = make_matcher(tuple(enumerate(model.words)))
    references = []
    for corpus in (human, machine):
        parts = [
            frame.filter(_is_before(corpus, frame["period"], recipe) & (frame["half"] == _TEST))
            for frame in _scored(corpus, config.unit, model, matcher)
        ]
        references.append([part for part in parts if part.height])
    if not all(references):
        raise FineeduError("mixture: too few texts: half of each corpus's domains fit the model, the others test it")
    sampled = [pl.concat(parts)["score"].to_numpy() for parts in references]
    edges = bin_edges(sampled[0][:_SAMPLE], sampled[1][:_SAMPLE], config.bins)
    if not len(edges):
        raise FineeduError("mixture: the reference corpora are too small, or alike: their texts cannot be told apart")
    known = [_counts(parts, edges) for parts in references]
    held: dict[str, list[pl.DataFrame]] = {}
    for frame in _scored(source, config.unit, model, matcher):
        seen = _is_before(source, frame["period"], recipe) & (frame["half"] == _FIT) & (config.human is None)
        for (period,), part in frame.filter(~seen).group_by("period"):
            # Only how often each bin was hit is kept of a domain: memory does not grow with the text.
            binned = part.select("cluster", score=pl.Series(np.searchsorted(edges, part["score"], side="right")))
            held.setdefault(str(period), []).append(binned.group_by("cluster", "score").agg(pl.len().alias("n")))
    span = make_span(list(held), recipe.cutoff)
    rows = [(period, *_share(held[period], known, len(edges) + 1, recipe)) for period in span.names]
    columns = ["period", "texts", "share", "share_low", "share_high", "share_raw"]
    facts = {"words": float(len(model.words)), "bins": float(len(edges) + 1)}
    facts |= {"human_texts": float(known[0].sum()), "machine_texts": float(known[1].sum())}
    return pl.DataFrame(rows, schema=columns, orient="row"), facts


def _share(
    parts: list[pl.DataFrame], known: list[Array], bins: int, recipe: SyntheticRecipe
) -> tuple[int, float, float, float, float]:
    summed = pl.concat(parts).group_by("cluster", "score").agg(pl.col("n").sum()).sort("cluster", "score")
    row = summed["cluster"].rank("dense").cast(pl.Int64).to_numpy() - 1
    target = np.zeros((int(row.max()) + 1, bins))
    target[row, summed["score"].to_numpy()] = summed["n"].to_numpy()
    found = mixture_share(target, known[0], known[1], resamples=recipe.resamples, seed=recipe.seed)
    return int(target.sum()), *found
