"""Which documents to label: a few hundred of millions, so that what the labels say can be said of all.

The order in which documents are taken is a hash of seed and id. So a sample does not depend on the order of rows, on
how shards are cut, or on who reads them, and a larger sample of the same seed mostly holds the smaller one.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import polars as pl

from fineedu.annotate.sampling_source import DOCUMENT_COLUMNS, Source, open_source
from fineedu.errors import FineeduError
from fineedu.store import TableWriter, atomic_open

METHODS = ("stratified", "random", "uncertainty", "disagreement")
ALLOCATIONS = ("equal", "proportional")

#: Documents whose keys are looked at together: 64 row groups of the store, some 10 MB.
_BATCH = 65_536
#: Registered domain, else host, else the document itself: what a cap counts.
_SITE = "__site"
_STRATUM = "__stratum"
_PRIORITY = "__priority"
_HASH = "__hash"
_ORDER = (_PRIORITY, _HASH, "id")


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents to label.

    ``weight`` is the stratum's population divided by its sampled documents: the sum of weights is the population of
    the strata that were reached. It is null for ``uncertainty`` and ``disagreement``: they choose documents on purpose,
    and no weight makes those stand for the rest. A cap per host takes less of the large hosts than a stratum has, which
    the weights do not undo.
    """

    #: n rows: ``id``, ``url``, ``host``, ``title``, ``text`` (where the source has them), ``stratum``, ``weight``, and
    #: the columns that strata and scores were taken from; ordered by id
    documents: pl.DataFrame
    #: a row a stratum: ``stratum``, ``population``, ``sampled``
    strata: pl.DataFrame
    #: documents without the scores that the method needs: they could not be chosen
    unscored: int
    settings: dict[str, object]


def sample_documents(
    source: pl.DataFrame | pl.LazyFrame | Path,
    n: int,
    seed: int = 0,
    *,
    strata: Sequence[str] | None = None,
    per_host: int | None = None,
    method: str = "stratified",
    allocation: str = "equal",
    scores: Sequence[str] = (),
    threshold: float = 3.0,
) -> Sample:
    """Choose documents to label.

    Two passes: over the keys of all documents, of which at most n a stratum are held; then over the chosen ones' texts.

    Args:
        source: a store, a parquet file or a folder of them, a frame or a scan; with ``id`` and ``text``.
        n: documents to choose; fewer where there are no more, or the cap leaves no more.
        seed: another seed, another sample.
        strata: columns whose values make strata; numbers with fractions are rounded to whole ones (halves to even), or
            to multiples of a width: ``"edu_score:0.5"``. Missing values are a stratum. Default: ``edu_score`` where
            the method is stratified, else none.
        per_host: at most so many documents of one registered domain in the whole sample.
        method: ``stratified`` and ``random`` are fair draws; ``uncertainty`` takes the documents nearest to
            ``threshold`` of one score, or of highest entropy over several class scores; ``disagreement`` those whose
            scores, of one scale, spread farthest (greatest less smallest).
        allocation: ``equal``: as many of every stratum, which shows rare ones; ``proportional``: like the population
            (Sainte-Laguë), one of each at least.
        scores: columns that ``uncertainty`` and ``disagreement`` look at.
        threshold: where a score is uncertain.

    Raises:
        FineeduError: unknown method, a column that is not there or is no number, or too few documents for the strata.
    """
    if strata is None:
        strata = ("edu_score",) if method == "stratified" else ()
    plan = _Plan(n, seed, method, tuple(strata), allocation, per_host, tuple(scores), threshold)
    plan.check()
    opened = open_source(source)
    _check_columns(opened, plan.wanted)
    picker = _Picker(n, per_host, plan.wanted)
    unscored = 0
    for batch in _gathered(opened.batches(_key_columns(opened, plan))):
        keys = _keys(batch, plan)
        chosen = keys.drop_nulls(_PRIORITY)
        unscored += keys.height - chosen.height
        picker.update(chosen)
    picked, table = picker.pick(allocation)
    weight = pl.col("population") / pl.col("sampled") if plan.fair else pl.lit(None, pl.Float64)
    rows = picked.join(table.with_columns(weight=weight), left_on=_STRATUM, right_on="stratum")
    rows = rows.select("id", pl.col(_STRATUM).alias("stratum"), "weight", *plan.wanted)
    columns = [name for name in DOCUMENT_COLUMNS if name in opened.columns and name not in plan.wanted]
    documents = opened.take(rows["id"], columns).join(rows, on="id").sort("id")
    return Sample(documents, table, unscored, asdict(plan))


