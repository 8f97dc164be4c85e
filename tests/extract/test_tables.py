"""Tables as input, and a store kept on the Hugging Face hub: its file system stands on a folder here."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest
import yaml
import zstandard
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from fineedu.errors import FineeduError
from fineedu.runner import execute, plan_run
from tests.archives import PARAGRAPH, tree_digest

ROWS: list[dict[str, Any]] = [
    {
        "id": f"<urn:uuid:{n}>",
        "url": f"http://host{n % 3}.example/{n}",
        "date": "2024-03-01T12:00:00Z",
        "text": f"Lesson {n}. {PARAGRAPH}",
    }
    for n in range(30)
]


def run(source: Path | str, output: Path | str) -> Any:
    return execute(plan_run("minimal", inputs=[str(source)], output=output), workers=1)


def documents(output: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted((output / "documents").rglob("*.parquet")))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        path.write_bytes({".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(lines))


@pytest.mark.parametrize("kind", [".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_every_kind_gives_the_same_documents(kind: str, tmp_path: Path) -> None:
    write(tmp_path / f"rows{kind}", ROWS)
    result = run(tmp_path / f"rows{kind}", tmp_path / "out")
    assert (result.pages, result.documents) == (30, 30)
    found = documents(tmp_path / "out")
    assert found["id"].to_list() == [str(n) for n in range(30)]
    assert found["text"].to_list() == [row["text"] for row in ROWS]
    assert set(found["host"]) == {"host0.example", "host1.example", "host2.example"}
    assert found["date"][0] == datetime(2024, 3, 1, 12, tzinfo=UTC)
    assert found["language"].unique().to_list() == ["en"]


def test_rows_without_id_text_or_date(tmp_path: Path) -> None:
    rows = [{"text": row["text"], "timestamp": "nonsense"} for row in ROWS[:3]] + [{"text": None}, {"text": " \n"}]
    write(tmp_path / "rows.jsonl", rows)
    result = run(tmp_path / "rows.jsonl", tmp_path / "out")
    assert (result.pages, result.documents, result.dropped["no_text"]) == (5, 3, 2)
    found = documents(tmp_path / "out")
    assert found["id"].n_unique() == 3 and found["date"].null_count() == 3
    write(tmp_path / "again.jsonl", rows[::-1])
    run(tmp_path / "again.jsonl", tmp_path / "other")
    assert set(documents(tmp_path / "other")["id"]) == set(found["id"])


def test_mistakes(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [{"body": "x"}])
    with pytest.raises(FineeduError, match="no column of texts"):
        run(tmp_path / "rows.jsonl", tmp_path / "out")
    write(tmp_path / "bad.parquet", ROWS)
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "bad.parquet").read_bytes()[:-50])
    with pytest.raises(FineeduError, match="damaged behind row 0"):
        run(tmp_path / "bad.parquet", tmp_path / "bad")
    (tmp_path / "cut.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"text": "br')
    with pytest.raises(FineeduError, match="damaged behind row 0"):
        run(tmp_path / "cut.jsonl", tmp_path / "cut")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "hub"
    folder.mkdir()

    class Hub(DirFileSystem):  # type: ignore[misc]
        protocol = "hf"

        def __init__(self, **options: Any) -> None:
            super().__init__(path=str(folder), fs=LocalFileSystem(auto_mkdir=True))

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.removeprefix("hf://").rstrip("/")

    fsspec.register_implementation("hf", Hub, clobber=True)
    Hub.clear_instance_cache()
    monkeypatch.setenv("FINEEDU_WORK", str(tmp_path / "work"))
    yield folder
    sys.modules["fsspec.registry"]._registry.pop("hf", None)  # type: ignore[attr-defined]


def test_from_the_hub_and_to_it(hub: Path, tmp_path: Path) -> None:
    (hub / "datasets/them/theirs/data").mkdir(parents=True)
    write(hub / "datasets/them/theirs/data/train-00000.parquet", ROWS)
    run("hf://datasets/them/theirs/data", "hf://datasets/me/mine")
    run(str(hub / "datasets/them/theirs/data"), tmp_path / "local")
    kept, here = tree_digest(hub / "datasets/me/mine"), tree_digest(tmp_path / "local")
    assert {path for path in kept if path.startswith("corpus")}
    card = kept.pop("README.md").decode()
    (config,) = yaml.safe_load(card.split("---")[1])["configs"]
    assert list((hub / "datasets/me/mine").glob(config["data_files"][0]["path"]))
    same = [path for path in kept if path.startswith("corpus") or path.startswith("signals")]
    names = {path.split("/")[1]: "RUN" for path in (*kept, *here) if path.startswith("corpus")}

    def anonymous(files: dict[str, bytes]) -> dict[str, bytes]:
        return {
            "/".join(names.get(part, part) for part in path.split("/")): data
            for path, data in files.items()
            if path.startswith(("corpus", "signals"))
        }

    assert same and anonymous(kept) == anonymous(here)
