"""MinHash signatures of batches of texts, and what can be told from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer

#: hashes of a signature that still make sense; NeMo's 260 and marin's 286 lie far below
_MOST_HASHES = 4096


@dataclass(frozen=True, slots=True)
class MinHash:
    """How texts become signatures and signatures bands.

    Args:
        shingle: ``word`` or ``character`` n-grams.
        n: words or characters of a shingle; a shorter text is one shingle.
        bands: number of bands; two documents are candidates when all hashes of one band agree.
        rows: hashes a band.
        seed: of the permutations.

    Raises:
        FineeduError: a number is out of its range.
    """

    shingle: Literal["word", "character"] = "word"
    n: int = 5
    bands: int = 14
    rows: int = 8
    seed: int = 1

    def __post_init__(self) -> None:
        if self.shingle not in ("word", "character"):
            raise FineeduError(f"shingle: 'word' or 'character', not {self.shingle!r}")
        for name in ("n", "bands", "rows"):
            if getattr(self, name) < 1:
                raise FineeduError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.hashes > _MOST_HASHES:
            raise FineeduError(f"bands x rows = {self.hashes:,}: at most {_MOST_HASHES:,} hashes")

    @property
    def hashes(self) -> int:
        """Hashes of a signature."""
        return self.bands * self.rows

    @property
    def made_by(self) -> dict[str, Any]:
        """Everything that signatures depend on, JSON-ready."""
        from fineedu.dedup.shingles import VERSION

        return {"minhash": VERSION, **asdict(self)}

    def permutations(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return (hashes,) odd factors and (hashes,) terms of ``factor * h + term mod 2**32``."""
        draw = np.random.Generator(np.random.PCG64(self.seed))
        factors, terms = draw.integers(0, 1 << 32, (2, self.hashes), dtype=np.uint32)
        return factors | np.uint32(1), terms


#: FineWeb: word 5-grams, 14 bands of 8; half of the pairs of Jaccard .685 are found
FINEWEB = MinHash()
#: NeMo Curator's and Nemotron-CC's: character 24-grams, 20 bands of 13; half of the pairs of Jaccard .771
NEMOTRON = MinHash("character", 24, 20, 13)
PRESETS = {"fineweb": FINEWEB, "nemotron": NEMOTRON}


class Signed(NamedTuple):
    """Signatures of a batch of m texts.

    Attributes:
        signatures: (m, hashes) uint32.
        shingles: (m,) int64, how many the text has, repetitions and all; 0: none, and its signature means nothing.
        text_keys: (m,) uint64, equal for texts equal in lower case with every run of whitespace as one space.
    """

    signatures: npt.NDArray[np.uint32]
    shingles: npt.NDArray[np.int64]
    text_keys: npt.NDArray[np.uint64]

    def similarity(self, first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Estimate the Jaccard similarity of pairs of rows: the share of hashes that agree."""
        left, right = np.asarray(first), np.asarray(second)
        return np.asarray((self.signatures[left] == self.signatures[right]).mean(axis=1))


def sign(texts: pl.Series, config: MinHash = FINEWEB) -> Signed:
    """Sign a batch of texts; a null is an empty text.

    The same text gives the same signature in any batch and on any machine.

    Args:
        texts: m texts.
        config: shingles, bands and seed.
    """
    from fineedu.dedup.shingles import point_table, sign_batch

    buffer = text_buffer(texts)
    factors, terms = config.permutations()
    return Signed(
        *sign_batch(buffer.data, buffer.offsets, point_table(), config.shingle == "word", config.n, factors, terms)
    )


def band_keys(signed: Signed, config: MinHash = FINEWEB) -> npt.NDArray[np.uint64]:
    """Return (bands, m) keys: two documents are candidates where they share a key of a band.

    Two different bands share a key by chance once in 2**64 pairs.
    """
    from fineedu.dedup.shingles import fold_bands

    keys: npt.NDArray[np.uint64] = fold_bands(signed.signatures, config.bands, config.rows)
    return keys


def true_similarity(first: str, second: str, config: MinHash = FINEWEB) -> tuple[float, float]:
    """Compare two texts shingle by shingle.

    Returns:
        Jaccard similarity of the two sets of shingles, and containment: the share of the first text's shingles
        that the second has. Both 0 where a text has no shingle.
    """
    from fineedu.dedup.shingles import point_table, shingle_hashes

    buffer = text_buffer(pl.Series([first, second]))
    ours, theirs = (
        np.unique(shingle_hashes(buffer.data, start, end, point_table(), config.shingle == "word", config.n))
        for start, end in zip(buffer.offsets, buffer.offsets[1:], strict=False)
    )
    if not len(ours) or not len(theirs):
        return 0.0, 0.0
    shared = len(np.intersect1d(ours, theirs, assume_unique=True))
    return shared / (len(ours) + len(theirs) - shared), shared / len(ours)
