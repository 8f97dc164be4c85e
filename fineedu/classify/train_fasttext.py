"""Train a fastText score: ``python -m fineedu.classify.train_fasttext RECIPE --data FOLDER``.

A teacher is fitted on the labels and scores unlabelled web text; the fastText student learns from both, is quantised,
and calibrated on held-out predictions. Everything is refitted inside each fold of the cross-validation that the card
reports. The same recipe and data give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict

from fineedu.classify.bundle import Bundle, Golden, Model, expected_values, load_weights
from fineedu.classify.card import GOLDEN_TEXTS, write_card
from fineedu.classify.labels import Labels, read_labels, read_unlabelled
from fineedu.classify.teacher import Teacher
from fineedu.classify.text import TextPreparation
from fineedu.errors import FineeduError
from fineedu.evaluate.baselines import baselines
from fineedu.evaluate.measures import measure

Array = npt.NDArray[np.float64]


class LabelFiles(BaseModel):
    """Which labels to learn from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    second: str | None = None
    second_weight: float = 0.6


class TrainingRecipe(BaseModel):
    """What ``train.yaml`` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    labels: LabelFiles
    unlabelled: str | None = None
    preparation: TextPreparation = TextPreparation()
    teacher: dict[str, float]
    student: dict[str, float]
    folds: int = 5
    seed: int = 1


class Material(BaseModel):
    """Prepared texts of labelled and unlabelled documents, with their embeddings."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    labels: Any
    lines: list[str]
    vectors: Any
    other_lines: list[str]
    other_vectors: Any


def require_training() -> Any:
    """Return the fasttext module, if it can train.

    Raises:
        FineeduError: it is missing, or the build that only predicts.
    """
    try:
        import fasttext
    except ImportError as error:
        raise FineeduError("training needs fastText: pip install 'fineedu[train]'") from error
    if not hasattr(fasttext, "train_supervised"):
        raise FineeduError(
            "the installed fasttext can only predict (fasttext-predict lies over the full build): "
            "pip install --force-reinstall --no-deps fasttext-community"
        )
    return fasttext


def train_student(
    recipe: TrainingRecipe, lines: list[str], scores: Array, copies: npt.NDArray[np.int64], path: Path
) -> dict[str, float]:
    """Train and quantise a student; return label to value.

    Args:
        recipe: its ``student`` settings.
        lines: prepared texts.
        scores: their scores; each is rounded to one of its two neighbouring labels at random, in proportion.
        copies: how often each text is shown.
        path: where the quantised model goes.
    """
    fasttext = require_training()
    settings = {
        name: int(value) if float(value).is_integer() and name != "lr" else value
        for name, value in recipe.student.items()
    }
    step = float(settings.pop("step", 0.5))
    settings.pop("labelled_copies", None)
    chance = np.random.default_rng(recipe.seed)
    rows = chance.permutation(np.repeat(np.arange(len(lines)), copies))
    steps = np.clip(scores, 0, 5)[rows] / step
    labels = np.floor(steps + chance.random(len(rows))).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.txt"
        file.write_text(
            "".join(f"__label__{label} {lines[row]}\n" for label, row in zip(labels, rows, strict=True) if lines[row])
        )
        # One thread: with several the result differs from run to run.
        model = fasttext.train_supervised(str(file), thread=1, verbose=0, seed=recipe.seed, **settings)
        model.quantize(str(file), retrain=False, qnorm=True, thread=1, verbose=0)
        model.save_model(str(path))
    return {f"__label__{label}": label * step for label in sorted(set(labels.tolist()))}


def fit_and_predict(
    recipe: TrainingRecipe, material: Material, rows: npt.NDArray[np.int64], path: Path
) -> dict[str, float]:
    """Fit teacher and student on some of the labelled documents."""
    labels: Labels = material.labels
    scores, weights = labels.on_target_scale(rows.tolist(), recipe.labels.second_weight)
    own = [material.lines[row] for row in rows]
    vectors = None if material.vectors is None else material.vectors[rows]
    teacher = Teacher(recipe.teacher).fit(own, vectors, scores, weights)
    taught = teacher.predict(material.other_lines, material.other_vectors) if material.other_lines else np.zeros(0)
    copies = np.r_[np.full(len(rows), int(recipe.student.get("labelled_copies", 1))), np.ones(len(taught), int)]
    return train_student(recipe, [*own, *material.other_lines], np.r_[scores, taught], copies, path)


def quantile_knots(predicted: Array, truth: Array) -> tuple[tuple[float, float], ...]:
    """Return the rising map that gives predictions the labels' own distribution.

    The share of documents above each cut of the scale becomes that of the labels. A model fitted for least squares
    shrinks towards the mean (its highest score was below 2.5 here), which makes thresholds on the scale useless.
    """
    knots = []
    for level in range(1, 6):
        below = float((truth < level).mean())
        if 0 < below < 1:
            knots.append((float(np.quantile(predicted, below)), level - 0.5))
    low, high = float(predicted.min()), float(predicted.max())
    knots = [(low, max(0.0, knots[0][1] - 0.5)), *knots, (high, min(5.0, knots[-1][1] + 0.5))]
    rising = [knots[0]]
    for knot in knots[1:]:
        if knot[0] > rising[-1][0]:
            rising.append(knot)
    return tuple((round(at, 6), score) for at, score in rising)


def folds_of(recipe: TrainingRecipe, material: Material) -> npt.NDArray[np.int64]:
    """Return the fold of each labelled document."""
    return np.random.default_rng(recipe.seed).permutation(len(material.labels.ids)) % recipe.folds


