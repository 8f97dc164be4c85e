"""Which columns a recipe's rules and corpus may name, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fineedu.extract.documents import SCHEMA as DOCUMENT_SCHEMA
from fineedu.recipe import Recipe
from fineedu.signals.base import SignalFamily
from fineedu.signals.families import signal_columns


def recipe_columns(recipe: Recipe, families: Sequence[SignalFamily]) -> tuple[dict[str, pl.DataType], dict[str, str]]:
    """Return every column with its type, and every signal column with its family.

    Args:
        recipe: the recipe; its ``dedup`` block gives columns too.
        families: its signal families.

    Raises:
        FineeduError: two families give the same column.
    """
    owners = signal_columns(families)
    schema = DOCUMENT_SCHEMA | {column: dtype for family in families for column, dtype in family.schema.items()}
    if recipe.dedup is not None:
        from fineedu.dedup.run import dedup_columns

        for family, columns in dedup_columns(recipe.dedup).items():
            schema |= columns
            owners |= dict.fromkeys(columns, family)
    return schema, owners
