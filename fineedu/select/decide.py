"""Signals shards to decisions: keep or not, and every reason why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from fineedu.errors import FineeduError
from fineedu.select.choose import Selector, no_caps
from fineedu.select.cuts import Cuts
from fineedu.store import Shard, Store, TableWriter, atomic_open, read_batches, read_json, write_json

SCHEMA: dict[str, pl.DataType] = {
    "id": pl.String(),
    "keep": pl.Boolean(),
    "reasons": pl.List(pl.String()),
    "text_bytes": pl.UInt32(),
    "repeat": pl.UInt16(),
}
#: Row groups judged together: rules cost some 2 ms a call, whatever the rows.
_TOGETHER = 64


def joined_batches(
    store: Store, shard: Shard, owners: Mapping[str, str], columns: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Yield batches of a shard with columns from documents and signals side by side.

    Args:
        store: the store.
        shard: the shard.
        owners: signal column to its family; every other column is of the documents.
        columns: wanted columns besides ``id``.

    Raises:
        FineeduError: shards of the same name do not hold the same documents.
    """
    by_family: dict[str, list[str]] = {}
    for column in columns:
        if column in owners:
            by_family.setdefault(owners[column], ["id"]).append(column)
    own = list(dict.fromkeys(["id", *(column for column in columns if column not in owners)]))
    others = [read_batches(store.signals(family, shard), names) for family, names in by_family.items()]
    for batch in read_batches(store.documents(shard), own):
        for family, other in zip(by_family, others, strict=True):
            signals = next(other, None)
            if signals is None or not signals["id"].equals(batch["id"]):
                path = store.signals(family, shard)
                raise FineeduError(f"{path} does not belong to {store.documents(shard)}: delete it and run again")
            batch = batch.hstack(signals.drop("id"))
        yield batch


def decide(
    store: Store,
    run_id: str,
    shard: Shard,
    selector: Selector,
    found: tuple[Cuts, pl.DataFrame],
    owners: Mapping[str, str],
    sources: str,
) -> None:
    """Judge the documents of a shard and write the decisions.

    Args:
        store: the store.
        run_id: the run whose decisions these are.
        shard: the shard.
        selector: the recipe's selection.
        found: what it has found in the whole run; see :meth:`Selector.fit`.
        owners: signal column to its family.
        sources: fingerprint of what the decisions rest on.
    """
    reasons: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    kept = kept_bytes = copies = 0
    path: Path = store.decisions(run_id, shard)
    batches = joined_batches(store, shard, owners, list(dict.fromkeys([*selector.columns, "text_bytes"])))
    with atomic_open(path) as stream:
        writer = TableWriter(stream, SCHEMA)
        while group := list(islice(batches, _TOGETHER)):
            together = pl.concat(group)
            verdicts = together.select("id", "text_bytes").hstack(selector.judge(together, *found))
            start = 0
            for batch in group:  # a row group for each of the documents', so that both can be read side by side
                writer.write(verdicts.slice(start, batch.height))
                start += batch.height
            reasons.update(verdicts["reasons"].explode().drop_nulls().to_list())
            single = verdicts.filter(pl.col("reasons").list.len() == 1)
            alone.update(single["reasons"].list.first().to_list())
            chosen = verdicts.filter("keep")
            kept += chosen.height
            kept_bytes += int(chosen["text_bytes"].sum())
            copies += int(chosen["repeat"].cast(pl.Int64).sum())
        writer.close(
            {
                "fingerprint": sources,
                "documents": writer.rows,
                "kept": kept,
                "kept_bytes": kept_bytes,
                "copies": copies,
                "reasons": dict(sorted(reasons.items())),
                "only_reason": dict(sorted(alone.items())),
            }
        )


def save_selection(folder: Path, found: tuple[Cuts, pl.DataFrame]) -> None:
    """Write what a selection has found in the whole run, for the tasks that judge by it."""
    cuts, caps = found
    with atomic_open(folder / "selection-caps.parquet") as stream:
        caps.write_parquet(stream)
    write_json(folder / "selection.json", cuts.model_dump(mode="json"))


def load_selection(folder: Path) -> tuple[Cuts, pl.DataFrame]:
    """Read what :func:`save_selection` wrote; nothing was to be found where there is no file."""
    if not (folder / "selection.json").exists():
        return Cuts(), no_caps()
    return Cuts.model_validate(read_json(folder / "selection.json")), pl.read_parquet(folder / "selection-caps.parquet")
