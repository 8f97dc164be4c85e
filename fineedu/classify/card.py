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


def _table(metrics: dict[str, Any], rows: tuple[str, ...] = _ROWS) -> str:
    columns = {"this model": metrics["cross_validated"], **metrics["baselines"]}
    lines = ["| measure | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(_cell(found[row]) for found in columns.values()) + " |" for row in rows]
    return "\n".join(lines)


def _kind(bundle: Bundle) -> str:
    if bundle.family == "encoder":
        pool = bundle.settings["pool"]
        layers = f"layer{'s' * (len(pool) > 1)} {' and '.join(map(str, pool))}"
        windows, bag, aspects = (bundle.settings[name] for name in ("windows", "lexicon", "aspects"))
        heads = "small heads" if bundle.settings["views"] else "a small head"
        if aspects["share"]:
            heads += f", one on what it tells of {' and '.join(aspects['columns'])} (share {aspects['share']:g}),"
        if bag["share"]:
            heads += f" and weights of single tokens (the first {bag['tokens']:,}, share {bag['share']:g})"
        tuning = bundle.settings["tuning"]
        teacher = (tuning.get("distill") or {}).get("checkpoint")
        body = f"`{bundle.settings['checkpoint']}`"
        if teacher:
            body = f"an encoder ({body}, its layers taught by `{teacher}` on unlabelled text"
        else:
            body = f"a {'fine-tuned' if tuning['layers'] else 'frozen'} encoder ({body}"
        bits = "int8" if bundle.settings.get("bits", 8) == 8 else "4 bits"
        return (
            f"{body}, means over tokens of {layers}; {bits}, run by ONNX Runtime without torch) with {heads}; it reads up to {windows['count']} "
            f"window{'s' * (windows['count'] > 1)} of {windows['tokens']} tokens, and `share_read` tells how much of a text that was"
        )
    if bundle.family == "static":
        return "static token embeddings distilled from an encoder, with a small head; NumPy and a tokenizer run it"
    return "a quantised fastText classifier"


def _scores(bundle: Bundle) -> str:
    training, metrics = bundle.training, bundle.metrics
    measured, second = metrics["cross_validated"], metrics.get("second_annotator")
    teacher = training["recipe"].get("teacher")
    annotators = training.get("annotators", ("the first annotator", "a second one"))
    lessons = [f"- {training['target_labels']:,} documents scored by {annotators[0]}: the target scale;"]
    if training["second_labels"]:
        lessons.append(
            f"- {training['second_labels']:,} documents scored by {annotators[1]}, mapped to that scale on the overlap;"
        )
    if teacher:
        parts = ", ".join(f"{name} {teacher[name]:g}" for name in ("word", "character", "embedding") if teacher[name])
        lessons.append(
            f"- {training['unlabelled']:,} unlabelled web documents, scored by a teacher that was fitted on the labels (shares: {parts})."
        )
    if distill := (bundle.settings.get("tuning") or {}).get("distill"):
        documents = min(distill["documents"], training["unlabelled"])
        lessons.append(
            f"- {documents:,} unlabelled web documents, of which its layers learned what the larger encoder makes."
        )
    ceiling = (
        f"On the {second['n']} documents that both annotators scored, their rank correlation is {second['spearman']:.2f}: a rough ceiling, of few documents."
        if second
        else "No second annotator was at hand."
    )
    before = metrics.get("before_calibration")
    ranks = (
        ""
        if not before
        else f"Calibration is cross-validated too, and maps of several parts put together blur ranks that one would leave alone: before it, Spearman is\n{_cell(before['spearman'])}, AUC at 3 {_cell(before['auc_3'])}.\n\n"
    )
    scale = (
        "so that the share of documents above each cut is that of the labels (least squares alone shrinks scores to the mean and would put nothing above 2.5)"
        if training["recipe"]["calibration"] == "quantile"
        else "by isotonic regression"
    )
    topics = (
        ""
        if "topics" not in metrics
        else f"### Topics\n\n{_told(metrics['topics'], training['recipe']['folds'], len(bundle.labels))}\n"
    )
    return f"""## What it was trained on

{chr(10).join(lessons)}

The texts are not included. Files and their SHA-256 are in `bundle.json`.

## Quality

{training["recipe"]["folds"]}-fold cross-validation over documents, near-duplicates in one fold (n = {measured["n"]} with a target label; {measured["positives"]["3"]} of them scored 3 or
more, {measured["positives"]["2"]} scored 2 or more). Everything that learns from labels is refitted in each fold. Calibration is
fitted on held-out predictions of other documents, in a division of its own. 95 % bootstrap intervals over documents. "3" is the rounded score: a raw one above 2.5; "2": one of 1.5 or more. The commonest
label and the length are the trivial baselines.

{_table(metrics)}

{ranks}{ceiling}

With {measured["positives"]["3"]} positives the figures at 3 are uncertain by a tenth and more in either direction; choose the threshold by the share of
text you want to keep, and look at the borderline documents in the report. Settings of a recipe that were chosen by the same
documents make the figures optimistic by a little; labels from elsewhere are the test that counts.

{topics}## Calibration

Raw predictions are mapped to the scale by {len(bundle.knots)} knots, {scale}.
`bundle.json` also holds the scores at {len(bundle.percentiles)} evenly spaced percentiles of {training["percentiles_of"]:,} web documents (a balanced mix of topics and formats,
not the natural one).

## Limits

A language that it was not trained on gets a score that means nothing. One annotator's taste, with its errors. The labels are a sample
of general web text; in another pool the distribution differs, so take percentiles of your own pool.
"""


def _told(topics: dict[str, Any], folds: int, labels: int) -> str:
    rows = "\n".join(f"| {name} | {value:.2f} |" for name, value in topics["f1"].items())
    return f"""{folds}-fold cross-validation over {topics["n"]:,} documents, near-duplicates in one fold, 95 % bootstrap intervals: accuracy
{_cell(topics["accuracy"])}, macro-F1 {_cell(topics["macro_f1"])}, among the first two {_cell(topics["top_2_accuracy"])}.
The commonest of the {labels} topics alone would reach {topics["commonest_topic_accuracy"]:.3f}. Who is followed is WebOrganizer's classifier,
errors included; the documents are balanced over topics, which is not the web's natural mix.

| topic | F1 |
|---|---|
{rows}
"""


def _topics(bundle: Bundle) -> str:
    training = bundle.training
    return f"""## What it was trained on

{training["labelled"]:,} Common Crawl documents, balanced over {len(bundle.labels)} topics, with the topics that WebOrganizer's classifier gave them.
Files and their SHA-256 are in `bundle.json`.

## Quality

{_told(bundle.metrics["cross_validated"], training["recipe"]["folds"], len(bundle.labels))}
## Limits

English only. Documents about several topics get one. `topic_confidence` is a probability of this model, not checked against people.
"""


def _contrast(bundle: Bundle) -> str:
    training = bundle.training
    names = training["recipe"]["contrast"]
    return f"""## What it was trained on

{training["positives"]:,} positives ({", ".join(names["positive"])}) against {training["negatives"]:,} negatives ({", ".join(names["negative"])}). Files and their
SHA-256 are in `bundle.json`.

## Quality

{training["recipe"]["folds"]}-fold cross-validation, near-duplicates in one fold, 95 % bootstrap intervals; "1" is a probability of .5 and more. These figures
say how well two sources can be told apart, which also their length and layout do (see the baseline); whether what scores
high is good to train on only training tells.

{_table(bundle.metrics, ("auc_1", "precision_1_rounded", "recall_1_rounded", "positive_f1_1_rounded"))}

## Use

Cut by percentile, not by .5: DCLM kept the tenth of its pool that scored highest, at a probability of .018.
`<prefix>_percentile` is the place among the negatives.
"""


def write_card(path: Path, bundle: Bundle, size: int) -> None:
    """Write a bundle's card in Markdown."""
    both = ", and tells its topic in the same pass" if bundle.labels else ""
    scale = (bundle.training.get("annotators") or ("see below",))[0]
    task = (
        "tells how much more an English web text is like the positives than like the negatives, as a probability"
        if "positives" in bundle.training
        else f"scores web text from 0 to 5, on the scale of its annotator ({scale}){both}. With few\nlabels such a model serves to try a pipeline out and to order documents; train your own for a corpus that matters"
        if bundle.task == "score"
        else f"tells which of {len(bundle.labels)} topics an English web text is about"
    )
    section = _topics if bundle.task == "topic" else _contrast if "positives" in bundle.training else _scores
    steps = ", ".join(bundle.preparation.steps)
    path.write_text(
        f"""# {bundle.name}

{_kind(bundle)[0].upper()}{_kind(bundle)[1:]} ({size / 1e6:.1f} MB in all). It {task}.

{section(bundle)}
## Text preparation

The first {bundle.preparation.max_chars:,} characters are read{f", then: {steps}" if steps else ", as they are"}. The steps are data in `bundle.json`, and loading re-scores {len(bundle.golden)} golden
inputs and refuses on a mismatch.

## Making it again

`fineedu train models/{bundle.name}/train.yaml --data FOLDER` (needs the extra `{"encoder" if bundle.family != "fasttext" else "train"}`). Licence: Apache-2.0, weights included.
""",
        encoding="utf-8",
    )
