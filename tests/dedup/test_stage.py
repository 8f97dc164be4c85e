from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.dedup.address import canonical_urls
from fineedu.dedup.cluster import lay_out, link
from fineedu.dedup.keys import KeyColumn, KeyFile, write_key_file
from fineedu.dedup.linking import ALONE
from fineedu.dedup.memory import Memory
from fineedu.dedup.run import dedup_store
from fineedu.dedup.signature import band_keys, sign
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig, VerifyConfig
from fineedu.store import Shard
from tests.conftest import Cli
from tests.dedup.pages import words
from tests.dedup.stores import documents, make_store, mixed_texts, signals


def components(texts: list[str]) -> list[frozenset[int]]:
    """Clusters the plain way: every pair of documents, every band."""
    keys = band_keys(sign(pl.Series(texts)))
    group = list(range(len(texts)))
    for band in keys:
        first: dict[int, int] = {}
        for n, key in enumerate(band.tolist()):
            old, new = group[n], group[first.setdefault(key, n)]
            group = [new if g == old else g for g in group]
    found = defaultdict(set)
    for n, g in enumerate(group):
        found[g].add(n)
    return sorted((frozenset(members) for members in found.values()), key=min)


def clusters_of(frame: pl.DataFrame) -> set[frozenset[str]]:
    return {frozenset(ids) for ids in frame.group_by("dup_cluster").agg("id")["id"].to_list()}


def test_clusters_are_the_components_and_signals_agree_with_them(tmp_path: Path) -> None:
    texts = mixed_texts(160)
    store = make_store(tmp_path, documents(texts))
    radius = dedup_store(tmp_path, DedupConfig(by=["minhash"]), workers=1)
    found = signals(store)
    assert found.height == 160
    expected = {frozenset(f"d{n}" for n in members) for members in components(texts)}
    assert clusters_of(found) == expected
    for ids in expected:
        rows = found.filter(pl.col("id").is_in(list(ids)))
        assert set(rows["dup_size"]) == {len(ids)}
        assert rows["dup_keep"].sum() == 1
        kept = rows.filter("dup_keep")["id"][0]
        assert set(rows.filter(~pl.col("dup_keep"))["dup_of"]) <= {kept}
        assert rows.filter("dup_keep")["dup_of"][0] is None
        assert set(rows["dup_by"]) == ({"minhash"} if len(ids) > 1 else {None})
    assert radius.removed == 160 - len(expected) == found.height - found["dup_keep"].sum()


@pytest.mark.parametrize("config", [DedupConfig(), DedupConfig(keep="newest", verify=VerifyConfig(at_least=0.85))])
def test_no_difference_by_shards_workers_or_order(tmp_path: Path, config: DedupConfig) -> None:
    frame = documents(mixed_texts(90, seed=1))
    tables = []
    for name, rows, workers, order in (
        ("a", 10, 1, None),
        ("b", 33, 1 if config.verify else 2, None),
        ("c", 200, 1, 5),
        ("d", 4, 1, 6),
    ):
        own = frame if order is None else frame.sample(fraction=1, shuffle=True, seed=order)
        store = make_store(tmp_path / name, own, rows)
        radius = dedup_store(tmp_path / name, config, workers=workers)
        tables.append((signals(store), radius.as_json()))
    for table, report in tables[1:]:
        assert table.equals(tables[0][0])
        assert report == tables[0][1]


@pytest.mark.parametrize(("keep", "winner"), [("longest", "d1"), ("newest", "d3"), ("first", "d0"), ("best", "d2")])
def test_survivors_by_policy(tmp_path: Path, keep: str, winner: str) -> None:
    text = words(200, 7)
    texts = [" ".join(text), " ".join([*text, "more", "words"]), " ".join(text), " ".join(text)]
    scores = pl.DataFrame({"edu_score": [1.0, 2.0, 3.5, None]}, schema={"edu_score": pl.Float32})
    store = make_store(tmp_path, documents(texts), 2, scores)
    dedup_store(tmp_path, DedupConfig(keep=keep), workers=1)  # type: ignore[arg-type]
    assert signals(store).filter("dup_keep")["id"].to_list() == [winner]


