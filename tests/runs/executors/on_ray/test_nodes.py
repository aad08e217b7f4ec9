"""What runs ask of nodes, by hand: shares of a card, main memory, a node alone; and what is refused before anything waits."""

from dataclasses import replace

import pytest

from tests.support import Number
from vitlib.runs.executors.on_ray import nodes
from vitlib.runs.executors.on_ray.nodes import Needs, Node, alive, computes_on, needs_of, require_feasible
from vitlib.runs.executors.on_ray.versions import require_same, versions
from vitlib.runs.executors.protocol import Job
from vitlib.runs.plan import Plan
from vitlib.runs.workers.slots import MOST, PROCESS
from vitlib.spec import SpecError

GIB = 2**30
ONE = Number(value=1)
CPUS = Node("a", "10.0.0.1", 8, 0, 32 * GIB)
GPUS = Node("b", "10.0.0.2", 16, 2, 64 * GIB, card=int(40 * GIB))


class Timed(Number):
    """A number that is a time."""

    timed = True


@pytest.fixture
def job(place, store):
    return Job(Plan({}, {}), store, place, set(), lambda *_: None, lambda spec: 0.0)


def holding(job, gibibytes):
    return replace(job, memory=lambda spec: gibibytes * GIB)


def described(name, **resources):
    return {"NodeID": name, "NodeManagerAddress": name, "Alive": name != "dead", "Resources": resources}


def test_nodes_are_those_that_live_and_compute_the_largest_first():
    told = [described("head"), described("small", CPU=2.0), described("dead", CPU=64.0), described("large", CPU=4.0, GPU=1.0, memory=1.0)]
    assert [(node.address, node.cpus, node.gpus) for node in alive(told)] == [("large", 4, 1), ("small", 2, 0)]


@pytest.mark.parametrize(
    ("gibibytes", "share"), [(0.0, 1), (38.4, 1), (30, 1), (18.5, 1 / 2), (18.6, 1), (11, 1 / 3), (0.1, 1 / MOST), (1000, 1)]
)
def test_as_many_runs_share_a_card_as_its_memory_bears(job, gibibytes, share):
    """40 GiB; each process takes 1.5 GiB beside its tensors. Where nothing is estimated, or one is too much, it has the card alone."""
    assert PROCESS == 1.5 * GIB
    asked = needs_of(ONE, holding(job, gibibytes), "cuda", [GPUS, CPUS])
    assert (asked.cpus, asked.gpus) == (1, pytest.approx(share))


def test_slots_that_a_person_asks_for_are_the_share(job, place):
    asked = needs_of(ONE, replace(job, place=replace(place, slots_per_gpu=8)), "cuda", [GPUS])
    assert asked.gpus == 1 / 8


def test_on_a_cpu_a_run_asks_for_a_core_and_its_memory(job):
    assert needs_of(ONE, holding(job, 3), "cpu", [CPUS]) == Needs(1, 0, int(3.5 * GIB))


def test_a_run_that_measures_time_asks_for_all_of_one_node_and_always_the_same(job):
    spec = Timed(value=1)
    assert needs_of(spec, job, "cuda", [GPUS, CPUS]) == Needs(16, 2, node="b")
    assert needs_of(spec, job, "cpu", [CPUS, replace(CPUS, id="z")]).node == "a"


@pytest.mark.parametrize(("device", "there", "found"), [("auto", [CPUS], "cpu"), ("auto", [CPUS, GPUS], "cuda"), ("cpu", [GPUS], "cpu")])
def test_tasks_compute_on_gpus_where_there_are_some_and_nobody_wants_otherwise(device, there, found):
    assert computes_on(device, there) == found


@pytest.mark.parametrize(
    ("device", "said"),
    [("cuda", "device: got 'cuda', and no node .* has a GPU;"), ("cuda:1", "device: got 'cuda:1' with")],
)
def test_a_gpu_that_no_node_has_or_that_has_a_number_is_refused(device, said):
    with pytest.raises(SpecError, match=said):
        computes_on(device, [CPUS])


def test_what_no_node_has_is_refused_at_once_with_what_each_has(job):
    with pytest.raises(SpecError, match=rf"{ONE.id}: asks one node for 1 CPUs, 0 GPUs and 40.5 GiB, .*: 10.0.0.1 has 8 CPUs, .* 32.0 GiB;"):
        require_feasible([ONE], holding(job, 40), "cpu", [CPUS])
    require_feasible([ONE], holding(job, 40), "cpu", [CPUS, GPUS])


def test_a_cluster_without_a_cpu_is_refused(job):
    with pytest.raises(SpecError, match="no node of the cluster has a CPU"):
        require_feasible([ONE], job, "cpu", [])


def test_a_node_with_another_version_is_refused_with_both():
    found = versions()
    require_same(found, dict(found), "10.0.0.1")
    with pytest.raises(SpecError) as refused:
        require_same(found | {"Python": "3.11.7", "ray": "2.60.0"}, found | {"Python": "3.12.1", "ray": "2.61.0"}, "10.0.0.1")
    there, here = "node 10.0.0.1 has Python 3.12.1, ray 2.61.0", "the driver has Python 3.11.7, ray 2.60.0"
    assert there in str(refused.value) and here in str(refused.value)


def test_a_node_with_another_line_of_code_is_another_version(tmp_path, monkeypatch):
    def said(line):
        (tmp_path / "a.py").write_text(line)
        versions.cache_clear()
        return versions()["vitlib"]

    monkeypatch.setattr("vitlib.runs.executors.on_ray.versions.ROOT", tmp_path)
    assert said("x = 1\n") != said("x = 2\n")
    versions.cache_clear()


def test_python_is_compared_as_far_as_ray_is_told_to(monkeypatch):
    for level, parts in [("patch", 3), ("minor", 2)]:
        monkeypatch.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", level)
        versions.cache_clear()
        assert len(versions()["Python"].split(".")) == parts
    versions.cache_clear()


class Ray:
    """Of a cluster of two nodes with 2 CPUs and a GPU each."""

    @staticmethod
    def nodes():
        return [described(name, CPU=2.0, GPU=1.0) for name in ("a", "b")]


def test_there_is_room_until_all_cpus_or_gpus_are_asked_for(job, monkeypatch):
    monkeypatch.setattr(nodes.Nodes, "_look", lambda self: None)
    thirds, cores = [Needs(1 / 2, 1 / 3)], [Needs(1, 0)]
    on_gpus, on_cpus = (nodes.Nodes(Ray, replace(job, place=replace(job.place, device=device))) for device in ("cuda", "cpu"))
    assert on_gpus.have_room(thirds * 5) and not on_gpus.have_room(thirds * 6)
    assert on_cpus.have_room(cores * 3) and not on_cpus.have_room(cores * 4)
