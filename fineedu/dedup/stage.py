"""The stage between signals and selection: key files, clusters, and the signals ``dup_*``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import polars as pl
from datatrove.pipeline.base import PipelineStep

from fineedu.dedup.cluster import Clusters, Part, lay_out, link
from fineedu.dedup.keys import KeyColumn, KeyFile, key_files, write_key_file
from fineedu.dedup.memory import Memory, give_back
from fineedu.dedup.signature import MinHash
from fineedu.dedup.survivors import Ranking, SurvivorIds, Survivors, choose, kept_path, sections_of, survivor_ids
from fineedu.dedup.verify import Verified, verify
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig
from fineedu.status.meter import metered
from fineedu.store import (
    Shard,
    Store,
    TableWriter,
    atomic_open,
    fingerprint,
    is_current,
    read_batches,
    read_facts,
    write_json,
)

#: Raised whenever the same keys would give other signals.
_VERSION = 1
FAMILY = "dedup"
#: columns by which documents meet, in the order of their bits in ``Clusters.marks``
WAYS = ("minhash", "exact", "url")

SCHEMA: dict[str, pl.DataType] = {
    "dup_cluster": pl.UInt64(),
    "dup_size": pl.UInt32(),
    "dup_keep": pl.Boolean(),
    "dup_of": pl.String(),
    "dup_by": pl.String(),
}


def minhash_of(config: DedupConfig) -> MinHash:
    """Return the signature's settings."""
    return MinHash(config.shingle, config.n, config.bands, config.rows, config.seed)


def dedup_made_by(
    config: DedupConfig, made_by: Mapping[str, dict[str, Any]], owners: Mapping[str, str]
) -> dict[str, Any]:
    """Return everything that the signals depend on besides the documents themselves.

    Args:
        config: the settings.
        made_by: of the documents and of every signal family.
        owners: signal column to its family.

    Raises:
        FineeduError: the score that ``keep: best`` goes by is no signal.
    """
    settings = config.model_dump(
        mode="json", exclude={"memory_mb", "max_host_loss", "host_documents", "index", "score", "lines", "substrings"}
    )
    found = {"code": _VERSION, **minhash_of(config).made_by, **settings, "documents": fingerprint(made_by["documents"])}
    if config.keep == "best":
        if config.score not in owners:
            raise FineeduError(
                f"keep: best needs the signal {config.score!r}, which no family gives; there are "
                f"{', '.join(owners) or 'none'}"
            )
        found |= {"score": config.score, "score_family": fingerprint(made_by[owners[config.score]])}
    return found


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """Where key files lie, and what makes them.

    Attributes:
        store: the documents.
        config: the settings.
    """

    store: Store
    config: DedupConfig

    @property
    def root(self) -> Path:
        """The folder that holds ``keys/``: in the store, or shared."""
        return Path(self.config.index) if self.config.index else self.store.root / "dedup"

    def path(self, shard: Shard) -> Path:
        """Return the key file of a documents shard."""
        return self.root / "keys" / shard.path.with_suffix(".keys")

    def lock(self) -> AbstractContextManager[None]:
        """Hold a shared index for one run; one inside the store is held with the store."""
        return Store(self.root).lock() if self.config.index else nullcontext()

    def claim(self) -> str:
        """Say what makes the key files; see :meth:`fineedu.store.Store.claim`."""
        self.root.mkdir(parents=True, exist_ok=True)
        return Store(self.root).claim("keys", minhash_of(self.config).made_by)

    def origin(self, shard: Shard) -> str:
        """Return what the documents of a shard were made from."""
        facts = read_facts(self.store.documents(shard))
        return fingerprint([facts["fingerprint"], facts["source"]])

    def make(self, shard: Shard, mark: str) -> None:
        """Make a key file where it is not there yet, or was made from documents that have changed.

        Raises:
            FineeduError: a shared index holds another archive under this dump and number.
        """
        path, origin = self.path(shard), self.origin(shard)
        if path.exists():
            facts = KeyFile(path).facts
            if facts["fingerprint"] != mark:
                raise FineeduError(
                    f"{path} was made by other settings: delete {path.parent.parent} to have it made anew"
                )
            if facts["origin"] == origin:
                return
            if self.config.index:
                raise FineeduError(
                    f"{path} remembers another archive than {self.store.documents(shard)}: take another --dump"
                )
        facts = {"fingerprint": mark, "shard": str(shard), "origin": origin}
        sign_shard(self.store.documents(shard), path, self.config, facts)


