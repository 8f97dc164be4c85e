"""Deduplication as an axis: each distinct setting is run on the store's documents, beside the store and not in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from fineedu.ablate.grid import Cell
from fineedu.dedup.run import dedup_store
from fineedu.dedup.stage import FAMILY, SCHEMA
from fineedu.errors import FineeduError
from fineedu.pool import Pool
from fineedu.recipe import DedupConfig, SelectConfig
from fineedu.store import BATCH_ROWS, TableWriter, atomic_open, fingerprint, is_made, read_batches, read_json

_COLUMN = re.compile(rf"\b({'|'.join(SCHEMA)})\b")


def _mark(config: DedupConfig) -> str:
    return fingerprint(config.model_dump(mode="json"))[:8]


def _renamed(select: SelectConfig, mark: str) -> SelectConfig:
    rules = {name: _COLUMN.sub(rf"\1__{mark}", sql) for name, sql in select.rules.items()}
    return select.model_copy(update={"rules": rules})


def spread_dedup(cells: Sequence[Cell], pool: Pool, folder: Path) -> tuple[Pool, list[SelectConfig]]:
    """Give every cell the outcome of its own deduplication.

    Where all cells share one setting and the store's signals ``dup_*`` were made by it, or no cell has a ``dedup``
    block, those are taken. Else every setting is run on the store (key files are made once a signature) and its columns
    join the pool under names of their own.

    Args:
        cells: of the grid.
        pool: the store.
        folder: where the outcomes lie; the store is not written to.

    Returns:
        The pool, and what each cell selects; ``dumps`` are among its rules.

    Raises:
        FineeduError: the pool is no store, or a stage of the deduplication stops.
    """
    selects = [_with_dumps(cell) for cell in cells]
    configs = {_mark(cell.dedup): cell.dedup for cell in cells if cell.dedup is not None and _reads(cell.select)}
    root = Path(pool.root)
    if not configs or (len(configs) == 1 and _made_so(root, next(iter(configs.values())))):
        return pool, selects
    if not (root / "documents").is_dir():
        raise FineeduError(f"{root} is no store: another deduplication needs the documents' text")
    for mark, config in configs.items():
        pool = _join(pool, _view(root, folder / "dedup", config), mark, folder / "dedup" / f"{mark}-columns")
    selects = [
        _renamed(select, _mark(cell.dedup)) if cell.dedup is not None and _reads(cell.select) else select
        for select, cell in zip(selects, cells, strict=True)
    ]
    return pool, selects


def _made_so(root: Path, config: DedupConfig) -> bool:
    """Tell whether a store's own deduplication has these settings, as far as it tells them."""
    path = root / "signals" / FAMILY / "_fingerprint.json"
    if not path.exists():
        return False
    made = read_json(path)["made_by"]
    settings = config.model_dump(mode="json")
    return all(made[name] == settings[name] for name in settings if name in made)


def _reads(select: SelectConfig) -> bool:
    return any(_COLUMN.search(sql) for sql in select.rules.values())


def _with_dumps(cell: Cell) -> SelectConfig:
    if cell.dumps is None:
        return cell.select
    names = ", ".join("'" + dump.replace("'", "''") + "'" for dump in cell.dumps)
    return cell.select.model_copy(update={"rules": {**cell.select.rules, "dumps": f"dump IN ({names})"}})


def _view(root: Path, folder: Path, config: DedupConfig) -> Path:
    """Deduplicate a store through links to it, so that its own signals stay."""
    view = folder / _mark(config)
    signature = fingerprint([config.shingle, config.n, config.bands, config.rows, config.seed])[:8]
    keys = folder / f"keys-{signature}"
    keys.mkdir(parents=True, exist_ok=True)
    (view / "signals").mkdir(parents=True, exist_ok=True)
    (view / "dedup").mkdir(exist_ok=True)
    families = [path for path in (root / "signals").glob("*") if path.is_dir() and path.name not in (FAMILY, "lines")]
    links = {view / "documents": root / "documents", view / "dedup" / "keys": keys}
    links |= {view / "signals" / family.name: family for family in families}
    for link, target in links.items():
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve(), target_is_directory=True)
    dedup_store(view, config.model_copy(update={"index": None, "max_host_loss": None}))
    return view


def _join(pool: Pool, view: Path, mark: str, folder: Path) -> Pool:
    """Add the columns of a deduplication to a pool."""
    made = fingerprint(read_json(view / "signals" / FAMILY / "_fingerprint.json"))
    files = []
    for path in pool.parts["documents"]:
        name = Path(path.parent.name) / path.name
        source, target = view / "signals" / FAMILY / name, folder / name
        if not is_made(target, made):
            _rename(source, target, mark, made)
        files.append(target)
    columns = {f"{name}__{mark}": dtype for name, dtype in SCHEMA.items()}
    part = f"dedup-{mark}"
    return replace(
        pool,
        parts={**pool.parts, part: tuple(files)},
        schema={**pool.schema, **columns},
        owners={**pool.owners, **dict.fromkeys(columns, part)},
    )


def _rename(source: Path, target: Path, mark: str, made: str) -> None:
    schema: dict[str, pl.DataType] = {"id": pl.String()} | {f"{name}__{mark}": dtype for name, dtype in SCHEMA.items()}
    with atomic_open(target) as stream:
        writer = TableWriter(stream, schema)
        for batch in read_batches(source, ["id", *SCHEMA]):
            for start in range(0, batch.height, BATCH_ROWS):
                part = batch.slice(start, BATCH_ROWS)
                writer.write(part.rename({name: f"{name}__{mark}" for name in SCHEMA}))
        writer.close({"fingerprint": made})
