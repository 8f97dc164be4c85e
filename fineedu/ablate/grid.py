"""From a grid to cells: every cell a whole recipe, with a name and a hash that stay."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fineedu.ablate.config import AblationConfig, Choice
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig, Recipe, SelectConfig, load_recipe
from fineedu.settings import set_key
from fineedu.store import fingerprint

#: More cells than this make a page and an overlap matrix that nobody reads (10,000 cells: 800 MB).
MOST_CELLS = 5000
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the filters."""

    name: str
    #: what differs from the base: key to value, as it is told
    settings: dict[str, Any]
    select: SelectConfig
    dedup: DedupConfig | None
    #: only documents of these dumps; None: all
    dumps: tuple[str, ...] | None
    #: place on each axis of the grid; None for a cell that stands beside it
    place: tuple[int, ...] | None

    @property
    def hash(self) -> str:
        """16 hex digits over all that decides which documents are kept."""
        return fingerprint(
            [
                self.select.model_dump(mode="json"),
                self.dumps,
                None if self.dedup is None else self.dedup.model_dump(mode="json"),
            ]
        )

    @property
    def folder(self) -> str:
        """Name for files: of the name what a path may hold, and eight digits of the hash."""
        return f"{re.sub(r'[^A-Za-z0-9.=-]+', '-', self.name).strip('-')[:60] or 'cell'}-{self.hash[:8]}"


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    labels: list[str]
    #: of each label, the settings and the parameter values that it brings
    settings: list[dict[str, Any]]
    parameters: list[dict[str, Any]]


def _axis(name: str, choices: list[Choice] | dict[str, Choice] | str, dumps: Sequence[str]) -> _Axis:
    if choices == "each":
        if name != "dumps":
            raise FineeduError(f"grid.{name}: 'each' stands for every dump of the store, and this is no axis of dumps")
        choices = list(dumps)
    assert not isinstance(choices, str)
    pairs = list(choices.items()) if isinstance(choices, dict) else [(_label(value), value) for value in choices]
    if not pairs:
        raise FineeduError(f"grid.{name} has no values")
    # The label of settings taken together, or of a dump, speaks for itself; that of a number needs its axis' name.
    alone = isinstance(choices, dict) or name == "dumps" or all(isinstance(value, str) for _, value in pairs)
    short = name.rpartition(".")[2]
    labels = [str(label) if alone else f"{short}={label}" for label, _ in pairs]
    settings: list[dict[str, Any]] = []
    parameters: list[dict[str, Any]] = []
    for _, value in pairs:
        several = isinstance(value, dict) and all("." in key or key in ("dumps", "dedup") for key in value)
        key = "." in name or name == "dumps"
        settings.append(dict(value) if isinstance(value, dict) and several else {name: value} if key else {})
        parameters.append({} if several or key else {name: value})
    return _Axis(name, labels, settings, parameters)


def _label(value: Choice) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _filled(value: Any, parameters: Mapping[str, Any], used: set[str]) -> Any:
    """Put parameters into a setting: a whole ``{name}`` keeps its type, within a text it becomes text."""
    if isinstance(value, dict):
        return {key: _filled(item, parameters, used) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, parameters, used) for item in value]
    if not isinstance(value, str):
        return value
    names = [name for name in _PLACE.findall(value) if name in parameters]
    used.update(names)
    if names and value == f"{{{names[0]}}}":
        return parameters[names[0]]
    return _PLACE.sub(lambda found: str(parameters[found[1]]) if found[1] in parameters else found[0], value)


def _make(name: str, base: Mapping[str, Any], settings: Mapping[str, Any], place: tuple[int, ...] | None) -> Cell:
    raw = deepcopy(dict(base))
    told = {key: value for key, value in settings.items()}
    dumps = settings.get("dumps")
    try:
        for key, value in settings.items():
            if key != "dumps":
                set_key(raw, key, value)
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise FineeduError(f"cell {name!r}: {key}: {what}") from error
    except FineeduError as error:
        raise FineeduError(f"cell {name!r}: {error}") from error
    wanted = None if dumps in (None, "each") else tuple(sorted([dumps] if isinstance(dumps, str) else map(str, dumps)))
    return Cell(name, told, recipe.select, recipe.dedup, wanted, place)


def make_cells(config: AblationConfig, dumps: Sequence[str] = ()) -> list[Cell]:
    """Resolve a grid.

    Args:
        config: the ablation.
        dumps: of the store, for ``dumps: each``.

    Returns:
        The product of the axes in their order, the last one fastest, then the cells that stand beside it.

    Raises:
        FineeduError: a setting that the recipe does not take, a placeholder that nothing fills, two cells of one
            name, too many cells, or none.
    """
    base = load_recipe(Path(config.base) if config.base.endswith((".yaml", ".yml")) else config.base).recipe
    raw = base.model_dump(mode="json")
    axes = [_axis(name, choices, dumps) for name, choices in config.grid.items()]
    size = 1
    for axis in axes:
        size *= len(axis.labels)
    if size + len(config.cells) > MOST_CELLS:
        raise FineeduError(f"the grid has {size + len(config.cells):,} cells: at most {MOST_CELLS:,} are compared")
    cells = [
        _of_grid(config, raw, axes, place) for place in product(*(range(len(axis.labels)) for axis in axes)) if axes
    ]
    cells += [_make(name, raw, {**config.set, **settings}, None) for name, settings in config.cells.items()]
    if not cells:
        raise FineeduError(f"ablation {config.name} has no cells: give a grid, or cells")
    names = [cell.name for cell in cells]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise FineeduError(
            f"two cells are called {twice!r}: name the values of an axis, as in grid: {{axis: {{name: value}}}}"
        )
    return cells


def _of_grid(config: AblationConfig, raw: dict[str, Any], axes: Sequence[_Axis], place: tuple[int, ...]) -> Cell:
    name = ", ".join(axis.labels[at] for axis, at in zip(axes, place, strict=True))
    settings: dict[str, Any] = dict(config.set)
    parameters: dict[str, Any] = {}
    for axis, at in zip(axes, place, strict=True):
        settings |= axis.settings[at]
        parameters |= axis.parameters[at]
    used: set[str] = set()
    filled = {key: _filled(value, parameters, used) for key, value in settings.items()}
    idle = set(parameters) - used
    if idle:
        axis_name = sorted(idle)[0]
        raise FineeduError(
            f"grid.{axis_name} is no key of a recipe (which has a dot) and no setting names {{{axis_name}}}"
        )
    return _make(name, raw, filled, place)


def neighbours(cells: Sequence[Cell]) -> list[tuple[int, int]]:
    """Return pairs of cells one step apart on one axis, each both ways; beside the grid, one after the other."""
    at = {cell.place: number for number, cell in enumerate(cells) if cell.place is not None}
    pairs: list[tuple[int, int]] = []
    beside: int | None = None
    for number, cell in enumerate(cells):
        if cell.place is None:
            if beside is not None:
                pairs.append((beside, number))
            beside = number
            continue
        for axis, step in enumerate(cell.place):
            other = at.get((*cell.place[:axis], step + 1, *cell.place[axis + 1 :]))
            if other is not None:
                pairs.append((number, other))
    return [pair for first, second in pairs for pair in ((first, second), (second, first))]