def test_ties_go_by_id_and_missing_values_lose(tmp_path: Path) -> None:
    text = " ".join(words(100, 1))
    frame = documents([text] * 4, date=[None, None, None, None])
    store = make_store(tmp_path / "a", frame, 1)
    dedup_store(tmp_path / "a", DedupConfig(keep="first"), workers=1)
    first = signals(store).filter("dup_keep")["id"].to_list()
    store = make_store(tmp_path / "b", frame.reverse(), 3)
    dedup_store(tmp_path / "b", DedupConfig(keep="newest"), workers=1)
    assert signals(store).filter("dup_keep")["id"].to_list() == first
    dated = frame.with_columns(date=pl.Series([None, None, None, documents(["x"])["date"][0]]))
    for keep in ("first", "newest"):
        store = make_store(tmp_path / keep, dated, 1)
        dedup_store(tmp_path / keep, DedupConfig(keep=keep), workers=1)  # type: ignore[arg-type]
        assert signals(store).filter("dup_keep")["id"].to_list() == ["d3"]


def test_best_needs_its_score(tmp_path: Path) -> None:
    make_store(tmp_path, documents(["a b c"]))
    with pytest.raises(FineeduError, match="keep: best needs the signal 'edu_score'"):
        dedup_store(tmp_path, DedupConfig(keep="best"), workers=1)


def test_exact_and_url_copies(tmp_path: Path) -> None:
    short = ["Nothing here", "nothing\n  HERE", "Nothing, here", "", None, "other words entirely now"]
    urls = ["http://a.example/x", "http://b.example/", "http://c.example/", "https://d.example/", "http://d.example/#e"]
    frame = documents(short, url=[*urls, "https://www.a.example/x/?utm_source=mail"])
    store = make_store(tmp_path / "exact", frame, 2)
    dedup_store(tmp_path / "exact", DedupConfig(by=["exact"]), workers=1)
    assert {c for c in clusters_of(signals(store)) if len(c) > 1} == {frozenset(["d0", "d1"])}
    store = make_store(tmp_path / "url", frame, 2)
    dedup_store(tmp_path / "url", DedupConfig(by=["url"], keep="newest"), workers=1)
    found = signals(store)
    assert {c for c in clusters_of(found) if len(c) > 1} == {frozenset(["d0", "d5"]), frozenset(["d3", "d4"])}
    assert found.filter(~pl.col("dup_keep"))["id"].to_list() == ["d0", "d3"]
    store = make_store(tmp_path / "both", frame, 2)
    dedup_store(tmp_path / "both", DedupConfig(by=["minhash", "exact", "url"]), workers=1)
    found = signals(store)
    assert frozenset(["d0", "d1", "d2", "d5"]) in clusters_of(found)
    assert dict(found.select("id", "dup_by").iter_rows())["d0"] == "minhash+exact+url"


def test_of_one_address_the_newest_stays_unless_told_otherwise(tmp_path: Path) -> None:
    texts = ["an old and very long text " * 9, "a newer one"]
    for name, asked, kept in (("a", {}, "d1"), ("b", {"keep": "longest"}, "d0"), ("c", {"by": ["url", "exact"]}, "d0")):
        store = make_store(tmp_path / name, documents(texts, url=["http://a.example/x"] * 2))
        dedup_store(tmp_path / name, DedupConfig.model_validate({"by": ["url"], **asked}), workers=1)
        assert signals(store).filter("dup_keep")["id"].to_list() == [kept]


