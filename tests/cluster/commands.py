"""Commands of the package as processes of their own, on clusters and off them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def launch(*arguments: str | Path, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command; models are trained on one thread, whatever the machine."""
    command = [sys.executable, "-m", "fineedu", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(run: subprocess.Popen[str]) -> str:
    """Wait for a command that must end well; return what it prints."""
    told, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors
    return told
