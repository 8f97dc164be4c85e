from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from fineedu.dedup import verify
from fineedu.dedup.memory import Memory
from fineedu.dedup.run import dedup_store
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig, VerifyConfig
from tests.archives import tree_digest
from tests.dedup.pages import jaccard, revised, words
from tests.dedup.stores import documents, make_store, mixed_texts, signals


def test_verify_lets_those_go_that_are_no_copies(tmp_path: Path) -> None:
    start = words(300, 11)
    chain = [" ".join(revised(start, share, 5 + n)) for n, share in enumerate((1.0, 0.9, 0.8, 0.72, 0.65))]
    texts = [*chain, *mixed_texts(30, seed=9)]
    store = make_store(tmp_path, documents(texts), 6)
    # wide bands chain everything together
    loose = DedupConfig(by=["minhash"], bands=60, rows=3, keep="first")
    before = dedup_store(tmp_path, loose, workers=1)
    assert before.below > 0 or before.removed > 0
    strict = DedupConfig(by=["minhash"], bands=60, rows=3, keep="first", verify=VerifyConfig(at_least=0.6))
    store = make_store(tmp_path / "strict", documents(texts), 6)
    dedup_store(tmp_path / "strict", strict, workers=1)
    found = signals(store)
    by_id = {f"d{n}": text for n, text in enumerate(texts)}
    gone = found.filter(~pl.col("dup_keep"))
    assert gone.height > 5
    assert all(jaccard(by_id[a], by_id[b]) >= 0.6 for a, b in gone.select("id", "dup_of").iter_rows())
    told = json.loads((tmp_path / "strict" / "dedup" / "report.json").read_text())
    verified = told["groups"][0]["verified"]
    assert verified["checked"] == before.removed
    assert verified["failed"] > 0
    assert told["verified"]["failed"] == verified["failed"]
    assert told["false_positives"]["share"] == 0


def test_pieces_and_portions_do_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cluster in many pieces has its leaders all the same, and so have many clusters in a piece."""
    many = words(200, 1)
    texts = [*mixed_texts(80, 3), *(" ".join(many[:size]) for size in range(20, 200, 3)), None, ""]
    bound = VerifyConfig(at_least=0.9)
    config = DedupConfig(bands=30, rows=3, verify=bound)
    digests = []
    for name in ("whole", "pieces"):
        if name == "pieces":
            monkeypatch.setattr(verify, "_LEAST_PIECE", 300)
            monkeypatch.setattr(verify, "_MOST_PIECE", 900)
            monkeypatch.setattr(verify, "_MOST_PORTIONS", 3)
            monkeypatch.setattr(verify, "_FACT_BYTES", 10**9)
            monkeypatch.setattr(Memory, "need", lambda *_, **__: None)
        make_store(tmp_path / name, documents(texts), 40)
        told = dedup_store(tmp_path / name, config, workers=1)
        assert told.verified is not None
        assert told.verified["failed"] > 8  # more leaders than one piece holds
        digests.append(tree_digest(tmp_path / name / "signals"))
    assert digests[0] == digests[1]


def test_a_text_that_fills_memory_says_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = " ".join(words(100, 2)) * 3000
    make_store(tmp_path, documents([long, long + " more", "short"]))
    monkeypatch.setattr(verify, "_WORD_FACTOR", 1000)
    with pytest.raises(FineeduError, match=r"memory_mb 4,000 is too little for a text of [\d,]+ bytes: it takes \d"):
        dedup_store(tmp_path, DedupConfig(verify=VerifyConfig(at_least=0.9)), workers=1)
