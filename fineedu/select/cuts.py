"""From summed weights by key to cuts: top shares, a mixture, a budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from fineedu.errors import FineeduError
from fineedu.recipe import MixtureConfig, SelectConfig, TopConfig
from fineedu.select.mixture import rake
from fineedu.sketch import KeySketch

#: between the values of several columns in the name of a group
SEPARATOR = "\x1f"


class Cuts(BaseModel):
    """What a pass over the pool has found: from which cell on a document is kept. A cell is ``key >> shift``."""

    model_config = ConfigDict(extra="forbid")

    shift: int = 0
    #: lowest kept cell by the hash of the group's name; a group that keeps nothing has none
    top: dict[int, int] = {}
    mixture: dict[int, int] = {}
    #: of an upsampling curve, by bucket; empty where the recipe names the repeats
    curve: dict[str, float] = {}
    #: by mixture group; above 1 a document is repeated
    repeats: dict[int, float] = {}
    #: None where the budget is not reached
    budget: int | None = None
    #: figures for manifest and report, in the unit of the selection
    told: dict[str, Any] = {}


def find_cuts(sketch: KeySketch, config: SelectConfig, names: Mapping[int, str], cuts: Cuts) -> None:
    """Find the cuts.

    Args:
        sketch: weights ``mass`` and ``documents`` by ``top``, ``mix`` and key of every document that may be kept.
        config: what is wanted.
        names: of the mixture's groups, by their hash.
        cuts: where they go.

    Raises:
        FineeduError: nothing is left to select from, or a mixture that cannot be.
    """
    table = sketch.table
    if table is None or not table["mass"].sum():
        cuts.told |= {"available": 0, "selected": 0, "unit": config.unit}
        return
    cuts.shift = sketch.shift
    available = int(table["mass"].sum())
    heaviest = int(table["mass"].max())  # type: ignore[arg-type]
    if config.top is not None:
        table, cuts.top = _top(table, config.top)
    if config.mixture is not None:
        table = _mixture(table, config.mixture, config.budget, cuts, names)
    elif config.budget is not None:
        table, cuts.budget = _budget(table, config.budget)
    cuts.told |= {
        "unit": config.unit,
        "available": available,
        "selected": int(table["mass"].sum()),
        "documents": int(table["documents"].sum()),
        # Cells are not split: a cut is off by one cell at most, and that is one document while nothing is rounded.
        "heaviest_cell": heaviest,
        "rounded_bits": sketch.shift,
    }


def _lowest(kept: pl.DataFrame, group: str) -> dict[int, int]:
    """Return the lowest kept cell of each group that keeps any."""
    return dict(kept.group_by(group).agg(pl.col("cell").min()).sort(group).iter_rows())


def _top(table: pl.DataFrame, config: TopConfig) -> tuple[pl.DataFrame, dict[int, int]]:
    """Keep a cell where less than the share lies above it: each group keeps something, whatever its size."""
    cells = table.group_by("top", "cell").agg(pl.col("mass").sum()).sort("top", "cell", descending=[False, True])
    above = pl.col("mass").cum_sum().over("top") - pl.col("mass")
    total = pl.col("mass").sum().over("top")
    kept = cells.filter(above < config.share * total - 1e-9 * total)
    cuts = _lowest(kept, "top")
    return table.join(kept.select("top", "cell"), on=["top", "cell"], how="semi"), cuts


def _budget(table: pl.DataFrame, budget: float) -> tuple[pl.DataFrame, int | None]:
    cells = table.group_by("cell").agg(pl.col("mass").sum()).sort("cell", descending=True)
    kept = cells.filter(pl.col("mass").cum_sum() <= budget)
    if kept.height == cells.height:
        return table, None
    if not kept.height:
        raise FineeduError(
            f"a budget of {budget:,.0f} is less than the first document takes ({cells['mass'][0]:,}): raise it"
        )
    cut = int(kept["cell"].min())  # type: ignore[arg-type]
    return table.filter(pl.col("cell") >= cut), cut


def _mixture(
    table: pl.DataFrame, config: MixtureConfig, budget: float | None, cuts: Cuts, names: Mapping[int, str]
) -> pl.DataFrame:
    masses = table.group_by("mix").agg(pl.col("mass").sum()).sort("mix")
    mass = masses["mass"].to_numpy().astype(np.float64)
    shares = rake([names[group].split(SEPARATOR) for group in masses["mix"]], mass, config.targets)
    used = shares > 0
    limit = float((config.max_repeat * mass[used] / shares[used]).min())
    total = min(limit, budget) if budget is not None else limit
    wanted = masses.with_columns(wanted=pl.Series(total * shares))
    cuts.repeats = {name: max(float(target) / held, 1.0) for name, held, target in wanted.iter_rows() if held}
    cells = (
        table.group_by("mix", "cell")
        .agg(pl.col("mass").sum())
        .join(wanted.select("mix", "wanted"), on="mix")
        .sort("mix", "cell", descending=[False, True])
    )
    kept = cells.filter(pl.col("mass").cum_sum().over("mix") <= pl.col("wanted") * (1 + 1e-12) + 1e-6)
    cuts.mixture = _lowest(kept, "mix")
    chosen = table.join(kept.select("mix", "cell"), on=["mix", "cell"], how="semi")
    repeat = pl.col("mix").replace_strict(cuts.repeats, return_dtype=pl.Float64, default=1.0)
    chosen = chosen.with_columns((pl.col("mass") * repeat).round().cast(pl.Int64).alias("mass"))
    got = dict(chosen.group_by("mix").agg(pl.col("mass").sum()).iter_rows())
    reached = max(sum(got.values()), 1)
    before = dict(zip(masses["mix"], mass / mass.sum(), strict=True))
    cuts.told["mixture"] = [
        {
            "group": names[group].replace(SEPARATOR, " / "),
            "before": before[group],
            "wanted": float(share),
            "after": got.get(group, 0) / reached,
            "repeat": cuts.repeats.get(group, 1.0),
        }
        for group, share in sorted(zip(masses["mix"], shares, strict=True), key=lambda pair: names[pair[0]])
    ]
    if budget is not None and limit < budget:
        cuts.told["budget_not_reached"] = f"max_repeat {config.max_repeat:g} allows {limit:,.0f} of {budget:,.0f}"
    return chosen
