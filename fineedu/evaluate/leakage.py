"""What a test must not contain: duplicates and near-duplicates of training documents, across folds too.

Near means a Jaccard similarity of the sets of word 5-grams of 0.8 or more, computed exactly: a prefix-filtered
inverted index (Chaudhuri et al. 2006; Bayardo et al. 2007, "Scaling up all pairs similarity search") finds every such
pair, where MinHash would miss some. 10,000 documents take seconds; for a whole corpus use ``fineedu dedup``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import polars as pl

NGRAM = 5
SIMILAR = 0.8
#: Texts that are compared at most: 5,000 of 7 kB took 8 s and 2 GB.
NEAR_LIMIT = 20_000


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
    sets = found.select("row", "shingle")
    common = (
        pairs.join(sets, left_on="a", right_on="row")
        .join(sets, left_on=["b", "shingle"], right_on=["row", "shingle"])
        .group_by("a", "b", "size_a", "size_b")
        .agg(common=pl.len())
    )
    jaccard = pl.col("common") / (pl.col("size_a") + pl.col("size_b") - pl.col("common"))
    near = common.select("a", "b", jaccard=jaccard).filter(pl.col("jaccard") >= threshold - 1e-9)
    return near.sort("a", "b")


def duplicate_groups(texts: pl.Series, threshold: float = SIMILAR) -> npt.NDArray[np.int64]:
    """Return the group of each text: the first row of those that chains of similar pairs connect.

    Args:
        texts: n strings; null and empty ones are each alone.
        threshold: least Jaccard similarity of word 5-grams.
    """
    parent = list(range(len(texts)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for a, b in similar_pairs(texts, threshold).select("a", "b").iter_rows():
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(row) for row in range(len(texts))], dtype=np.int64)


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
    near: bool = True,
    threshold: float = SIMILAR,
) -> Overlap:
    """Find the documents of a test that are in the training material, or nearly are.

    Args:
        ids: n ids of the test.
        texts: their texts, if known.
        training_ids: m ids of the training.
        training_texts: texts of training, if known; not only of those ids, and in any order.
        near: look for near-duplicates too, not only for equal normalised texts.
        threshold: least Jaccard similarity of word 5-grams.
    """
    same = np.isin(np.asarray(ids, dtype=object).astype(str), np.asarray(training_ids, dtype=object).astype(str))
    exact, similar = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    if texts is not None and training_texts is not None:
        own, known = normalised(texts), normalised(training_texts)
        exact = (own.is_in(known.implode()).fill_null(False) & (own.str.len_bytes() > 0).fill_null(False)).to_numpy()
        if near:
            both = pl.concat([own.rename("text"), known.rename("text")])
            pairs = similar_pairs(both, threshold).filter((pl.col("a") < len(ids)) & (pl.col("b") >= len(ids)))
            similar[pairs["a"].unique().to_numpy()] = True
    return Overlap(same, exact & ~same, similar & ~exact & ~same)
