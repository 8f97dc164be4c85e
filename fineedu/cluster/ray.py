"""Tasks on a Ray cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datatrove.executor.ray import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from fineedu.engine import end_with_parent, silence_console
from fineedu.errors import FineeduError
from fineedu.recipe import EngineConfig


class RayEngine(RayPipelineExecutor):  # type: ignore[misc]
    """datatrove's Ray executor. A task whose node died is run again, three times at most, on another one."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        # The task runs in a child of Ray's worker, which the death of the worker would not end.
        end_with_parent()
        silence_console()
        return super()._run_for_rank(rank, local_rank, node_rank)


def make_ray_engine(
    config: EngineConfig, steps: list[PipelineStep], tasks: int, workers: int, logs: Path
) -> RayPipelineExecutor:
    """Connect to the cluster of ``RAY_ADDRESS`` or of this machine, or start one here, and return the executor.

    ``RAY_ADDRESS=local`` always starts one, whatever cluster runs on this machine.

    Raises:
        FineeduError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise FineeduError("--engine ray needs Ray: pip install 'fineedu[ray]'") from error
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        new: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False}
        if os.environ.get("RAY_ADDRESS") == "local":
            ray.init(**new, **quiet)
        else:
            try:
                ray.init(address="auto", **quiet)
            except ConnectionError:
                ray.init(**new, **quiet)
    return RayEngine(
        steps,
        tasks=tasks,
        workers=workers,
        logging_dir=str(logs),
        skip_completed=False,
        cpus_per_task=config.cpus,
        mem_per_cpu_gb=config.memory_gb / config.cpus,
        gpus_per_task=config.gpus,
    )
