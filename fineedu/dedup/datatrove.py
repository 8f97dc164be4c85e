"""datatrove's MinHash files: its signatures bit for bit, and its removals from anybody's signatures.

For who has half a corpus signed with datatrove, or runs its later stages: ``write_signatures`` gives what
``MinhashDedupSignature`` gives with its defaults (English, 14 x 8, 64-bit XXH64), and ``cluster_signatures`` does the
work of its stages 2 and 3 on such files within a limit of memory, for its ``MinhashDedupFilter``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from shutil import rmtree

import numpy as np
import numpy.typing as npt
import polars as pl
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from fineedu.dedup.cluster import lay_out, link
from fineedu.dedup.keys import KeyColumn, write_key_file
from fineedu.dedup.memory import Memory
from fineedu.errors import FineeduError
from fineedu.kernels.arrow import text_buffer
from fineedu.signals.heuristics import N_CODE_POINTS, symbol_points, tables
from fineedu.store import Shard, atomic_open

_PRIME = (1 << 61) - 1
_BATCH = 512
_NUMBER = r"\p{Nd}+(?:[.,،٫⎖⎗⎘]\p{Nd}+)?"


def _set(points: Iterable[int]) -> str:
    """Return a character class of code points, as ranges."""
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\x{{{low:x}}}-\\x{{{high:x}}}" for low, high in ranges)


@cache
def _patterns() -> tuple[str, str]:
    """Return what matches a run of punctuation or space, and a diacritic, by Python's own tables.

    Python and the regular expressions' library follow different versions of Unicode: the latter's classes would not do.
    """
    points = [point for point in range(N_CODE_POINTS) if not 0xD800 <= point <= 0xDFFF]
    blanks = sorted({*symbol_points().tolist(), *(point for point in points if chr(point).isspace())})
    marks = _set(point for point in points if unicodedata.category(chr(point)) == "Mn")
    return f"[{_set(blanks)}]+", f"[{marks}]+"


def simplify(texts: pl.Series) -> pl.Series:
    """Return what datatrove's ``simplify_text`` makes of texts by default: what its words are taken from.

    Lower case, numbers as 0, its list of punctuation as spaces, single spaces, no diacritics. A null is an empty text.
    """
    blank, mark = _patterns()
    lower = pl.Series([(text or "").lower() for text in texts], dtype=pl.String)
    plain = lower.str.replace_all(_NUMBER, "0").str.replace_all(blank, " ").str.strip_chars(" ")
    apart = [text if text.isascii() else unicodedata.normalize("NFD", text) for text in plain]
    return pl.Series(apart, dtype=pl.String).str.replace_all(mark, "").str.strip_chars()


def permutations(bands: int, rows: int, seed: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the (bands * rows,) factors and terms that datatrove draws."""
    draw = np.random.RandomState(seed)
    factors = draw.randint(1, _PRIME, dtype=np.uint64, size=bands * rows)
    terms = draw.randint(0, _PRIME, dtype=np.uint64, size=bands * rows)
    return factors, terms


