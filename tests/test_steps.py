"""The steps inside somebody's own datatrove pipeline, and the same run on Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.writers import JsonlWriter

from fineedu.extract.step import ReadPages
from fineedu.runner import execute, plan_run
from fineedu.select.step import KeepSelected
from fineedu.signals.exact import ExactSignals
from fineedu.signals.heuristics import HeuristicSignals
from fineedu.signals.step import AddSignals
from tests.archives import tree_digest


def test_in_a_datatrove_pipeline(crawl: Path, tmp_path: Path) -> None:
    heuristics = HeuristicSignals()
    pipeline = [
        ReadPages([str(crawl)]),
        AddSignals([heuristics, ExactSignals()], batch_documents=7),
        KeepSelected({"words": "gopher_words >= 100"}, dict(heuristics.schema)),
        JsonlWriter(str(tmp_path / "out"), compression=None),
    ]
    LocalPipelineExecutor(pipeline, tasks=2, workers=1, logging_dir=str(tmp_path / "logs")).run()
    rows = [json.loads(line) for path in (tmp_path / "out").iterdir() for line in path.read_text().splitlines()]
    assert 10 < len(rows) < 61
    assert all(row["metadata"]["gopher_words"] >= 100 for row in rows)
    assert all(len(row["metadata"]["exact_key"]) == 32 for row in rows)
    stats = json.loads((tmp_path / "logs" / "stats.json").read_text())
    assert stats[2]["stats"]["kept"] == len(rows)
    assert stats[2]["stats"]["dropped_words"] == 61 - len(rows)


def test_annotator_keeps_documents_and_their_order() -> None:
    documents = [
        Document(text=f"Document number {n} about plants.", id=str(n), metadata={"kept": n}) for n in range(20)
    ]
    found = list(AddSignals([ExactSignals()], batch_documents=6).run(iter(documents)))
    assert [(document.id, document.metadata["kept"]) for document in found] == [(str(n), n) for n in range(20)]
    assert len({document.metadata["exact_key"] for document in found}) == 20


@pytest.mark.slow
def test_ray_gives_the_same_bytes(crawl: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'fineedu[ray]'")
    command = [
        sys.executable,
        "-m",
        "fineedu",
        "run",
        "fineweb",
        "-i",
        str(crawl),
        "-o",
        str(tmp_path / "ray"),
        "--engine",
        "ray",
        "--workers",
        "2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    execute(plan_run("fineweb", inputs=[str(crawl)], output=tmp_path / "local"), workers=1)
    assert tree_digest(tmp_path / "ray") == tree_digest(tmp_path / "local")
