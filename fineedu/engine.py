"""Running steps over tasks, on this machine, a Ray cluster or a Slurm one, through datatrove's executors."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from copy import copy
from multiprocessing import get_context
from pathlib import Path
from select import select
from threading import Thread
from typing import Any

from datatrove.executor import LocalPipelineExecutor, base
from datatrove.pipeline.base import PipelineStep
from datatrove.utils import logging as datatrove_logging
from datatrove.utils.stats import Stats
from loguru import logger

from fineedu.errors import FineeduError
from fineedu.recipe import EngineConfig, EngineName

#: An engine by its name alone, or with its settings.
Engine = EngineName | EngineConfig


def default_workers() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0))


def _log_to_file(logging_dir: Any, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
    """Stand in for datatrove's task logger: its file, without its second copy on the console."""
    logger.remove()
    logfile = logging_dir.open(f"logs/task_{rank:05d}.log", "w")
    logger.add(logfile, level="DEBUG", diagnose=False)  # values of variables may be keys, or pages
    return logfile


def silence_console() -> None:
    """Keep datatrove's log lines off the terminal of this process; the logs are in the run's folder."""
    base.add_task_logger = _log_to_file
    datatrove_logging.setup_default_logger = logger.remove
    logger.remove()


#: What this worker process runs ranks of. Sent once: with 90,000 shards it is 16 MB, 2 s to send for every task.
_engine: LocalEngine | None = None


def _start_worker(run: int, engine: LocalEngine) -> None:
    """Set a worker process up: it ends with the run's process, and leaves Ctrl-C to it."""
    global _engine
    _engine = engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    if hasattr(os, "pidfd_open"):
        Thread(target=_end_with, args=(run,), daemon=True).start()


def _run_rank(rank: int) -> None:
    """Run one rank of what the worker process was set up with."""
    assert _engine is not None
    _engine.run_rank(rank)


def _end_with(process: int) -> None:
    """Wait for the end of a process, then end this one.

    A worker's parent is the fork server, which outlives a killed run for as long as one of its workers does.
    """
    with suppress(ProcessLookupError):
        select([os.pidfd_open(process)], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


def end_with_parent() -> None:
    """Have this process killed when its parent ends: nothing may write behind the next run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


class LocalEngine(LocalPipelineExecutor):  # type: ignore[misc]
    """datatrove's local executor on the standard library's process pool.

    datatrove's own waits for ever for a worker that the kernel killed for want of memory, and leaves its manager
    process behind when it is killed itself; this one notices the first and has none of the second.
    """

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        silence_console()  # here, because it must happen in the worker's process
        return super()._run_for_rank(rank, local_rank, node_rank)

    def run_rank(self, rank: int) -> None:
        """Run one rank in this process, with statistics of its own; the steps and what they loaded are shared."""
        steps = list(self.pipeline)  # type: ignore[has-type]
        self.pipeline = [copy(step) for step in steps]
        for step in self.pipeline:
            step.stats = Stats(step.stats.name)
        try:
            self._run_for_rank(rank)
        finally:
            self.pipeline = steps

    def run(self) -> None:
        """Run all ranks.

        Raises:
            FineeduError: a worker was killed; or whatever a task raised.
        """
        if self.workers == 1:
            for rank in range(self.tasks):
                self.run_rank(rank)
            return
        # Each worker's share of the processors: 16 workers with 16 Polars threads each are slower than with one.
        os.environ["POLARS_MAX_THREADS"] = str(max(default_workers() // self.workers, 1))
        pool = ProcessPoolExecutor(
            self.workers, get_context("forkserver"), initializer=_start_worker, initargs=(os.getpid(), self)
        )
        try:
            for future in as_completed([pool.submit(_run_rank, rank) for rank in range(self.tasks)]):
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


#: errors of a disk that is full, over quota or read-only
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


#: below this Python's own fork server fails, with a traceback of its own; a run with two workers was seen to take 40
_FEWEST_HANDLES = 64


def _check_handles() -> None:
    """Refuse to start where so few files may be open that the workers cannot be reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FEWEST_HANDLES:
        return
    if hard == resource.RLIM_INFINITY or hard >= _FEWEST_HANDLES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FEWEST_HANDLES, hard))
        return
    raise FineeduError(f"Too many open files: {hard} may be open here, workers need {_FEWEST_HANDLES}: ulimit -n 1024")


def run_tasks(steps: Sequence[PipelineStep], tasks: int, workers: int, engine: Engine, logs: Path) -> None:
    """Run steps for every rank and come back when all have ended well.

    What is already made is skipped by the steps themselves, shard by shard, and not by datatrove's per-rank marks:
    a later run may have other tasks.

    Args:
        steps: datatrove steps; the first makes its own input.
        tasks: how many ranks share the work.
        workers: how many run at a time.
        engine: where; a name, or settings.
        logs: folder for a log file a task, seen by every machine that runs tasks.

    Raises:
        FineeduError: a task failed, or what the engine needs is missing.
    """
    silence_console()
    _check_handles()
    tasks = max(tasks, 1)
    workers = max(min(workers, tasks), 1)
    config = engine if isinstance(engine, EngineConfig) else EngineConfig(name=engine)
    executor = _executor(config, list(steps), tasks, workers, logs)
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
    # The executors of clusters return normally when tasks failed; the marks tell.
    missing = [rank for rank in range(tasks) if not (logs / "completions" / f"{rank:05d}").exists()]
    if missing:
        raise FineeduError(_failure(logs, missing))


def _executor(config: EngineConfig, steps: list[PipelineStep], tasks: int, workers: int, logs: Path) -> Any:
    if config.name == "ray":
        from fineedu.cluster.ray import make_ray_engine

        return make_ray_engine(config, steps, tasks, workers, logs)
    if config.name == "slurm":
        from fineedu.cluster.slurm import make_slurm_engine

        return make_slurm_engine(config, steps, tasks, workers, logs)
    return LocalEngine(steps, tasks=tasks, workers=workers, logging_dir=str(logs), skip_completed=False)


def _failure(logs: Path, ranks: Sequence[int]) -> str:
    """Return the first failed task's own message where its log tells one."""
    path = logs / "logs" / f"task_{ranks[0]:05d}.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    told = [line.partition("FineeduError: ")[2] for line in lines if "FineeduError: " in line]
    return told[-1] if told else f"{len(ranks)} of the tasks failed; the first one's log is {path}"
