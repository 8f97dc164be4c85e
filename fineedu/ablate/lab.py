"""``fineedu ablate``: from an ablation and a store to all figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fineedu.ablate.config import AblationConfig, LabelConfig, load_ablation
from fineedu.ablate.evaluate import Ablation, run_cells
from fineedu.ablate.grid import Cell, make_cells
from fineedu.ablate.labelled import read_truth
from fineedu.ablate.scopes import spread_dedup
from fineedu.ablate.source import Signals, open_signals
from fineedu.errors import FineeduError
from fineedu.pool import Pool, open_pool
from fineedu.recipe import EngineName, SelectConfig


@dataclass(frozen=True, slots=True)
class Lab:
    """An ablation made ready: checked, with its cells, before anything is counted."""

    config: AblationConfig
    cells: tuple[Cell, ...]
    pool: Pool
    #: where results go
    folder: Path


@dataclass(frozen=True, slots=True)
class Bench:
    """What cells read and keep, once deduplications and ensembles are worked out."""

    signals: Signals
    selects: tuple[SelectConfig, ...]


def plan_ablation(
    ablation: str | Path | AblationConfig,
    store: str | Path,
    *,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    labels: Sequence[Path] = (),
    annotator: str | None = None,
    engine: EngineName | None = None,
) -> Lab:
    """Check an ablation against a store without counting anything.

    Args:
        ablation: a shipped name, a path, or a config.
        store: what ``fineedu run`` wrote, or parquet files with the columns that the rules read.
        output: where results go; default ``ablations/NAME`` in the store, of files in the working folder.
        overrides: ``key.key=value`` of the ablation.
        labels: label files, in place of the ablation's.
        annotator: whose labels.
        engine: where models are trained, in place of the ablation's.

    Raises:
        FineeduError: anything wrong with the ablation or the store.
    """
    config = ablation if isinstance(ablation, AblationConfig) else load_ablation(ablation, [*overrides])
    if labels:
        known = {} if config.labels is None else config.labels.model_dump()
        config = config.model_copy(update={"labels": LabelConfig(**known | {"files": list(labels)})})
    if annotator is not None and config.labels is not None:
        config = config.model_copy(update={"labels": config.labels.model_copy(update={"annotator": annotator})})
    if engine is not None:
        config = config.model_copy(update={"engine": config.engine.model_copy(update={"name": engine})})
    pool = open_pool(store)
    cells = make_cells(config, _dumps(pool))
    if output is None:
        # Beside files and not among them: a folder of parquet files is read whole.
        root = Path(store) if "documents" in pool.parts else Path()
        output = root / "ablations" / config.name
    return Lab(config, tuple(cells), pool, Path(output))


def _dumps(pool: Pool) -> list[str]:
    """Return the dumps of a pool: of a store by its folders, of files by their column."""
    if "documents" in pool.parts:
        return sorted({path.parent.name.removeprefix("dump=") for path in pool.parts["documents"]})
    if "dump" not in pool.schema:
        return []
    found: set[str] = set()
    for batch in pool.batches(["dump"]):
        found.update(batch["dump"].drop_nulls().unique().to_list())
    return sorted(found)


def set_up(lab: Lab) -> Bench:
    """Work out deduplications and ensembles that the cells need."""
    pool, selects = spread_dedup(lab.cells, lab.pool, lab.folder)
    return Bench(open_signals(pool, lab.config.ensembles, lab.folder), tuple(selects))


def run_ablation(lab: Lab, bench: Bench | None = None) -> Ablation:
    """Evaluate every cell; see :func:`fineedu.ablate.evaluate.run_cells`.

    Raises:
        FineeduError: a rule is wrong, or a column is missing: it says which cell's, and what would make it.
    """
    bench = bench or set_up(lab)
    truth = None if lab.config.labels is None else read_truth(lab.config.labels)
    try:
        return run_cells(lab.config, lab.cells, bench.selects, bench.signals, truth)
    except FineeduError as error:
        if "which is no column" in str(error):
            raise FineeduError(
                f"{error}. The store has the signals of the recipes run on it: run the base recipe "
                f"({lab.config.base}) or one that has this signal, with the same --output"
            ) from error
        raise