def cross_validate(recipe: TrainingRecipe, material: Material) -> tuple[Array, Array]:
    """Return held-out predictions of every labelled document: raw, and calibrated by the other folds' ones."""
    labels: Labels = material.labels
    folds = folds_of(recipe, material)
    raw, calibrated = np.full(len(labels.ids), np.nan), np.full(len(labels.ids), np.nan)
    for fold in range(recipe.folds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fold.ftz"
            values = fit_and_predict(recipe, material, np.flatnonzero(folds != fold), path)
            test = np.flatnonzero(folds == fold)
            raw[test] = expected_values(load_weights(path), pl.Series([material.lines[row] for row in test]), values)
    known = ~np.isnan(labels.target)
    for fold in range(recipe.folds):
        others = known & (folds != fold)
        at, score = np.array(quantile_knots(raw[others], labels.target[others])).T
        calibrated[folds == fold] = np.interp(raw[folds == fold], at, score)
    return raw, calibrated


def prepare(recipe: TrainingRecipe, data: Path, embeddings: Path | None) -> Material:
    """Read and prepare the texts.

    Raises:
        FineeduError: data are missing, or the teacher wants embeddings and there are none.
    """
    second = data / recipe.labels.second if recipe.labels.second else None
    labels = read_labels(data / recipe.labels.target, second)
    ids, texts = read_unlabelled(data / recipe.unlabelled, labels) if recipe.unlabelled else ([], [])
    vectors = other_vectors = None
    if recipe.teacher.get("embedding"):
        if embeddings is None:
            raise FineeduError(
                "the teacher's part 'embedding' needs --embeddings FILE (made by embed.py), or a weight of 0"
            )
        with np.load(embeddings, allow_pickle=False) as found:
            place = {name: row for row, name in enumerate(found["ids"].tolist())}
            vectors = found["vectors"][[place[i] for i in labels.ids]]
            other_vectors = found["vectors"][[place[i] for i in ids]]
    own, other = (
        recipe.preparation.apply(pl.Series(part, dtype=pl.String)).to_list() for part in (labels.texts, texts)
    )
    return Material(labels=labels, lines=own, vectors=vectors, other_lines=other, other_vectors=other_vectors)


def report_metrics(recipe: TrainingRecipe, material: Material, calibrated: Array) -> dict[str, Any]:
    """Return the figures of the card: the model, the baselines, and how far two annotators agree."""
    labels: Labels = material.labels
    known = ~np.isnan(labels.target)
    truth = labels.target[known]
    lengths = np.array([len(text) for text in labels.texts])[known]
    trivial = baselines(truth, lengths, folds_of(recipe, material)[known])
    metrics: dict[str, Any] = {"cross_validated": measure(truth, calibrated[known]).as_json()}
    metrics["baselines"] = {name: measure(truth, score).as_json() for name, score in trivial.items()}
    both = known & ~np.isnan(labels.second)
    if both.sum() >= 10:
        pairs = pl.DataFrame({"a": labels.target[both], "b": labels.second[both]})
        agreement = float(pairs.select(pl.corr("a", "b", method="spearman")).item())
        metrics["second_annotator"] = {"n": int(both.sum()), "spearman": round(agreement, 4)}
    return metrics


def describe(recipe: TrainingRecipe, material: Material) -> dict[str, Any]:
    """Return what a bundle says of its training."""
    labels: Labels = material.labels
    return {
        "labelled": len(labels.ids),
        "target_labels": int((~np.isnan(labels.target)).sum()),
        "second_labels": int((~np.isnan(labels.second)).sum()),
        "unlabelled": len(material.other_lines),
        "files": labels.files,
        "recipe": recipe.model_dump(mode="json"),
        "fasttext": version("fasttext-community"),
        "scikit-learn": version("scikit-learn"),
    }


def train(recipe_path: Path, data: Path, embeddings: Path | None, output: Path) -> Bundle:
    """Train, evaluate and write a bundle with its card.

    Args:
        recipe_path: ``train.yaml``.
        data: folder that the recipe's paths start from.
        embeddings: file of ``embed.py``, where the teacher uses them.
        output: folder of the bundle.

    Raises:
        FineeduError: bad recipe, missing data, or a fastText that cannot train.
    """
    require_training()
    recipe = TrainingRecipe.model_validate(yaml.safe_load(recipe_path.read_text()))
    material = prepare(recipe, data, embeddings)
    labels: Labels = material.labels
    raw, calibrated = cross_validate(recipe, material)
    known = ~np.isnan(labels.target)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "model.ftz"
    draft = Bundle(
        name=recipe.name,
        values=fit_and_predict(recipe, material, np.arange(len(labels.ids)), path),
        weights=path.name,
        weights_sha256=sha256(path.read_bytes()).hexdigest(),
        preparation=recipe.preparation,
        knots=quantile_knots(raw[known], labels.target[known]),
        golden=(Golden(text="-", score=0.0),),
        training=describe(recipe, material),
        metrics=report_metrics(recipe, material, calibrated),
    )
    scores = Model(draft, load_weights(path)).score(pl.Series(GOLDEN_TEXTS))
    golden = (Golden(text=t, score=round(float(s), 5)) for t, s in zip(GOLDEN_TEXTS, scores, strict=True))
    bundle = draft.model_copy(update={"golden": tuple(golden)})
    text = json.dumps(bundle.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (output / "bundle.json").write_text(text + "\n", encoding="utf-8")
    write_card(output / "card.md", bundle, path.stat().st_size)
    return bundle


def main() -> None:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description="Train a fastText score from a recipe.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    try:
        bundle = train(given.recipe, given.data, given.embeddings, given.output or given.recipe.parent)
    except FineeduError as error:
        parser.exit(2, f"error: {error}\n")
    print(json.dumps(bundle.metrics["cross_validated"], indent=1))


if __name__ == "__main__":
    main()
