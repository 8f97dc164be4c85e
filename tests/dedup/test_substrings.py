"""Exact substrings against the plain definition: a window of n bytes is repeated when it stands twice."""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.dedup import substrings
from fineedu.dedup.memory import Memory
from fineedu.dedup.run import dedup_store
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig
from fineedu.store import Store
from tests.archives import tree_digest
from tests.dedup.pages import words
from tests.dedup.stores import documents, make_store

N = 16


def naive(texts: list[str | None], scopes: list[str], n: int = N) -> list[tuple[int, int]]:
    """Return repeated and later-copy bytes of every text, every window against every other."""
    places = defaultdict(list)
    raw = [(text or "").encode() for text in texts]
    for number, text in enumerate(raw):
        for start in range(len(text) - n + 1):
            places[scopes[number], text[start : start + n]].append((number, start))
    covered: list[list[set[int]]] = [[set(), set()] for _ in raw]
    for found in places.values():
        for order, (number, start) in enumerate(found if len(found) > 1 else []):
            covered[number][0].update(range(start, start + n))
            if order:
                covered[number][1].update(range(start, start + n))
    return [(len(every), len(later)) for every, later in covered]


def found(store: Store) -> list[tuple[int, int]]:
    table = pl.read_parquet(store.root / "signals" / "substrings" / "dump=*" / "*.parquet")
    table = table.sort(pl.col("id").str.tail(-1).cast(pl.Int32))
    return list(table.select("repeated_bytes", "later_copy_bytes").iter_rows())


def config(n: int = N, scope: str = "global", **settings: object) -> DedupConfig:
    return DedupConfig.model_validate({"substrings": {"bytes": n}, "scope": scope, **settings})


def quoting(count: int, seed: int) -> list[str]:
    """Return texts that quote runs of one another, of all lengths."""
    draw = np.random.default_rng(seed)
    texts: list[str] = []
    for number in range(count):
        text = " ".join(words(12, seed * 7919 + number))
        for _ in range(int(draw.integers(3))):
            if texts:
                other = texts[int(draw.integers(len(texts)))]
                start = int(draw.integers(len(other)))
                at = int(draw.integers(len(text)))
                text = text[:at] + other[start : start + int(draw.integers(60))] + text[at:]
        texts.append(text)
    return texts


@pytest.mark.parametrize("scope", ["global", "dump", "language"])
def test_equal_to_the_plain_definition_in_every_scope(scope: str, tmp_path: Path) -> None:
    texts: list[str | None] = [*quoting(60, 1), None, "", "short", "aaaa" * 20, "ab" * 30, "aaaa" * 9]
    dumps = ["D" if n % 60 < 40 else "E" for n in range(len(texts))]
    languages = ["en" if n % 3 else "de" for n in range(len(texts))]
    # The order of documents is that of dumps and shards.
    order = sorted(range(len(texts)), key=lambda n: dumps[n])
    texts, dumps, languages = ([values[n] for n in order] for values in (texts, dumps, languages))
    store = make_store(tmp_path, documents(texts, dump=dumps, language=languages), 9)
    dedup_store(tmp_path, config(scope=scope), workers=1)
    scopes = {"global": [""] * len(texts), "dump": dumps, "language": languages}[scope]
    expected = naive(texts, scopes)
    assert found(store) == expected
    assert any(0 < later < every for every, later in expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("aä😀b", max_size=70), min_size=1, max_size=6))
def test_any_texts_of_few_characters(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    root = tmp_path_factory.mktemp("texts")
    store = make_store(root, documents(texts), 2)
    made = substrings.substrings_made_by(config(), {})
    shards = [found.shard for found in _anchored(store, made)]
    substrings.find_substrings(store, shards, config(), made, Memory(4000))
    assert found(store) == naive(list(texts), [""] * len(texts))


def _anchored(store: Store, made: dict[str, object]):
    from fineedu.dedup.cluster import Part
    from fineedu.store import Shard

    paths = sorted(store.root.glob("documents/dump=*/*.parquet"))
    shards = [Shard("D", int(path.stem)) for path in paths]
    list(substrings.ListAnchors(store, config(), made).run(shards))
    return [Part(path, shard, 0, 0, True) for path, shard in zip(paths, shards, strict=True)]


def test_portions_do_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = documents(quoting(80, 2))
    digests, asked = [], []
    portion = substrings._Search._search
    for number, cost in enumerate((8, 200_000)):
        monkeypatch.setattr(substrings._Search, "_search", lambda self, n: (asked.append(n), portion(self, n))[1])
        monkeypatch.setattr(Memory, "need", lambda *_, **__: None)
        monkeypatch.setattr(substrings, "_CONTEXT_COST", cost * 400)
        make_store(tmp_path / str(number), frame, 11)
        dedup_store(tmp_path / str(number), config(), workers=1)
        digests.append([tree_digest(tmp_path / str(number) / part) for part in ("signals/substrings", "dedup/spans")])
    assert digests[0] == digests[1]
    assert max(asked) > 3


def test_runs_are_told_by_document_and_later_ones_can_go(tmp_path: Path) -> None:
    quote = "The beekeeper opened the hive slowly because the bees were calm. "
    texts = ["Grüße aus dem Süden: " + quote, "First words. " + quote + "Last words.", "Nothing else."]
    make_store(tmp_path, documents(texts), 2)
    radius = dedup_store(tmp_path, config(32, "dump"), workers=1)
    spans = pl.read_parquet(tmp_path / "dedup" / "spans" / "dump=*" / "*.parquet")
    cut = {
        (row["id"], row["later"]): texts[int(row["id"][1:])].encode()[row["start"] : row["stop"]].decode()
        for row in spans.iter_rows(named=True)
    }
    assert cut == {("d0", False): quote, ("d1", False): quote, ("d1", True): quote} or all(
        quote.strip() in text for text in cut.values()
    )
    assert radius.substrings is not None
    assert radius.substrings["repeated_bytes"] == sum(len(text) for (_, later), text in cut.items() if not later)
    assert radius.substrings["longest"][0]["text"].strip() == quote.strip()


def test_what_cannot_be_told_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, documents(quoting(20, 3)))
    with pytest.raises(FineeduError, match=r"leave out dedup.index"):
        dedup_store(tmp_path, config(index=str(tmp_path / "index")), workers=1)
    monkeypatch.setitem(__import__("sys").modules, "pydivsufsort", None)
    with pytest.raises(FineeduError, match=r"pip install 'fineedu\[substrings\]'"):
        dedup_store(tmp_path, config(), workers=1)


def test_one_run_that_fills_memory_says_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_store(tmp_path, documents(quoting(40, 4)))
    monkeypatch.setattr(substrings, "_BYTE_COST", 200_000_000)
    with pytest.raises(FineeduError, match=r"memory_mb 4,000 is too little for .* repeated text: it takes "):
        dedup_store(tmp_path, config(memory_mb=4000), workers=1)


def test_made_again_only_when_something_changes(tmp_path: Path) -> None:
    make_store(tmp_path, documents(quoting(30, 5)))
    dedup_store(tmp_path, config(), workers=1)
    paths = list(itertools.chain(tmp_path.glob("signals/substrings/dump=*/*"), tmp_path.glob("dedup/spans/dump=*/*")))
    before = [path.stat().st_mtime_ns for path in paths]
    dedup_store(tmp_path, config(), workers=1)
    assert [path.stat().st_mtime_ns for path in paths] == before
    with pytest.raises(FineeduError, match="bytes: 16 there, 20 now"):
        dedup_store(tmp_path, config(20), workers=1)
