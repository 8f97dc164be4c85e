"""Real models behind every engine: SmolLM2-135M through llama.cpp and through vLLM, offline and as a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import psutil
import pytest

from fineedu.labels import read_labels
from tests.conftest import ROOT, Cli

RUBRIC = """
instructions: How much does this text teach? 0 is nothing, 5 is very much.
scale: {min: 0, max: 5}
topics:
- {slug: nature, title: Nature, about: plants and animals}
- {slug: trade, title: Trade, about: shops and prices}
justification_chars: 60
sampling: {max_tokens: 80}
"""
TEXTS = [
    "Plants make sugar from light, water and carbon dioxide. This is called photosynthesis.",
    "Buy two shoes and get the third for free! Only today, only here.",
    "The heart of a fish has two chambers, that of a frog three, and that of a bird four.",
    "Cheap phones, cheap cases, cheap chargers. Delivery is free.",
]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "small.yaml").write_text(RUBRIC)
    pl.DataFrame({"id": [f"d{n}" for n in range(4)], "text": TEXTS}).write_parquet(tmp_path / "d.parquet")
    return [
        "annotate",
        str(tmp_path / "small.yaml"),
        "-i",
        str(tmp_path / "d.parquet"),
        "-o",
        str(tmp_path / "x.parquet"),
    ]


@pytest.fixture(scope="session")
def vllm() -> tuple[str, str]:
    """The interpreter that has vLLM, and the folder of a model: made by ``make vllm``."""
    python = Path(os.environ.get("FINEEDU_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))
    model = python.parent.parent / "smollm2"
    if not (model / "config.json").exists():
        pytest.skip(f"no vLLM at {python} (make vllm)")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return str(python), str(model)


def check_votes(path: Path, engine: str) -> None:
    votes = read_labels(path)
    assert votes["id"].to_list() == ["d0", "d1", "d2", "d3"]
    assert set(votes["engine"]) == {engine}
    # A model of 135 million parameters may run on until its tokens end; what it says within the schema is valid.
    assert set(votes["state"]) <= {"ok", "abstain", "truncated"} and "ok" in set(votes["state"])
    ok = votes.filter(state="ok")
    assert ok["score"].is_between(0, 5).all() and ok["expected_score"].is_between(0, 5).all()
    assert set(ok["topic"]) <= {"nature", "trade"}
    assert ok["justification"].str.len_chars().is_between(1, 60).all()
    assert (votes["prompt_tokens"] > 50).all() and (votes["completion_tokens"] > 5).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_llamacpp_answers_in_process(cli: Cli, arguments: list[str], tmp_path: Path) -> None:
    done = cli(*arguments, "--engine", "llamacpp", "--context", "1024")
    assert done.returncode == 0, done.stderr
    check_votes(tmp_path / "x.parquet", "llamacpp")
    assert read_labels(tmp_path / "x.parquet")["annotator"][0].startswith("SmolLM2-135M-Instruct")
    assert "4 from the cache" in cli(*arguments, "--engine", "llamacpp", "--context", "1024").stdout


def left_over(mark: str) -> list[str]:
    """Processes of a run, which carry its mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FINEEDU_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["vllm", "vllm-server"])
def test_vllm_answers(arguments: list[str], tmp_path: Path, vllm: tuple[str, str], engine: str) -> None:
    python, model = vllm
    command = [sys.executable, "-m", "fineedu", *arguments, "--engine", engine, "--model", model]
    command += ["--vllm-python", python, "--context", "1024", "--concurrency", "4"]
    marked = os.environ | {"FINEEDU_TEST": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, cwd=tmp_path, env=marked)
    assert done.returncode == 0, done.stderr[-2000:]
    check_votes(tmp_path / "x.parquet", engine)
    assert not left_over(str(tmp_path)), "a process of vLLM stays behind"


@pytest.mark.parametrize("engine", ["vllm", "vllm-server"])
def test_an_interpreter_without_vllm_is_one_clear_error(cli: Cli, arguments: list[str], engine: str) -> None:
    done = cli(*arguments, "--engine", engine, "--model", "m", "--vllm-python", sys.executable, "--progress", "json")
    assert done.returncode == 2 and "has no vLLM" in done.stderr and "Traceback" not in done.stderr
    gone = cli(*arguments, "--engine", engine, "--model", "m", "--vllm-python", "/nowhere/python")
    assert gone.returncode == 2 and "cannot start /nowhere/python" in gone.stderr


def test_a_file_that_is_no_model_is_one_clear_error(cli: Cli, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF and nothing")
    done = cli(*arguments, "--engine", "llamacpp", "--model", str(tmp_path / "bad.gguf"))
    assert done.returncode == 2 and "cannot load" in done.stderr and "Traceback" not in done.stderr
