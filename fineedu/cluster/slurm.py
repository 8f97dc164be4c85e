"""Tasks on a Slurm cluster: an array job that the run waits for."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from fineedu.engine import silence_console
from fineedu.errors import FineeduError
from fineedu.recipe import EngineConfig

#: Seconds between looks at the queue.
POLL_SECONDS = 2.0
#: How often ranks whose machine was lost are submitted again.
ROUNDS = 4
#: Tasks of an array, Slurm's default limit; more ranks than that share tasks.
ARRAY_TASKS = 1000
#: States in which the machine, not the task, failed; Slurm itself requeues some of them.
_LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", "SPECIAL_EXIT")
_NO_QUEUE_SECONDS = 600.0


def _slurm(*command: str) -> str:
    """Run a command of Slurm and return what it prints.

    Raises:
        FineeduError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise FineeduError(f"{command[0]} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return done.stdout


def array_states(job_id: str) -> dict[int, tuple[str, str]] | None:
    """Return array index to state and exit code (``code:signal``) of a job; None where Slurm knows it no more.

    Raises:
        FineeduError: the controller does not answer.
    """
    done = subprocess.run(["scontrol", "show", "job", "-o", job_id], capture_output=True, text=True)
    if done.returncode:
        if "Invalid job id" in done.stderr:
            return None
        raise FineeduError(f"Slurm does not answer: {done.stderr.strip()}")
    states = {}
    for line in done.stdout.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S+)", line))
        if (
            fields.get("JobState") == "PENDING"
            and fields.get("Reason") == "BeginTime"
            and fields.get("Restarts") != "0"
        ):
            # Slurm lets a task whose machine was lost wait for two minutes: another machine can have it now.
            subprocess.run(["scontrol", "update", f"JobId={fields['JobId']}", "StartTime=now"], capture_output=True)
        for index in _indexes(fields.get("ArrayTaskId", "")):
            states[index] = (fields.get("JobState", "UNKNOWN"), fields.get("ExitCode", "0:0"))
    return states


def _indexes(told: str) -> list[int]:
    """Return the indexes of ``3``, ``3-7`` or ``3,5-7%2``."""
    found: list[int] = []
    for part in told.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found.extend(range(int(first), int(last or first) + 1))
    return found


class SlurmEngine(SlurmPipelineExecutor):  # type: ignore[misc]
    """datatrove's Slurm executor, but ``run`` waits until the array has ended.

    Ranks whose machine was lost are submitted again; an array left by a killed run is cancelled first, so that nothing
    writes behind this one.
    """

    is_task = False
    wanted: Sequence[int] = ()

    def run(self) -> None:
        """Submit, wait, and submit again what was lost.

        Raises:
            FineeduError: Slurm refuses the job or does not answer.
        """
        silence_console()
        if self.is_task:
            super().run()
            return
        cancel_left(Path(self.logging_dir.path))
        self.wanted = list(range(self.tasks))
        for _ in range(ROUNDS):
            self.tasks_per_job = math.ceil(len(self.wanted) / ARRAY_TASKS)
            states = self._submit()
            self.wanted = [
                rank
                for number, rank in enumerate(self.wanted)
                if _is_lost(states.get(number // self.tasks_per_job))
                and not self.logging_dir.isfile(f"completions/{rank:05d}")
            ]
            if not self.wanted:
                return

    def get_incomplete_ranks(self, ranks: Any = None, skip_completed: bool = True) -> list[int]:
        """Return the ranks of this submission."""
        return list(self.wanted)

    def launch_merge_stats(self) -> None:
        """Leave it out: the run's own manifest counts, and a second job would outlive the run."""

    def _submit(self) -> Mapping[int, tuple[str, str]]:
        self.job_id = None
        self.is_task = True  # as the copy finds itself that a task loads
        try:
            self.launch_job()
        except subprocess.CalledProcessError as error:
            raise FineeduError(
                f"sbatch refused the job (exit code {error.returncode}): see its message above"
            ) from error
        finally:
            self.is_task = False
        job_id = str(self.job_id)
        with self.logging_dir.open("slurm_job_id", "w") as note:
            note.write(job_id)
        try:
            return _wait(job_id)
        except BaseException:
            with suppress(FineeduError):
                _slurm("scancel", job_id)
            raise


def cancel_left(logs: Path) -> None:
    """End the array whose number a killed run has left in its folder of logs, and wait for that."""
    note = logs / "slurm_job_id"
    job_id = note.read_text().strip() if note.exists() else ""
    if job_id.isdigit() and shutil.which("scancel") and array_states(job_id):
        subprocess.run(["scancel", job_id], capture_output=True)
        _wait(job_id)


def _is_lost(state: tuple[str, str] | None) -> bool:
    # Killed from outside (code 0, signal 9 or 15) counts as lost; a Python error does not.
    return state is None or state[0] in _LOST or (state[0] == "FAILED" and state[1] in ("0:9", "0:15"))


def _wait(job_id: str) -> Mapping[int, tuple[str, str]]:
    """Wait until no task of an array is left in the queue; return the last states seen."""
    seen: dict[int, tuple[str, str]] = {}
    silent_since = time.monotonic()
    while True:
        try:
            states = array_states(job_id)
            silent_since = time.monotonic()
        except FineeduError:  # a controller may be restarted under a run
            if time.monotonic() - silent_since > _NO_QUEUE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        seen |= states or {}
        going = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED", "RESIZING")
        if not states or not any(state in going for state, _ in states.values()):
            return seen
        time.sleep(POLL_SECONDS)


def _environment() -> str:
    """Return the shell line that gives a task this process's Python and packages."""
    paths = os.pathsep.join(path for path in sys.path if path and Path(path).is_dir() and "site-packages" not in path)
    bins = shlex.quote(str(Path(sys.executable).parent))
    return f"export PATH={bins}:$PATH PYTHONPATH={shlex.quote(paths)}"


def make_slurm_engine(
    config: EngineConfig, steps: list[PipelineStep], tasks: int, workers: int, logs: Path
) -> SlurmEngine:
    """Return the executor. All machines of the cluster must see the store, the inputs and this Python.

    Raises:
        FineeduError: there is no Slurm here.
    """
    missing = [tool for tool in ("sbatch", "scontrol", "scancel") if shutil.which(tool) is None]
    if missing:
        raise FineeduError(f"--engine slurm needs Slurm's commands here: no {', '.join(missing)} on PATH")
    return SlurmEngine(
        steps,
        tasks=tasks,
        workers=workers,
        time=config.time,
        partition=config.partition,
        cpus_per_task=config.cpus,
        mem_per_cpu_gb=max(int(config.memory_gb / config.cpus), 1),
        gpus_per_task=config.gpus,
        job_name="fineedu",
        qos=config.qos,
        env_command=_environment(),
        sbatch_args=dict(config.sbatch),
        logging_dir=str(logs.absolute()),
        with_srun=False,
        mail_type="NONE",
    )
