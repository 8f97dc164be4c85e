"""What a test must not contain: duplicates and near-duplicates of training documents, across folds too.

Near means a Jaccard similarity of the sets of word 5-grams of 0.8 or more, computed exactly. Up to ``EXACT_LIMIT``
texts, a prefix-filtered inverted index (Chaudhuri et al. 2006; Bayardo et al. 2007, "Scaling up all pairs similarity
search") finds every such pair. Beyond that, MinHash finds the candidates in time that grows with the number of texts:
with 32 bands of 4 it misses one pair of similarity 0.8 in 20 million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.dedup.signature import MinHash, band_keys, sign

NGRAM = 5
SIMILAR = 0.8
#: Different texts from which on MinHash finds the candidates: 5,000 of 7 kB took the index 8 s and 2 GB.
EXACT_LIMIT = 20_000
#: 1 - (1 - .8**4)**32 = 1 - 5e-8 of the pairs of similarity .8 share a band, and 56 % of those of .4
_BANDS = MinHash(n=NGRAM, bands=32, rows=4)
#: texts signed, and candidates compared, at once
_BATCH = 20_000
#: A text is compared with so many others of one band at most: a template that thousands share must not cost millions.
_MOST = 32


def normalised(texts: pl.Series) -> pl.Series:
    """Return texts lower-cased, in Unicode NFKC, everything but letters and digits as one space."""
    return (
        texts.cast(pl.String)
        .str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
        .str.strip_chars()
    )


def shingles(texts: pl.Series) -> pl.DataFrame:
    """Return the distinct word 5-grams of texts; a shorter text is one shingle of all its words.

    Args:
        texts: n strings; null and empty ones have no shingles.

    Returns:
        ``row`` (0 to n - 1) and ``shingle`` (64-bit hash), each pair once.
    """
    words = (
        pl.DataFrame({"text": normalised(texts)})
        .with_row_index("row")
        .filter(pl.col("text").str.len_bytes() > 0)
        .with_columns(word=pl.col("text").str.split(" "))
        .drop("text")
        .explode("word", empty_as_null=True)
        .with_columns(place=pl.int_range(pl.len()).over("row"), words=pl.len().over("row"))
    )
    # Only a text shorter than a shingle could reach into the next one: there the words beyond its end are null.
    grams = words.with_columns(
        pl.when(pl.col("place") + k < pl.col("words")).then(pl.col("word").shift(-k)).alias(f"word{k}")
        for k in range(1, NGRAM)
    )
    inside = pl.col("place") <= (pl.col("words") - NGRAM).clip(0)
    parts = ["word", *(f"word{k}" for k in range(1, NGRAM))]
    return (
        grams.filter(inside)
        .select("row", shingle=pl.concat_str(parts, separator=" ", ignore_nulls=True).hash(seed=7))
        .unique(maintain_order=True)
    )


def similar_pairs(texts: pl.Series, threshold: float = SIMILAR) -> pl.DataFrame:
    """Return every pair of texts that are duplicates or near-duplicates.

    Args:
        texts: n strings.
        threshold: least Jaccard similarity of the sets of word 5-grams, above 0.

    Returns:
        ``a``, ``b`` (rows, a < b) and ``jaccard``, ordered.
    """
    found = shingles(texts)
    found = found.with_columns(
        size=pl.len().over("row"), among=pl.len().over("shingle"), row=pl.col("row").cast(pl.Int64)
    )
    # Two sets of similarity t share one of the first size - ceil(t * size) + 1 in any common order: rarest first.
    ordered = found.sort("row", "among", "shingle").with_columns(place=pl.int_range(pl.len()).over("row"))
    # A trifle off the product: 0.8 * 5 must not need 5 common shingles for a rounding error.
    needed = (pl.col("size") * threshold - 1e-9).ceil()
    prefix = ordered.filter((pl.col("place") <= pl.col("size") - needed) & (pl.col("among") > 1))
    prefix = prefix.select("row", "shingle", "size")
    # Sets whose sizes differ by more than the threshold cannot be similar enough.
    close = pl.min_horizontal("size", "size_b") >= threshold * pl.max_horizontal("size", "size_b") - 1e-9
    pairs = (
        prefix.join(prefix, on="shingle", suffix="_b")
        .filter((pl.col("row") < pl.col("row_b")) & close)
        .select(a="row", b="row_b", size_a="size", size_b="size_b")
        .unique()
    )
    return _measured(pairs, found.select("row", "shingle"), threshold)


def _measured(pairs: pl.DataFrame, sets: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Return the pairs (``a``, ``b``, ``size_a``, ``size_b``) that are similar enough, with their ``jaccard``."""
    common = (
        pairs.join(sets, left_on="a", right_on="row")
        .join(sets, left_on=["b", "shingle"], right_on=["row", "shingle"])
        .group_by("a", "b", "size_a", "size_b")
        .agg(common=pl.len())
    )
    jaccard = pl.col("common") / (pl.col("size_a") + pl.col("size_b") - pl.col("common"))
    near = common.select("a", "b", jaccard=jaccard).filter(pl.col("jaccard") >= threshold - 1e-9)
    return near.sort("a", "b")


