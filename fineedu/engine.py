"""Running steps over tasks, on this machine or on a Ray cluster, through datatrove's executors."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from copy import deepcopy
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from datatrove.executor import LocalPipelineExecutor, base
from datatrove.pipeline.base import PipelineStep
from datatrove.utils import logging as datatrove_logging
from loguru import logger

from fineedu.errors import FineeduError

EngineName = Literal["local", "ray"]


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0))


def _log_to_file(logging_dir: Any, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
    """Stand in for datatrove's task logger: its file, without its second copy on the console."""
    logger.remove()
    logfile = logging_dir.open(f"logs/task_{rank:05d}.log", "w")
    logger.add(logfile, level="DEBUG")
    return logfile


def silence_console() -> None:
    """Keep datatrove's log lines off the terminal of this process; the logs are in the run's folder."""
    base.add_task_logger = _log_to_file
    datatrove_logging.setup_default_logger = logger.remove
    logger.remove()


def _start_worker() -> None:
    """Set a worker process up: it ends with its parent, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A killed run must not leave workers writing behind the next one. 1 is PR_SET_PDEATHSIG (Linux).
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class LocalEngine(LocalPipelineExecutor):  # type: ignore[misc]
    """datatrove's local executor on the standard library's process pool.

    datatrove's own waits for ever for a worker that the kernel killed for want of memory, and leaves its manager
    process behind when it is killed itself; this one notices the first and has none of the second.
    """

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        silence_console()  # here, because it must happen in the worker's process
        return super()._run_for_rank(rank, local_rank, node_rank)

    def run(self) -> None:
        """Run all ranks.

        Raises:
            FineeduError: a worker was killed; or whatever a task raised.
        """
        if self.workers == 1:
            pipeline = list(self.pipeline)  # type: ignore[has-type]
            for rank in range(self.tasks):
                self.pipeline = deepcopy(pipeline)  # each rank has its own statistics
                self._run_for_rank(rank)
            return
        # Each worker's share of the processors: 16 workers with 16 Polars threads each are slower than with one.
        os.environ["POLARS_MAX_THREADS"] = str(max(default_workers() // self.workers, 1))
        pool = ProcessPoolExecutor(self.workers, get_context("forkserver"), initializer=_start_worker)
        try:
            for future in as_completed([pool.submit(self._run_for_rank, rank) for rank in range(self.tasks)]):
                future.result()
        except BrokenProcessPool as error:
            raise FineeduError(
                "a worker process was killed, most likely for want of memory: run the same command again with fewer "
                "--workers; it resumes"
            ) from error
        except BaseException:
            for worker in list((pool._processes or {}).values()):
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _ray_executor(steps: list[PipelineStep], tasks: int, workers: int, logs: str) -> Any:
    try:
        import ray
        from datatrove.executor.ray import RayPipelineExecutor
    except ImportError as error:
        raise FineeduError("--engine ray needs Ray: pip install 'fineedu[ray]'") from error
    if not ray.is_initialized():
        # RAY_ADDRESS, or a cluster on this machine; a new local one where there is neither.
        try:
            ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
        except ConnectionError:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return RayPipelineExecutor(
        steps, tasks=tasks, workers=workers, logging_dir=logs, skip_completed=False, mem_per_cpu_gb=1
    )


#: errors of a disk that is full, over quota or read-only
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def run_tasks(steps: Sequence[PipelineStep], tasks: int, workers: int, engine: EngineName, logs: Path) -> None:
    """Run steps for every rank and come back when all have ended well.

    What is already made is skipped by the steps themselves, shard by shard, and not by datatrove's per-rank marks:
    a later run may have other tasks.

    Args:
        steps: datatrove steps; the first makes its own input.
        tasks: how many ranks share the work.
        workers: how many run at a time.
        engine: where.
        logs: folder for a log file a task.

    Raises:
        FineeduError: a task failed, or the engine's package is missing.
    """
    silence_console()
    tasks = max(tasks, 1)
    workers = max(min(workers, tasks), 1)
    if engine == "ray":
        executor = _ray_executor(list(steps), tasks, workers, str(logs))
    else:
        executor = LocalEngine(list(steps), tasks=tasks, workers=workers, logging_dir=str(logs), skip_completed=False)
    for mark in (logs / "completions").glob("*"):
        mark.unlink()
    try:
        executor.run()
    except OSError as error:
        if error.errno not in _DISK:
            raise
        # Not from a step, which names its file: from datatrove's log and statistics of a task.
        raise FineeduError(
            f"cannot write to {logs}: {error.strerror}. Mend that and run the same command again: it resumes."
        ) from error
    # RayPipelineExecutor returns normally when tasks failed; the marks tell.
    missing = [rank for rank in range(tasks) if not (logs / "completions" / f"{rank:05d}").exists()]
    if missing:
        raise FineeduError(_failure(logs, missing))


def _failure(logs: Path, ranks: Sequence[int]) -> str:
    """Return the first failed task's own message where its log tells one."""
    path = logs / "logs" / f"task_{ranks[0]:05d}.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    told = [line.partition("FineeduError: ")[2] for line in lines if "FineeduError: " in line]
    return told[-1] if told else f"{len(ranks)} of the tasks failed; the first one's log is {path}"
