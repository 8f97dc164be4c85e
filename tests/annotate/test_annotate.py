"""Whole annotations through the command, against a real HTTP server."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from fineedu.labels import read_labels
from tests.annotate.endpoint import Endpoint, serving
from tests.conftest import Cli


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """1,200 documents, of which one is blank and two share a text."""
    texts = [f"Page {n} tells of subject {n % 7}." for n in range(1200)]
    texts[5], texts[7] = "  \n", texts[6]
    path = tmp_path / "documents.parquet"
    pl.DataFrame({"id": [f"doc-{n:04d}" for n in range(1200)], "text": texts}).write_parquet(path)
    return path


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with serving(Endpoint()) as endpoint:
        yield endpoint


def arguments(server: Endpoint, documents: Path, output: Path, rubric: str = "edu-topic") -> list[str]:
    return [
        *("annotate", rubric, "-i", str(documents), "-o", str(output)),
        *("--engine", "openai", "--url", server.url, "--model", "m", "--progress", "plain"),
    ]


def test_every_document_gets_its_vote_and_none_is_paid_twice(
    cli: Cli, server: Endpoint, documents: Path, tmp_path: Path
) -> None:
    output = tmp_path / "labels" / "x.parquet"
    done = cli(*arguments(server, documents, output))
    assert done.returncode == 0, done.stderr
    assert server.answered == 1198  # of 1,200 one is blank, and two have the same text
    votes = read_labels(output)
    assert votes["id"].to_list() == [f"doc-{n:04d}" for n in range(1200) if n != 5]
    assert votes["state"].unique().to_list() == ["ok"]
    assert votes["score"].is_between(0, 5).all() and votes["expected_score"].null_count() == 0
    assert votes["rubric"].unique().to_list() == ["edu-topic"]
    raw = pl.read_parquet(output)
    assert raw["choice_position"].n_unique() == 24 and set(raw["n_choices"]) == {24}
    assert "1 without text" in done.stdout and "1,199" in done.stdout
    before = output.read_bytes()
    again = cli(*arguments(server, documents, output))
    assert again.returncode == 0 and server.answered == 1198
    assert "1,199 from the cache" in again.stdout
    assert output.read_bytes() == before
    assert [path.name for path in output.parent.iterdir() if not path.name.startswith(".")] == ["x.parquet"]


def test_bytes_do_not_depend_on_tasks(cli: Cli, server: Endpoint, documents: Path, tmp_path: Path) -> None:
    for name, more in (("one", ()), ("two", ("--tasks", "3", "--workers", "2"))):
        options = [*arguments(server, documents, tmp_path / f"{name}.parquet"), *more, "--cache", str(tmp_path / name)]
        assert cli(*options).returncode == 0
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.slow
def test_killed_at_any_moment_it_pays_for_nothing_twice(documents: Path, tmp_path: Path) -> None:
    """Kill -9 at random moments: what was answered before is not asked again, but for what was in flight."""
    log, output, concurrency = tmp_path / "asked.log", tmp_path / "x.parquet", 8
    generator = random.Random(1)
    here = [sys.executable, "-m", "tests.annotate.endpoint", str(log), "0.02"]
    with subprocess.Popen(here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdin is not None
        url = server.stdout.readline().strip()
        command = [sys.executable, "-m", "fineedu", *arguments(Endpoint(), documents, output)]
        command[command.index("--url") + 1] = url
        command += ["--concurrency", str(concurrency)]
        kills = 0
        while True:
            already = len(log.read_text().split()) if log.exists() else 0
            until = already + generator.randrange(20, 400)
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
                while run.poll() is None and (not log.exists() or len(log.read_text().split()) < until):
                    time.sleep(0.005)
                if run.poll() is not None:
                    break
                os.kill(run.pid, signal.SIGKILL)
                run.wait()
            kills += 1
            assert not output.exists() or read_labels(output).height == 1199
        assert run.returncode == 0
        server.stdin.close()
    asked = Counter(log.read_text().split())
    assert kills >= 2 and len(asked) == 1198
    assert asked.total() - len(asked) <= kills * concurrency
    assert read_labels(output).height == 1199


def test_the_budget_is_a_hard_stop_and_more_of_it_goes_on(
    cli: Cli, server: Endpoint, documents: Path, tmp_path: Path
) -> None:
    output = tmp_path / "x.parquet"
    stopped = cli(*arguments(server, documents, output), "--max-tokens", "100000")
    assert stopped.returncode == 1 and "stopped at the budget" in stopped.stderr
    votes = read_labels(output)
    assert 20 < votes.height < 1199
    assert votes["prompt_tokens"].sum() + votes["completion_tokens"].sum() <= 100_000
    paid = server.answered
    done = cli(*arguments(server, documents, output))
    assert done.returncode == 0 and server.answered == 1198 and read_labels(output).height == 1199
    assert paid < 1198


def test_estimate_asks_nobody(cli: Cli, server: Endpoint, documents: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("models: {m: {gpu_hour: 3.6, tokens_per_second: 1000}}")
    options = [*arguments(server, documents, tmp_path / "x.parquet"), "--prices", str(prices), "--estimate"]
    guessed = cli(*options)
    assert guessed.returncode == 0 and server.answered == 0
    assert "guessed" in guessed.stdout and "1,200" in guessed.stdout
    assert cli(*options[:-1], "--limit", "600").returncode == 0
    measured = cli(*options)
    assert "by the ratio" in measured.stdout and "599 of them in the cache" in measured.stdout
    told = next(line for line in measured.stdout.splitlines() if line.startswith("tokens"))
    prompts = int(told.split()[1].replace(",", ""))
    assert cli(*options[:-1]).returncode == 0
    later = read_labels(tmp_path / "x.parquet").filter(pl.col("id") >= "doc-0600")
    assert prompts == pytest.approx(later["prompt_tokens"].sum(), rel=0.02)


def test_samples_are_votes_of_their_own(cli: Cli, server: Endpoint, documents: Path, tmp_path: Path) -> None:
    options = [*arguments(server, documents, tmp_path / "x.parquet", "edu"), "--limit", "20", "--samples", "3"]
    assert "same answer" in cli(*options).stderr
    assert cli(*options, "--temperature", "0.7").returncode == 0
    votes = read_labels(tmp_path / "x.parquet")
    assert votes.group_by("id").agg(pl.col("sample").sort()).get_column("sample").to_list() == [[0, 1, 2]] * 19
    assert {body["seed"] for body in server.bodies} == {1, 2, 3}
    assert {body["temperature"] for body in server.bodies} == {0.7}


def test_failures_are_states_in_the_label_file(cli: Cli, documents: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.parquet"
    with serving(Endpoint(moods=("refuse",))) as server:
        done = cli(*arguments(server, documents, output), "--limit", "30")
    assert done.returncode == 0 and "refusal 29 (100.0%)" in done.stdout
    votes = read_labels(output)
    assert votes["state"].to_list() == ["refusal"] * 29 and votes["score"].null_count() == 29


def test_json_lines_and_stores_are_documents_too(cli: Cli, server: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "One."}\n\n{"id": "b", "text": "Two."}\n')
    folder = tmp_path / "store" / "documents" / "dump=X"
    folder.mkdir(parents=True)
    pl.DataFrame({"id": ["c"], "text": ["Three."]}).write_parquet(folder / "00000.parquet")
    options = [
        *arguments(server, tmp_path / "a.jsonl", tmp_path / "x.parquet", "quality"),
        "-i",
        str(tmp_path / "store"),
    ]
    assert cli(*options).returncode == 0
    assert read_labels(tmp_path / "x.parquet")["id"].to_list() == ["a", "b", "c"]


def test_injection_test_tells_how_far_scores_move(cli: Cli, tmp_path: Path) -> None:
    class Gullible(Endpoint):
        """Gives 5 wherever a page says so, and 1 elsewhere."""

        async def _respond(self, request, body, mood):  # type: ignore[no-untyped-def]
            self.scores = {"m": 5 if " 5" in body["messages"][1]["content"] else 1}
            return await super()._respond(request, body, mood)

    with serving(Gullible()) as server:
        options = arguments(server, tmp_path, tmp_path / "x.parquet", "edu")
        done = cli(*options, "--injection-test", "--concurrency", "1")
    assert done.returncode == 0, done.stderr
    assert "points towards the order [" in done.stdout
    points = float(done.stdout.split("scores ")[1].split()[0])
    assert 1.0 < points <= 4.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--engine", "openai", "--model", "m"), "needs --url"),
        (("--url", "http://127.0.0.1:9/v1", "--engine", "openai"), "needs --model"),
        (("--engine", "llamacpp", "--model", "nothing.gguf"), "no GGUF file at nothing.gguf"),
        (("--engine", "llamacpp", "--max-cost", "1", "--prices", "none.yaml"), "cannot read the prices none.yaml"),
        (("--panel", "none.yaml"), "cannot read the panel none.yaml"),
        (("-o", "x.csv"), "written as .parquet"),
        (("-i", "missing"), "no documents at missing"),
        (("--vllm-arg", "x"), "expected name=value"),
    ],
)
def test_mistakes_are_one_line(cli: Cli, tmp_path: Path, change: tuple[str, ...], told: str) -> None:
    done = cli("annotate", "edu", *change)
    assert done.returncode == 2 and told in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_damaged_documents_are_named(cli: Cli, server: Endpoint, tmp_path: Path) -> None:
    for name, content, told in (
        ("a.jsonl", b'{"id": "a"}\n', "a.jsonl:1"),
        ("b.parquet", b"PAR1 no", "b.parquet"),
        ("c.jsonl.gz", b"no gzip", "c.jsonl.gz"),
    ):
        (tmp_path / name).write_bytes(content)
        done = cli(*arguments(server, tmp_path / name, tmp_path / "x.parquet"))
        assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "x.parquet").exists()


@pytest.mark.slow
def test_ray_gives_the_same_bytes(cli: Cli, server: Endpoint, documents: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'fineedu[ray]'")
    for name, more in (("local", ()), ("ray", ("--executor", "ray", "--tasks", "2", "--workers", "2"))):
        options = [*arguments(server, documents, tmp_path / f"{name}.parquet"), *more, "--cache", str(tmp_path / name)]
        done = cli(*options)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "local.parquet").read_bytes() == (tmp_path / "ray.parquet").read_bytes()


def test_sample_chooses_over_the_scores(cli: Cli, server: Endpoint, tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "id": [f"doc-{n:04d}" for n in range(600)],
            "host": [f"host{n % 200}.example" for n in range(600)],
            "text": [f"Page {n}." for n in range(600)],
            "edu_score": [4.0 if n % 60 == 0 else 1.0 for n in range(600)],
        }
    ).write_parquet(tmp_path / "pool.parquet")
    output = tmp_path / "labels" / "x.parquet"
    done = cli(*arguments(server, tmp_path / "pool.parquet", output, "quality"), "--sample", "20")
    assert done.returncode == 0, done.stderr
    votes = read_labels(output)
    assert votes.height == 20
    rare = votes["id"].str.slice(4).cast(pl.Int64) % 60 == 0
    assert rare.sum() == 10  # one in sixty of the pool, half of the sample
    assert (output.parent / "x.sample.parquet").exists()
