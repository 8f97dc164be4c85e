from __future__ import annotations

import gzip
import json
import random
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st

from fineedu.dedup.datatrove import (
    WriteSignatures,
    cluster_signatures,
    datatrove_signatures,
    simplify,
    write_signatures,
)
from fineedu.errors import FineeduError
from tests.dedup.stores import mixed_texts

pytest.importorskip("spacy", reason="datatrove's English words need spaCy")
pytest.importorskip("regex", reason="datatrove's text functions need regex")

from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import simplify_text

ODD = [
    "",
    "two words",
    "I can't, won't and don't! You're 3.14 times (or 1,000) “better” – he said: e.g. U.S.A. 10km",
    "Ünïcödé naïve façade ÀÉÎ \u0130stanbul \u1e9e ẞ ﬁ ① ½ Ⅷ ٣٫٥ १२३ 漢字 \U0001f600 ok then some more words",
    "tab\tand\nnewline\r\nand\x0bvertical\x1c and \u00a0nbsp \u2028 sep \u200b zero width",
    "cannot gonna gotta lemme dont cant id im ive well shell hell were its thats whats " * 3,
    "x" * 4000 + " a b c d e f",
]


def theirs(texts: list[str], folder: Path, rank: int = 0) -> MinhashDedupSignature:
    step = MinhashDedupSignature(str(folder))
    step.run((Document(text=text, id=str(n)) for n, text in enumerate(texts)), rank)
    return step


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@given(st.text(max_size=80))
def test_simplified_as_theirs(text: str) -> None:
    assert simplify(pl.Series([text]))[0] == simplify_text(text)


def test_every_character_is_simplified_as_theirs() -> None:
    # The `regex` package knows digits of a later Unicode than Python: characters that Python does not know may differ.
    known = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) not in ("Cn", "Cs", "Co")]
    texts = [f"a{character}b {character}" for character in known]
    ours = simplify(pl.Series(texts)).to_list()
    differing = [text for text, own in zip(texts, ours, strict=True) if own != simplify_text(text)]
    assert differing == []


@given(st.lists(st.text(max_size=40), max_size=4))
def test_signed_as_theirs(parts: list[str]) -> None:
    step = MinhashDedupSignature("/nowhere")
    text = " and then some plain words ".join(parts)
    shingles = step.get_shingles(text)
    ours, counts = datatrove_signatures(pl.Series([text]))
    assert counts[0] == len(shingles)
    if len(shingles):
        assert np.concatenate(step.get_signature(shingles)).tolist() == ours[0].tolist()


def test_files_are_theirs_bit_for_bit(tmp_path: Path) -> None:
    texts = [*ODD, *mixed_texts(40), "", "short one"]
    theirs(texts, tmp_path / "theirs", 3)
    assert write_signatures(iter(texts), tmp_path / "ours", 3) == len(texts) - 4
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert len(files(tmp_path / "ours")) == 14


def test_files_of_real_pages_are_theirs_bit_for_bit(real_data: Path, tmp_path: Path) -> None:
    texts = []
    with gzip.open(real_data / "text" / "cc-topics-formats.jsonl.gz", "rt") as stream:
        texts += [json.loads(line)["text"] for line in stream][::400]
    with gzip.open(real_data / "text" / "fineweb2-de-es-sr.jsonl.gz", "rt") as stream:
        texts += [json.loads(line)["text"] for line in stream][::100]
    theirs(texts, tmp_path / "theirs")
    write_signatures(texts, tmp_path / "ours", 0)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")


def clusters(folder: Path) -> set[frozenset[tuple[int, int]]]:
    found: dict[int, set[tuple[int, int]]] = {}
    for path in folder.glob("*.clusters"):
        for place, number in np.fromfile(path, "<u4").reshape(-1, 2).tolist():
            found.setdefault(number, set()).add((int(path.stem), place))
    return {frozenset(members) for members in found.values()}