def candidate_pairs(texts: pl.Series, threshold: float = SIMILAR) -> pl.DataFrame:
    """Return the pairs of similar texts that MinHash finds, each compared shingle by shingle, in linear time.

    Args:
        texts: n different strings.
        threshold: least Jaccard similarity of the sets of word 5-grams.

    Returns:
        ``a``, ``b`` (rows, a < b) and ``jaccard``, ordered. Of a band that more than 32 texts share, each is compared
        with the 32 before it.
    """
    cleaned = normalised(texts)
    keys = np.empty((_BANDS.bands, len(texts)), np.uint64)
    for start in range(0, len(texts), _BATCH):
        signed = sign(cleaned[start : start + _BATCH], _BANDS)
        keys[:, start : start + _BATCH] = band_keys(signed, _BANDS)
    there = np.flatnonzero((cleaned.str.len_bytes() > 0).fill_null(False).to_numpy())
    # Texts of one key are put in the order of their contents: which are compared must not depend on the rows.
    contents = cleaned.hash(seed=7).to_numpy()[there]
    codes = np.unique(np.concatenate([_neighbours(band[there], contents, there, len(texts)) for band in keys]))
    parts = [_compared(cleaned, codes[start : start + _BATCH], threshold) for start in range(0, len(codes), _BATCH)]
    none = pl.DataFrame(schema={"a": pl.Int64, "b": pl.Int64, "jaccard": pl.Float64})
    return pl.concat([none, *parts]).sort("a", "b")


def _neighbours(
    keys: npt.NDArray[np.uint64], contents: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.int64]:
    """Return ``a * size + b`` for rows a < b that share a key, at most ``_MOST`` places apart among those."""
    order = np.lexsort((contents, keys))
    keys, rows = keys[order], rows[order]
    found = []
    for step in range(1, _MOST + 1):
        same = keys[step:] == keys[:-step]
        if not same.any():
            break
        a, b = rows[:-step][same], rows[step:][same]
        found.append(np.minimum(a, b) * size + np.maximum(a, b))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)


def _compared(texts: pl.Series, codes: npt.NDArray[np.int64], threshold: float) -> pl.DataFrame:
    """Compare candidates (``a * n + b``) by the shingles of the texts that they name."""
    first, second = np.divmod(codes, len(texts))
    named = np.unique(np.concatenate([first, second]))
    sets = shingles(texts[named]).with_columns(pl.col("row").cast(pl.Int64))
    sizes = np.bincount(sets["row"].to_numpy(), minlength=len(named))
    near, far = np.searchsorted(named, first), np.searchsorted(named, second)
    pairs = pl.DataFrame({"a": near, "b": far, "size_a": sizes[near], "size_b": sizes[far]})
    found = _measured(pairs, sets, threshold)
    return found.with_columns(a=pl.Series(named[found["a"].to_numpy()]), b=pl.Series(named[found["b"].to_numpy()]))


