"""What a run asks of a node, and the nodes that there are."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitlib.dumped import dump
from vitlib.runs.executors.on_ray.connection import told
from vitlib.runs.executors.on_ray.task import look
from vitlib.runs.executors.on_ray.versions import require_same, versions
from vitlib.runs.executors.protocol import Job
from vitlib.runs.workers.slots import MOST, PROCESS
from vitlib.spec import RunSpec, SpecError

GIB = 2**30
HOST = 0.5 * GIB  # bytes of main memory of a process that computes on a CPU, beside its tensors; measured
HOST_OF_GPU = 2 * GIB  # the same of one that computes on a GPU; assumed
LOOKING = 300.0  # seconds that a node has to answer, which imports torch for it
FRESH = 2.0  # seconds that what is known of the nodes holds
ROUNDING = 1e-3  # of a GPU: thirds do not add up to one
log = logging.getLogger("vitlib")


@dataclass(frozen=True)
class Needs:
    """A part of a node; memory is the main memory, in bytes. `node` is the one that it has to be, alone."""

    cpus: float
    gpus: float
    memory: int = 0
    node: str = ""

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs, {self.gpus:g} GPUs and {self.memory / GIB:.1f} GiB"


@dataclass(frozen=True)
class Node:
    """A live node; `card` is the memory of its smallest GPU in bytes, 0 where that is not known."""

    id: str
    address: str
    cpus: float
    gpus: float
    memory: float
    card: int = 0

    def bears(self, needs: Needs) -> bool:
        return needs.cpus <= self.cpus and needs.gpus <= self.gpus and needs.memory <= self.memory


def alive(described: Iterable[dict[str, Any]]) -> list[Node]:
    """The nodes that compute, of what `ray.nodes()` tells; in an order that does not change."""
    found = []
    for node in described:
        has = node["Resources"]
        if node["Alive"] and has.get("CPU"):
            found.append(Node(node["NodeID"], node["NodeManagerAddress"], has["CPU"], has.get("GPU", 0.0), has.get("memory", 0.0)))
    return sorted(found, key=lambda node: (-node.gpus, -node.cpus, node.address, node.id))


def computes_on(device: str, nodes: Sequence[Node]) -> str:
    """`cuda` or `cpu`, for tasks, each of which sees no GPUs but its own.

    Raises:
        SpecError: for a GPU by number, or one where no node has any.
    """
    gpus = any(node.gpus for node in nodes)
    if device.startswith("cuda:"):
        raise SpecError(f"device: got {device!r} with executor='ray', whose runs see their own GPU alone; allowed: auto, cuda, cpu")
    if device == "cuda" and not gpus:
        raise SpecError("device: got 'cuda', and no node of the Ray cluster has a GPU; allowed: auto, cpu")
    return "cuda" if gpus and device != "cpu" else "cpu"


def needs_of(spec: RunSpec, job: Job, device: str, nodes: Sequence[Node]) -> Needs:
    """A core, a share of a GPU by what the run holds there, and main memory; all of one node for a run that measures time.

    Those that measure time get the same node as long as it lives, so that their times compare.
    """
    if spec.timed:
        node = next((node for node in nodes if node.gpus or device == "cpu"), nodes[0])
        return Needs(node.cpus, node.gpus, node=node.id)
    held = job.memory(spec)
    if device == "cpu":
        return Needs(1, 0, int(held + HOST) if held else 0)
    cards = [node.card for node in nodes if node.gpus]
    return Needs(1, 1 / _at_once(held, min(cards, default=0), job.place.slots_per_gpu), int(HOST_OF_GPU))


def _at_once(held: float, card: int, asked: int) -> int:
    """How many runs like this one share a GPU."""
    bears = int(card // (held + PROCESS)) if held and card else 1
    return max(1, asked, min(bears, MOST))


def require_feasible(specs: Iterable[RunSpec], job: Job, device: str, nodes: Sequence[Node]) -> None:
    """Refuse runs that no node could ever compute: Ray would wait for such a node without a word.

    Raises:
        SpecError: naming the run, what it asks for, and what each node has.
    """
    if not nodes:
        raise SpecError("executor: got 'ray', and no node of the cluster has a CPU for runs; allowed: a cluster with one")
    for spec in specs:
        needs = needs_of(spec, job, device, nodes)
        if not any(node.bears(needs) for node in nodes):
            offered = "; ".join(f"{node.address} has {Needs(node.cpus, node.gpus, int(node.memory))}" for node in nodes)
            raise SpecError(f"{spec.id}: asks one node for {needs}, and no node has them: {offered}; allowed: a cluster with a larger one")


class Nodes:
    """The nodes of a cluster, looked at once at the beginning, each by a task on it, and counted now and then.

    Attributes:
        device: that tasks compute on.

    Raises:
        SpecError: for nodes with other versions or without the runs' data, and for runs that no node can bear.
    """

    def __init__(self, ray: Any, job: Job):
        self._ray, self._job, self._counted = ray, job, 0.0
        self._cards: dict[str, int] = {}
        self._look()
        self.device = computes_on(job.place.device, self.alive())
        require_feasible(job.plan.pending.values(), job, self.device, self.alive())

    def alive(self) -> list[Node]:
        if time.monotonic() - self._counted > FRESH:
            found = alive(self._ray.nodes())
            self._alive = [replace(node, card=self._cards.get(node.id, 0)) for node in found]
            self._counted = time.monotonic()
        return self._alive

    def needs(self, spec: RunSpec) -> Needs | None:
        """None while no live node could ever bear the run, for those that did are gone."""
        nodes = self.alive()
        needs = needs_of(spec, self._job, self.device, nodes) if nodes else None
        return needs if needs and any(node.bears(needs) for node in nodes) else None

    def have_room(self, taken: Iterable[Needs]) -> bool:
        """Whether something is free; tasks that wait for their place count as if they had it."""
        nodes, taken = self.alive(), list(taken)
        cpus = sum(node.cpus for node in nodes) - sum(needs.cpus for needs in taken)
        gpus = sum(node.gpus for node in nodes) - sum(needs.gpus for needs in taken)
        return cpus >= 1 and (self.device == "cpu" or gpus > ROUNDING)

    def _look(self) -> None:
        """Ask each node for its versions and for the data."""
        nodes = self.alive()
        specs = [dump(spec) for spec in self._job.plan.pending.values()]
        task, on = self._ray.remote(look), self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        how = [{"num_cpus": 0, "scheduling_strategy": on(node.id, soft=False)} for node in nodes]
        looks = [task.options(**each).remote(specs, self._job.place.data_dir, versions()) for each in how]
        for node, asked in zip(nodes, looks, strict=True):
            try:
                found, refused, self._cards[node.id] = self._answer(node, asked)
            except (self._ray.exceptions.TaskUnschedulableError, self._ray.exceptions.NodeDiedError):
                log.warning("node %s of the cluster died a moment ago: the others compute", node.address)
                continue
            require_same(versions(), found, node.address)
            if refused:
                raise SpecError(f"node {node.address}: {refused}")
        self._counted = 0.0

    def _answer(self, node: Node, asked: Any) -> tuple[dict[str, str], str, int]:
        try:
            return self._ray.get(asked, timeout=LOOKING)
        except (self._ray.exceptions.TaskUnschedulableError, self._ray.exceptions.NodeDiedError):
            raise
        except self._ray.exceptions.RayError as error:
            reason = told(error)
            raise SpecError(f"executor: got 'ray', and node {node.address} of the cluster cannot compute with vitlib: {reason}") from None