def sign_shard(documents: Path, path: Path, config: DedupConfig, facts: Mapping[str, Any]) -> None:
    """Make the key file of one documents shard; memory: 600 bytes a document."""
    from fineedu.dedup.address import canonical_urls
    from fineedu.dedup.shingles import hash_strings
    from fineedu.dedup.signature import band_keys, sign

    minhash = minhash_of(config)
    names = [f"band{n:03d}" for n in range(minhash.bands)]
    found: dict[str, list[Any]] = {name: [] for name in ("bands", "text", "has", "url", "addressed", "id", "language")}
    for batch in read_batches(documents, ["id", "url", "language", "text"]):
        signed = sign(batch["text"], minhash)
        urls = canonical_urls(batch["url"])
        found["bands"].append(band_keys(signed, minhash))
        found["text"].append(signed.text_keys)
        found["has"].append(signed.shingles > 0)
        found["url"].append(hash_strings(urls))
        found["addressed"].append(urls.is_not_null().to_numpy())
        found["id"].append(batch["id"])
        found["language"].append(batch["language"])
    empty = np.zeros(0, np.uint64)
    text, url = (np.concatenate([empty, *found[name]]) for name in ("text", "url"))
    has, addressed = (np.concatenate([np.zeros(0, np.bool_), *found[name]]) for name in ("has", "addressed"))
    columns = {
        name: KeyColumn.of(np.concatenate([empty, *(part[n] for part in found["bands"])]), has)
        for n, name in enumerate(names)
    }
    del found["bands"]
    columns |= {"exact": KeyColumn.of(text, has), "url": KeyColumn.of(url, addressed)}
    ids, languages = (
        pl.concat([pl.Series([], dtype=pl.String), *found[name]], rechunk=True) for name in ("id", "language")
    )
    write_key_file(path, columns, sections_of(ids, languages), facts)


