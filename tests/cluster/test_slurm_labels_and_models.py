"""Annotation and the training of ablations on Slurm: what they write is what one machine writes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from fineedu.labels import read_labels
from tests.ablate.pools import make_pool
from tests.annotate.endpoint import Endpoint, serving
from tests.cluster.commands import end, launch
from tests.cluster.slurm import Cluster, slurm_of_tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DOCUMENTS, BATCH = 3000, 256


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from slurm_of_tests(tmp_path_factory.mktemp("slurm"))


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("documents") / "documents.parquet"
    texts = [f"Page {n} tells of subject {n % 7}." for n in range(DOCUMENTS)]
    pl.DataFrame({"id": [f"doc-{n:04d}" for n in range(DOCUMENTS)], "text": texts}).write_parquet(path)
    return path


def annotation(server: Endpoint, documents: Path, output: Path, *more: str) -> list[str | Path]:
    asked = ["--engine", "openai", "--url", server.url, "--model", "m", "--progress", "plain", "--concurrency", "8"]
    return ["annotate", "edu", "-i", documents, "-o", output, *asked, *more]


@pytest.fixture(scope="module")
def labels(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    output = tmp_path_factory.mktemp("local") / "labels.parquet"
    with serving(Endpoint()) as server:
        end(launch(*annotation(server, documents, output)))
    found = read_labels(output)
    assert found.height == DOCUMENTS and set(found["state"]) == {"ok"}
    return found


def on_slurm(*more: str) -> list[str]:
    return ["--executor", "slurm", "--tasks", "4", "--workers", "4", *more]


def test_labels_of_slurm_are_those_of_one_machine(
    slurm: Cluster, documents: Path, labels: pl.DataFrame, tmp_path: Path
) -> None:
    with serving(Endpoint()) as server:
        end(launch(*annotation(server, documents, tmp_path / "a.parquet", *on_slurm()), environment=slurm.environment))
        assert sum(server.asked.values()) == DOCUMENTS  # each task asked for its share, and for nothing twice
    assert read_labels(tmp_path / "a.parquet").equals(labels)


def until_answered(run: subprocess.Popen[str], server: Endpoint, answers: int) -> None:
    while server.answered < answers:
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.02)


def test_a_node_dies_under_an_annotation(slurm: Cluster, documents: Path, labels: pl.DataFrame, tmp_path: Path) -> None:
    with serving(Endpoint(delay=0.05)) as server:
        command = annotation(server, documents, tmp_path / "a.parquet", *on_slurm())
        run = launch(*command, environment=slurm.environment)
        until_answered(run, server, DOCUMENTS // 4)
        slurm.kill_node(0)
        end(run)
        # Only what was on its way when the node died, in two tasks of eight requests and a batch not yet stored.
        assert DOCUMENTS <= sum(server.asked.values()) <= DOCUMENTS + 2 * BATCH
    slurm.node(0)
    assert read_labels(tmp_path / "a.parquet").equals(labels)


def test_a_killed_annotation_leaves_no_job_that_pays(
    slurm: Cluster, documents: Path, labels: pl.DataFrame, tmp_path: Path
) -> None:
    with serving(Endpoint(delay=0.05)) as server:
        command = annotation(server, documents, tmp_path / "a.parquet", *on_slurm())
        run = launch(*command, environment=slurm.environment)
        until_answered(run, server, DOCUMENTS // 4)
        run.kill()
        run.communicate()
        end(launch(*command, environment=slurm.environment))
        assert sum(server.asked.values()) <= DOCUMENTS + 4 * BATCH
    assert read_labels(tmp_path / "a.parquet").equals(labels)
    states = subprocess.run(["squeue", "-h"], env=slurm.environment, capture_output=True, text=True, check=True)
    assert not states.stdout.strip()


def make_ablation(folder: Path) -> Path:
    """Two cells, two seeds: four tiny models."""
    frame = make_pool(folder / "pool.parquet", 600)
    rng = np.random.default_rng(0)
    words = [f"word{n}" for n in range(30)]
    texts = pl.Series("text", [" ".join(rng.choice(words, 50)) + "." for _ in range(frame.height)])
    frame.with_columns(texts).write_parquet(folder / "pool.parquet", row_group_size=256)
    model = {"vocabulary": 400, "width": 32, "layers": 1, "heads": 2, "context": 32}
    (folder / "base.yaml").write_text("name: base\nsignals: []\nselect: {rules: {language: language = 'en'}}\n")
    settings: dict[str, Any] = {
        "name": "tiny",
        "base": "base.yaml",
        "grid": {"select.rules.edu": {"good": "edu_score >= 2", "bad": "edu_score < 2"}},
        "train": {"tokens": 4000, "seeds": [0, 1], "model": model, "batch": 4, "held_out": 0.1},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_trained_on_slurm_as_on_one_machine(slurm: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = make_ablation(tmp_path)
    command = ["ablate", path, "-o", tmp_path / "pool.parquet"]
    end(launch(*command, "--results", tmp_path / "here"))
    there = ["--results", tmp_path / "there", "--engine", "slurm", "--workers", "4"]
    told = end(launch(*command, *there, environment=slurm.environment))
    assert told.count(": done") == 4  # each was trained by a task
    logs = tmp_path / "there" / "train" / "logs"
    assert len(list((logs / "completions").iterdir())) == 4
    assert int((logs / "slurm_job_id").read_text()) > 0

    def found(folder: Path) -> dict[str, Any]:
        models = {str(file.relative_to(folder)): json.loads(file.read_text()) for file in folder.rglob("seed-?.json")}
        return models | {"all": json.loads((folder / "models.json").read_text())}

    ours, theirs = found(tmp_path / "here" / "train"), found(tmp_path / "there" / "train")
    assert len(ours) == 5
    assert ours == theirs
