"""Choices that several commands offer."""

from __future__ import annotations

from enum import StrEnum


class Executor(StrEnum):
    """Where tasks run."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


class ProgressStyle(StrEnum):
    """How progress is shown."""

    auto = "auto"
    rich = "rich"
    plain = "plain"
    json = "json"
