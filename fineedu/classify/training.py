"""Train a bundle from a recipe: read, cross-validate, fit on everything, calibrate, write.

Everything that learns from labels (the teacher, the mapping of scales, the model, its calibration) is fitted anew
inside each fold of the cross-validation that the card reports. Near-duplicates stay in one fold. The same recipe and
data give the same bundle.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import ValidationError

from fineedu.classify.bundle import Bundle, Golden, Model, golden_scores
from fineedu.classify.calibration import fit_knots, percentile_sketch
from fineedu.classify.card import GOLDEN_TEXTS, write_card
from fineedu.classify.family import Array, Classifier, Targets, family_class
from fineedu.classify.labels import Labels, read_classes, read_labels, read_names, read_topics, read_unlabelled
from fineedu.classify.recipe import TrainingRecipe, describe_error, read_recipe
from fineedu.classify.teacher import Teacher
from fineedu.errors import FineeduError
from fineedu.store import hash_file

Rows = npt.NDArray[np.int64]
Say = Callable[[str], None]
#: unlabelled documents that percentiles are estimated on; 4,000 put every percentile within 0.8 of a point
SKETCHED = 4000
PACKAGES = ("fasttext-community", "scikit-learn", "onnxruntime", "tokenizers", "torch", "transformers")


@dataclass
class Material:
    """Documents that have been read: the labelled ones first, then the others."""

    labels: Labels
    lines: pl.Series
    found: Any
    #: vectors for the teacher's embedding part, or None
    vectors: Array | None
    folds: Rows
    #: another division of the labelled documents, for calibration
    parts: Rows
    #: columns of classes of the documents without labels
    classes: dict[str, Rows]
    #: names of the topics that are told beside the score, and their column; none where there are none
    topics: tuple[str, ...] = ()
    topic_column: str | None = None

    @property
    def others(self) -> Rows:
        """Rows of the documents without labels."""
        return np.arange(len(self.labels.ids), len(self.lines))


def train(
    recipe_path: Path,
    data: Path,
    output: Path,
    say: Say = lambda _: None,
    *,
    held_out: Path | None = None,
    sizes: Sequence[int] = (),
) -> Bundle:
    """Train, evaluate and write a bundle with its card.

    Args:
        recipe_path: ``train.yaml``.
        data: folder that the recipe's paths start from.
        output: folder of the bundle.
        say: told what is going on.
        held_out: Parquet file for the cross-validated scores (``id``, ``score``, ``n_labels``), which
            ``fineedu evaluate`` takes; only where the recipe has labels.
        sizes: numbers of labels to fit on besides all, for a learning curve in that file.

    Raises:
        FineeduError: bad recipe, missing data, or a package that is not installed.
    """
    recipe = read_recipe(recipe_path)
    if (held_out or sizes) and (not held_out or not recipe.labels):
        raise FineeduError("held-out scores and learning curves: the recipe needs labels, and --held-out a file")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        if recipe.labels:
            classifier, parts, held = _fit_scores(recipe, data, Path(work), say, sizes)
        else:
            classifier, parts = (_fit_topics if recipe.topics else _fit_contrast)(recipe, data, Path(work), say)
        names = classifier.save(output)
    parts["training"] |= {"recipe": recipe.model_dump(mode="json", exclude_none=True), "packages": _versions()}
    files = {name: hash_file(output / name) for name in names}
    draft = Bundle(
        name=recipe.name,
        family=recipe.family,
        weights=names[0],
        weights_sha256=files.pop(names[0]),
        files=files,
        preparation=recipe.preparation,
        settings=classifier.settings(),
        golden=(Golden(text="-", score=0.0),),
        **parts,
    )
    # Scored by what was written, not by what is in memory: rounding on the way would show.
    model = Model(draft, family_class(draft.family).load(output, draft))
    bundle = draft.model_copy(update={"golden": tuple(golden_scores(model, GOLDEN_TEXTS))})
    if held_out:
        held_out.parent.mkdir(parents=True, exist_ok=True)
        held.write_parquet(held_out)
    text = json.dumps(bundle.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (output / "bundle.json").write_text(text + "\n", encoding="utf-8")
    write_card(output / "card.md", bundle, sum((output / name).stat().st_size for name in names))
    return bundle


def _make(recipe: TrainingRecipe, outputs: tuple[str, ...], work: Path, lessons: Any) -> Classifier:
    try:
        return family_class(recipe.family).make(
            recipe.model, outputs=outputs, seed=recipe.seed, work=work, lessons=lessons
        )
    except ValidationError as error:
        raise FineeduError(f"training recipe {recipe.name}: model.{describe_error(error)}") from error


def _fit_scores(
    recipe: TrainingRecipe, data: Path, work: Path, say: Say, sizes: Sequence[int]
) -> tuple[Classifier, dict[str, Any], pl.DataFrame]:
    assert recipe.labels is not None
    second = data / recipe.labels.second if recipe.labels.second else None
    documents = data / recipe.labels.documents if recipe.labels.documents else None
    labels = read_labels(data / recipe.labels.target, second, documents=documents, expected=recipe.labels.expected)
    rows = read_unlabelled(data / recipe.unlabelled, labels) if recipe.unlabelled else []
    if recipe.unlabelled_limit and recipe.unlabelled_limit < len(rows):
        chosen = np.random.default_rng(recipe.seed).permutation(len(rows))[: recipe.unlabelled_limit]
        rows = [rows[place] for place in np.sort(chosen)]
    say(f"{len(labels.ids):,} labelled and {len(rows):,} other documents")
    classifier = _make(recipe, ("score",), work, rows)
    material = _read(recipe, classifier, labels, rows, data, say)
    raw, calibrated, told = _cross_validate(recipe, classifier, material, say)
    held = _held_out(recipe, classifier, material, calibrated, sizes, say)
    _learn_classes(classifier, material, np.ones(len(material.others), bool))
    _fit(recipe, classifier, material, np.arange(len(labels.ids)))
    known = ~np.isnan(labels.target)
    knots = fit_knots(raw[known], labels.target[known], recipe.calibration)
    sketched = np.random.default_rng(recipe.seed).permutation(material.others)[:SKETCHED]
    scores = classifier.score_read(classifier.take(material.found, sketched))[:, 0] if len(sketched) else np.zeros(0)
    parts: dict[str, Any] = {
        "knots": knots,
        "percentiles": percentile_sketch(np.interp(scores, *np.array(knots).T)) if len(scores) else (),
        "training": _describe(recipe, data, labels, len(rows), len(sketched)),
        "labels": material.topics,
        "metrics": _report(material, raw, calibrated, told),
    }
    return classifier, parts, held


def _read(
    recipe: TrainingRecipe,
    classifier: Classifier,
    labels: Labels,
    rows: list[dict[str, Any]],
    data: Path,
    say: Say,
) -> Material:
    from fineedu.evaluate.leakage import assign_folds, group_names

    column = recipe.topics.column if recipe.topics else None
    columns = tuple(dict.fromkeys((*classifier.columns, *([column] if column else []))))
    # What neither a teacher scores nor classes or percentiles need is not read.
    if not recipe.teacher and not columns:
        places = np.sort(np.random.default_rng(recipe.seed).permutation(len(rows))[:SKETCHED])
        rows = [rows[place] for place in places]
    names = {column: read_names(data, recipe.topics)} if column and recipe.topics else {}
    classes = read_classes(rows, columns, names)
    texts = pl.Series([*labels.texts, *(row["text"] for row in rows)], dtype=pl.String)
    lines = recipe.preparation.apply(texts)
    say(f"reading {len(lines):,} documents")
    vectors = None
    if recipe.teacher and recipe.teacher.embedding:
        from fineedu.classify.bundle import bundle_folder, load_bundle

        encoder = load_bundle(bundle_folder(recipe.teacher.encoder))
        vectors = encoder.classifier.read(encoder.bundle.preparation.apply(texts)).mean()
    groups = group_names(labels.ids, pl.Series(labels.texts))
    folds, parts = (assign_folds(groups, recipe.folds, recipe.seed + shift) for shift in (0, 1))
    found = classifier.read(lines)
    return Material(labels, lines, found, vectors, folds, parts, classes, names.get(column or "", ()), column)


def _learn_classes(classifier: Classifier, material: Material, chosen: npt.NDArray[np.bool_]) -> None:
    """Let the classifier learn the classes of some of the documents without labels."""
    if material.classes:
        classes = {name: numbers[chosen] for name, numbers in material.classes.items()}
        classifier.learn_classes(
            classifier.take(material.found, material.others[chosen]), classes, material.topic_column
        )


def _fit(recipe: TrainingRecipe, classifier: Classifier, material: Material, rows: Rows) -> None:
    """Fit on some of the labelled documents, and on the others as a teacher scores them that saw only those."""
    assert recipe.labels is not None
    scores, weights = material.labels.on_target_scale(rows.tolist(), recipe.labels.second_weight)
    teacher = recipe.teacher
    if teacher:
        shares = {"word": teacher.word, "character": teacher.character, "embedding": teacher.embedding}
        lines, others = material.lines[rows].to_list(), material.lines[material.others].to_list()
        vectors = material.vectors
        seen, unseen = (None, None) if vectors is None else (vectors[rows], vectors[material.others])
        taught = Teacher(shares).fit(lines, seen, scores, weights).predict(others, unseen)
        there = ~np.isnan(taught)
        rows = np.r_[rows, material.others[there]]
        weights = np.r_[np.full(len(scores), float(teacher.copies)), np.ones(there.sum())]
        scores = np.r_[scores, taught[there]]
    classifier.fit_read(classifier.take(material.found, rows), Targets(scores[:, None], weights))


def _cross_validate(
    recipe: TrainingRecipe, classifier: Classifier, material: Material, say: Say
) -> tuple[Array, Array, Array]:
    """Return held-out predictions.

    Returns:
        Of every labelled document the raw score, and the score calibrated without it; of every other document the
        probabilities of topics, held out too, where the model tells them.
    """
    from fineedu.evaluate.leakage import assign_folds

    folds = material.folds
    raw = np.full(len(folds), np.nan)
    told = np.full((len(material.others), len(material.topics)), np.nan)
    apart = assign_folds(_groups(material) if material.topics else [], recipe.folds, recipe.seed)
    for fold in range(recipe.folds):
        # Without topics to measure, all classes may be learned: they know nothing of scores.
        _learn_classes(classifier, material, apart != fold if material.topics else np.ones(len(told), bool))
        _fit(recipe, classifier, material, np.flatnonzero(folds != fold))
        test = np.flatnonzero(folds == fold)
        raw[test] = classifier.score_read(classifier.take(material.found, test))[:, 0]
        if material.topics:
            test = np.flatnonzero(apart == fold)
            found = classifier.score_read(classifier.take(material.found, material.others[test]))
            told[test] = found[:, 1 : 1 + len(material.topics)]
        say(f"fold {fold + 1} of {recipe.folds}")
    return raw, _calibrated(recipe, material, raw), told


def _calibrated(recipe: TrainingRecipe, material: Material, raw: Array) -> Array:
    """Return held-out scores, each part calibrated by the others' ones.

    The parts are not the folds. A fold whose labels happen to be low leaves high ones to the others: a model that was
    fitted on those tells a little too much for it, and a map from those adds as much again, so that fold by fold
    calibration lost .005 of rank correlation where parts drawn anew lose .001 (660 documents, four divisions), at the
    same calibration error. No document's label, nor a near-duplicate's, is fitted to in its score or its map; models of
    other folds, whose scores the map is fitted on, have seen it, as they have in any cross-validated calibration.
    """
    target, parts = material.labels.target, material.parts
    known = ~np.isnan(target) & ~np.isnan(raw)
    calibrated = np.full(len(parts), np.nan)
    for part in range(recipe.folds):
        others = known & (parts != part)
        at, score = np.array(fit_knots(raw[others], target[others], recipe.calibration)).T
        calibrated[parts == part] = np.interp(raw[parts == part], at, score)
    return calibrated


def _held_out(
    recipe: TrainingRecipe,
    classifier: Classifier,
    material: Material,
    calibrated: Array,
    sizes: Sequence[int],
    say: Say,
) -> pl.DataFrame:
    """Return held-out scores of models fitted on all labels, and on so many of each fold's training part.

    Which labels come first follows from a hash of id and seed: smaller sets are parts of the larger ones.

    Raises:
        FineeduError: a fold's training part has fewer labels.
    """
    labels, folds = material.labels, material.folds
    ranks = np.argsort([blake2b(f"{recipe.seed} {name}".encode(), digest_size=8).digest() for name in labels.ids])
    most = min(int((folds != fold).sum()) for fold in range(recipe.folds))
    parts = [(most, calibrated)]
    for size in sorted(set(sizes)):
        if not 20 <= size < most:
            raise FineeduError(f"learning curve: {size} labels; there can be 20 to {most - 1}, all that a fold leaves")
        say(f"learning curve: {size} labels")
        raw = np.full(len(folds), np.nan)
        for fold in range(recipe.folds):
            _fit(recipe, classifier, material, np.sort(ranks[folds[ranks] != fold][:size]))
            test = np.flatnonzero(folds == fold)
            raw[test] = classifier.score_read(classifier.take(material.found, test))[:, 0]
        parts.append((size, _calibrated(recipe, material, raw)))
    columns = {"id": pl.String, "score": pl.Float64, "n_labels": pl.Int64}
    return pl.concat(
        pl.DataFrame({"id": labels.ids, "score": found, "n_labels": size}, schema=columns) for size, found in parts
    ).fill_nan(None)


def _groups(material: Material) -> list[str]:
    """Return the duplicate group of each document without labels."""
    from fineedu.evaluate.leakage import group_names

    lines = material.lines[material.others]
    return group_names([str(place) for place in range(len(lines))], lines)


def _report(material: Material, raw: Array, calibrated: Array, told: Array) -> dict[str, Any]:
    """Return the figures of the card: the model, trivial baselines, and how far two annotators agree."""
    from fineedu.classify.topics import measure_topics
    from fineedu.evaluate.baselines import baselines
    from fineedu.evaluate.measures import measure

    labels = material.labels
    known = ~np.isnan(labels.target)
    truth = labels.target[known]
    lengths = np.array([len(text) for text in labels.texts])[known]
    trivial = baselines(truth, lengths, material.folds[known])
    metrics: dict[str, Any] = {"cross_validated": measure(truth, calibrated[known]).as_json()}
    metrics["baselines"] = {name: measure(truth, score).as_json() for name, score in trivial.items()}
    # A map that only rises leaves ranks alone, but each part has its own map, and put together they blur them.
    ranks = measure(truth, raw[known], levels=(2, 3)).as_json()
    metrics["before_calibration"] = {name: ranks[name] for name in ("n", "spearman", "auc_2", "auc_3")}
    if material.topics and material.topic_column:
        metrics["topics"] = measure_topics(material.classes[material.topic_column], material.topics, told)
    both = known & ~np.isnan(labels.second)
    if both.sum() >= 10:
        pairs = pl.DataFrame({"a": labels.target[both], "b": labels.second[both]})
        agreement = float(pairs.select(pl.corr("a", "b", method="spearman")).item())
        metrics["second_annotator"] = {"n": int(both.sum()), "spearman": round(agreement, 4)}
    return metrics


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _describe(recipe: TrainingRecipe, data: Path, labels: Labels, unlabelled: int, sketched: int) -> dict[str, Any]:
    return {
        "labelled": len(labels.ids),
        "target_labels": int((~np.isnan(labels.target)).sum()),
        "second_labels": int((~np.isnan(labels.second)).sum()),
        "annotators": labels.annotators,
        "ids": labels.ids,
        "unlabelled": unlabelled,
        "percentiles_of": sketched,
        "files": labels.files,
        "unlabelled_files": {Path(name).name: hash_file(data / name) for name in [recipe.unlabelled] if name},
    }


def _fit_contrast(recipe: TrainingRecipe, data: Path, work: Path, say: Say) -> tuple[Classifier, dict[str, Any]]:
    from fineedu.classify.contrast import fit_contrast

    classifier = _make(recipe, ("score",), work, None)
    return classifier, fit_contrast(recipe, classifier, data, say)


def _fit_topics(recipe: TrainingRecipe, data: Path, work: Path, say: Say) -> tuple[Classifier, dict[str, Any]]:
    from fineedu.classify.topics import measure_topics
    from fineedu.evaluate.leakage import assign_folds, group_names

    assert recipe.topics is not None
    topics = read_topics(data, recipe.topics)
    classifier = _make(recipe, topics.names, work, None)
    texts = pl.Series(topics.texts, dtype=pl.String)
    say(f"reading {len(texts):,} documents with {len(topics.names)} topics")
    found = classifier.read(recipe.preparation.apply(texts))
    values = np.eye(len(topics.names))[topics.numbers]
    targets = Targets(values, np.ones(len(texts)))
    folds = assign_folds(group_names(topics.ids, texts), recipe.folds, recipe.seed)
    out = np.full(values.shape, np.nan)
    for fold in range(recipe.folds):
        rows, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        classifier.fit_read(classifier.take(found, rows), targets.rows(rows))
        out[test] = classifier.score_read(classifier.take(found, test))[:, : len(topics.names)]
        say(f"fold {fold + 1} of {recipe.folds}")
    classifier.fit_read(found, targets)
    training = {"labelled": len(topics.ids), "files": topics.files}
    metrics = {"cross_validated": measure_topics(topics.numbers, topics.names, out)}
    return classifier, {"task": "topic", "labels": topics.names, "training": training, "metrics": metrics}
