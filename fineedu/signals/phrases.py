"""Counts of phrases from a lexicon, thousands of phrases in one pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml
from ahocorasick_rs import BytesAhoCorasick, MatchKind

from fineedu.assets import asset_dir
from fineedu.errors import FineeduError
from fineedu.signals.base import SignalFamily
from fineedu.signals.exact import one_spaced

_APOSTROPHES = r"[’‘ʼ＇]"


def _normal(phrase: str) -> str:
    return re.sub(r"\s+", " ", re.sub(_APOSTROPHES, "'", phrase.lower())).strip()


@cache
def _automaton(phrases: tuple[str, ...]) -> Any:
    # Overlapping hits all count, so a phrase within another is not hidden by it.
    return BytesAhoCorasick([phrase.encode() for phrase in phrases], matchkind=MatchKind.Standard)


_NOTHING = np.zeros(0, np.uint8)
#: Bytes that are part of a word: letters, digits and every byte of a character beyond ASCII.
_WORD_BYTE = np.array([chr(b).isalnum() or b == ord("_") or b >= 128 for b in range(256)])


def load_lexicon(lexicon: str) -> tuple[str, list[str]]:
    """Load a phrase list.

    Args:
        lexicon: name of one in ``pipelines/lexicons``, or the path of a YAML file.

    Returns:
        Prefix of its columns, and the phrases.

    Raises:
        FineeduError: no such lexicon, or it has no phrases.
    """
    folder = asset_dir("pipelines") / "lexicons"
    path = Path(lexicon) if lexicon.endswith((".yaml", ".yml")) else folder / f"{lexicon}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
        raise FineeduError(f"no lexicon {lexicon!r}: shipped are {shipped}; or give the path of a .yaml file")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        prefix, phrases = str(raw["prefix"]), [str(phrase) for phrase in raw["phrases"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise FineeduError(f"lexicon {path}: expected 'prefix' and a list 'phrases' ({error})") from error
    if not phrases or any(not _normal(phrase) for phrase in phrases):
        raise FineeduError(f"lexicon {path}: needs at least one phrase, and none may be empty")
    return prefix, phrases


class PhraseSignals(SignalFamily):
    """Occurrences of each phrase of a lexicon, and of all together.

    Args:
        lexicon: name of a shipped lexicon, or the path of a YAML file with ``prefix`` and ``phrases``.
    """

    name: ClassVar[str] = "phrases"

    def __init__(self, lexicon: str = "fineweb-proxy") -> None:
        prefix, phrases = load_lexicon(lexicon)
        self._phrases = tuple(dict.fromkeys(map(_normal, phrases)))
        self._columns = [f"{prefix}_{re.sub(r'[^a-z0-9]+', '_', phrase.replace(chr(39), '')).strip('_')}" for phrase in self._phrases]
        if len(set(self._columns)) < len(self._columns):
            raise FineeduError(f"lexicon {lexicon}: two phrases would share a column name")
        self._total = f"{prefix}_total"

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return a column a phrase, then their total."""
        return dict.fromkeys([*self._columns, self._total], pl.UInt32())

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return what the values depend on."""
        return super().fingerprint | {"phrases": sha256("\n".join(self._phrases).encode()).hexdigest()[:16]}

    def compute(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Count in a batch; a null text has null counts."""
        missing = documents["text"].is_null()
        texts = one_spaced(documents["text"].fill_null("").str.to_lowercase()).str.replace_all(_APOSTROPHES, "'")
        # The Arrow layout is the batch in one buffer already; hits across the seam of two texts are sorted out.
        arrow = texts.to_arrow()
        offsets = np.frombuffer(arrow.buffers()[1], np.int64)[arrow.offset : arrow.offset + len(texts) + 1]
        data = np.frombuffer(arrow.buffers()[2], np.uint8)[offsets[0] : offsets[-1]] if len(texts) else _NOTHING
        offsets = offsets - offsets[0]
        hits = _automaton(self._phrases).find_matches_as_indexes(data, overlapping=True)
        found = np.array(hits, dtype=np.int64).reshape(-1, 3)
        row = np.searchsorted(offsets, found[:, 1], side="right") - 1
        whole = _at_boundaries(data, found, offsets[row], offsets[row + 1]) if len(found) else np.zeros(0, np.bool_)
        width = len(self._phrases)
        counts = np.bincount((row * width + found[:, 0])[whole], minlength=len(texts) * width).reshape(-1, width)
        table = {column: counts[:, n] for n, column in enumerate(self._columns)} | {self._total: counts.sum(axis=1)}
        frame = pl.DataFrame(table, schema=dict.fromkeys(table, pl.Int64)).cast(pl.UInt32)
        return frame.select(pl.when(~missing).then(pl.all()))


def _at_boundaries(
    data: npt.NDArray[np.uint8], found: npt.NDArray[np.int64], first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Tell which hits lie in one text and start and end at a word boundary.

    Args:
        data: bytes of all texts.
        found: (hits, 3) of phrase, start and end.
        first: where the text of each hit begins.
        last: where it ends.
    """
    starts, stops = found[:, 1], found[:, 2]
    word_start, word_end = _WORD_BYTE[data[starts]], _WORD_BYTE[data[stops - 1]]
    glued_left = word_start & (starts > first) & _WORD_BYTE[data[starts - 1]]
    glued_right = word_end & (stops < last) & _WORD_BYTE[data[np.minimum(stops, len(data) - 1)]]
    return np.asarray((stops <= last) & ~glued_left & ~glued_right)
