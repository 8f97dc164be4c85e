"""All cells and seeds: what is done stays done, what is missing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datatrove.pipeline.base import PipelineStep

from fineedu.ablate.config import TrainConfig
from fineedu.ablate.evaluate import Ablation
from fineedu.ablate.grid import Cell
from fineedu.ablate.judge import Judge
from fineedu.ablate.lab import Bench, Lab
from fineedu.ablate.train.corpora import END, Corpora, make_corpora, read_texts
from fineedu.ablate.train.harness import measure_tasks, need_harness, save_model
from fineedu.ablate.train.model import measure_texts, need_torch, pick_device, train_model
from fineedu.engine import run_tasks
from fineedu.errors import FineeduError
from fineedu.evaluate.resample import Estimate
from fineedu.store import fingerprint, hash_file, read_json, write_json

if TYPE_CHECKING:
    from rich.console import Console

#: Raised whenever the same corpus and settings would give another model.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class TrainedCell:
    """The models of one cell."""

    name: str
    corpus_tokens: int
    #: how often its corpus was read
    epochs: float
    #: mean over seeds with its 95 % t interval; none with one seed
    measures: dict[str, Estimate]
    #: difference from the first cell, seed by seed
    from_first: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Trained:
    """What training found."""

    cells: tuple[TrainedCell, ...]
    measures: tuple[str, ...]
    parameters: int
    words: str


def _chosen(lab: Lab) -> list[int]:
    config = lab.config.train
    assert config is not None
    names = [cell.name for cell in lab.cells]
    for name in config.cells or []:
        if name not in names:
            raise FineeduError(f"train.cells: no cell {name!r}; there are {', '.join(names[:8])}")
    return [n for n, name in enumerate(names) if config.cells is None or name in config.cells]


def check_training(lab: Lab) -> None:
    """Check, before anything is counted, that what training needs is there.

    Raises:
        FineeduError: a library, the texts, a text set or a cell is missing.
    """
    config = lab.config.train
    assert config is not None
    need_torch()
    if lab.config.engine.name == "local":  # elsewhere a GPU is the task's own
        pick_device(config.device)
    if config.tasks:
        need_harness()
    if "text" not in lab.pool.schema:
        raise FineeduError(
            f"{lab.pool.root} has no text: models are trained on a store, or on files with a column text"
        )
    for path in config.texts.values():
        read_texts(path)
    if not config.held_out and not config.texts:
        raise FineeduError("train: nothing to measure on; give texts, or hold out a share of the pool")
    _chosen(lab)


class TrainModels(PipelineStep):  # type: ignore[misc]
    """Trains and measures a task's share of the models, one a cell and seed."""

    name = "train"
    type = "fineedu"

    def __init__(self, config: TrainConfig, cells: list[Cell], corpora: Corpora, folder: Path) -> None:
        super().__init__()
        self.config = config
        self.cells = cells
        self.corpora = corpora
        self.folder = folder

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[dict[str, Any]]:
        """Yield the result of each model; the next command reads it from its file."""
        models = list(product(range(len(self.cells)), self.config.seeds))
        for number, seed in models[rank::world_size]:
            with self.track_time("model"):
                yield _one(self.config, self.cells[number], self.corpora, number, seed, self.folder, lambda line: None)


def train_cells(
    lab: Lab, bench: Bench, found: Ablation, say: Callable[[str], None] = lambda line: None, workers: int = 1
) -> Trained:
    """Train and measure one model a cell and seed; stopped and started again, it goes on and ends with the same.

    Args:
        lab: the ablation; its engine says where models are trained, here one after the other or each as a task.
        bench: its signals and selections.
        found: its figures; sizes and the column of copies are taken from there.
        say: told a line for every model.
        workers: models at a time.

    Raises:
        FineeduError: a cell keeps too little, a task failed, or what :func:`check_training` says.
    """
    check_training(lab)
    config = lab.config.train
    assert config is not None
    numbers = [n for n in _chosen(lab) if found.totals[n, 0] > 0]
    if not numbers:
        raise FineeduError("no cell keeps a document to train on")
    cells = [lab.cells[n] for n in numbers]
    judge = Judge([cell.name for cell in cells], [bench.selects[n] for n in numbers], bench.signals)
    folder = lab.folder / "train"
    pool = fingerprint([found.pool_totals.tolist(), [cell.hash for cell in cells]])
    corpora = make_corpora(
        config, cells, judge, bench.signals, found.columns["copies"], found.totals[numbers, 2], folder, pool
    )
    if lab.config.engine.name != "local" or workers > 1:
        step = TrainModels(config, cells, corpora, folder)
        run_tasks([step], len(cells) * len(config.seeds), workers, lab.config.engine, folder / "logs")
    results = []
    for number, cell in enumerate(cells):
        results.append([_one(config, cell, corpora, number, seed, folder, say) for seed in config.seeds])
    trained = _gather(config, cells, corpora, results)
    write_json(folder / "models.json", _as_json(trained))
    return trained