def write_sample(path: Path, sample: Sample) -> None:
    """Write a sample's documents to a parquet file, which appears whole; its strata and settings go to the metadata."""
    with atomic_open(path) as stream:
        writer = TableWriter(stream, sample.documents.schema)
        writer.write(sample.documents)
        writer.close({"sample": sample.settings, "strata": sample.strata.to_dicts(), "unscored": sample.unscored})


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that makes strata."""

    name: str
    width: float

    @classmethod
    def parse(cls, text: str) -> _Column:
        name, colon, width = text.partition(":")
        try:
            number = float(width) if colon else 1.0
        except ValueError:
            number = 0.0
        if not name or not number > 0 or not math.isfinite(number):
            raise FineeduError(f"{text!r} is no column for strata: write a column, or COLUMN:WIDTH, as edu_score:0.5")
        return cls(name, number)

    def label(self, kind: pl.DataType) -> pl.Expr:
        value = pl.col(self.name)
        if kind.is_float() or (kind.is_numeric() and self.width != 1.0):
            bucket = (value.cast(pl.Float64) / self.width).round(0, mode="half_to_even")
            number = bucket * self.width + 0.0  # +0.0 makes -0 a 0
            finite = pl.when(number.is_finite()).then(number)
            whole = float(self.width).is_integer()
            value = finite.cast(pl.Int64) if whole else finite.round(9)
        return pl.format("{}={}", pl.lit(self.name), value.cast(pl.String).fill_null("missing"))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was asked for."""

    n: int
    seed: int
    method: str
    strata: tuple[str, ...]
    allocation: str
    per_host: int | None
    scores: tuple[str, ...]
    threshold: float

    @property
    def by(self) -> list[_Column]:
        return [_Column.parse(text) for text in self.strata]

    @property
    def wanted(self) -> list[str]:
        named = dict.fromkeys([*(part.name for part in self.by), *self.scores])
        return [name for name in named if name != "id"]

    @property
    def fair(self) -> bool:
        return self.method in ("stratified", "random")

    def check(self) -> None:
        if self.method not in METHODS:
            raise FineeduError(f"unknown sampling method {self.method!r}: take {', '.join(METHODS)}")
        if self.allocation not in ALLOCATIONS:
            raise FineeduError(f"unknown allocation {self.allocation!r}: take {', '.join(ALLOCATIONS)}")
        if self.n < 1 or (self.per_host is not None and self.per_host < 1):
            raise FineeduError("the number of documents, and of documents a host, must be 1 or more")
        if self.method == "stratified" and not self.strata:
            raise FineeduError("a stratified sample needs a column to stratify by, e.g. edu_score")
        if self.method == "random" and self.strata:
            raise FineeduError("a random sample has no strata: take the method stratified")
        if taken := {"stratum", "weight"}.intersection(self.wanted):
            raise FineeduError(f"the sample has a column {taken.pop()} of its own: rename that column first")
        needed = {"uncertainty": 1, "disagreement": 2}.get(self.method, 0)
        given = len(set(self.scores))
        if given < needed:
            raise FineeduError(f"the method {self.method} needs {needed} or more score columns, given: {given}")
        if self.scores and not needed:
            raise FineeduError(f"the method {self.method} takes no score columns: name strata, or another method")


def _check_columns(source: Source, wanted: Sequence[str]) -> None:
    there = source.columns
    missing = [name for name in ("id", "text", *wanted) if name not in there]
    if missing:
        shown = ", ".join(there[:40])
        raise FineeduError(f"the documents have no column {', '.join(missing)}; there: {shown}{source.lacking}")


def _key_columns(source: Source, plan: _Plan) -> list[str]:
    site: list[str] = []
    if plan.per_host is not None:
        site = [name for name in ("registered_domain", "host", "url") if name in source.columns][:2]
        if not site:
            raise FineeduError("a cap per host needs a column registered_domain, host or url")
    return list(dict.fromkeys(["id", *plan.wanted, *site]))