class SignShards(PipelineStep):  # type: ignore[misc]
    """Makes the key file of every shard that comes in, and hands the shard on."""

    name = "dedup keys"
    type = "fineedu"

    def __init__(self, folder: KeyFolder, mark: str, metrics: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.mark = mark
        self.metrics = metrics

    def run(self, data: Iterable[Shard], rank: int = 0, world_size: int = 1) -> Iterator[Shard]:
        """Yield each shard that comes in, once its keys are there."""
        for shard in data:
            with self.track_time("shard"), metered(self.metrics, self.name, shard) as cost:
                self.folder.make(shard, self.mark)
                cost.bytes_written = self.folder.path(shard).stat().st_size
            yield shard


@dataclass(slots=True)
class Outcome:
    """What one group of shards (a dump, or all) came to."""

    name: str
    documents: int
    removed: int
    shared: dict[str, int]
    verified: Verified | None = None
    #: size of a cluster to the number of clusters
    sizes: dict[int, int] = field(default_factory=dict)
    remembered: int = 0


def _groups(folder: KeyFolder, shards: Sequence[Shard]) -> dict[str, list[tuple[Path, Shard, bool]]]:
    """Return what is compared with what: name of the group to its key files, in order."""
    here = {folder.path(shard): shard for shard in shards}
    files = [(path, shard, True) for path, shard in here.items()]
    if folder.config.index:
        # Run again, a dump is compared with what was there the first time: else it and a later one would each lose
        # its copies to the other.
        notes = [read_facts(kept_path(path)) for path in here if kept_path(path).exists()]
        for path in key_files(folder.root / "keys"):
            shard = Shard(path.parent.name.removeprefix("dump="), int(path.stem))
            if path not in here and (not notes or str(shard) in notes[0]["seen"]):
                files.append((path, shard, False))
    files.sort(key=lambda file: file[1])
    if folder.config.scope != "dump":
        return {folder.config.scope: files}
    dumps = sorted({shard.dump for shard in shards})
    return {dump: [file for file in files if file[1].dump == dump] for dump in dumps}


def deduplicate(
    store: Store, shards: Sequence[Shard], config: DedupConfig, made_by: Mapping[str, Any], owners: Mapping[str, str]
) -> list[str]:
    """Cluster the documents of a store and write their signals; the key files must be there.

    A group (one dump, or all shards) whose signals are there already is left alone.

    Args:
        store: the store, locked by the caller.
        shards: its documents shards.
        config: the settings.
        made_by: from :func:`dedup_made_by`.
        owners: signal column to its family.

    Returns:
        The names of the groups.

    Raises:
        FineeduError: a file is damaged, the memory limit is too low, or the disk is full.
    """
    folder = KeyFolder(store, config)
    groups = _groups(folder, shards)
    for name, files in groups.items():
        origins = [[str(shard), KeyFile(path).facts["origin"], here] for path, shard, here in files]
        mark = fingerprint([dict(made_by), origins])
        own = [shard for _, shard, here in files if here]
        done = store.root / "signals" / FAMILY / f"_{name}.json"
        if done.exists() and all(is_current(store.signals(FAMILY, shard), mark) for shard in own):
            continue
        for path, _, _ in files:
            KeyFile(path).check()
        parts = lay_out(files)
        outcome = _cluster(store, parts, config, owners, mark, name)
        if config.index:
            _remember(store, parts)
        write_json(done, {"fingerprint": mark, **_as_json(outcome)})
    return list(groups)


def _remember(store: Store, parts: Sequence[Part]) -> None:
    """Note in a shared index which documents stay, for dumps to come, and what they were compared with."""
    seen = [str(part.shard) for part in parts if not part.here]
    for part in (part for part in parts if part.here):
        with atomic_open(kept_path(part.path)) as stream:
            writer = TableWriter(stream, {"keep": pl.Boolean()})
            for batch in read_batches(store.signals(FAMILY, part.shard), ["dup_keep"]):
                writer.write(batch.rename({"dup_keep": "keep"}))
            writer.close({"shard": str(part.shard), "seen": seen})


def _as_json(outcome: Outcome) -> dict[str, Any]:
    verified = outcome.verified
    return {
        "group": outcome.name,
        "documents": outcome.documents,
        "remembered": outcome.remembered,
        "removed": outcome.removed,
        "shared_keys": outcome.shared,
        "sizes": {str(size): count for size, count in sorted(outcome.sizes.items())},
        "verified": verified
        and {"checked": verified.checked, "failed": verified.failed, "unchecked": verified.unchecked},
    }


def _cluster(
    store: Store, parts: Sequence[Part], config: DedupConfig, owners: Mapping[str, str], mark: str, name: str
) -> Outcome:
    memory = Memory(config.memory_mb)
    minhash = minhash_of(config)
    columns: list[str] = []
    bits: list[int] = []
    for bit, way in enumerate(WAYS):
        if way in config.by:
            own = [f"band{n:03d}" for n in range(minhash.bands)] if way == "minhash" else [way]
            columns += own
            bits += [bit] * len(own)
    clusters = link(parts, columns, bits, config.scope, memory)
    ranking = Ranking(config.keep, config.score, owners)
    survivors = choose(store, parts, clusters, ranking, memory)
    verified = None
    if config.verify is not None:
        work = store.root / "dedup" / "work"
        rmtree(work, ignore_errors=True)  # what a killed run has left
        work.mkdir(parents=True)
        bound = config.verify
        clusters, verified = verify(store, parts, clusters, survivors.row, ranking, minhash, bound, memory, work)
        del survivors
        give_back()
        survivors = choose(store, parts, clusters, ranking, memory)
    ids = survivor_ids(parts, clusters, survivors, memory)
    removed = _write_signals(store, parts, clusters, survivors, ids, mark)
    del ids, survivors
    sizes, counts = np.unique(clusters.sizes, return_counts=True)
    here = sum(part.rows for part in parts if part.here)
    return Outcome(
        name,
        here,
        removed,
        clusters.shared,
        verified,
        dict(zip(sizes.tolist(), counts.tolist(), strict=True)),
        sum(part.rows for part in parts) - here,
    )


def _write_signals(
    store: Store, parts: Sequence[Part], clusters: Clusters, survivors: Survivors, ids: SurvivorIds, mark: str
) -> int:
    """Write the signals of the shards that are here; returns how many documents do not stay."""
    removed = 0
    for part in (part for part in parts if part.here):
        file = KeyFile(part.path)
        with atomic_open(store.signals(FAMILY, part.shard)) as stream:
            writer = TableWriter(stream, {"id": pl.String(), **SCHEMA})
            row = 0
            for batch in read_batches(store.documents(part.shard), ["id"]):
                hashes = file.section("row/id_hash", row, row + batch.height)
                signals = _signals(clusters, survivors, ids, part.base + row, hashes)
                removed += signals.height - int(signals["dup_keep"].sum())
                writer.write(signals.insert_column(0, batch["id"]))
                row += batch.height
            writer.close({"fingerprint": mark})
    return removed


def _signals(clusters: Clusters, survivors: Survivors, ids: SurvivorIds, base: int, hashes: Any) -> pl.DataFrame:
    from fineedu.dedup.linking import ALONE

    number = clusters.number[base : base + len(hashes)]
    together = number != ALONE
    own = np.where(together, number, 0)
    if not len(clusters.sizes):
        survivor = sizes = np.zeros(len(hashes), np.uint32)
        label = hashes
    else:
        survivor, sizes, label = survivors.row[own], clusters.sizes[own], survivors.label[own]
    stays = ~together | (survivor == np.arange(base, base + len(hashes)))
    marks = clusters.marks[base : base + len(hashes)]
    names = [
        "+".join(way for bit, way in enumerate(WAYS) if value >> bit & 1) or None for value in range(1 << len(WAYS))
    ]
    return pl.DataFrame(
        {
            "dup_cluster": np.where(together, label, hashes),
            "dup_size": np.where(together, sizes, 1).astype(np.uint32),
            "dup_keep": stays,
            "dup_of": ids.of(survivor).set(pl.Series(stays), None),
            "dup_by": pl.Series(names, dtype=pl.String).gather(np.where(together, marks, 0).astype(np.uint32)),
        }
    )