def _one(
    config: TrainConfig, cell: Cell, corpora: Corpora, number: int, seed: int, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the result of one model, from its file where it is there."""
    path = folder / cell.folder / f"seed-{seed}.json"
    settings = config.model_dump(mode="json", exclude={"seeds", "cells", "texts", "device"})
    mark = fingerprint([_VERSION, settings, seed, corpora.marks[number], hash_file(corpora.tokenizer), corpora.texts])
    if path.exists() and (known := read_json(path)).get("mark") == mark:
        say(f"{cell.name}, seed {seed}: done")
        return dict(known)
    model, told = train_model(corpora.files[number], corpora.tokenizer, config, seed)
    sets = {
        name: measure_texts(model, corpora.tokenizer, texts, config.model.context)
        for name, texts in corpora.texts.items()
    }
    tasks: dict[str, float] = {}
    if config.tasks:
        saved = folder / cell.folder / f"seed-{seed}-model"
        save_model(model, corpora.tokenizer, END, saved)
        tasks = measure_tasks(saved, config.tasks, seed, pick_device(config.device), config.task_folder)
    result = {"mark": mark, "cell": cell.name, "seed": seed, **told, "texts": sets, "tasks": tasks}
    write_json(path, result)
    shown = ", ".join(f"{name} {measured['perplexity']:.1f}" for name, measured in sets.items())
    say(f"{cell.name}, seed {seed}: loss {told['loss']:.3f}, perplexity: {shown}")
    return result


def mean_over_seeds(values: list[float]) -> Estimate:
    """Return the mean with its 95 % Student's t interval; no interval of one value."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half)


def _values(result: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, measured in result["texts"].items():
        found[f"perplexity: {name}"] = measured["perplexity"]
        found[f"bits a byte: {name}"] = measured["bits_per_byte"]
    found.update(result["tasks"])
    return found


def _gather(config: TrainConfig, cells: list[Cell], corpora: Corpora, results: list[list[dict[str, Any]]]) -> Trained:
    values = [[_values(result) for result in each] for each in results]
    names = tuple(values[0][0])
    made = []
    for number, cell in enumerate(cells):
        own = {name: [seed[name] for seed in values[number]] for name in names}
        gaps = {name: [here - there[name] for here, there in zip(own[name], values[0], strict=True)] for name in names}
        made.append(
            TrainedCell(
                cell.name,
                corpora.tokens[number],
                results[number][0]["tokens"] / corpora.tokens[number],
                {name: mean_over_seeds(each) for name, each in own.items()},
                {name: mean_over_seeds(each) for name, each in gaps.items()},
            )
        )
    parameters = results[0][0]["parameters"]
    words = (
        f"A Llama of {parameters:,} parameters, trained on {results[0][0]['tokens']:,} tokens of each cell, with "
        f"{len(config.seeds)} seeds; the same seeds, tokenizer and held-out texts for all. Lower perplexity is better."
    )
    return Trained(tuple(made), names, parameters, words)


def _as_json(trained: Trained) -> dict[str, Any]:
    def told(found: Estimate) -> dict[str, float | None]:
        return {"value": found.value, "low": found.low, "high": found.high}

    return {
        "words": trained.words,
        "parameters": trained.parameters,
        "cells": [
            {
                "cell": cell.name,
                "corpus_tokens": cell.corpus_tokens,
                "epochs": cell.epochs,
                "measures": {name: told(value) for name, value in cell.measures.items()},
                "from_first_cell": {name: told(value) for name, value in cell.from_first.items()},
            }
            for cell in trained.cells
        ],
    }


def print_training(trained: Trained, console: Console) -> None:
    """Print the models' figures."""
    from rich.markup import escape
    from rich.table import Table

    from fineedu.evaluate.wording import figure, interval, signed

    console.print(f"\n{trained.words}", highlight=False)
    shown = [name for name in trained.measures if not name.startswith("bits")]
    table = Table(box=None, pad_edge=False)
    table.add_column("cell", overflow="fold", min_width=12)
    for name in ("corpus", "read", *shown, f"from {trained.cells[0].name}"):
        table.add_column(escape(name), justify="right", overflow="fold")
    for cell in trained.cells:
        row = [f"{cell.corpus_tokens:,}", f"{cell.epochs:.1f} ×"]
        row += [escape(f"{figure(cell.measures[name].value)} {interval(cell.measures[name])}") for name in shown]
        gap = cell.from_first[shown[0]]
        ends = "" if gap.low is None else f" [{signed(gap.low)}, {signed(gap.high)}]"
        row.append("" if cell is trained.cells[0] else escape(signed(gap.value) + ends))
        table.add_row(escape(cell.name), *row)
    console.print(table, highlight=False)
    console.print("[dim]mean over seeds, 95 % t intervals; differences are taken seed by seed[/]", highlight=False)
