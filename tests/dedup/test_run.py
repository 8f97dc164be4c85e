from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from fineedu.errors import FineeduError
from fineedu.runner import execute, plan_run
from fineedu.runs import explain, find_run
from tests.archives import html_page, numbered_pages, response, tree_digest, write_warc

STORY = "The beekeeper opened the hive slowly because the bees were calm and the morning was warm. "
COPIES = [
    "dedup.by=[minhash, exact]",
    "dedup.keep=longest",
    "select.rules.copy=dup_keep",
    "write.columns=[id, url, dup_size, text]",
    "write.format=parquet",
]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two archives: 12 pages of their own, and one story on five hosts, once with an ending."""
    folder = tmp_path_factory.mktemp("copies")
    for n in range(2):
        story = [
            response(html_page(STORY * 6 + " ".join(f"word{i}" for i in range(60))), f"http://m{n}{k}.example/story")
            for k in range(2)
        ]
        write_warc(folder / f"part-{n}.warc.gz", numbered_pages(6, f"own{n}.example") + story)
    ending = STORY * 6 + " ".join(f"word{i}" for i in range(60)) + " The end came late."
    write_warc(folder / "part-2.warc.gz", [response(html_page(ending), "http://long.example/story")])
    return folder


def run(copies: Path, output: Path, *overrides: str, **arguments: int):
    plan = plan_run("minimal", inputs=[str(copies)], output=output, overrides=[*COPIES, *overrides])
    return execute(plan, **arguments)  # type: ignore[arg-type]


def test_one_of_each_cluster_is_selected_and_the_rest_told(copies: Path, tmp_path: Path) -> None:
    result = run(copies, tmp_path, workers=1)
    corpus = pl.read_parquet(result.corpus / "**/*.parquet")
    assert corpus.filter(pl.col("dup_size") == 5)["url"].to_list() == ["http://long.example/story"]
    assert result.dropped["copy"] >= 4
    manifest = json.loads(result.manifest.read_text())
    assert manifest["made_by"]["dedup"]["bands"] == 14
    gone = pl.read_parquet(tmp_path / "signals/dedup/**/*.parquet").filter(~pl.col("dup_keep"))
    found = explain(find_run(tmp_path, None), gone["id"][0])
    assert not found.kept
    assert found.values["dup_of"] is not None
    assert [verdict.holds for verdict in found.verdicts if verdict.rule == "copy"] == [False]


def test_bytes_do_not_depend_on_workers_and_a_second_run_only_looks(copies: Path, tmp_path: Path) -> None:
    for name, workers, tasks in (("a", 1, None), ("b", 2, 2)):
        run(copies, tmp_path / name, workers=workers, tasks=tasks)
    first = tree_digest(tmp_path / "a")
    assert first == tree_digest(tmp_path / "b")
    assert any("dup" in str(name) for name in first)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a" / "signals").rglob("*.parquet")}
    run(copies, tmp_path / "a", workers=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_host_that_loses_too_much_stops_before_selection(copies: Path, tmp_path: Path) -> None:
    with pytest.raises(FineeduError, match="more than 50% of 6 host"):
        run(copies, tmp_path, "dedup.max_host_loss=0.5", "dedup.host_documents=1", workers=1)
    assert not (tmp_path / "corpus").exists()
    assert (tmp_path / "dedup" / "report.json").exists()


def test_mistakes_in_the_block_are_named(copies: Path, tmp_path: Path) -> None:
    for setting, message in (
        ("dedup.keep=best", "dedup.score: keep: best needs the signal 'edu_score'"),
        ("dedup.bands=0", "dedup.bands"),
        ("dedup.band=3", "dedup.band: unknown key; known are by, shingle"),
        ("dedup.by=[simhash]", "dedup.by"),
    ):
        with pytest.raises(FineeduError) as error:
            plan_run("minimal", inputs=[str(copies)], output=tmp_path, overrides=[setting])
        assert message in str(error.value)
    with pytest.raises(FineeduError, match="dup_keep"):
        plan_run("minimal", inputs=[str(copies)], output=tmp_path, overrides=["select.rules.copy=dup_keep"])


@pytest.mark.slow
def test_ray_gives_the_same_bytes(copies: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'fineedu[ray]'")
    settings = [argument for setting in [*COPIES, "dedup.lines.documents=2"] for argument in ("--set", setting)]
    command = [sys.executable, "-m", "fineedu", "run", "minimal", "-i", str(copies), "-o", str(tmp_path / "ray")]
    command += [*settings, "--engine", "ray", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    run(copies, tmp_path / "local", "dedup.lines.documents=2", workers=1)
    assert tree_digest(tmp_path / "ray") == tree_digest(tmp_path / "local")


def test_a_shared_index_in_use_is_told(copies: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    hold = "import sys; from pathlib import Path; from fineedu.store import Store\n"
    hold += "with Store(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(index)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FineeduError, match=r"another run is writing to .*index"):
            run(copies, tmp_path / "out", f"dedup.index={index}", workers=1)
        holder.communicate("")
    run(copies, tmp_path / "out", f"dedup.index={index}", workers=1)
    assert len(list(index.rglob("*.keys"))) == 3
