"""Texts like these, not like those: the DCLM kind of classifier, positives against the web, without any scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fineedu.classify.calibration import percentile_sketch
from fineedu.classify.family import Array, Classifier, Targets
from fineedu.classify.labels import read_rows
from fineedu.classify.recipe import ContrastFiles, TrainingRecipe
from fineedu.errors import FineeduError
from fineedu.store import hash_file

#: the score is a probability, and stays one
KNOTS = ((0.0, 0.0), (1.0, 1.0))


def read_contrast(data: Path, source: ContrastFiles, seed: int) -> tuple[list[str], Array, dict[str, str]]:
    """Read positives and negatives, as many of one as of the other, at most ``per_side``, drawn at random.

    Returns:
        n texts, n targets (1 positive, 0 negative), and the hashes of the files.

    Raises:
        FineeduError: a file is missing or damaged, has no such column, or a side has no text.
    """
    chance = np.random.default_rng(seed)
    sides: list[list[str]] = []
    files: dict[str, str] = {}
    for name in ("positive", "negative"):
        texts: dict[str, None] = {}
        for path in (data / part for part in getattr(source, name)):
            rows = read_rows(path)
            if rows and source.text not in rows[0]:
                raise FineeduError(
                    f"training data {path}: no {source.text!r} in its rows: name the column as contrast.text"
                )
            texts |= dict.fromkeys(row[source.text] for row in rows if row.get(source.text))
            files[path.name] = hash_file(path)
        if not texts:
            raise FineeduError(f"contrast.{name}: no text in {', '.join(getattr(source, name))}")
        sides.append(list(texts))
    size = min(source.per_side, *map(len, sides))
    drawn = [[side[place] for place in np.sort(chance.permutation(len(side))[:size])] for side in sides]
    return [*drawn[0], *drawn[1]], np.repeat([1.0, 0.0], size), files


def fit_contrast(recipe: TrainingRecipe, classifier: Classifier, data: Path, say: Any) -> dict[str, Any]:
    """Fit a classifier on positives and negatives; cross-validate it first.

    Returns:
        Parts of the bundle: calibration, percentiles of the negatives' held-out scores, training and metrics.
    """
    from fineedu.evaluate.baselines import baselines
    from fineedu.evaluate.leakage import assign_folds, group_names
    from fineedu.evaluate.measures import measure

    assert recipe.contrast is not None
    texts, truth, files = read_contrast(data, recipe.contrast, recipe.seed)
    series = pl.Series(texts, dtype=pl.String)
    say(f"{len(texts):,} documents, half of them positives")
    found = classifier.read(recipe.preparation.apply(series))
    groups = group_names([str(row) for row in range(len(texts))], series)
    folds = assign_folds(groups, recipe.folds, recipe.seed)
    held = np.full(len(texts), np.nan)
    for fold in range(recipe.folds):
        rows, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        classifier.fit_read(classifier.take(found, rows), Targets(truth[rows, None], np.ones(len(rows))))
        held[test] = classifier.score_read(classifier.take(found, test))[:, 0]
        say(f"fold {fold + 1} of {recipe.folds}")
    classifier.fit_read(found, Targets(truth[:, None], np.ones(len(truth))))
    lengths = series.str.len_chars().to_numpy()
    trivial = baselines(truth, lengths, folds)
    figures = {name: measure(truth, score, levels=(1,)).as_json() for name, score in trivial.items()}
    return {
        "knots": KNOTS,
        "percentiles": percentile_sketch(held[truth == 0]),
        "training": {"positives": int(truth.sum()), "negatives": int((truth == 0).sum()), "files": files},
        "metrics": {"cross_validated": measure(truth, held, levels=(1,)).as_json(), "baselines": figures},
    }
