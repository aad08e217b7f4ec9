"""Ray nodes on this machine, for tests and trials: each is a raylet of its own, with its own workers.

`with Nodes(2) as nodes:` starts them and lets RAY_ADDRESS name them; they ask for a token. Start from `kill`, `add` and `workers`.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
UNMINDFUL = {"RAY_memory_monitor_refresh_ms": "0"}  # of the memory that other processes of the machine take
ATTEMPTS = 5  # at a node: Ray gives one 30 seconds to start, which a busy machine exceeds


@contextmanager
def cluster(count: int, cpus: int = 1, **more: Any) -> Iterator[Nodes]:
    """A head and `count - 1` nodes beside it, each with so many CPUs, for as long as the context lasts."""
    before = dict(os.environ)
    os.environ.update(TOKEN | QUIET | UNMINDFUL)  # before Ray is imported, which reads them then
    from ray.cluster_utils import Cluster

    made = persistently(Cluster, initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False, **more})
    try:
        nodes = Nodes(made, cpus)
        for _ in range(count - 1):
            nodes.add(**more)
        made.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = made.address
        yield nodes
    finally:
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


class Nodes:
    """The nodes but for the head, which holds the cluster together, in the order in which they were added."""

    def __init__(self, cluster: Any, cpus: int):
        self._cluster, self._cpus, self.others = cluster, cpus, []

    def add(self, **more: Any) -> None:
        self.others.append(persistently(self._cluster.add_node, num_cpus=self._cpus, **more))

    def kill(self, position: int = -1) -> list[int]:
        """kill -9 of a node with all its processes, without a word to the others; the processes that died."""
        node = self.others.pop(position)
        raylet = node.all_processes["raylet"][0].process.pid
        gone = [raylet, *below(raylet)]
        for process in gone:
            os.kill(process, signal.SIGKILL)
        self._cluster.worker_nodes.discard(node)
        return gone

    def computing(self) -> list[int]:
        """Processes of these nodes that compute a run now, by the title that Ray gives them."""
        ours = below(os.getpid())
        return [process for process, title in processes() if process in ours and title.startswith("ray::compute")]


def persistently(start: Callable[..., Any], **how: Any) -> Any:
    """What `start` gives, at the latest attempt."""
    for _ in range(ATTEMPTS - 1):
        with suppress(Exception):  # Ray raises no other class
            return start(**how)
    return start(**how)


def below(parent: int) -> list[int]:
    """Children of a process and theirs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split()
    parents = dict(zip(map(int, listed[::2]), map(int, listed[1::2]), strict=True))
    return [process for process in parents if parent in _ancestors(process, parents)]


def _ancestors(process: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while (process := parents.get(process, 0)) and process not in found:
        found.add(process)
    return found


def processes() -> list[tuple[int, str]]:
    """Numbers and command lines."""
    listed = subprocess.run(["ps", "-eo", "pid=,args=", "-ww"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [(int(line.split(None, 1)[0]), line.split(None, 1)[-1]) for line in listed]


def until(happens: Any, patience: float = 120.0) -> Any:
    """Wait for a true answer, and give it."""
    end = time.monotonic() + patience
    while not (found := happens()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)
    return found
