from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import zstandard

import fineedu
from fineedu.errors import FineeduError
from fineedu.runner import execute, plan_run
from tests.archives import numbered_pages, tree_digest, write_warc

LENGTH = "select.rules.length=text_bytes >= 700"


def run(
    crawl: Path,
    output: Path,
    *overrides: str,
    workers: int = 1,
    tasks: int | None = None,
    **arguments: object,
):
    plan = plan_run("minimal", inputs=[str(crawl)], output=output, overrides=overrides, **arguments)  # type: ignore[arg-type]
    return execute(plan, workers=workers, tasks=tasks)


def test_counts_corpus_and_manifest_agree(crawl: Path, tmp_path: Path) -> None:
    result = run(crawl, tmp_path, LENGTH, "write.format=parquet")
    assert (result.pages, result.documents) == (63, 61)
    corpus = pl.read_parquet(result.corpus / "**/*.parquet")
    documents = pl.read_parquet(tmp_path / "documents/**/*.parquet")
    expected = documents.filter(
        pl.col("language") == "en", pl.col("language_score") >= 0.65, pl.col("text").str.len_bytes() >= 700
    )
    assert corpus["id"].to_list() == expected["id"].to_list()
    assert result.kept == corpus.height > 10
    manifest = json.loads(result.manifest.read_text())
    assert manifest["counts"]["not_extracted"] == {"empty_body": 1, "not_html": 1}
    assert manifest["counts"]["reasons"]["language"] == 1
    assert manifest["counts"]["kept"] + len(documents) - len(expected) == 61
    assert {"dump", "host", "date", "title"} <= set(documents.columns)
    assert documents["host"].str.ends_with(".example").all()


def test_result_does_not_depend_on_workers_or_tasks(crawl: Path, tmp_path: Path) -> None:
    for name, workers, tasks in (("a", 1, None), ("b", 2, None), ("c", 2, 1), ("d", 1, 7)):
        run(crawl, tmp_path / name, LENGTH, workers=workers, tasks=tasks)
    first, *others = (tree_digest(tmp_path / name) for name in "abcd")
    assert len(first) > 10
    assert all(other == first for other in others)


def test_second_run_only_looks(crawl: Path, tmp_path: Path) -> None:
    run(crawl, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "documents").rglob("*")}
    run(crawl, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "documents").rglob("*")} == before


def test_another_cut_reuses_documents_and_signals(crawl: Path, tmp_path: Path) -> None:
    first = run(crawl, tmp_path)
    made = {
        path: path.stat().st_mtime_ns
        for part in ("documents", "signals")
        for path in (tmp_path / part).rglob("*.parquet")
    }
    second = run(crawl, tmp_path, LENGTH)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert second.kept < first.kept
    assert first.run_id != second.run_id
    assert first.corpus.is_dir()
    assert second.corpus.is_dir()


@pytest.mark.parametrize("format", ["parquet", "jsonl.zst"])
def test_corpus_files_are_cut_by_size_and_lose_nothing(crawl: Path, tmp_path: Path, format: str) -> None:
    whole = run(crawl, tmp_path, f"write.format={format}")
    cut = run(crawl, tmp_path, f"write.format={format}", "write.shard_mb=0.005")
    assert read_ids(cut.corpus) == read_ids(whole.corpus)
    assert len(list(cut.corpus.rglob(f"*.{format}"))) > 5
    sizes = [sum(len(text.encode()) for text in texts(path)) for path in sorted(cut.corpus.rglob(f"*.{format}"))]
    assert all(size >= 5000 for size in sizes[:-1])
    assert max(sizes) < 5000 + 2000


