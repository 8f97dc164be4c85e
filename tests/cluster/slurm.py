"""A Slurm cluster of this machine alone: munged, a controller and several nodes, each a process of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")
NODES = 2


def missing_tools() -> list[str]:
    """Return what a cluster lacks here."""
    return [tool for tool in TOOLS if shutil.which(tool, path=_path()) is None]


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(folder: Path) -> str:
    host = socket.gethostname()
    nodes = "\n".join(
        f"NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} CPUs=2 RealMemory=4000"
        for n in range(NODES)
    )
    return f"""ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={_free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldLogFile={folder}/slurmctld.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmctldParameters=enable_configless
ReturnToService=2
SlurmdTimeout=10
InactiveLimit=0
KillWait=2
MinJobAge=300
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """A running cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        """Start one of its processes."""
        log = (self.folder / f"{name}.out").open("wb")
        self._processes[name] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        log.close()

    def node(self, number: int) -> None:
        """Start a node."""
        self.start(f"n{number}", "slurmd", "-D", "-N", f"n{number}")

    def kill_node(self, number: int) -> None:
        """Kill a node's daemon and everything that runs on it, as a loss of power does."""
        daemon = self._processes.pop(f"n{number}")
        daemon.kill()
        daemon.wait()
        mark = f"SLURMD_NODENAME=n{number}\0".encode(), f"SLURM_CONF={self.folder}/slurm.conf\0".encode()
        mine = [process for process in _processes() if all(part in _read(process / "environ") for part in mark)]
        keepers = {_parent(process) for process in mine}
        for keeper in keepers:  # slurmstepd first, or it tells the controller of its child's death
            if _read(Path("/proc") / keeper / "comm") == b"slurmstepd\n":
                _kill(int(keeper))
        for process in mine:
            _kill(int(process.name))

    def idle(self) -> bool:
        """Tell whether all nodes take work."""
        found = subprocess.run(["sinfo", "-h", "-o", "%T %D"], env=self.environment, capture_output=True, text=True)
        return found.stdout.split() == ["idle", str(NODES)]

    def stop(self) -> None:
        """Stop everything that was started."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, 9)


def _processes() -> list[Path]:
    return [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(process: Path) -> str:
    found = [line for line in _read(process / "status").decode().splitlines() if line.startswith("PPid:")]
    return found[0].split()[1] if found else "0"


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster of ``NODES`` nodes until the block ends."""
    cluster = Cluster(folder)
    (folder / "state").mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(_config(folder))
    munge = [f"--socket={folder}/munge.socket", f"--key-file={key}", f"--pid-file={folder}/munged.pid"]
    munge += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed", "--force", "--foreground"]
    try:
        cluster.start("munged", "munged", *munge)
        _until(lambda: (folder / "munge.socket").exists(), "munged")
        cluster.start("slurmctld", "slurmctld", "-D", "-i")
        for number in range(NODES):
            cluster.node(number)
        _until(cluster.idle, "the nodes")
        yield cluster
    finally:
        cluster.stop()


def _until(done: object, what: str, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not start")
        time.sleep(0.2)


def slurm_of_tests(folder: Path) -> Iterator[Cluster]:
    """Yield a cluster for a test module; skip where none can be made."""
    if missing_tools():
        pytest.skip(f"no Slurm here: {', '.join(missing_tools())} missing (make slurm)")
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster of one's own needs root")
    with slurm_cluster(folder / "cluster") as cluster:
        yield cluster
