"""Several hosts on one run, tried as two torchrun agents on this machine with two processes each: `make cluster`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts import RUN
from tests.processes import free_port
from tests.support import ROOT, assert_same_result
from vitlib import load_study
from vitlib.runs.store import Store

pytestmark = pytest.mark.cluster
PATIENCE = 180  # seconds
TOLD = (  # by a process of ours, or by torchrun before that, where it asks the dead host for news
    "another process of this run has ended",
    "The connection to the C10d store has failed",
)


class Hosts:
    """Two agents that started the same command on one store."""

    def __init__(self, folder: Path, *program: str):
        port, self.logs = free_port(), [folder / f"agent{number}.log" for number in range(2)]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
        torchrun += ["--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "1", "--local-addr", "127.0.0.1"]
        self.agents = [_started([*torchrun, *program], log) for log in self.logs]

    def wait(self) -> list[int]:
        return [agent.wait(PATIENCE) for agent in self.agents]

    def said(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)

    def workers(self, number: int) -> list[int]:
        """Process ids of an agent's two."""
        agent = self.agents[number].pid
        return [int(pid) for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split()]

    def end(self) -> None:
        """Agents whose tests failed, with their processes, which have sessions of their own."""
        for number, agent in enumerate(self.agents):
            if agent.poll() is None:
                for process in [*self.workers(number), agent.pid]:
                    os.kill(process, signal.SIGKILL)
                agent.wait()


def _started(command: list[str], log: Path) -> subprocess.Popen:
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    with log.open("w") as stream:
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)


@pytest.fixture
def hosts(tmp_path):
    started = []

    def start(*program: str) -> Hosts:
        started.append(Hosts(tmp_path, *program))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    whole = Hosts(folder, "-m", "tests.hosts", str(folder / "results"), str(folder))
    assert whole.wait() == [0, 0], whole.said()
    return Store(folder / "results").read(RUN.id)


def kill_a_process(hosts: Hosts) -> None:
    os.kill(hosts.workers(1)[1], signal.SIGKILL)


def kill_the_leader(hosts: Hosts) -> None:
    """Whichever host has it."""
    for number in range(2):
        for worker in hosts.workers(number):
            if b"\0RANK=0\0" in b"\0" + Path(f"/proc/{worker}/environ").read_bytes():
                os.kill(worker, signal.SIGKILL)


def kill_a_host(hosts: Hosts) -> None:
    every = [hosts.agents[1].pid, *hosts.workers(1)]
    for process in every:
        os.kill(process, signal.SIGKILL)


def wait_for(come: Callable[[], bool], hosts: Hosts) -> None:
    began = time.monotonic()
    while not come():
        assert time.monotonic() - began < PATIENCE, hosts.said()
        time.sleep(0.02)


@pytest.mark.parametrize("kill", [kill_a_process, kill_the_leader, kill_a_host], ids=lambda kill: kill.__name__)
def test_after_a_death_the_same_command_goes_on_to_the_same_bits(hosts, tmp_path, uninterrupted, kill):
    program = ("-m", "tests.hosts", str(tmp_path / "results"), str(tmp_path))
    store = Store(tmp_path / "results")
    checkpoint = store.scratch(RUN.id) / "checkpoint.pt"
    first = hosts(*program)
    wait_for(checkpoint.exists, first)
    kill(first)
    assert all(first.wait()), first.said()
    assert any(text in first.said() for text in TOLD)
    assert RUN.id not in store and store.failure(RUN.id) is None and checkpoint.exists()
    assert hosts(*program).wait() == [0, 0]
    assert_same_result(store.read(RUN.id), uninterrupted)


def test_processes_whose_agent_was_killed_end_their_run(hosts, tmp_path, uninterrupted):
    """The other agent then waits five minutes for it, of which it says nothing: torchrun's own time."""
    store = Store(tmp_path / "results")
    first = hosts("-m", "tests.hosts", str(tmp_path / "results"), str(tmp_path))
    wait_for((store.scratch(RUN.id) / "checkpoint.pt").exists, first)
    first.agents[1].kill()
    wait_for(lambda: RUN.id in store, first)
    assert_same_result(store.read(RUN.id), uninterrupted)


def test_two_hosts_compute_a_document_by_the_command_of_the_guide(hosts, tmp_path):
    where = ["--profile", "smoke", "--executor", "inline", "--device", "cpu", "--results-dir", str(tmp_path)]
    both = hosts("-m", "vitlib", "run", "deit", *where)
    assert both.wait() == [0, 0], both.said()
    study = load_study("deit", "smoke", results_dir=str(tmp_path), device="cpu")
    assert set(study.status()["state"]) == {"stored"}