def rows(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    return [
        json.loads(line) for line in zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().splitlines()
    ]


def texts(path: Path) -> list[str]:
    return [str(row["text"]) for row in rows(path)]


def read_ids(corpus: Path) -> list[object]:
    return [row["id"] for path in sorted(corpus.rglob("*.*")) if path.is_file() for row in rows(path)]


def test_nothing_kept_and_nothing_to_read(tmp_path: Path) -> None:
    write_warc(tmp_path / "in" / "a.warc.gz", numbered_pages(2))
    (tmp_path / "in" / "b.warc.gz").write_bytes(b"not an archive at all")
    result = run(tmp_path / "in", tmp_path / "out", "select.rules.none=text_bytes < 0")
    assert (result.documents, result.kept, result.dropped["not_an_archive"]) == (2, 0, 1)
    assert not result.corpus.exists()
    assert result.report.exists()


def test_other_extraction_in_the_same_folder_is_refused(crawl: Path, tmp_path: Path) -> None:
    run(crawl, tmp_path)
    with pytest.raises(FineeduError, match=r"backend: 'trafilatura' there, 'resiliparse' now"):
        run(crawl, tmp_path, "extract.backend=resiliparse")


def test_other_inputs_in_the_same_folder_are_refused(crawl: Path, tmp_path: Path) -> None:
    run(crawl, tmp_path / "out")
    write_warc(tmp_path / "other" / "x.warc.gz", numbered_pages(3))
    with pytest.raises(FineeduError, match="was made from"):
        run(tmp_path / "other", tmp_path / "out")


def test_damaged_shard_is_named(crawl: Path, tmp_path: Path) -> None:
    run(crawl, tmp_path)
    shard = tmp_path / "documents/dump=local/00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(FineeduError, match=r"00001.parquet is damaged"):
        run(crawl, tmp_path, LENGTH)
    shard.unlink()
    run(crawl, tmp_path, LENGTH)


def test_unwritable_output(crawl: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FineeduError, match="cannot write to the output folder"):
        run(crawl, tmp_path / "file" / "out")


def test_disk_full_is_one_clear_error(crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FineeduError, match="No space left on device"):
        run(crawl, tmp_path / "out")
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob("*.parquet"))
    assert not list((tmp_path / "out").rglob(".tmp-*"))
    run(crawl, tmp_path / "out")
    run(crawl, tmp_path / "again")
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "again")


def start(crawl: Path, output: Path, *more: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fineedu", "run", "minimal", "-i", str(crawl), "-o", str(output), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)


def test_two_runs_on_one_folder(crawl: Path, tmp_path: Path) -> None:
    plan = plan_run("minimal", inputs=[str(crawl)], output=tmp_path)
    with plan.job.store.lock():
        other = start(crawl, tmp_path, stderr=subprocess.PIPE)
        message = other.communicate()[1].decode()
    assert other.returncode == 2
    assert "another run is writing to" in message


def test_ctrl_c_stops_cleanly_and_resumes(crawl: Path, tmp_path: Path) -> None:
    child = start(crawl, tmp_path / "out", "--workers", "2", stderr=subprocess.PIPE)
    while not list((tmp_path / "out").glob("runs/*/logs/shards/logs/*")):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    message = child.communicate()[1].decode()
    assert child.returncode == 130
    assert "run the same command again" in message
    assert "Traceback" not in message
    run(crawl, tmp_path / "out", workers=2)
    run(crawl, tmp_path / "again")
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "again")


@pytest.mark.slow
def test_killed_twenty_times_ends_with_the_same_bytes(real_data: Path, tmp_path: Path) -> None:
    settings = [
        "--set",
        "extract.split_mb=1",
        "--set",
        "extract.backend=resiliparse",
        "--set",
        "write.shard_mb=1",
    ]
    pages, output = real_data / "warc", tmp_path / "killed"
    inputs = [f"{pages}/pages-00.warc.gz", "-i", f"{pages}/pages-02.warc.gz", "-i", f"{pages}/real"]
    undisturbed = start(Path(inputs[0]), tmp_path / "whole", *inputs[1:], *settings, "--workers", "2")
    assert undisturbed.wait() == 0
    seconds = json.loads(next((tmp_path / "whole").glob("runs/*/timings.json")).read_text())["seconds"]["total"]
    chance, kills = random.Random(11), 0
    while kills < 20:
        child = start(Path(inputs[0]), output, *inputs[1:], *settings, "--workers", str(chance.choice([1, 2])))
        try:
            child.wait(timeout=chance.uniform(0.8, 0.8 + seconds / 4))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
            continue
        # Finished before its moment came: take some of it away, so that the next one has work again.
        for shard in list(output.rglob("*.parquet"))[:: chance.choice([2, 3])]:
            shard.unlink()
    assert start(Path(inputs[0]), output, *inputs[1:], *settings).wait() == 0
    assert tree_digest(output) == tree_digest(tmp_path / "whole")
    assert not list(output.rglob(".tmp-*"))


def test_python_api(crawl: Path, tmp_path: Path) -> None:
    result = fineedu.run("minimal", inputs=[str(crawl)], output=tmp_path, workers=1, dump="CC-TEST")
    assert result.kept > 0
    assert (result.corpus / "dump=CC-TEST" / "00000.jsonl.zst").is_file()