def _different(texts: pl.Series) -> tuple[npt.NDArray[np.int64], pl.Series]:
    """Return for each text the number of its content (-1: none), and the normalised contents."""
    cleaned = normalised(texts).fill_null("")
    table = pl.DataFrame({"text": cleaned})
    contents = table.unique(maintain_order=True).filter(pl.col("text") != "").with_row_index("number")
    numbers = table.join(contents, on="text", how="left", maintain_order="left")["number"].cast(pl.Int64)
    return numbers.fill_null(-1).to_numpy(), contents["text"]


def near_pairs(texts: pl.Series, threshold: float = SIMILAR) -> pl.DataFrame:
    """Return the pairs of n different texts that are near-duplicates: all of them, or beyond a limit by MinHash."""
    return (similar_pairs if len(texts) <= EXACT_LIMIT else candidate_pairs)(texts, threshold)


def duplicate_groups(texts: pl.Series, threshold: float = SIMILAR) -> npt.NDArray[np.int64]:
    """Return the group of each text: the first row of those that chains of similar pairs connect.

    Args:
        texts: n strings; null and empty ones are each alone.
        threshold: least Jaccard similarity of word 5-grams.
    """
    numbers, contents = _different(texts)
    parent = list(range(len(contents)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for a, b in near_pairs(contents, threshold).select("a", "b").iter_rows():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    # Contents are numbered as they first occur, so the least of a group is the content of its first row.
    known, rows = np.unique(numbers, return_index=True)
    first = dict(zip(known.tolist(), rows.tolist(), strict=True))
    groups = [row if number < 0 else first[root(number)] for row, number in enumerate(numbers.tolist())]
    return np.array(groups, dtype=np.int64)


def assign_folds(groups: Sequence[str], folds: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return the fold of each row by a hash of its group's name: no group is torn, whatever else is in the table.

    Args:
        groups: n names, of hosts or of duplicate groups (see :func:`group_names`).
        folds: how many.
        seed: another one, another assignment.
    """
    place = {
        name: int.from_bytes(blake2b(f"{seed}:{name}".encode(errors="surrogatepass"), digest_size=8).digest()) % folds
        for name in set(groups)
    }
    return np.array([place[name] for name in groups], dtype=np.int64)


def group_names(ids: Sequence[str], texts: pl.Series, threshold: float = SIMILAR) -> list[str]:
    """Return a name for each row's duplicate group: the least id in it, so that the order of rows cannot matter."""
    names: dict[int, str] = {}
    groups = duplicate_groups(texts, threshold).tolist()
    for group, name in zip(groups, ids, strict=True):
        names[group] = min(name, names.get(group, name))
    return [names[group] for group in groups]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which test documents are known from training, and by what; each row in the first that holds."""

    same_id: npt.NDArray[np.bool_]
    exact: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]

    @property
    def any(self) -> npt.NDArray[np.bool_]:
        """Rows that are known in any way."""
        return self.same_id | self.exact | self.near


def training_overlap(
    ids: Sequence[str],
    texts: pl.Series | None,
    training_ids: Sequence[str],
    training_texts: pl.Series | None,
    *,
    threshold: float = SIMILAR,
) -> Overlap:
    """Find the documents of a test that are in the training material, or nearly are.

    Args:
        ids: n ids of the test.
        texts: their texts, if known.
        training_ids: m ids of the training.
        training_texts: texts of training, if known; not only of those ids, and in any order.
        threshold: least Jaccard similarity of word 5-grams.
    """
    same = np.isin(np.asarray(ids, dtype=object).astype(str), np.asarray(training_ids, dtype=object).astype(str))
    exact, similar = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    if texts is not None and training_texts is not None:
        numbers, contents = _different(pl.concat([texts.cast(pl.String).rename("text"), training_texts.rename("text")]))
        # The last place takes the texts without content.
        known = np.zeros(len(contents) + 1, bool)
        known[numbers[len(ids) :]] = True
        known[-1] = False
        pairs = near_pairs(contents, threshold)
        a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
        close = np.zeros(len(known), bool)
        close[a[known[b]]] = close[b[known[a]]] = True
        exact, similar = known[numbers[: len(ids)]], close[numbers[: len(ids)]]
    return Overlap(same, exact & ~same, similar & ~exact & ~same)