def datatrove_signatures(
    texts: pl.Series, n: int = 5, bands: int = 14, rows: int = 8, seed: int = 1
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Sign texts as ``MinhashDedupSignature`` does.

    Returns:
        (m, bands * rows) uint64 signatures, and (m,) shingles of each text: with none it has no signature.
    """
    from fineedu.dedup.datatrove_kernels import sign_simplified

    buffer = text_buffer(simplify(texts))
    signatures, counts = sign_simplified(buffer.data, buffer.offsets, tables(), n, *permutations(bands, rows, seed))
    return signatures, counts


def _records(rows: int, precision: int = 64) -> np.dtype[np.void]:
    return np.dtype([*((f"field{n + 1}", f"<u{precision // 8}") for n in range(rows)), (f"field{rows + 1}", "<u4")])


def write_signatures(
    texts: Iterable[str], folder: Path, rank: int, n: int = 5, bands: int = 14, rows: int = 8, seed: int = 1
) -> int:
    """Write one rank's ``bucket_BBB/RRRRR.minhash.sig`` files, as datatrove's stage 1 leaves them.

    Args:
        texts: the rank's documents, in its reader's order.
        folder: its output folder.
        rank: its number.
        n: words of a shingle.
        bands: datatrove's ``num_buckets``.
        rows: its ``hashes_per_bucket``.
        seed: its seed.

    Returns:
        How many documents have a signature. Memory: 900 bytes a document.
    """
    found: list[npt.NDArray[np.uint64]] = []
    places: list[npt.NDArray[np.int64]] = []
    stream, seen = iter(texts), 0
    while batch := list(islice(stream, _BATCH)):
        signatures, counts = datatrove_signatures(pl.Series(batch, dtype=pl.String), n, bands, rows, seed)
        found.append(signatures[counts > 0])
        places.append(np.flatnonzero(counts > 0) + seen)
        seen += len(batch)
    whole = np.concatenate([np.zeros((0, bands * rows), np.uint64), *found])
    index = np.concatenate([np.zeros(0, np.int64), *places])
    for band in range(bands):
        records = np.zeros(len(whole), _records(rows))
        for row in range(rows):
            records[f"field{row + 1}"] = whole[:, band * rows + row]
        records[f"field{rows + 1}"] = index
        order = np.lexsort([records[name] for name in reversed(records.dtype.names or ())])
        with atomic_open(folder / f"bucket_{band:03d}" / f"{rank:05d}.minhash.sig") as out:
            out.write(records[order].tobytes())
    return len(whole)


class WriteSignatures(PipelineStep):  # type: ignore[misc]
    """Stage 1 for a datatrove pipeline, in place of ``MinhashDedupSignature``: the same files.

    Args:
        output_folder: folder of the signatures.
        n: words of a shingle.
        bands: datatrove's ``num_buckets``.
        rows: its ``hashes_per_bucket``.
        seed: its seed.
    """

    name = "minhash signatures"
    type = "fineedu"

    def __init__(self, output_folder: str | Path, n: int = 5, bands: int = 14, rows: int = 8, seed: int = 1) -> None:
        super().__init__()
        self.output_folder = Path(output_folder)
        self.settings = (n, bands, rows, seed)

    def run(self, data: Iterable[Document], rank: int = 0, world_size: int = 1) -> None:
        """Sign this rank's documents."""
        with self.track_time():
            signed = write_signatures((document.text for document in data), self.output_folder, rank, *self.settings)
        self.stat_update("signed", value=signed)


def _read_band(path: Path, rows: int, precision: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Return band keys and places of one signature file.

    Raises:
        FineeduError: it does not hold whole records in order: it was cut off, or written with other settings.
    """
    from fineedu.dedup.shingles import fold_band_values

    record = _records(rows, precision)
    if path.stat().st_size % record.itemsize:
        raise FineeduError(
            f"{path} holds no whole records of {rows} hashes of {precision} bits: it is cut off, or its settings differ"
        )
    records = np.fromfile(path, record)
    values = np.column_stack([records[f"field{row + 1}"].astype(np.uint64) for row in range(rows)])
    if len(records) and (values[:, 0][1:] < values[:, 0][:-1]).any():
        raise FineeduError(
            f"{path} is out of order: it was damaged, or written with other settings; sign its rank again"
        )
    return fold_band_values(values), records[f"field{rows + 1}"].astype(np.uint32)


def cluster_signatures(
    signatures: Path, output: Path, bands: int = 14, rows: int = 8, memory_mb: int = 4000, precision: int = 64
) -> dict[str, int]:
    """Do the work of datatrove's stages 2 and 3 on its signature files, ours or its own.

    The first document of each cluster, by file and place, stays. (datatrove keeps the root of its union-find, which
    depends on the order of its matches; the clusters are the same.)

    Args:
        signatures: folder with ``bucket_000/00000.minhash.sig`` ...
        output: gets ``RRRRRR.remove``, ``.clusters`` and ``.sizes``, as stage 4 reads them.
        bands: datatrove's ``num_buckets``.
        rows: its ``hashes_per_bucket``.
        memory_mb: memory that this process may take.
        precision: bits of its hash, 64 or 32.

    Returns:
        Documents in clusters, clusters, and documents to remove.

    Raises:
        FineeduError: files are missing, cut off, out of order or of other settings; or memory does not suffice.
    """
    from fineedu.dedup.linking import ALONE

    names = sorted(path.name for path in (signatures / "bucket_000").glob("*.minhash.sig"))
    if not names:
        raise FineeduError(f"no signature files in {signatures / 'bucket_000'}")
    work = output / "keys"
    files = [_as_keys(signatures, name, work, bands, rows, precision) for name in names]
    parts = lay_out(files)
    found = link(parts, [f"band{n:03d}" for n in range(bands)], [0] * bands, "global", Memory(memory_mb))
    label: npt.NDArray[np.int64] = np.full(len(found.sizes), -1)
    counts = {"duplicates": 0, "clusters": len(found.sizes), "to_remove": 0}
    for part in parts:
        number = found.number[part.base : part.base + part.rows]
        places = np.flatnonzero(number != ALONE)
        own = number[places]
        _, first = np.unique(own, return_index=True)
        fresh = np.zeros(len(own), np.bool_)
        fresh[first] = label[own[first]] < 0
        label[own[fresh]] = 0
        counts["duplicates"] += len(places)
        counts["to_remove"] += int((~fresh).sum())
        _write_pairs(output / f"{part.shard.index:06d}", places, own, found.sizes[own], ~fresh)
    rmtree(work)
    return counts


def _as_keys(
    signatures: Path, name: str, work: Path, bands: int, rows: int, precision: int
) -> tuple[Path, Shard, bool]:
    columns: dict[str, KeyColumn] = {}
    most = 0
    for band in range(bands):
        path = signatures / f"bucket_{band:03d}" / name
        if not path.exists():
            raise FineeduError(f"{path} is missing: sign its rank again")
        keys, places = _read_band(path, rows, precision)
        order = np.argsort(keys, kind="stable")
        columns[f"band{band:03d}"] = KeyColumn(keys[order], places[order])
        most = max(most, int(places.max()) + 1 if len(places) else 0)
    index = int(name.partition(".")[0])
    target, shard = work / f"{index:05d}.keys", Shard("datatrove", index)
    facts = {"fingerprint": "datatrove", "shard": str(shard)}
    write_key_file(target, columns, {"id_hash": np.zeros(most, np.uint64)}, facts)
    return target, shard, True


def _write_pairs(
    stem: Path, places: npt.NDArray[np.int64], clusters: npt.NDArray[np.uint32], sizes: npt.NDArray[np.uint32],
    gone: Sequence[bool] | npt.NDArray[np.bool_],
) -> None:  # fmt: skip
    """Write what stage 4 reads of one file; nothing where it has no duplicate."""
    if not len(places):
        return
    for suffix, values in (("clusters", clusters), ("sizes", sizes)):
        with atomic_open(stem.with_suffix(f".{suffix}")) as stream:
            stream.write(np.column_stack([places, values]).astype("<u4").tobytes())
    if np.any(gone):
        with atomic_open(stem.with_suffix(".remove")) as stream:
            stream.write(places[gone].astype("<u4").tobytes())
