"""The model card, written from the bundle so that its figures cannot drift from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fineedu.classify.bundle import Bundle

#: Inputs whose scores a bundle carries. Written for this purpose; they cover what preparation could get wrong.
GOLDEN_TEXTS = (
    "Photosynthesis is the process by which plants use light to turn water and carbon dioxide into sugar and oxygen.",
    "Photosynthesis is the process\nby which plants use light\r\nto turn water and carbon dioxide into sugar and oxygen.",
    "Buy now! Best prices on shoes, free shipping on all orders over $50. Add to cart.",
    "To add two fractions, first find a common denominator. For example, 1/2 + 1/3 = 3/6 + 2/6 = 5/6. Exercise: add 1/4 and 1/6.",
    "Click here to log in. Forgot your password? Terms of use. Privacy policy. Cookie settings.",
    "The French Revolution began in 1789. Historians name several causes: debt, hunger and the ideas of the Enlightenment.",
    "LOL that game last night was crazy!!! can't believe they won it in overtime",
    "Die Pflanze nutzt Licht, um aus Wasser und Kohlendioxid Zucker zu bilden.",
    "植物は光を使って水と二酸化炭素から糖を作ります。",
    "a",
)

_ROWS = (
    "spearman", "quadratic_kappa", "mae",
    "auc_3", "precision_3_rounded", "recall_3_rounded", "positive_f1_3_rounded", "macro_f1_3_rounded",
    "auc_2", "precision_2_rounded", "recall_2_rounded", "positive_f1_2_rounded", "macro_f1_2_rounded",
)  # fmt: skip


def _cell(measure: dict[str, float | None]) -> str:
    if measure["low"] is None:
        return "not defined"
    return f"{measure['value']:.3f} ({measure['low']:.3f} to {measure['high']:.3f})"


def _table(metrics: dict[str, Any]) -> str:
    columns = {"this model": metrics["cross_validated"], **metrics["baselines"]}
    lines = ["| measure | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(_cell(found[row]) for found in columns.values()) + " |" for row in _ROWS]
    return "\n".join(lines)


def write_card(path: Path, bundle: Bundle, size: int) -> None:
    """Write a bundle's card in Markdown."""
    training, metrics = bundle.training, bundle.metrics
    measured = metrics["cross_validated"]
    second = metrics.get("second_annotator")
    ceiling = (
        f"On the {second['n']} documents that both annotators scored, their rank correlation is {second['spearman']:.2f}: no model can be expected to follow either much closer."
        if second
        else "No second annotator was at hand."
    )
    path.write_text(
        f"""# {bundle.name}

A quantised fastText classifier ({size / 1e6:.1f} MB) that scores the educational value of English web text from 0 to 5, on the
scale of FineWeb-Edu's annotator (Llama-3-70B-Instruct). It is small and fast, and it was trained on few labels: use it to
try a pipeline out and to order documents roughly, and train your own for a corpus that matters.

## What it was trained on

- {training["target_labels"]} documents scored by Llama-3-70B-Instruct (FineWeb-Edu's own annotations): the target scale;
- {training["second_labels"]} documents scored by a second, stricter panel of annotators, mapped to that scale on the overlap;
- {training["unlabelled"]:,} unlabelled web documents, scored by a teacher (ridge regression on TF-IDF of words and characters, support
  vectors on all-MiniLM-L6-v2 embeddings) that was fitted on the labels.

The texts are not included. Files and their SHA-256 are in `bundle.json`.

## Text preparation

{bundle.preparation.max_chars:,} characters are read, then: {", ".join(bundle.preparation.steps)}. Newlines become spaces. The steps are data in `bundle.json`, and
loading re-scores {len(bundle.golden)} golden inputs and refuses on a mismatch.

## Quality

{training["recipe"]["folds"]}-fold cross-validation over documents (n = {measured["n"]} with a target label; {measured["positives"]["3"]} of them scored 3 or more, {measured["positives"]["2"]} scored 2 or more). Teacher, mapping of
scales and student are refitted in each fold; a fold is calibrated on the other folds' held-out predictions. 95 % bootstrap
intervals over documents. "3" is the rounded score: a raw one above 2.5; "2": one of 1.5 or more. The commonest label and the length are the trivial
baselines.

{_table(metrics)}

{ceiling}

With {measured["positives"]["3"]} positives the figures at 3 are uncertain by a tenth and more in either direction; choose the threshold by the share of
text you want to keep, and look at the borderline documents in the report.

## Calibration

The expected value over the labels is mapped by {len(bundle.knots)} knots to the scale, so that the share of documents above each
cut is that of the labels. Least squares alone shrinks scores to the mean and would put nothing above 2.5.

## Limits

English only: other languages get a score that means nothing. One annotator's taste, with its errors. The labels are a sample
of general web text; in another pool the distribution differs, so take percentiles of your own pool.

## Making it again

`python models/{bundle.name}/embed.py` for the embeddings, then
`python -m fineedu.classify.train_fasttext models/{bundle.name}/train.yaml --data FOLDER --embeddings FILE` (needs the `train` extra).
The same data give the same bytes. Licence: Apache-2.0, weights included.
""",
        encoding="utf-8",
    )
