"""Starts munge, a controller and a node of Slurm as this user, submits jobs to them, and ends them all."""

import getpass
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.support import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
SLOTS = 4
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge,cred_expire=5
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
MpiDefault=none
JobRequeue=1
KillWait=5
SlurmdTimeout=15
BatchStartTimeout=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """Within it, jobs can be submitted; `cred_expire` is what a requeued job waits for, 120 s as a rule."""

    def __init__(self, folder: Path):
        self.folder, self.configuration = folder, folder / "slurm.conf"
        self.environment = os.environ | {"SLURM_CONF": str(self.configuration), "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
        self._processes = []

    def __enter__(self):
        values = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "ports": free_ports(2)}
        self.configuration.write_text(CONFIGURATION.format(folder=self.folder, slots=SLOTS, **values))
        (self.folder / "key").write_bytes(os.urandom(1024))
        (self.folder / "key").chmod(0o600)
        names = {"key-file": "key", "socket": "munge", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        self._start("munged", "--foreground", "--force", *(f"--{option}={self.folder / name}" for option, name in names.items()))
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        try:
            self.wait_till(lambda: "idle" in self.asked("sinfo", "-h", "-o", "%T"), 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run(["scancel", "--user", getpass.getuser()], env=self.environment, capture_output=True)
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def submit(self, script: Path, *arguments: str, options=(), **environment: str) -> str:
        """The number of the job."""
        asked = ["sbatch", "--parsable", f"--chdir={self.folder}", "--output=job-%A_%a.log", *options, str(script), *arguments]
        return subprocess.run(asked, env=self.environment | environment, capture_output=True, text=True, check=True).stdout.strip()

    def asked(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def states(self, job: str) -> set[str]:
        """Of the jobs of an array that are not over."""
        return {*self.asked("squeue", "-h", "-j", job, "-o", "%T").split()}

    def end_of(self, job: str, seconds: float = 240) -> str:
        """What the jobs wrote, once they are over."""
        self.wait_till(lambda: not self.states(job), seconds)
        return self.log(job)

    def log(self, job: str) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"job-{job}_*.log")))

    def restarts(self, job: str) -> int:
        return int(self.asked("scontrol", "show", "job", job).partition("Restarts=")[2].split()[0])

    def drivers(self, results: Path) -> list[int]:
        """The processes that compute into a store."""
        found = []
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = place.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"vitlib" in words and b"-m" in words and str(results).encode() in words:
                found.append(int(place.parent.name))
        return sorted(found)

    def kill(self, process: int) -> None:
        os.kill(process, signal.SIGKILL)

    def kill_node(self) -> None:
        """The node dies with all that runs on it, and is back at once, knowing nothing."""
        daemon = self._processes.pop()
        for process in [daemon.pid, *_steps()]:
            with suppress(ProcessLookupError):
                self.kill(process)
        daemon.wait()
        self._start("slurmd", "-D")

    def wait_till(self, holds, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                logs = "\n".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))
                raise TimeoutError(f"after {seconds} s; logs:\n{logs}")
            time.sleep(0.1)

    def _start(self, *command: str) -> None:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes.append(subprocess.Popen(command, env=self.environment, **quiet))
        if command[0] == "munged":
            self.wait_till((self.folder / "munge").exists, 20)


def _steps() -> list[int]:
    """The processes by which a node watches its jobs, and those of the jobs."""
    listed = subprocess.run(["ps", "-eo", "pid=,sid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split(maxsplit=2) for line in listed]
    sessions = {session for _, session, command in found if "slurm_script" in command}
    return [int(process) for process, session, command in found if session in sessions or "slurmstepd" in command]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
