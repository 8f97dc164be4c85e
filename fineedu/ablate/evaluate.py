"""One pass over the signals, and all figures of all cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.ablate.config import SHIFTS, AblationConfig
from fineedu.ablate.grid import Cell, neighbours
from fineedu.ablate.judge import Judge
from fineedu.ablate.labelled import Advice, Scores, Truth, advise, pareto, score
from fineedu.ablate.picks import Copies, Labelled, Samples
from fineedu.ablate.sliders import Binned, Sliders
from fineedu.ablate.source import Signals
from fineedu.ablate.tally import NAMED_HOSTS, Heaviest, Hosts, Lengths, Property, Sums, Tally, Values
from fineedu.errors import FineeduError
from fineedu.hashing import hash_ids
from fineedu.recipe import SelectConfig

Array = npt.NDArray[np.float64]
#: What is summed of every document, in this order.
MEASURES = ("documents", "tokens", "bytes", "proxy", "words")


@dataclass(frozen=True, slots=True)
class Shift:
    """How cells divide over the values of one property."""

    property: str
    column: str
    values: tuple[str, ...]
    #: (c, v) documents and tokens, and (v,) of the whole pool
    documents: Array
    tokens: Array
    pool_documents: Array
    pool_tokens: Array
    #: c Jensen-Shannon divergences in bits, by tokens: from the pool, and from the first cell; NaN of an empty cell
    from_pool: Array
    from_first: Array


@dataclass(frozen=True, slots=True)
class Ablation:
    """All that was found."""

    config: AblationConfig
    cells: tuple[Cell, ...]
    #: what the pool is, and column that each measure was taken from (None: not there)
    pool: str
    columns: dict[str, str | None]
    totals: Array
    pool_totals: Array
    jaccard: Array
    jaccard_tokens: Array
    shared: Array
    shifts: tuple[Shift, ...]
    missing_shifts: tuple[str, ...]
    #: share of copies by cell, documents looked at, and one key of how many
    copies: tuple[Array, npt.NDArray[np.int64], int] | None
    scores: Scores | None
    truth: Truth | None
    #: labelled documents that the pool holds, and the number of those that it does not
    labelled_ids: tuple[str, ...]
    not_in_pool: int
    advice: tuple[Advice, ...]
    front: npt.NDArray[np.bool_] | None
    #: (c,) share of the bootstrap in which each cell is on the front
    front_share: Array | None
    pairs: tuple[tuple[int, int], ...]
    samples: tuple[tuple[int, ...], ...]
    binned: Binned | None
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def estimated_tokens(self) -> bool:
        """Whether tokens are bytes by a constant."""
        return self.columns["tokens"] != "n_tokens"

    def shown(self, most: int) -> list[int]:
        """Return numbers of cells to show: all, or of more than ``most`` the recommended, the front, then the first."""
        if len(self.cells) <= most:
            return list(range(len(self.cells)))
        picked = [advice.cell for advice in self.advice if advice.cell is not None]
        front = [] if self.front is None else np.flatnonzero(self.front).tolist()
        return list(dict.fromkeys([*picked, *front, *range(len(self.cells))]))[:most]

    @property
    def proxy_rate(self) -> Array:
        """Proxy phrases a million words, NaN where it cannot be told."""
        words: Array = self.totals[:, 4]
        if self.columns["proxy"] is None or self.columns["words"] is None:
            return np.full(len(words), np.nan)
        found: Array = np.divide(self.totals[:, 3] * 1e6, words, out=np.full(len(words), np.nan), where=words > 0)
        return found


@dataclass(slots=True)
class _Columns:
    """Which column tells what."""

    measures: dict[str, str | None]
    properties: dict[str, str]
    copies: str | None

    @property
    def all(self) -> list[str]:
        found = [*self.measures.values(), *self.properties.values(), self.copies]
        return list(dict.fromkeys(column for column in found if column is not None))


def _find_columns(config: AblationConfig, signals: Signals) -> _Columns:
    schema = signals.schema

    def first(*names: str) -> str | None:
        return next((name for name in names if name in schema), None)

    size = first("text_bytes", "n_bytes")
    tokens = first("n_tokens") or size
    if tokens is None:
        raise FineeduError(f"{signals.pool.root} has none of n_tokens, text_bytes, n_bytes: no cell's size can be told")
    measures = {"documents": None, "tokens": tokens, "bytes": size, "proxy": first("proxy_total")}
    measures["words"] = first("n_words", "gopher_words")
    properties: dict[str, str] = {name: found for name in config.shifts if (found := first(*SHIFTS[name])) is not None}
    if config.copies is not None and config.copies not in schema:
        raise FineeduError(f"copies: no column {config.copies!r}; there are {', '.join(sorted(schema))}")
    return _Columns(measures, properties, config.copies or first("dup_cluster", "exact_key"))


def _properties(columns: _Columns, signals: Signals) -> dict[str, Property]:
    found: dict[str, Property] = {}
    for name, column in columns.properties.items():
        if name == "host":
            heaviest = Heaviest(NAMED_HOSTS)
            for batch in signals.batches([column]):
                heaviest.update(batch[column])
            found[name] = Hosts(heaviest.names())
        else:
            found[name] = Lengths() if name == "length" else Values()
    return found


def _measured(batch: pl.DataFrame, columns: _Columns, bytes_per_token: float) -> Array:
    """Return (n, 5) measures of documents; a missing one counts 0."""
    found = np.zeros((batch.height, len(MEASURES)))
    found[:, 0] = 1
    for at, name in enumerate(MEASURES[1:], 1):
        column = columns.measures[name]
        if column is not None:
            found[:, at] = batch[column].cast(pl.Float64).fill_null(0).to_numpy()
    if columns.measures["tokens"] != "n_tokens":
        found[:, 1] = np.rint(found[:, 1] / bytes_per_token)
    return found


class _Pass:
    """Everything that one pass over the pool fills."""

    def __init__(
        self,
        config: AblationConfig,
        judge: Judge,
        cells: Sequence[Cell],
        selects: Sequence[SelectConfig],
        signals: Signals,
        truth: Truth | None,
    ) -> None:
        self.config, self.judge, self.signals = config, judge, signals
        self.columns = _find_columns(config, signals)
        self.properties = _properties(self.columns, signals)
        self.tally = Tally(judge, len(MEASURES), self.properties)
        self.pairs = neighbours(cells)
        self.samples = Samples(judge, self.pairs, config.samples)
        self.labelled = Labelled(judge, pl.Series([], dtype=pl.String) if truth is None else truth.table["id"])
        self.copies = Copies(judge)
        self.sliders = Sliders(selects, config.sliders, signals.schema)
        self.codes: dict[str, tuple[int, ...]] = {}

    def run(self) -> None:
        """Read the pool."""
        wanted = ["id", *self.judge.columns, *self.columns.all, *self.sliders.columns]
        first = 0
        for batch in self.signals.batches(list(dict.fromkeys(wanted))):
            if self.tally.full:
                self._flush()
            self._update(batch, first)
            first += batch.height
        self._flush()
        if not first:
            raise FineeduError(f"{self.signals.pool.root} has no documents")

    def _flush(self) -> None:
        self.samples.flush()
        self.copies.flush()
        self.tally.flush()

    def _update(self, batch: pl.DataFrame, first: int) -> None:
        members = self.judge.memberships(batch)
        measures = _measured(batch, self.columns, self.config.bytes_per_token)
        codes = {name: self.properties[name].codes(batch[column]) for name, column in self.columns.properties.items()}
        self.tally.update(members, measures, codes)
        hashes = hash_ids(batch["id"])
        dice = hash_ids(batch["id"], self.config.seed + 1)
        rows = np.arange(first, first + batch.height)
        self.samples.update(members, dice, rows)
        for at in self.labelled.update(members, batch, hashes, first):
            if self.sliders.controls:
                code = self.sliders.codes_of(batch[at])[0]
                if code is not None:
                    self.codes[batch["id"][at]] = code
        if self.columns.copies is not None:
            self.copies.update(members, batch[self.columns.copies])
        self.sliders.update(batch, measures[:, 1], dice, rows)


def run_cells(
    config: AblationConfig,
    cells: Sequence[Cell],
    selects: Sequence[SelectConfig],
    signals: Signals,
    truth: Truth | None = None,
) -> Ablation:
    """Evaluate all cells.

    The pool is read once; before that once for its hosts' names where hosts are asked for, and once (with a cap, twice)
    where cells have shares, budgets or mixtures to cut. Memory does not grow with the pool.

    Args:
        config: the ablation.
        cells: of its grid.
        selects: what each keeps, in columns of ``signals``.
        signals: the pool.
        truth: labels, where there are any.

    Raises:
        FineeduError: a rule is wrong, or a column is missing.
    """
    judge = Judge([cell.name for cell in cells], selects, signals)
    work = _Pass(config, judge, cells, selects, signals, truth)
    work.run()
    sums = work.tally.finish()
    kept = np.diag(sums.documents).copy()
    notes = _notes(work)
    ids, keeps, _ = work.labelled.table()
    scores, absent = _scored(config, truth, ids, keeps)
    tokens = sums.totals[:, 1]
    front, front_share = _front(scores, tokens)
    return Ablation(
        config=config,
        cells=tuple(cells),
        pool=signals.pool.root,
        columns=work.columns.measures | {"copies": work.columns.copies},
        totals=sums.totals,
        pool_totals=sums.pool,
        jaccard=_jaccard(sums.documents),
        jaccard_tokens=_jaccard(sums.tokens),
        shared=sums.documents,
        shifts=tuple(_shift(name, work, sums) for name in work.properties),
        missing_shifts=tuple(name for name in config.shifts if name not in work.properties),
        copies=None if work.columns.copies is None else work.copies.shares(),
        scores=scores,
        truth=truth,
        labelled_ids=tuple(ids),
        not_in_pool=absent,
        advice=() if scores is None else tuple(advise(rule, scores, tokens) for rule in config.recommend),
        front=front,
        front_share=front_share,
        pairs=tuple(work.pairs),
        samples=tuple(tuple(rows) for rows in work.samples.rows()),
        binned=work.sliders.finish(work.codes),
        left_out=work.sliders.left_out,
        notes=(
            *notes,
            *(f"cell {cell.name!r} keeps nothing" for cell, n in zip(cells, kept, strict=True) if not n),
        ),
    )


def _front(scores: Scores | None, tokens: Array) -> tuple[npt.NDArray[np.bool_] | None, Array | None]:
    """Tell which cells are on the Pareto front of tokens and precision, and in which share of the resamples."""
    if scores is None:
        return None, None
    precision = np.array([np.nan if found.value is None else found.value for found in scores.precision])
    return pareto(tokens, precision), pareto(tokens, scores.precision_draws).mean(axis=0)


def _notes(work: _Pass) -> list[str]:
    found = []
    columns = work.columns.measures
    if columns["tokens"] != "n_tokens":
        found.append(
            f"tokens are estimated: {columns['tokens']} / {work.config.bytes_per_token:g} (there is no column n_tokens)"
        )
    gone = [name for name in work.config.shifts if name not in work.properties]
    if gone:
        found.append(f"not told, there being no column for it: shift by {', '.join(gone)}")
    if columns["proxy"] is None or columns["words"] is None:
        found.append("not told: the proxy rate, which needs the signals phrases and heuristics")
    if work.columns.copies is None:
        found.append("not told: copies, which need the signal exact, or a deduplication")
    return found


def _scored(
    config: AblationConfig, truth: Truth | None, ids: list[str], keeps: npt.NDArray[np.bool_]
) -> tuple[Scores | None, int]:
    """Measure against labels; None where the pool holds no labelled document."""
    if truth is None:
        return None, 0
    table = truth.table.filter(pl.col("id").is_in(ids)).unique("id", keep="first").sort("id")
    absent = truth.table["id"].n_unique() - table.height
    if not table.height:
        return None, absent
    found = score(
        keeps,
        table["positive"].to_numpy(),
        table["weight"].cast(pl.Float64).to_numpy(),
        table["stratum"].to_list(),
        weighted=truth.weighted,
        seed=config.seed,
        count=config.resamples,
    )
    return found, absent


def _jaccard(shared: Array) -> Array:
    size = np.diag(shared)
    union = size[:, None] + size[None, :] - shared
    found: Array = np.divide(shared, union, out=np.full(shared.shape, np.nan), where=union > 0)
    return found


def _divergence(parts: Array, whole: Array) -> Array:
    """Return c Jensen-Shannon divergences in bits of (c, v) weights from v weights; NaN where either is empty."""
    from scipy.special import rel_entr

    with np.errstate(invalid="ignore", divide="ignore"):
        p = parts / parts.sum(axis=1, keepdims=True)
        q = whole / whole.sum()
    middle = (p + q) / 2
    found: Array = (rel_entr(p, middle).sum(axis=1) + rel_entr(q[None, :], middle).sum(axis=1)) / (2 * np.log(2))
    return found


def _shift(name: str, work: _Pass, sums: Sums) -> Shift:
    documents, tokens = sums.by[name]
    pool_documents, pool_tokens = sums.pool_by[name]
    names = work.properties[name].names
    # Buckets of hosts count for the divergence, and are one line of the table.
    distinct = list(dict.fromkeys(names))
    number = np.array([distinct.index(value) for value in names] if len(distinct) < len(names) else range(len(names)))
    used = len(names)

    def by_name(table: Array) -> Array:
        ones = np.zeros((used, len(distinct)))
        ones[np.arange(used), number] = 1
        found: Array = table[..., :used] @ ones
        return found

    return Shift(
        name,
        work.columns.properties[name],
        tuple(distinct),
        by_name(documents),
        by_name(tokens),
        by_name(pool_documents),
        by_name(pool_tokens),
        _divergence(tokens, pool_tokens),
        _divergence(tokens, tokens[0]),
    )