def test_stages_two_to_four_and_ours_take_each_others_files(tmp_path: Path) -> None:
    texts = mixed_texts(90, seed=2)
    ranks = [texts[:30], texts[30:31], [], texts[31:]]
    for rank, own in enumerate(ranks):
        WriteSignatures(tmp_path / "sigs").run((Document(text=text, id="x") for text in own), rank)
    for bucket in range(14):
        MinhashDedupBuckets(str(tmp_path / "sigs"), str(tmp_path / "dups")).run(rank=bucket, world_size=14)
    MinhashDedupCluster(
        str(tmp_path / "dups"), str(tmp_path / "theirs"), save_cluster_id=True, save_cluster_size=True
    ).run()
    told = cluster_signatures(tmp_path / "sigs", tmp_path / "ours")
    assert clusters(tmp_path / "ours") == clusters(tmp_path / "theirs")
    assert told["clusters"] == len(clusters(tmp_path / "theirs")) > 5
    sizes = {path.name: np.fromfile(path, "<u4").tolist() for path in (tmp_path / "theirs").glob("*.sizes")}
    assert {path.name: np.fromfile(path, "<u4").tolist() for path in (tmp_path / "ours").glob("*.sizes")} == sizes
    kept = 0
    for rank, own in enumerate(ranks):
        step = MinhashDedupFilter(
            str(tmp_path / "ours"), load_cluster_sizes=(tmp_path / "ours" / f"{rank:06d}.sizes").exists()
        )
        kept += len(list(step.run((Document(text=text, id=str(n)) for n, text in enumerate(own)), rank)))
    assert kept == 90 - told["to_remove"]


@pytest.mark.parametrize(("hashed", "precision"), [("sha1", 64), ("xxhash", 32)])
def test_files_of_other_hashes_are_read(tmp_path: Path, hashed: Literal["sha1", "xxhash"], precision: int) -> None:
    """FineWeb's own settings are SHA-1 with 64 bits."""
    config = MinhashConfig(hash_config=HashConfig(hash_fc=hashed, precision=precision))
    texts = mixed_texts(60, seed=3)
    for rank, own in enumerate((texts[:30], texts[30:])):
        step = MinhashDedupSignature(str(tmp_path / "sigs"), config=config)
        step.run((Document(text=text, id="x") for text in own), rank, 2)
    for bucket in range(14):
        step = MinhashDedupBuckets(str(tmp_path / "sigs"), str(tmp_path / "dups"), config=config)
        step.run(rank=bucket, world_size=14)
    MinhashDedupCluster(str(tmp_path / "dups"), str(tmp_path / "theirs"), config=config, save_cluster_id=True).run()
    cluster_signatures(tmp_path / "sigs", tmp_path / "ours", precision=precision)
    assert clusters(tmp_path / "ours") == clusters(tmp_path / "theirs")
    assert len(clusters(tmp_path / "ours")) > 3
    with pytest.raises(FineeduError, match=r"no whole records|out of order"):
        cluster_signatures(tmp_path / "sigs", tmp_path / "wrong", precision=96 - precision)


def test_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(FineeduError, match="no signature files"):
        cluster_signatures(tmp_path, tmp_path / "out")
    write_signatures(mixed_texts(9), tmp_path / "sigs", 0)
    path = tmp_path / "sigs" / "bucket_005" / "00000.minhash.sig"
    raw = path.read_bytes()
    for harm, message in ((raw[:-3], "no whole records"), (raw[68:] + raw[:68], "out of order"), (None, "missing")):
        if harm is None:
            path.unlink()
        else:
            path.write_bytes(harm)
        with pytest.raises(FineeduError, match=message):
            cluster_signatures(tmp_path / "sigs", tmp_path / "out")


def test_random_letters(tmp_path: Path) -> None:
    draw = random.Random(4)
    texts = ["".join(draw.choices("ab c.'-é9$€\n漢,’/:", k=300)) for _ in range(60)]
    theirs(texts, tmp_path / "theirs")
    write_signatures(texts, tmp_path / "ours", 0)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
