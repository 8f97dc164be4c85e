"""One run as its tasks see it: what to make of which inputs, where; and how far it is."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fineedu.download import public_url
from fineedu.recipe import Recipe
from fineedu.store import Shard, Store


@dataclass(frozen=True, slots=True)
class Source:
    """One archive, or a byte range of it: what becomes one documents shard."""

    url: str
    size: int | None
    start: int = 0
    end: int | None = None

    def as_json(self) -> dict[str, str | int | None]:
        """Return the fields, for manifests and fingerprints; without keys and signatures that the URL may hold."""
        return {"url": public_url(self.url), "size": self.size, "start": self.start, "end": self.end}

    @property
    def length(self) -> int:
        """Bytes of the archive that this source covers; 0 where the size is unknown."""
        return (self.end or self.size or self.start) - self.start

    def share_read(self, offset: int) -> float:
        """Return the share of this source that lies before an offset in its archive, 0 to 1."""
        return min(max((offset - self.start) / self.length, 0.0), 1.0) if self.length else 0.0


class Job:
    """What every task of a run is told. Travels to workers on any engine.

    Not a dataclass: datatrove writes those out field by field into its own log, and a dump has 90,000 shards.

    Args:
        store: where everything goes.
        run_id: name of the run.
        recipe: what to do.
        shards: every shard, with what it is made of.
        marks: ``documents`` and each family's name to the fingerprint of its making.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        recipe: Recipe,
        shards: Mapping[Shard, Source],
        marks: Mapping[str, str],
    ) -> None:
        self.store = store
        self.run_id = run_id
        self.recipe = recipe
        self.shards = dict(shards)
        self.marks = dict(marks)

    def __str__(self) -> str:
        return f"run {self.run_id} of {len(self.shards)} shards"

    def share(self, rank: int, world_size: int) -> list[Shard]:
        """Return the shards of one task."""
        return list(self.shards)[rank::world_size]

    @property
    def progress_folder(self) -> Path:
        """Folder of the progress notes: one small file a shard, which any machine that sees the folder can read."""
        return self.store.run(self.run_id) / "progress"

    @property
    def metrics_folder(self) -> Path:
        """Folder of the metrics; see :mod:`fineedu.status.meter`."""
        return self.store.run(self.run_id) / "logs" / "metrics"

    def note(self, shard: Shard, done: float, pages: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Leave word of how far a shard is.

        Args:
            shard: the shard.
            done: share of its work that is done, 0 to 1.
            pages: pages so far.
            kept: documents kept so far.
            dropped: drop reasons so far.
        """
        path = self.progress_folder / f"{shard.dump}-{shard.index:05d}.json"
        temporary = path.with_suffix(f".{secrets.token_hex(6)}")
        temporary.write_text(json.dumps({"done": done, "pages": pages, "kept": kept, "dropped": dict(dropped)}))
        temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, summed over its shards."""

    #: share of the run's work, 0 to 1
    done: float
    pages: int
    kept: int
    dropped: Counter[str]


def read_progress(job: Job) -> Progress:
    """Sum the notes of all shards; shards are weighed by their bytes."""
    weights = {f"{shard.dump}-{shard.index:05d}": max(source.length, 1) for shard, source in job.shards.items()}
    return sum_notes(job.progress_folder, weights)


def sum_notes(folder: Path, weights: Mapping[str, int]) -> Progress:
    """Sum the notes in a folder.

    Args:
        folder: where :meth:`Job.note` leaves them.
        weights: ``DUMP-NUMBER`` of every shard to its bytes.
    """
    pages, kept, dropped, done = 0, 0, Counter[str](), 0.0
    for path in folder.glob("*.json"):
        try:
            note = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # being replaced at this moment
        pages += note["pages"]
        kept += note["kept"]
        dropped.update(note["dropped"])
        done += weights.get(path.stem, 0) * note["done"]
    return Progress(done / max(sum(weights.values()), 1), pages, kept, dropped)
