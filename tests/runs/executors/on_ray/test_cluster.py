"""On real nodes of this machine: deaths, refusals, the stop button, and what a run asks for."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.runs.executors.ways import RAY
from tests.support import assert_same_result, smoke_study
from vitlib.runs.clock import progress
from vitlib.runs.execute import StoppedError, execute
from vitlib.runs.executors.on_ray import nodes as nodes_module
from vitlib.runs.executors.on_ray import pool
from vitlib.runs.executors.on_ray.versions import versions
from vitlib.runs.store import Store
from vitlib.spec import SpecError

pytestmark = RAY.marks


@pytest.fixture
def asked(smoke):
    """Two chains of a student and its teacher, and a lone one."""
    return [cell.spec for cell in smoke.cells if cell.table == "strategies"][:4]


def when(happens, act):
    """Act once that is true, while the test computes."""

    def wait():
        while not happens():
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def assert_as_alone(store, smoke, specs):
    alone = Store(smoke.place.results_dir, writable=False)
    for spec in specs:
        assert_same_result(store.read(spec.id), alone.read(spec.id))


def test_a_run_whose_worker_is_killed_is_computed_by_another(nodes, asked, place, store, smoke):
    killed = []
    killing = when(nodes.computing, lambda: [killed.append(process) or os.kill(process, signal.SIGKILL) for process in nodes.computing()])
    execute(asked, place, executor="ray")
    killing.join()
    assert killed and store.root.joinpath(".failed").exists() is False
    assert_as_alone(store, smoke, asked)


def test_a_run_whose_workers_keep_dying_is_given_up_and_its_siblings_are_not(nodes, asked, place, store, monkeypatch):
    monkeypatch.setattr(pool.Tasks, "tries", 1)
    from vitlib.runs.execute import RunsFailedError

    killing = when(nodes.computing, lambda: os.kill(nodes.computing()[0], signal.SIGKILL))
    with pytest.raises(RunsFailedError, match=r"its worker died 1 times \(WorkerCrashedError: "):
        execute(asked, place, executor="ray")
    killing.join()
    assert store.ids() and {spec.id for spec in asked} > {*store.ids()} & {spec.id for spec in asked}


def test_runs_of_a_node_that_dies_are_computed_by_others_and_what_was_stored_stays(nodes, asked, place, store, smoke):
    nodes.add()
    killing = when(store.ids, nodes.kill)
    execute(asked, place, executor="ray")
    killing.join()
    assert_as_alone(store, smoke, asked)


def test_a_node_that_died_a_moment_ago_is_passed_over(nodes, asked, place, store, smoke, caplog):
    """The cluster counts it among the living for some seconds more."""
    nodes.add()
    nodes.kill()
    execute(asked, place, executor="ray")
    assert "died a moment ago: the others compute" in caplog.text
    assert_as_alone(store, smoke, asked)


def test_a_node_with_other_code_is_refused_with_both_before_anything_is_computed(nodes, asked, place, store, monkeypatch):
    other = versions() | {"vitlib": "0.1.0 (code 00000000)"}
    monkeypatch.setattr(nodes_module, "versions", lambda: other)
    with pytest.raises(SpecError, match=r"has vitlib .* \(code .*\), and the driver has vitlib 0.1.0 \(code 00000000\)"):
        execute(asked, place, executor="ray")
    assert store.ids() == []


def test_a_request_that_no_node_can_bear_is_refused_at_once(nodes, asked, place, store):
    began = time.monotonic()
    with pytest.raises(SpecError, match=r"asks one node for 1 CPUs, 0 GPUs and 1024\.5 GiB, and no node has them"):
        execute(asked, place, executor="ray", memory=lambda spec: 2**40)
    assert time.monotonic() - began < 90 and store.ids() == []


def test_data_that_a_node_lacks_is_named_before_anything_is_computed(nodes, asked, place, store, monkeypatch):
    """The driver finds it, for the digits are everywhere; the node is asked for a folder."""
    pets = asked[0].changed(data=asked[0].data.changed(source="folder/pets", fingerprint=""))
    monkeypatch.setattr("vitlib.runs.execute.preflight", lambda *_: None)
    with pytest.raises(SpecError, match=r"^node [\d.]+: .*pets"):
        execute([pets], place, executor="ray")
    assert store.ids() == []


def test_a_run_that_measures_time_has_a_node_to_itself_and_ticks_come_through(nodes, smoke, place, store, monkeypatch):
    timed = next(cell.spec for cell in smoke.cells if cell.spec.timed)
    student = next(cell.spec for cell in smoke.cells if cell.point.get("method") == "hard")
    long = student.teacher.changed(recipe=student.teacher.recipe.changed(epochs=100))
    begun, ticks = [], []
    begin, tick = pool.Tasks._begin, progress.Progress.tick
    monkeypatch.setattr(pool.Tasks, "_begin", lambda tasks, spec, needs: begun.append((spec.id, needs)) or begin(tasks, spec, needs))
    monkeypatch.setattr(progress.Progress, "tick", lambda self, *what: ticks.append(what) or tick(self, *what))
    execute([timed, long], place, executor="ray")
    asked = dict(begun)
    assert asked[timed.id].node and asked[timed.id].cpus == 1
    assert not asked[long.id].node
    assert {run_id for run_id, *_ in ticks} >= {long.id}


def test_the_stop_button_leaves_the_store_whole_and_no_task(nodes, smoke, place, store):
    specs = list(smoke_study(place.results_dir).specs.values())
    stopping = when(lambda: store.ids() and nodes.computing(), lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(StoppedError) as stopped:
        execute(specs, place, executor="ray")
    stopping.join()
    end = time.monotonic() + 10
    while nodes.computing() and time.monotonic() < end:
        time.sleep(0.05)
    assert nodes.computing() == []
    assert stopped.value.stored == len(store.ids()) and stopped.value.left == 32 - len(store.ids())
    assert not list(store.root.glob(".partial/*")) and not list(store.root.glob(".claims/*"))


def test_ctrl_c_in_a_terminal_leaves_a_line_and_no_cluster_of_our_own(tmp_path):
    command = [sys.executable, "-m", "vitlib", "run", "deit", "--profile", "smoke", "--device", "cpu", "--executor", "ray"]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  a shell's background jobs do not hear it
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    run = subprocess.Popen(
        [*command, "--results-dir", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heard,
        env=environment | {"OMP_NUM_THREADS": "1", "RAY_memory_monitor_refresh_ms": "0"},
    )
    while run.poll() is None and not list(tmp_path.glob("[!.]*/manifest.json")):
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    lines = [line for line in said.splitlines() if line and not line.startswith("runs ")]
    assert run.returncode == 130, said
    assert len(lines) == 1 and lines[0].startswith("stopped: ")
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)


def test_a_gpu_is_asked_for_in_shares_and_a_task_sees_no_other(nodes, place, store):
    """Of nodes that say they have two."""
    import ray

    from vitlib.runs.executors.on_ray.nodes import Needs
    from vitlib.runs.executors.protocol import Job
    from vitlib.runs.plan import Plan

    nodes.add(num_gpus=2)
    job = Job(Plan({}, {}), store, replace(place, device="auto"), set(), lambda *_: None, lambda spec: 0.0)
    with pool.connected() as connected:
        there = nodes_module.Nodes(connected, job)
        assert there.device == "cuda" and there.alive()[0].gpus == 2
        assert there.needs(SimpleNamespace(timed=True)) == Needs(1, 2, node=there.alive()[0].id)
        see = ray.remote(lambda: time.sleep(10) or os.environ["CUDA_VISIBLE_DEVICES"])  # at the same time
        seen = connected.get([see.options(num_cpus=0, num_gpus=0.5).remote() for _ in range(4)])
    nodes.kill()
    assert sorted(seen) == ["0", "0", "1", "1"]