def _gathered(batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Put small batches together."""
    held: list[pl.DataFrame] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.height
        if rows >= _BATCH:
            yield pl.concat(held)
            held, rows = [], 0
    if held:
        yield pl.concat(held)


def _keys(batch: pl.DataFrame, plan: _Plan) -> pl.DataFrame:
    """Return what a document is chosen by: stratum, priority, hash, id and site; null priority: it cannot be."""
    for name in plan.scores:
        if not batch.schema[name].is_numeric():
            raise FineeduError(f"the score column {name} holds {batch.schema[name]}, not numbers")
    if batch["id"].null_count():
        raise FineeduError("a document has no id: every row needs one")
    labels = [part.label(batch.schema[part.name]) for part in plan.by]
    key = plan.seed.to_bytes(16, "little", signed=True)
    hashes = [int.from_bytes(blake2b(i.encode(), digest_size=8, key=key).digest()) for i in batch["id"].to_list()]
    return batch.select(
        (pl.concat_str(labels, separator=" ") if labels else pl.lit("all")).alias(_STRATUM),
        _priority(plan).cast(pl.Float64).alias(_PRIORITY),
        pl.Series(_HASH, hashes, dtype=pl.UInt64),
        pl.col("id"),
        (_sites(batch) if plan.per_host is not None else batch["id"]).alias(_SITE),
        *plan.wanted,
    )


def _priority(plan: _Plan) -> pl.Expr:
    """Return what is taken first where it is least."""
    if plan.fair:
        return pl.lit(0.0)
    values = [pl.col(name).cast(pl.Float64) for name in plan.scores]
    finite = [pl.when(value.is_finite()).then(value) for value in values]
    if plan.method == "disagreement":
        several = pl.sum_horizontal(value.is_not_null() for value in finite) >= 2
        return pl.when(several).then(pl.min_horizontal(finite) - pl.max_horizontal(finite))
    if len(finite) == 1:
        return (finite[0] - plan.threshold).abs()
    total = pl.sum_horizontal(finite, ignore_nulls=False)
    valid = (pl.min_horizontal(finite) >= 0) & (total > 0)
    shares = [value / total for value in finite]
    negative_entropy = pl.sum_horizontal(pl.when(p > 0).then(p * p.log()).otherwise(0.0) for p in shares)
    return pl.when(valid).then(negative_entropy)


def _sites(batch: pl.DataFrame) -> pl.Series:
    """Return what the cap counts: the registered domain, the host where there is none (an IP address), else the id."""
    there = batch.columns
    if "host" in there:
        host = pl.col("host")
    elif "url" in there:
        host = pl.col("url").str.extract(r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]+)", 1)
    else:
        host = pl.lit(None, pl.String)
    if "registered_domain" in there:
        domain = batch["registered_domain"]
    else:
        from fineedu.signals.url import registered_domains

        urls = batch.select(pl.format("http://{}/", host).alias("url"))["url"]
        domain = registered_domains(urls)["registered_domain"]
    return batch.select(pl.coalesce(domain, host, pl.format("id {}", pl.col("id"))).alias(_SITE))[_SITE]


class _Picker:
    """Holds, of each stratum, the first n documents that a cap per site leaves, in memory that does not grow.

    That is enough for any share of the n: where other strata have used up sites, each document they took hides at most
    one of the n held here, and they take what this stratum does not.

    Args:
        n: documents wanted in all.
        per_host: documents a site.
        further: columns that are carried along.
    """

    def __init__(self, n: int, per_host: int | None, further: Sequence[str]) -> None:
        self._n = n
        self._order = [_STRATUM, *_ORDER, *further]
        self._per_host = per_host
        self._population: Counter[str] = Counter()
        self._held: pl.DataFrame | None = None

    def update(self, keys: pl.DataFrame) -> None:
        """Take more documents; a document that comes twice counts twice in its population and is held once.

        Raises:
            FineeduError: more strata than documents wanted; told at once, as the memory held grows with the strata.
        """
        self._population.update(dict(keys[_STRATUM].value_counts().iter_rows()))
        if len(self._population) > self._n:
            raise FineeduError(
                f"{self._n} documents cannot stand for {len(self._population)} strata or more: take more documents, or "
                f"coarser strata (edu_score:1), or other columns"
            )
        together = keys if self._held is None else pl.concat([self._held, keys])
        ordered = together.sort(self._order).unique([_STRATUM, "id"], keep="first", maintain_order=True)
        if self._per_host is not None:
            ordered = ordered.filter(pl.int_range(pl.len()).over(_STRATUM, _SITE) < self._per_host)
        self._held = ordered.filter(pl.int_range(pl.len()).over(_STRATUM) < self._n)

    def pick(self, allocation: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the picked keys, and the table of strata with ``population`` and ``sampled``."""
        if self._held is None or not self._population:
            raise FineeduError("there is no document to sample from (none at all, or none with the scores asked for)")
        sampled, rows = self._rounds(allocation)
        table = pl.DataFrame(
            [(name, size, sampled[name]) for name, size in sorted(self._population.items())],
            schema={"stratum": pl.String, "population": pl.Int64, "sampled": pl.Int64},
            orient="row",
        )
        return self._held[rows], table

    def _rounds(self, allocation: str) -> tuple[Counter[str], list[int]]:
        """Take one document after another, each from the stratum whose turn it is; the rarest stratum first."""
        assert self._held is not None
        waiting: dict[str, list[tuple[int, str, str]]] = {}
        columns = self._held.select(_STRATUM, "id", _SITE).iter_rows()
        for row, (stratum, document, site) in enumerate(columns):
            waiting.setdefault(stratum, []).append((row, document, site))
        queues = {stratum: iter(rows) for stratum, rows in waiting.items()}
        sampled: Counter[str] = Counter()
        per_site: Counter[str] = Counter()
        taken: set[str] = set()
        rows: list[int] = []
        turns = [(0.0, size, stratum) for stratum, size in self._population.items()]
        heapq.heapify(turns)
        while turns and len(rows) < self._n:
            _, size, stratum = heapq.heappop(turns)
            for row, document, site in queues[stratum]:
                if document not in taken and (self._per_host is None or per_site[site] < self._per_host):
                    rows.append(row)
                    taken.add(document)
                    per_site[site] += 1
                    sampled[stratum] += 1
                    done = sampled[stratum]
                    turn = float(done) if allocation == "equal" else (2 * done + 1) / size
                    heapq.heappush(turns, (turn, size, stratum))
                    break
        return sampled, rows