def test_canonical_addresses() -> None:
    same = [
        "http://Example.org/Path/?b=2&a=1",
        "https://www.example.org:443/Path?a=1&b=2#top",
        "//user@example.org/Path/index.html?utm_medium=x&b=2;a=1&fbclid=3",
    ]
    others = ["http://example.org/path?a=1&b=2", "http://example.org/Path?a=1", "http://example.com/Path?a=1&b=2"]
    found = canonical_urls(pl.Series([*same, *others, "", None, "not an address"]))
    assert len(set(found[:3])) == 1
    assert found[0] == "example.org/Path?a=1&b=2"
    assert len(set(found[2:6])) == 4
    assert found[6:8].to_list() == [None, None]


def test_scope(tmp_path: Path) -> None:
    text = " ".join(words(100, 3))
    frame = documents([text] * 4, dump=["A", "A", "B", "B"], language=["en", "de", "en", "de"])
    for scope, expected in (
        ("dump", [{"d0", "d1"}, {"d2", "d3"}]),
        ("language", [{"d0", "d2"}, {"d1", "d3"}]),
        ("global", [{"d0", "d1", "d2", "d3"}]),
    ):
        store = make_store(tmp_path / scope, frame)
        dedup_store(tmp_path / scope, DedupConfig(scope=scope), workers=1)  # type: ignore[arg-type]
        found = signals(store)
        kept = found.group_by(["dup_of"]).agg("id")["id"].to_list()
        assert found["dup_keep"].sum() == len(expected)
        groups = {frozenset(ids) for ids in kept}
        assert all(any(set(group) <= own for own in expected) or len(group) == len(expected) for group in groups)
        assert set(found["dup_size"]) == {4 // len(expected)}


def test_dump_by_dump_with_a_shared_index(tmp_path: Path) -> None:
    texts = mixed_texts(60, seed=4)
    names = ["A"] * 20 + ["B"] * 20 + ["C"] * 20
    frame = documents(texts, dump=names)
    config = DedupConfig(scope="global", index=str(tmp_path / "index"), keep="newest")
    kept: set[str] = set()
    for dump in "ABC":
        store = make_store(tmp_path / dump, frame.filter(pl.col("dump") == dump))
        dedup_store(tmp_path / dump, config, workers=1)
        found = signals(store)
        # what an earlier dump has published stays; nothing of it comes again
        for row in found.filter(~pl.col("dup_keep")).iter_rows(named=True):
            assert row["dup_of"] in kept | set(found.filter("dup_keep")["id"])
        kept |= set(found.filter("dup_keep")["id"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    for dump in "ABC":  # run again, an earlier dump does not lose to a later one
        dedup_store(tmp_path / dump, config, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    whole = make_store(tmp_path / "whole", frame)
    dedup_store(tmp_path / "whole", DedupConfig(scope="global"), workers=1)
    assert len(kept) == signals(whole)["dup_keep"].sum()
    assert len(list((tmp_path / "index").rglob("*.keys"))) == 6


def test_an_index_does_not_take_another_archive_for_the_same(tmp_path: Path) -> None:
    config = DedupConfig(index=str(tmp_path / "index"))
    make_store(tmp_path / "a", documents(["one two three four five six"]), 10)
    dedup_store(tmp_path / "a", config, workers=1)
    make_store(tmp_path / "b", documents(["seven eight"]), 11)
    with pytest.raises(FineeduError, match="remembers another archive"):
        dedup_store(tmp_path / "b", config, workers=1)


def test_second_run_only_looks_and_another_setting_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path, documents(mixed_texts(40)))
    dedup_store(tmp_path, DedupConfig(), workers=1)
    files = [*(tmp_path / "signals").rglob("*.parquet"), *(tmp_path / "dedup").rglob("*.keys")]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert len(before) == 8
    dedup_store(tmp_path, DedupConfig(memory_mb=3000), workers=1)
    assert {path: path.stat().st_mtime_ns for path in files} == before
    with pytest.raises(FineeduError, match="signals/dedup was made by something else"):
        dedup_store(tmp_path, DedupConfig(keep="newest"), workers=1)
    next((tmp_path / "signals").rglob("00002.parquet")).unlink()
    dedup_store(tmp_path, DedupConfig(), workers=1)
    assert all(path.exists() for path in files)


@pytest.mark.parametrize("harm", ["flip", "cut", "swap", "other"])
def test_damaged_key_files_are_told(tmp_path: Path, harm: str) -> None:
    store = make_store(tmp_path, documents(mixed_texts(40)))
    dedup_store(tmp_path, DedupConfig(), workers=1)
    paths = sorted((tmp_path / "dedup").rglob("*.keys"))
    raw = bytearray(paths[1].read_bytes())
    if harm == "flip":
        raw[len(raw) // 2] ^= 1
    elif harm == "cut":
        del raw[-200:]
    elif harm == "swap":
        raw = bytearray(paths[0].read_bytes())
    else:
        raw[:8] = b"PARQUET!"
    paths[1].write_bytes(raw)
    for path in (tmp_path / "signals").rglob("*.parquet"):
        path.unlink()
    if harm == "swap":  # of another archive: made anew
        dedup_store(tmp_path, DedupConfig(), workers=1)
        assert signals(store).height == 40
        return
    with pytest.raises(FineeduError, match=f"{paths[1].name}.*(damaged|cut off|not a key file)"):
        dedup_store(tmp_path, DedupConfig(), workers=1)


def test_a_host_that_loses_too_much_stops_the_run(tmp_path: Path, cli: Cli) -> None:
    text = " ".join(words(100, 1))
    texts = [text] * 30 + [" ".join(words(50, n)) for n in range(2, 32)]
    hosts = ["mirror.example"] * 30 + ["good.example"] * 30
    make_store(tmp_path, documents(texts, host=hosts))
    result = cli("dedup", "-o", tmp_path, "--max-host-loss", "0.9")
    assert result.returncode == 2
    assert "more than 90% of 1 host(s)" in result.stderr
    assert "mirror.example (29 of 30)" in " ".join(result.stderr.split())
    assert "29 of 60 documents would go (48.3%)" in result.stdout
    assert "cluster of 30" in result.stdout
    shown = dedup_store(tmp_path, DedupConfig(), workers=1).as_json()
    assert shown["worst"] == [
        {"host": "mirror.example", "documents": 30, "removed": 29, "share": pytest.approx(29 / 30)}
    ]
    assert shown["sizes"] == [{"at_least": 20, "below": 50, "clusters": 1, "documents": 30}]


def test_command_on_nothing_and_on_a_bad_setting(tmp_path: Path, cli: Cli) -> None:
    result = cli("dedup", "-o", tmp_path / "none")
    assert result.returncode == 2
    assert "no documents in" in result.stderr
    assert cli("dedup", "--help").returncode == 0
    assert cli("dedup", "--keep", "worst").returncode == 2


def test_empty_shards(tmp_path: Path) -> None:
    frame = documents(["", None, "..."])
    store = make_store(tmp_path, frame, 1)
    radius = dedup_store(tmp_path, DedupConfig(by=["minhash", "exact", "url"]), workers=1)
    assert radius.removed == 0
    assert signals(store)["dup_size"].to_list() == [1, 1, 1]


class Tight(Memory):
    """Room for so many keys at a time."""

    def __init__(self, rows: int, keys: int) -> None:
        super().__init__(4000)
        self.budget = 9 * rows + 32 * keys

    def need(self, size: int, what: str, likely: int = 0) -> None:
        return


class Small(Tight):
    """Too little for 5,000 keys at once."""

    def __init__(self) -> None:
        super().__init__(5000, 100)

    def need(self, size: int, what: str, likely: int = 0) -> None:
        if "first byte" in what:
            Memory.need(self, size, what)


class TestLinking:
    """The union-find against the plain way, on made-up keys."""

    @settings(max_examples=40)
    @given(
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), min_size=1, max_size=40),
        st.integers(1, 9),
    )
    def test_components(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, bool]], per: int
    ) -> None:
        folder = tmp_path_factory.mktemp("keys")
        spread = np.uint64(0x9E3779B97F4A7C15)
        files = []
        for number, start in enumerate(range(0, len(rows), per)):
            own = rows[start : start + per]
            keys = np.array([row[:2] for row in own], np.uint64) * spread
            has = np.array([row[2] for row in own])
            columns = {"a": KeyColumn.of(keys[:, 0], has), "b": KeyColumn.of(keys[:, 1], np.ones(len(own), bool))}
            path = folder / f"{number:05d}.keys"
            ids = np.arange(start, start + len(own), dtype=np.uint64)
            facts = {"fingerprint": "x", "shard": f"D/{number:05d}"}
            write_key_file(path, columns, {"id_hash": ids, "language": ids * 0}, facts)
            files.append((path, Shard("D", number), True))
        found = link(lay_out(files), ["a", "b"], [0, 1], "global", Memory(4000))
        tight = link(lay_out(files), ["a", "b"], [0, 1], "global", Tight(len(rows), 3))
        assert (tight.number == found.number).all()
        assert (tight.marks == found.marks).all()
        group = list(range(len(rows)))
        for column in (0, 1):
            first: dict[int, int] = {}
            for n, row in enumerate(rows):
                if column == 0 and not row[2]:
                    continue
                old, new = group[n], group[first.setdefault(row[column], n)]
                group = [new if g == old else g for g in group]
        for n in range(len(rows)):
            assert (found.number[n] == ALONE) == (group.count(group[n]) == 1)
            for m in range(n):
                if ALONE not in (found.number[n], found.number[m]):
                    assert (found.number[n] == found.number[m]) == (group[n] == group[m])

    def test_key_files_give_back_what_was_written(self, tmp_path: Path) -> None:
        draw = np.random.default_rng(1)
        keys = draw.integers(0, 1 << 63, 1000, dtype=np.uint64) * np.uint64(2)
        has = draw.random(1000) < 0.7
        rows = {"id_hash": keys, "id_bytes": np.frombuffer(b"abc", np.uint8), "id_ends": np.array([1, 1, 3], np.uint64)}
        write_key_file(tmp_path / "a.keys", {"k": KeyColumn.of(keys, has)}, rows, {"fingerprint": "f", "more": [1]})
        file = KeyFile(tmp_path / "a.keys")
        file.check()
        assert [part.tolist() for part in file.ids(0, 3)] == [list(b"abc"), [0, 1, 1, 3]]
        assert [part.tolist() for part in file.ids(2, 3)] == [list(b"bc"), [0, 2]]
        assert file.facts["more"] == [1]
        found = file.section("keys/k")
        assert (np.sort(keys[has]) == found).all()
        assert (keys[file.section("rows/k")] == found).all()
        starts = file.section("starts/k").astype(int)
        assert ((found >> np.uint64(56)) == np.repeat(np.arange(256), np.diff(starts))).all()

    def test_too_little_memory_is_told(self, tmp_path: Path) -> None:
        memory = Memory(1)
        with pytest.raises(FineeduError, match=r"memory_mb 1 is too little for 5 documents: it takes \d"):
            memory.need(1000, "5 documents")
        assert Memory(1 << 20).budget > 0
        keys = np.full(5000, 7, np.uint64)
        path = tmp_path / "00000.keys"
        columns = {"a": KeyColumn.of(keys, np.ones(5000, bool))}
        write_key_file(path, columns, {"id_hash": keys, "language": keys}, {"fingerprint": "x", "shard": "D/00000"})
        with pytest.raises(FineeduError, match="5,000 keys that share their first byte"):
            link(lay_out([(path, Shard("D", 0), True)]), ["a"], [0], "global", Small())
        assert Memory.used() > 10_000_000 or not os.path.exists("/proc")  # noqa: PTH110
