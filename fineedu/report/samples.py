"""Which documents the report shows, and what it shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fineedu.job import Job
from fineedu.report.bounds import Bound
from fineedu.report.display import clean, value
from fineedu.select.rules import Rules
from fineedu.store import Shard, Store, read_rows

_EXCERPT = 400

#: A document farther from a bound than the middle half of the run is wide is not near it.
_NEAR = 1.0

#: A document in the store, and what it is picked by.
_PLACE = {"hash": pl.UInt64, "shard": pl.UInt32, "row": pl.UInt64}


def with_places(batch: pl.DataFrame, shard: int, first_row: int) -> pl.DataFrame:
    """Add ``hash``, ``shard`` and ``row``: where each document lies, and its place in a fixed random order.

    The order is a hash of the id, so the same documents are picked however shards and batches are cut.
    """
    return batch.with_columns(
        pl.col("id").hash(seed=0).alias("hash"),
        pl.lit(shard, pl.UInt32).alias("shard"),
        pl.int_range(first_row, first_row + pl.len(), dtype=pl.UInt64).alias("row"),
    )


class ReasonPicks:
    """A few documents of each drop reason, and of the kept ones, in memory that does not grow.

    Those that fail one rule only come first: they show what that rule does, and differ from rule to rule.

    Args:
        size: documents a reason.
    """

    KEPT = ""

    def __init__(self, size: int) -> None:
        self._size = size
        self._picks = pl.DataFrame(schema={"reason": pl.String, "others": pl.Boolean, **_PLACE})

    def update(self, batch: pl.DataFrame) -> None:
        """Take ``keep`` and ``reasons`` of a batch with places."""
        others = (pl.col("reasons").list.len() > 1).alias("others")
        fates = batch.select(pl.col("reasons").alias("reason"), others, *_PLACE)
        dropped = fates.explode("reason").drop_nulls("reason")
        kept = fates.filter(batch["keep"]).with_columns(pl.lit(self.KEPT).alias("reason"))
        together = pl.concat([self._picks, kept, dropped]).sort("reason", "others", *_PLACE)
        self._picks = together.filter(pl.int_range(pl.len()).over("reason") < self._size)

    def of(self, reason: str) -> list[tuple[int, int]]:
        """Return shard and row of the picks for a reason."""
        return self._picks.filter(pl.col("reason") == reason).select("shard", "row").rows()


class BorderPicks:
    """The documents nearest to each bound, on either side, whose fate that bound alone decides.

    Args:
        bounds: bounds of the rules.
        scales: column to its spread, which makes distances of different columns comparable.
        size: documents to end with, over all bounds.
    """

    def __init__(self, bounds: Sequence[Bound], scales: Mapping[str, float], size: int) -> None:
        self._bounds = list(bounds)
        self._scales = dict(scales)
        self._size = size
        self._picks = pl.DataFrame(
            schema={
                "bound": pl.UInt32,
                "holds": pl.Boolean,
                "distance": pl.Float64,
                "value": pl.Float64,
                **_PLACE,
            }
        )

    def update(self, batch: pl.DataFrame, holds: pl.DataFrame) -> None:
        """Take a batch with places.

        Args:
            batch: n rows with the bounds' columns.
            holds: n rows, a Boolean column for each clause, by :attr:`Clause.name`; null counts as false.
        """
        if not self._bounds:
            return
        failing = holds.select(pl.sum_horizontal(~pl.all().fill_null(False)).alias("failing"))["failing"]
        parts = [self._picks]
        for number, bound in enumerate(self._bounds):
            found = pl.col(bound.column).cast(pl.Float64).fill_nan(None).alias("value")
            gap = ((found - bound.value).abs() / self._scales[bound.column]).alias("distance")
            held = holds[bound.clause.name].fill_null(False)
            decided = (failing == 0) | ((failing == 1) & ~held)
            parts.append(
                batch.select(pl.lit(number, pl.UInt32).alias("bound"), held.alias("holds"), gap, found, *_PLACE).filter(
                    decided & (pl.col("distance") <= _NEAR)
                )
            )
        together = pl.concat(parts).sort("bound", "holds", "distance", *_PLACE)
        self._picks = together.filter(pl.int_range(pl.len()).over("bound", "holds") < self._size)

    def chosen(self) -> list[tuple[Bound, bool, float, int, int]]:
        """Return bound, side (kept or not), value, shard and row; each bound and side in turn, nearest first.

        A document of two bounds is shown once, at the one it is nearer to.
        """
        nearest = self._picks.sort("distance", "bound").unique(["shard", "row"], keep="first", maintain_order=True)
        turn = pl.int_range(pl.len()).over("bound", "holds").alias("turn")
        order = nearest.with_columns(turn).sort("turn", "distance", "bound", "hash").head(self._size)
        rows = order.sort("bound", "holds", "distance", "hash").select("bound", "holds", "value", "shard", "row").rows()
        return [(self._bounds[bound], *place) for bound, *place in rows]


@dataclass(frozen=True, slots=True)
class Card:
    """One document as the report shows it; texts are cleaned but not escaped."""

    id: str
    url: str
    title: str
    language: str
    text_bytes: int
    excerpt: str
    #: name and value of the signals worth a look
    signals: tuple[tuple[str, str], ...]
    #: clauses that do not hold, with the values that they read
    failed: tuple[tuple[str, str], ...]


class Cards:
    """Reads single documents back from the store; each shard is opened once, and each document read by its row.

    Args:
        job: the run.
        owners: signal column to its family.
        rules: the run's rules.
        signals: columns whose values a card shows.
        places: shard (its index in the job) and row of every document that will be asked for.
    """

    def __init__(
        self,
        job: Job,
        owners: Mapping[str, str],
        rules: Rules,
        signals: Sequence[str],
        places: Iterable[tuple[int, int]],
    ) -> None:
        self._rules = rules
        self._signals = list(signals)
        shown = ["id", "url", "title", "language", "text_bytes", "text", *rules.columns, *self._signals]
        rows: dict[int, set[int]] = {}
        for shard, row in places:
            rows.setdefault(shard, set()).add(row)
        shards = list(job.shards)
        self._found: dict[tuple[int, int], pl.DataFrame] = {}
        for shard, wanted in rows.items():
            frame = _rows(job.store, owners, shards[shard], sorted(wanted), list(dict.fromkeys(shown)))
            self._found.update({(shard, row): frame.slice(at, 1) for at, row in enumerate(sorted(wanted))})

    def card(self, shard: int, row: int, rule: str | None = None) -> Card:
        """Return a document's card.

        Args:
            shard: index of its shard in the job.
            row: its row there.
            rule: list failed clauses of this rule only; None lists those of all rules.
        """
        frame = self._found[shard, row]
        facts = frame.row(0, named=True)
        failed = tuple(
            (verdict.clause, ", ".join(f"{name} = {value(found)}" for name, found in verdict.values.items()))
            for verdict in self._rules.explain(frame)
            if not verdict.holds and rule in (None, verdict.rule)
        )
        return Card(
            id=clean(facts["id"], 120),
            url=clean(facts["url"], 240),
            title=clean(facts["title"], 140),
            language=clean(facts["language"], 20),
            text_bytes=facts["text_bytes"],
            excerpt=clean(facts["text"], _EXCERPT),
            signals=tuple((name, value(facts[name])) for name in self._signals),
            failed=failed,
        )


def _rows(
    store: Store, owners: Mapping[str, str], shard: Shard, rows: Sequence[int], columns: Sequence[str]
) -> pl.DataFrame:
    """Return a shard's rows with columns of documents and signals side by side; of text only the beginning."""
    by_path: dict[Path, list[str]] = {}
    for column in columns:
        family = owners.get(column)
        path = store.documents(shard) if family is None else store.signals(family, shard)
        by_path.setdefault(path, []).append(column)
    parts = [read_rows(path, rows, names) for path, names in by_path.items()]
    return pl.concat(parts, how="horizontal").with_columns(pl.col("text").str.slice(0, 4 * _EXCERPT))
