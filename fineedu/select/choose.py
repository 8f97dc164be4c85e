"""Selection beyond rules: cap, top shares, upsampling, a mixture, a budget; by document id and seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids, reshuffle, uniform
from fineedu.pool import find_weight
from fineedu.recipe import SelectConfig
from fineedu.select.cap import Cap
from fineedu.select.curve import curve_repeats
from fineedu.select.cuts import SEPARATOR, Cuts, find_cuts
from fineedu.select.rules import Rules
from fineedu.sketch import KeySketch, sort_keys

Batches = Callable[[Sequence[str]], Iterator[pl.DataFrame]]
#: Streams of dice: one for sampling by score, one for each fraction of a repeat.
_GUMBEL, _UPSAMPLE, _MIXTURE = 1, 2, 3
_CAP_SCHEMA = {"group": pl.UInt64, "cut": pl.UInt64}
_MISSING = "(missing)"


def no_caps() -> pl.DataFrame:
    """Return the cuts of a selection without a cap."""
    return pl.DataFrame(schema=_CAP_SCHEMA)


class Selector:
    """A recipe's selection, ready to look at a pool and then to judge its batches.

    Args:
        config: the recipe's ``select``.
        schema: columns of documents and signals.

    Raises:
        FineeduError: a rule is wrong, or a column is missing.
    """

    def __init__(self, config: SelectConfig, schema: Mapping[str, pl.DataType]) -> None:
        self.config = config
        self.rules = Rules(config.rules, schema)
        self._weight = find_weight(list(schema), config.unit)
        for setting, column in self._named().items():
            if column not in schema:
                raise FineeduError(f"select.{setting} names {column!r}, which is no column")
        if config.by is not None and not schema[config.by].is_numeric():
            raise FineeduError(f"select.by: {config.by} holds {schema[config.by]}, not a score")

    def _named(self) -> dict[str, str]:
        config = self.config
        found = {"by": config.by, "cap.per": config.cap.per if config.cap else None}
        found |= {"upsample.column": config.upsample.column if config.upsample else None}
        found |= {f"top.per.{n}": column for n, column in enumerate(config.top.per if config.top else [])}
        found |= {f"mixture.targets.{column}": column for column in (config.mixture.targets if config.mixture else [])}
        return {setting: column for setting, column in found.items() if column is not None}

    @property
    def columns(self) -> list[str]:
        """Columns that are read, besides ``id``."""
        weight = [self._weight.column] if self._weight.column else []
        return list(dict.fromkeys([*self.rules.columns, *self._named().values(), *weight]))

    @property
    def passes(self) -> int:
        """Passes over the pool before the one that decides."""
        return len(self.looks)

    @property
    def looks(self) -> list[Literal["curve", "cap", "thresholds"]]:
        """What each pass over the pool looks for: an upsampling curve's masses, caps, all other thresholds."""
        upsample = self.config.upsample
        curve = upsample is not None and upsample.curve is not None
        found: list[Literal["curve", "cap", "thresholds"]] = ["curve"] if curve else []
        found += ["cap"] if self.config.cap is not None else []
        return found + (["thresholds"] if self.thresholds else [])

    @property
    def thresholds(self) -> bool:
        """Whether a cut of scores is to be found."""
        return any(part is not None for part in (self.config.top, self.config.mixture, self.config.budget))

    def fit(self, batches: Batches) -> tuple[Cuts, pl.DataFrame]:
        """Find what must be known before a document can be judged.

        Args:
            batches: gives the columns asked for, of the whole pool, each time anew.

        Returns:
            Cuts, and the cap's cut by group.
        """
        fitting = Fitting(self)
        for _ in range(self.passes):
            for batch in batches(["id", *self.columns]):
                fitting.update(batch)
            fitting.end_pass()
        return fitting.cuts(self.config), fitting.caps

    def masses(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Return ``weight`` by ``value`` of the upsampled column."""
        assert self.config.upsample is not None
        value = pl.col(self.config.upsample.column).cast(pl.String).alias("value")
        rows = batch.select(value, self._weight.expression.alias("weight"))
        return rows.group_by("value").agg(pl.col("weight").sum())

    def judge(self, batch: pl.DataFrame, cuts: Cuts, caps: pl.DataFrame) -> pl.DataFrame:
        """Judge n documents.

        Args:
            batch: ``id`` and ``columns``.
            cuts: of :meth:`fit`.
            caps: of :meth:`fit`.

        Returns:
            n rows of ``keep``, ``reasons`` (of rules as :meth:`Rules.judge` gives them; a document that fulfils them
            all may have one of ``select.*``) and ``repeat`` (UInt16, 0 where it is dropped).
        """
        judged = self.rules.judge(batch)
        if not self.config.beyond_rules:
            return judged.with_columns(pl.col("keep").cast(pl.UInt16).alias("repeat"))
        rows = self.candidates(batch, cuts.curve)
        cell = pl.col("key") // pl.lit(2**cuts.shift, pl.UInt64)
        reason = pl.coalesce(
            pl.col("refused"),
            pl.when(pl.lit(_over(rows, caps))).then(pl.lit("select.cap")),
            *([_below(rows, "top", cuts.top, cuts.shift)] if self.config.top else []),
            *([_below(rows, "mix", cuts.mixture, cuts.shift)] if self.config.mixture else []),
            pl.when(cell < cuts.budget if cuts.budget is not None else pl.lit(False)).then(pl.lit("select.budget")),
        )
        told = rows.select(reason.alias("reason"), "repeat", "mix", "dice").hstack(judged)
        repeat = self._mixed(told, cuts)
        return told.with_columns(repeat.alias("repeat")).select(
            (pl.col("keep") & pl.col("reason").is_null()).alias("keep"),
            pl.when(pl.col("keep") & pl.col("reason").is_not_null())
            .then(pl.concat_list("reason"))
            .otherwise("reasons")
            .alias("reasons"),
            pl.when(pl.col("keep") & pl.col("reason").is_null())
            .then("repeat")
            .otherwise(0)
            .cast(pl.UInt16)
            .alias("repeat"),
        )

    def _mixed(self, told: pl.DataFrame, cuts: Cuts) -> pl.Series:
        if not any(repeat > 1 for repeat in cuts.repeats.values()):
            return told["repeat"]
        by_group = told["mix"].replace_strict(cuts.repeats, default=1.0, return_dtype=pl.Float64).to_numpy()
        each = by_group * told["repeat"].to_numpy()
        return pl.Series(_whole(each, told["dice"].to_numpy(), _MIXTURE))

    def candidates(self, batch: pl.DataFrame, curve: Mapping[str, float] | None = None) -> pl.DataFrame:
        """Return key, weight and groups of n documents, and why one is refused before any cut."""
        config = self.config
        dice = hash_ids(batch["id"], config.seed)
        refused: list[pl.Expr] = []
        columns: dict[str, pl.Series | pl.Expr] = {"key": pl.Series(dice), "dice": pl.Series(dice)}
        if config.by is not None:
            columns["key"] = self._ranked(batch[config.by], dice)
            refused.append(pl.when(pl.col("key").is_null()).then(pl.lit("select.by:missing")))
        columns["repeat"] = pl.repeat(1, pl.len(), dtype=pl.Int64)
        if config.upsample is not None:
            each = batch[config.upsample.column].cast(pl.String)
            repeats = config.upsample.repeats or curve or {"": 0.0}
            wanted = each.replace_strict(repeats, default=0.0, return_dtype=pl.Float64)
            columns["repeat"] = pl.Series(_whole(wanted.to_numpy(), dice, _UPSAMPLE))
            refused.append(pl.when(pl.lit(each.is_null())).then(pl.lit("select.upsample:missing")))
            refused.append(pl.when(pl.col("repeat") == 0).then(pl.lit("select.upsample")))
        columns["top"] = _group(batch, config.top.per if config.top else [])
        columns["mix"] = pl.repeat(0, pl.len(), dtype=pl.UInt64)
        if config.mixture is not None:
            names = _mixture_group(batch, config.mixture.targets)
            columns |= {"name": names, "mix": pl.Series(hash_ids(names))}
            refused.append(pl.when(pl.col("name").is_null()).then(pl.lit("select.mixture:not_wanted")))
        if config.cap is not None:
            group = batch[config.cap.per].cast(pl.String)
            columns["cap"] = pl.Series(hash_ids(group)).set(group.is_null(), None)
        weight = self._weight.expression.alias("weight")
        rows = batch.select(weight).with_columns(**columns)
        none = pl.lit(None, pl.String)
        return rows.with_columns(
            (pl.col("weight") * pl.col("repeat")).alias("mass"), pl.coalesce(*refused, none).alias("refused")
        )

    def _ranked(self, scores: pl.Series, dice: npt.NDArray[np.uint64]) -> pl.Series:
        """Return keys that sort by score, then by dice; by Gumbel's trick where documents are sampled.

        Adding Gumbel noise to score / temperature and taking the best is sampling without replacement with chances in
        proportion to exp(score / temperature) (Yellott 1977).
        """
        if self.config.sample is not None:
            noise = -np.log(-np.log(uniform(reshuffle(dice, _GUMBEL))))
            scores = scores.cast(pl.Float64) / self.config.sample.temperature + pl.Series(noise)
        low = pl.Series(dice & np.uint64(2**32 - 1))
        return sort_keys(scores) * pl.Series([2**32], dtype=pl.UInt64) + low


class Fitting:
    """A selector looking at the pool, batch by batch, ``selector.passes`` times.

    Selections that differ in ``top.share`` and ``budget`` alone see the same: one fitting finds the cuts of all.
    """

    def __init__(self, selector: Selector) -> None:
        config = selector.config
        self._selector = selector
        self._looks = selector.looks
        groups = ["top"] * (config.top is not None) + ["mix"] * (config.mixture is not None)
        self._sketch = KeySketch(["mass", "documents"], groups)
        self._names: dict[int, str] = {}
        self._masses = pl.DataFrame(schema={"value": pl.String, "weight": pl.Int64})
        self._curve: dict[str, float] = {}
        self._told: dict[str, Any] = {}
        self._cap = None if config.cap is None else Cap(config.cap.documents)
        self.caps = no_caps()

    def update(self, batch: pl.DataFrame) -> None:
        """Look at n documents: ``id`` and the selector's columns."""
        selector = self._selector
        held = batch.filter(selector.rules.holds(batch))
        if self._looks[0] == "curve":
            self._masses = (
                pl.concat([self._masses, selector.masses(held)]).group_by("value").agg(pl.col("weight").sum())
            )
            return
        rows = selector.candidates(held, self._curve).filter(pl.col("refused").is_null())
        if self._looks[0] == "cap":
            assert self._cap is not None
            rows = rows.filter(pl.col("cap").is_not_null())
            self._cap.update(rows["cap"], rows["key"])
            return
        rows = rows.filter(~_over(rows, self.caps))
        self._sketch.update(rows.with_columns(pl.lit(1, pl.Int64).alias("documents")))
        if selector.config.mixture is not None:
            self._names.update(rows.select("mix", "name").unique().iter_rows())

    def end_pass(self) -> None:
        """Go on to what the next pass looks for."""
        look = self._looks.pop(0)
        upsample = self._selector.config.upsample
        if look == "curve" and upsample is not None and upsample.curve is not None:
            self._curve, self._told["curve"] = curve_repeats(self._masses, upsample.column, upsample.curve)
        elif look == "cap" and self._cap is not None:
            self.caps = self._cap.cuts()
            self._told["capped"] = self.caps.height

    def cuts(self, config: SelectConfig) -> Cuts:
        """Return the cuts of a selection, which is the selector's but for ``top.share`` and ``budget``."""
        cuts = Cuts(curve=self._curve, told=dict(self._told))
        if self._selector.thresholds:
            find_cuts(self._sketch, config, self._names, cuts)
        return cuts


def _whole(repeats: npt.NDArray[np.float64], dice: npt.NDArray[np.uint64], stream: int) -> npt.NDArray[np.int64]:
    """Return whole repeats whose mean is the wanted one: 2.3 is twice, and a third time for 30 % of the documents."""
    floor = np.floor(repeats)
    more = uniform(reshuffle(dice, stream)) < repeats - floor
    return (floor + more).astype(np.int64)


def _group(batch: pl.DataFrame, columns: Sequence[str]) -> pl.Expr | pl.Series:
    """Return the hash of each document's group: groups are many (hosts), and integers sum up faster than names."""
    if not columns:
        return pl.repeat(0, pl.len(), dtype=pl.UInt64)
    parts = [pl.col(column).cast(pl.String).fill_null(_MISSING) for column in columns]
    return pl.Series(hash_ids(batch.select(pl.concat_str(parts, separator=SEPARATOR).alias("top"))["top"]))


def _mixture_group(batch: pl.DataFrame, targets: Mapping[str, Mapping[str, float]]) -> pl.Series:
    """Return the values of the mixture's columns as one name; null where one of them is not wanted at all."""
    parts = []
    for column, shares in targets.items():
        names = {name: name for name, share in shares.items() if share > 0 and name != "*"}
        taken = {name: None for name in shares if name not in names and name != "*"}
        other = "*" if shares.get("*", 0) > 0 else None
        values = pl.col(column).cast(pl.String)
        found = values.replace_strict(names | taken, default=other, return_dtype=pl.String)
        parts.append(pl.when(values.is_not_null()).then(found))
    return batch.select(pl.concat_str(parts, separator=SEPARATOR, ignore_nulls=False).alias("mix"))["mix"]


def _over(rows: pl.DataFrame, caps: pl.DataFrame) -> pl.Series:
    """Tell which rows lie below the cut of their group."""
    if not caps.height:
        return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    groups, cuts = caps["group"].to_numpy(), caps["cut"].to_numpy()
    mine = rows["cap"].fill_null(0).to_numpy()
    at = np.minimum(np.searchsorted(groups, mine), len(groups) - 1)
    keys = rows["key"].fill_null(0).to_numpy()
    return pl.Series((groups[at] == mine) & (keys < cuts[at])) & rows["cap"].is_not_null()


def _below(rows: pl.DataFrame, group: str, cuts: Mapping[int, int], shift: int) -> pl.Expr:
    """Return the reason of rows below their group's cut; a group without one keeps nothing."""
    name = {"top": "select.top", "mix": "select.mixture"}[group]
    if not cuts:
        return pl.lit(name)
    groups = np.fromiter(cuts, np.uint64, len(cuts))
    lowest = np.fromiter(cuts.values(), np.uint64, len(cuts))
    order = np.argsort(groups)
    groups, lowest = groups[order], lowest[order]
    mine = rows[group].to_numpy()
    at = np.minimum(np.searchsorted(groups, mine), len(groups) - 1)
    cells = rows["key"].fill_null(0).to_numpy() >> np.uint64(shift)
    return pl.when(pl.lit(pl.Series((groups[at] != mine) | (cells < lowest[at])))).then(pl.lit(name))
