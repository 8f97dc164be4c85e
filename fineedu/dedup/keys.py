"""Key files: what deduplication remembers of a documents shard, in one self-describing file.

A key file holds, for every column of keys (each MinHash band, the text, the address), the keys in ascending order
with the rows that they belong to, and for every row its id and a hash of its language. It holds no text, 12 bytes a
key and about 60 a row: 230 bytes a document for 14 bands. The folder of key files is the index that later dumps are
compared with. Layout: ``docs/data-format.md``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from fineedu.errors import FineeduError
from fineedu.store import atomic_open

MAGIC = b"FEDUKEYS"
VERSION = 2
#: parts of the range of keys by their first byte: ``starts`` says where each begins
PARTS = 256
_HEAD = struct.Struct("<8sII")
_ALIGN = 64
#: bytes read at a time where a whole file is gone through
_PIECE = 1 << 20
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One column of keys of one shard.

    Attributes:
        keys: (m,) uint64, ascending; a document without a key (no word, no address) is not among them.
        rows: (m,) uint32, the rows they belong to.
    """

    keys: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, keys: npt.NDArray[np.uint64], present: npt.NDArray[np.bool_]) -> KeyColumn:
        """Sort the keys of a shard's rows; rows that have none are left out."""
        rows = np.flatnonzero(present).astype(np.uint32)
        chosen = keys[rows]
        order = np.argsort(chosen, kind="stable")
        return cls(chosen[order], rows[order])

    @property
    def starts(self) -> npt.NDArray[np.uint32]:
        """(PARTS + 1,) where the keys of each first byte begin."""
        firsts = np.arange(PARTS, dtype=np.uint64) << np.uint64(56)
        return np.append(np.searchsorted(self.keys, firsts), len(self.keys)).astype(np.uint32)


def write_key_file(
    path: Path, columns: Mapping[str, KeyColumn], rows: Mapping[str, Array], facts: Mapping[str, Any]
) -> None:
    """Write a key file whole.

    Args:
        path: where.
        columns: name to keys.
        rows: name to a value a row (or, for ``id_bytes``, the ids one after the other).
        facts: what made it, JSON-ready; must hold ``fingerprint`` and ``shard``.
    """
    sections = {f"row/{name}": values for name, values in rows.items()}
    for name, column in columns.items():
        sections |= {f"starts/{name}": column.starts, f"keys/{name}": column.keys, f"rows/{name}": column.rows}
    table: dict[str, dict[str, Any]] = {}
    at = 0
    for name, values in sections.items():
        raw = np.ascontiguousarray(values).tobytes()
        table[name] = {"dtype": values.dtype.str, "count": len(values), "at": at, "crc32": crc32(raw)}
        at += -(-values.nbytes // _ALIGN) * _ALIGN
    header = json.dumps({**facts, "columns": list(columns), "sections": table, "bytes": at}).encode()
    with atomic_open(path) as stream:
        stream.write(_HEAD.pack(MAGIC, VERSION, len(header)))
        stream.write(header.ljust(_first(len(header)) - _HEAD.size))
        for values in sections.values():
            stream.write(np.ascontiguousarray(values).tobytes())
            stream.write(b"\0" * (-values.nbytes % _ALIGN))


def _first(header_length: int) -> int:
    """Return where the sections begin."""
    return -(-(_HEAD.size + header_length) // _ALIGN) * _ALIGN


class KeyFile:
    """A key file, opened for reading.

    Raises:
        FineeduError: it is missing, cut off, not a key file, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                magic, version, length = _HEAD.unpack(stream.read(_HEAD.size))
                if magic != MAGIC:
                    raise FineeduError(f"{path} is not a key file of fineedu: delete it and run again")
                if version != VERSION:
                    raise FineeduError(f"{path} is of version {version}, this is {VERSION}: delete it and run again")
                self.facts: dict[str, Any] = json.loads(stream.read(length))
            self._at = _first(length)
            whole = self._at + self.facts["bytes"]
            if path.stat().st_size != whole:
                raise FineeduError(
                    f"{path} is cut off ({path.stat().st_size:,} of {whole:,} bytes): delete it, run again"
                )
        except (OSError, struct.error, ValueError, KeyError) as error:
            raise FineeduError(f"{path} is damaged or missing ({error}): delete it and run again") from error
        self.rows: int = self.facts["sections"]["row/id_hash"]["count"]

    def section(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Read a section, or a slice of it."""
        entry = self.facts["sections"][name]
        dtype = np.dtype(entry["dtype"])
        stop = entry["count"] if stop is None else stop
        return np.fromfile(self.path, dtype, stop - start, offset=self._at + entry["at"] + start * dtype.itemsize)

    def check(self) -> None:
        """Read everything once, a piece at a time, and compare the checksums.

        Raises:
            FineeduError: a byte has changed since it was written.
        """
        piece = memoryview(bytearray(_PIECE))
        with self.path.open("rb", buffering=0) as stream:
            for name, entry in self.facts["sections"].items():
                stream.seek(self._at + entry["at"])
                left, found = entry["count"] * np.dtype(entry["dtype"]).itemsize, 0
                while left > 0 and (read := stream.readinto(piece[: min(left, _PIECE)])):
                    found = crc32(piece[:read], found)
                    left -= read
                if found != entry["crc32"]:
                    raise FineeduError(f"{self.path} is damaged (checksum of {name}): delete it and run again")

    def ids(
        self, start: int, stop: int, with_bytes: bool = True
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return the ids of rows ``start`` to ``stop``: their bytes, and (rows + 1,) where each begins and ends."""
        ends = np.zeros(stop - start + 1, np.int64)
        ends[1 if start == 0 else 0 :] = self.section("row/id_ends", max(start - 1, 0), stop)
        raw = self.section("row/id_bytes", int(ends[0]), int(ends[-1]) if with_bytes else int(ends[0]))
        return raw, ends - ends[0]


def key_files(folder: Path) -> Iterator[Path]:
    """Yield the key files of an index, by dump and number."""
    yield from sorted(folder.glob("dump=*/*.keys"))
