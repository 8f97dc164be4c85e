from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.dedup.run import dedup_store
from fineedu.errors import FineeduError
from fineedu.recipe import DedupConfig, LinesConfig
from tests.archives import tree_digest
from tests.conftest import Cli
from tests.dedup.stores import documents, make_store

BANNER = "We use cookies to improve your visit. Accept all?"


def expected(texts: list[str | None], groups: list[str], config: LinesConfig) -> list[tuple[int, float | None]]:
    """The plain way: count documents a line, then look every line up."""
    split = "\n" if config.unit == "line" else "\n\n"
    lines = [[" ".join(line.lower().split()) for line in (text or "").split(split)] for text in texts]
    times = Counter(
        (group, line)
        for group, own in zip(groups, lines, strict=True)
        for line in {*own}
        if len(line) >= config.characters
    )
    found = []
    for group, own in zip(groups, lines, strict=True):
        hits = [line for line in own if times[group, line] >= config.documents]
        whole = sum(map(len, own))
        found.append((len(hits), sum(map(len, hits)) / whole if whole else None))
    return found


def measured(root: Path) -> list[tuple[int, float | None]]:
    table = pl.read_parquet(root / "signals/lines/**/*.parquet")
    table = table.sort(pl.col("id").str.slice(1).cast(pl.Int64))
    return list(table.select("repeated_lines", "repeated_line_share").iter_rows())


def made_up(count: int, seed: int) -> list[str | None]:
    draw = random.Random(seed)
    pool = [BANNER, BANNER.upper(), "Home  |  About | Contact", "© 2024 Größe & Söhne", "short", "漢字" * 8, ""]
    own = [f"Line number {n} of its own kind\nand one more" for n in range(count)]
    return [
        None if n == 3 else draw.choice(["\n", "\n\n"]).join([*draw.choices(pool, k=draw.randint(0, 5)), own[n]])
        for n in range(count)
    ]


@pytest.mark.parametrize("scope", ["dump", "language", "global"])
@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_shares_are_those_of_plain_counting(tmp_path: Path, scope: str, unit: str) -> None:
    texts = made_up(60, 1)
    dumps, languages = (["A", "B", "B"] * 20, ["en", "de"] * 30)
    lines = LinesConfig(unit=unit, documents=5)  # type: ignore[arg-type]
    make_store(tmp_path, documents(texts, dump=dumps, language=languages), 8)
    dedup_store(tmp_path, DedupConfig(lines=lines, scope=scope), workers=1)  # type: ignore[arg-type]
    groups = {"dump": dumps, "language": languages, "global": ["all"] * 60}[scope]
    found = measured(tmp_path)
    assert len(found) == 60
    for own, truth in zip(found, expected(texts, groups, lines), strict=True):
        assert own[0] == truth[0]
        assert own[1] == (None if truth[1] is None else pytest.approx(truth[1], abs=1e-6))
    assert sum(count for count, _ in found) > 20


@given(st.lists(st.text(st.sampled_from("aB é\n漢\U0001f600"), max_size=30), min_size=1, max_size=8))
def test_any_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    from fineedu.dedup.lines import ListLines, frequent_lines, measure_lines
    from fineedu.dedup.memory import Memory
    from fineedu.store import Shard

    config = DedupConfig(lines=LinesConfig(documents=2, characters=2), scope="global")
    assert config.lines is not None
    frame = documents(texts)
    store = make_store(tmp_path_factory.mktemp("any"), frame, 50)
    shard = Shard("D", 0)
    assert list(ListLines(store, config, {}).run([shard])) == [shard]
    found = measure_lines(frame, config, shard, frequent_lines(store, [shard], config, Memory(4000)))
    truth = expected(list(texts), ["all"] * len(texts), config.lines)
    assert found["repeated_lines"].to_list() == [count for count, _ in truth]


def test_no_difference_by_shards_and_workers_and_other_settings_are_refused(tmp_path: Path, cli: Cli) -> None:
    frame = documents(made_up(40, 2))
    config = DedupConfig(lines=LinesConfig(documents=4))
    for name, rows, workers in (("a", 10, 1), ("b", 13, 2)):
        make_store(tmp_path / name, frame, rows)
        dedup_store(tmp_path / name, config, workers=workers)
    assert measured(tmp_path / "a") == measured(tmp_path / "b")
    before = tree_digest(tmp_path / "a" / "signals")
    dedup_store(tmp_path / "a", config, workers=1)
    assert tree_digest(tmp_path / "a" / "signals") == before
    refused = cli("dedup", "-o", tmp_path / "a", "--lines", "7")
    assert refused.returncode == 2
    assert "documents: 4 there, 7 now" in refused.stderr
    with pytest.raises(FineeduError, match="leave out"):
        dedup_store(tmp_path / "a", DedupConfig(lines=LinesConfig(), index="x"))
