"""Ensembles as a signal family: columns from the columns of other families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import polars as pl

from fineedu.classify.bundle import bundle_folder, load_bundle, read_bundle
from fineedu.ensemble.cascade import read_bands, run_cascade
from fineedu.ensemble.combine import max_bucket, mean, vote
from fineedu.ensemble.percentiles import drift_columns, measure_drift, read_table
from fineedu.ensemble.recipe import (
    BucketEnsemble,
    CascadeEnsemble,
    Ensemble,
    MeanEnsemble,
    StackEnsemble,
    VoteEnsemble,
    load_ensemble,
)
from fineedu.ensemble.stack import read_stack
from fineedu.errors import FineeduError
from fineedu.select.rules import compile_rule
from fineedu.signals.base import SignalFamily
from fineedu.store import fingerprint

_BUCKET: dict[str, pl.DataType] = {"bucket": pl.UInt8(), "level": pl.String()}
_VOTE: dict[str, pl.DataType] = {"votes": pl.UInt8(), "keep": pl.Boolean()}
_SCORE: dict[str, pl.DataType] = {"score": pl.Float32()}
_CASCADE: dict[str, pl.DataType] = {"score": pl.Float32(), "called": pl.Boolean(), "keep": pl.Boolean()}


class EnsembleSignals(SignalFamily):
    """Several scores to one, by a recipe of ``pipelines/ensembles/`` or a file of your own.

    Columns are named after the ensemble: ``nemotron_cc_bucket``, ``nemotron_cc_level``; several ensembles may stand in
    one recipe. In a recipe it stands behind the families whose columns it reads.

    Args:
        use: name of a shipped ensemble, or the path of a YAML file.
        settings: settings over those of the file, e.g. ``scores`` and ``percentiles``.
    """

    version: ClassVar[int] = 1

    def __init__(self, use: str, **settings: Any) -> None:
        self._recipe: Ensemble = load_ensemble(use, settings)
        recipe = self._recipe
        path = getattr(recipe, "percentiles", None)
        self._table = read_table(path) if path else None
        self._stack = read_stack(recipe.model) if isinstance(recipe, StackEnsemble) else None
        self._bands = read_bands(recipe.bands) if isinstance(recipe, CascadeEnsemble) else None
        self._conditions = {name: _parse(sql) for name, sql in self._rules().items()}
        for score in self._scores() if self._table else []:
            self._table.of(score)  # type: ignore[union-attr]

    def _rules(self) -> dict[str, str]:
        if isinstance(self._recipe, VoteEnsemble):
            return self._recipe.conditions
        return {"rule": self._bands.rule} if self._bands else {}

    def _scores(self) -> list[str]:
        recipe = self._recipe
        if isinstance(recipe, BucketEnsemble):
            return recipe.scores
        return list(recipe.by_score) if isinstance(recipe, MeanEnsemble) else []

    @property
    def name(self) -> str:  # type: ignore[override]
        """Folder under ``signals/``: each ensemble has its own."""
        return f"ensemble-{self._recipe.name}"

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Columns of documents and of other families."""
        found = list(self._scores())
        if self._table is not None and self._table.by_language:
            found.append("language")
        if self._stack is not None:
            found += self._stack.scores
        if self._bands is not None:
            rule = self._conditions["rule"].meta.root_names()
            found += [self._bands.cheap, "text", *(name for name in rule if name != "dear")]
        elif self._conditions:
            found += [name for expression in self._conditions.values() for name in expression.meta.root_names()]
        return tuple(dict.fromkeys(found))

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns; null where what is needed for them is missing."""
        columns = {BucketEnsemble: _BUCKET, VoteEnsemble: _VOTE, CascadeEnsemble: _CASCADE}
        return {self._recipe.prefix + name: dtype for name, dtype in columns.get(type(self._recipe), _SCORE).items()}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the values depend on: settings, thresholds, weights, bands; not where their files lie."""
        settings = self._recipe.model_dump(
            mode="json", exclude={"description", "percentiles", "model", "bands", "drift", "dear"}
        )
        made: dict[str, Any] = {"family": "ensemble", "version": self.version, **settings}
        if self._table is not None:
            made["percentiles"] = fingerprint(self._table.model_dump(mode="json"))
        if self._stack is not None:
            made["model"] = fingerprint(self._stack.model_dump(mode="json", exclude={"gain"}))
        if isinstance(self._recipe, CascadeEnsemble) and self._bands is not None:
            made["bands"] = self._bands.model_dump(mode="json", include={"cheap", "low", "high", "rule", "trials"})
            made["dear"] = read_bundle(bundle_folder(self._recipe.dear)).weights_sha256
        return made

    def check(self, schema: Mapping[str, pl.DataType]) -> None:
        """Check the columns read, and the conditions over them."""
        super().check(schema)
        known = dict(schema) | ({"dear": pl.Float64()} if self._bands else {})
        for name, sql in self._rules().items():
            try:
                compile_rule(sql, known)
            except FineeduError as error:
                raise FineeduError(f"{self.name}: {name}: {error}") from error
        numeric = [*self._scores(), *(self._stack.scores if self._stack else [])]
        for column in [*numeric, *([self._bands.cheap] if self._bands else [])]:
            if not schema[column].is_numeric():
                raise FineeduError(f"{self.name}: {column} holds {schema[column]}, not scores")

    def check_pool(self, batches: Callable[[Sequence[str]], Iterator[pl.DataFrame]]) -> list[str]:
        """Compare the pool's scores with those that the percentiles were made from, as the recipe's ``drift`` says."""
        recipe, table = self._recipe, self._table
        if table is None or not isinstance(recipe, BucketEnsemble | MeanEnsemble) or recipe.drift.action == "ignore":
            return []
        found = measure_drift(table, batches(drift_columns(table, self._scores())), self._scores())
        return [f"{self.name}: {line}" for line in recipe.drift.judge(found)]

    def summary(self, batches: Callable[[Sequence[str]], Iterator[pl.DataFrame]]) -> dict[str, Any]:
        """Return of a cascade how many documents its dear scorer read, and what its bands do on documents held out."""
        if not isinstance(self._recipe, CascadeEnsemble) or self._bands is None:
            return {}
        called = [batch.to_series() for batch in batches([self._recipe.prefix + "called"])]
        held = self._bands.held_out.model_dump(mode="json")
        return {
            "dear": self._recipe.dear,
            "cheap": self._bands.cheap,
            "rule": self._bands.rule,
            "documents": sum(len(column) for column in called),
            "called": sum(int(column.sum()) for column in called),
            # A share of no documents is not known, and JSON has no NaN.
            "held_out": {
                name: held[name] if held[name]["n"] else held[name] | {"share": None}
                for name in ("recall", "precision", "agreement", "called")
            },
        }

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Combine a batch."""
        recipe = self._recipe
        if isinstance(recipe, BucketEnsemble):
            assert self._table is not None
            found = max_bucket(recipe, self._table, documents)
        elif isinstance(recipe, MeanEnsemble):
            found = mean(recipe, self._table, documents).to_frame()
        elif isinstance(recipe, VoteEnsemble):
            found = vote(recipe, self._conditions, documents)
        elif isinstance(recipe, StackEnsemble):
            assert self._stack is not None
            found = self._stack.predict(documents).to_frame()
        else:
            assert self._bands is not None
            folder = bundle_folder(recipe.dear)
            found = run_cascade(self._bands, self._conditions["rule"], documents, lambda: load_bundle(folder))
        return found.rename(lambda column: recipe.prefix + column)


def _parse(sql: str) -> pl.Expr:
    try:
        return pl.sql_expr(sql)
    except pl.exceptions.PolarsError as error:
        raise FineeduError(f"{sql!r} is no valid expression: {str(error).splitlines()[0]}") from error
