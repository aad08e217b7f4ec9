"""Executing: what is missing is computed once and parents first, failures stay where they are, workers may die."""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support import Number, Total, assert_same_result, compute_number, computed, context, files_below, flip_a_byte
from vitlib import computing, paths
from vitlib.computing import Result, result_of
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.runs.manifest import DamagedError, StoreError
from vitlib.runs.reading.lines import write_line
from vitlib.runs.store import Store
from vitlib.runs.workers import local, one
from vitlib.spec import SpecError

ONE, TWO, THREE = (Number(value=value) for value in (1, 2, 3))
SUM = Total(left=ONE, right=TWO)
SUMS = Total(left=SUM, right=Total(left=ONE, right=THREE))


def break_run(place, spec):
    (place.data_dir / f"break-{spec.id}").touch()


def repair_run(place, spec):
    (place.data_dir / f"break-{spec.id}").unlink()


def write_times(place):
    return {path: path.stat().st_mtime_ns for path in place.results_dir.rglob("*")}


# ------------------------------------------------------------------------------------------------ what is computed


def test_parents_come_first_and_a_shared_parent_is_computed_once(place):
    results = execute([SUMS], place)
    assert results[SUMS.id].metrics == {"value": (1 + 2) + (1 + 3)}
    order = computed(place)
    assert sorted(order) == sorted({spec.id for spec in SUMS.family()})
    for spec in (SUMS, SUM):
        assert all(order.index(parent.id) < order.index(spec.id) for parent in spec.parents())


def test_second_execute_computes_and_writes_nothing(place):
    first = execute([SUMS, THREE], place)
    before, times = computed(place), write_times(place)
    second = execute([SUMS, THREE], place)
    assert computed(place) == before
    written = {path for path, when in write_times(place).items() if times.get(path) != when}
    assert written <= {place.results_dir}  # the probe for write permission comes and goes
    assert_same_result(first[SUMS.id], second[SUMS.id])


def test_only_what_is_missing_is_computed(place):
    execute([SUM], place)
    execute([SUMS], place)
    assert len(computed(place)) == len(set(computed(place))) == 6


def test_parents_of_a_stored_run_are_not_needed(place, store):
    execute([SUM], place)
    for parent in SUM.parents():
        store.set_aside(parent.id)
    assert execute([SUM], place)[SUM.id].metrics == {"value": 3}
    assert len(computed(place)) == 3


def test_nothing_asked_is_nothing_done(place):
    assert execute([], place) == {}


# ------------------------------------------------------------------------------------------------ failures


def test_one_failure_leaves_siblings_stored_and_is_named_with_its_reason(place, store):
    break_run(place, TWO)
    with pytest.raises(RunsFailedError) as error:
        execute([SUMS, THREE], place)
    assert f"{TWO.id}: ArithmeticError: told to fail" in str(error.value)
    assert f"{SUM.id}: its parent {TWO.id} failed" in str(error.value)
    assert f"{SUMS.id}: its parent {SUM.id} failed" in str(error.value)
    assert str(error.value).startswith("3 run(s) failed, 3 are stored:")
    assert set(store.ids()) == {ONE.id, THREE.id, SUMS.right.id}


def test_cached_tells_a_recorded_failure_again_without_trying(place):
    break_run(place, TWO)
    for tries in (1, 1):
        with pytest.raises(RunsFailedError, match=f"(?s)^1 run.s. failed, 1 are stored.*{TWO.id}.*told to fail") as error:
            execute([ONE, TWO], place)
        assert computed(place).count(TWO.id) == tries
    assert "mode='retry' tries again" in str(error.value)


def test_a_failure_told_again_leaves_children_out_and_siblings_in(place, store):
    break_run(place, TWO)
    with pytest.raises(RunsFailedError):
        execute([TWO], place)
    with pytest.raises(RunsFailedError, match=r"^2 run\(s\) failed, 2 are stored"):
        execute([SUM, THREE], place)
    assert set(store.ids()) == {ONE.id, THREE.id}


def test_retry_computes_a_recorded_failure_again_and_then_forgets_it(place, store):
    break_run(place, TWO)
    for mode, tries in (("cached", 1), ("retry", 2)):
        with pytest.raises(RunsFailedError):
            execute([SUM], place, mode=mode)
        assert computed(place).count(TWO.id) == tries
    repair_run(place, TWO)
    assert execute([SUM], place, mode="retry")[SUM.id].metrics == {"value": 3}
    assert computed(place).count(ONE.id) == 1
    assert store.failure(TWO.id) is None


def test_a_result_that_is_not_finite_is_a_failure_of_its_run_alone(place, store):
    endless = Number(value=1, scale=1e308).changed(value=10)
    with pytest.raises(RunsFailedError, match=f"{endless.id}: .*not finite"):
        execute([endless, THREE], place)
    assert store.ids() == [THREE.id]


# ------------------------------------------------------------------------------------------------ modes


def test_force_computes_what_is_asked_again_but_not_its_parents(place):
    execute([SUM], place)
    execute([SUM], place, mode="force")
    assert computed(place) == [ONE.id, TWO.id, SUM.id, SUM.id]


def test_the_old_result_stays_until_the_forced_one_is_whole(place, store, monkeypatch):
    before, seen = execute([TWO], place)[TWO.id], []

    def watched(spec, context):
        result = compute_number(spec, context)
        assert_same_result(store.read(TWO.id), before)
        seen.append(before.metrics["value"])
        result.metrics["value"] = "new"
        return result

    monkeypatch.setitem(computing._FUNCTIONS, Number, watched)
    after = execute([TWO], place, mode="force")[TWO.id]
    assert (seen, after.metrics["value"]) == ([2], "new")


def test_a_failure_under_force_keeps_the_old_result(place, store):
    execute([TWO], place)
    break_run(place, TWO)
    with pytest.raises(RunsFailedError, match="told to fail"):
        execute([TWO], place, mode="force")
    assert store.read(TWO.id).metrics["value"] == 2


def test_read_only_computes_and_writes_nothing(place, store):
    execute([SUM, THREE], place)
    flip_a_byte(store.root / THREE.id / "result.json", np.random.default_rng(0))
    before, times = computed(place), write_times(place)
    results = execute([SUM, SUMS, THREE], place, mode="read-only")
    assert set(results) >= {SUM.id} and SUMS.id not in results
    with pytest.raises(DamagedError, match=THREE.id):
        results[THREE.id].metrics  # noqa: B018
    assert (computed(place), write_times(place)) == (before, times)


def test_read_only_needs_no_store_and_makes_none(place):
    assert execute([SUM], place, mode="read-only") == {}
    assert not place.results_dir.exists()


@pytest.mark.parametrize("wrong", [{"executor": "slurm"}, {"mode": "readonly"}, {"executor": None}, {"mode": "Force"}])
def test_an_unknown_executor_or_mode_is_refused_with_what_is_allowed(place, wrong):
    ((name, value),) = wrong.items()
    allowed = {"executor": "inline, local, ray", "mode": "cached, force, read-only, retry"}[name]
    with pytest.raises(SpecError, match=f"^{name}: got {value!r}.* allowed: {allowed}$"):
        execute([ONE], place, **wrong)
    assert not place.results_dir.exists()


def test_a_store_that_cannot_be_written_is_refused_before_anything_is_computed(place):
    place.results_dir.write_text("a file")
    with pytest.raises(StoreError, match=r"results_dir: .*results cannot be written .*mode='read-only'"):
        execute([ONE], place)
    assert computed(place) == []


# ------------------------------------------------------------------------------------------------ other drivers


def test_a_run_that_another_driver_stores_after_this_one_looked_is_found_and_not_computed_again(place, store, monkeypatch):
    def other_driver(*_):
        store.put(ONE, result_of(ONE, context(place.data_dir)), {"code": ""})

    monkeypatch.setattr("vitlib.runs.execute.preflight", other_driver)
    execute([ONE], place)
    assert computed(place) == [ONE.id]


def test_a_run_that_another_process_holds_is_waited_for_and_not_computed(place, store):
    """The other driver stores the run, then lets go of it."""

    def other_driver():
        with store.claim(ONE.id) as mine:
            assert mine
            claimed.set()
            while not waiting.is_set():
                time.sleep(0.01)
            store.put(ONE, result_of(ONE, Spare), {"code": ""})

    class Spare:
        data_dir, tick = place.data_dir, staticmethod(lambda *_: None)

    claimed, waiting = threading.Event(), threading.Event()
    thread = threading.Thread(target=other_driver)
    thread.start()
    claimed.wait(30)
    threading.Timer(0.1, waiting.set).start()
    assert execute([ONE], place)[ONE.id].metrics["value"] == 1
    thread.join()
    assert computed(place) == [ONE.id]


def test_a_held_run_keeps_its_children_waiting_and_nothing_else(place, store):
    def other_driver():
        with store.claim(ONE.id):
            claimed.set()
            while TWO.id not in store:
                time.sleep(0.01)
            store.put(ONE, Result({"value": 1}), {"code": ""})

    claimed = threading.Event()
    thread = threading.Thread(target=other_driver, daemon=True)
    thread.start()
    claimed.wait(30)
    assert execute([ONE, SUM, TWO], place)[SUM.id].metrics["value"] == 3
    assert computed(place) == [TWO.id, SUM.id]


def test_what_a_killed_process_left_behind_is_swept(place, store):
    execute([ONE], place)
    partial, scratch = store.root / ".partial" / f"{ONE.id}~1-0", store.scratch(ONE.id)
    for folder in (partial, scratch):
        folder.mkdir(parents=True)
        (folder / "half").touch()
    (store.root / ".claims" / ONE.id).touch()
    execute([ONE], place)
    assert files_below(store.root / ".partial") + files_below(store.root / ".scratch") + files_below(store.root / ".claims") == []


def test_a_checkpoint_is_kept_until_its_run_is_stored(place, store):
    store.scratch(TWO.id).mkdir(parents=True)
    (store.scratch(TWO.id) / "checkpoint.pt").touch()
    execute([ONE], place)
    assert files_below(store.root / ".scratch") == [f"{TWO.id}/checkpoint.pt"]
    execute([TWO], place)
    assert files_below(store.root / ".scratch") == []


# ------------------------------------------------------------------------------------------------ local workers


@pytest.fixture
def chain(smoke):
    """A student and the teacher it learns from: two runs of the smoke study, one after the other."""
    return next(cell.spec for cell in smoke.cells if cell.point.get("method") == "hard")


def test_local_workers_give_what_inline_gives_though_one_is_killed_in_the_middle_of_a_run(place, smoke, chain, monkeypatch):
    workers = []
    popen = local.subprocess.Popen
    monkeypatch.setattr(local, "slots", lambda device, per_gpu: [{"OMP_NUM_THREADS": "1"}])
    monkeypatch.setattr(local.subprocess, "Popen", lambda *args, **options: workers.append(popen(*args, **options)) or workers[-1])

    def kill_the_first_worker():
        while not list(place.results_dir.glob(f".claims/{chain.teacher.id}")):
            time.sleep(0.005)
        os.kill(workers[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_the_first_worker, daemon=True)
    thread.start()
    results = execute([chain], place, executor="local")
    thread.join()
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL, 0]
    inline = Store(smoke.place.results_dir, writable=False)
    for spec in (chain, chain.teacher):
        assert_same_result(Store(place.results_dir).read(spec.id), inline.read(spec.id))
    assert results[chain.id].metrics == inline.read(chain.id).metrics


def test_a_run_whose_workers_keep_dying_is_given_up_and_its_siblings_are_not(place, smoke, monkeypatch):
    doomed, sibling = (cell.spec for cell in smoke.cells if cell.table == "architecture")
    hand_out = local.Workers._hand_out

    def deadly(pool, worker, spec):
        hand_out(pool, worker, spec)
        if spec == doomed:
            worker.process.kill()

    monkeypatch.setattr(local.Workers, "_hand_out", deadly)
    with pytest.raises(RunsFailedError, match=f"{doomed.id}: its worker died 2 times") as error:
        execute([doomed, sibling], place, executor="local")
    assert str(error.value).startswith("1 run(s) failed, 1 are stored")
    store = Store(place.results_dir)
    assert store.ids() == [sibling.id]
    assert "died" in store.failure(doomed.id)


def test_a_failure_in_a_worker_is_told_with_its_reason(place):
    """A worker refuses run classes outside vitlib."""
    with pytest.raises(RunsFailedError, match=f"{ONE.id}: SpecError: type: got 'tests.support:Number'"):
        execute([ONE], place, executor="local")


def test_a_system_that_does_not_say_which_cores_are_ours_gives_all(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert paths.cores() == 6


@pytest.mark.parametrize(("device", "executor"), [("cuda", "inline"), ("cuda:1", "inline"), ("cuda", "local"), ("cuda:0", "local")])
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_computed_and_no_failure_is_kept(place, monkeypatch, device, executor):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SpecError, match=rf"device: got '{device}'"):
        execute([ONE], replace(place, device=device), executor=executor)
    assert execute([ONE], place)[ONE.id].metrics["value"] == 1


def test_a_result_names_the_code_that_was_there_when_it_began(place, monkeypatch):
    codes = iter(["before", "after"])
    monkeypatch.setattr(one, "facts", lambda cls, device: {"code": next(codes)})
    execute([ONE], place)
    assert Store(place.results_dir).read(ONE.id).provenance["code"] == "before"


def test_a_run_taken_up_again_names_the_code_that_it_began_with(place, monkeypatch):
    monkeypatch.setattr(one, "facts", lambda cls, device: {"code": "new"})
    scratch = Store(place.results_dir).scratch(ONE.id)
    write_line(scratch / "code", "old")
    execute([TWO], place)
    (scratch / "checkpoint.pt").touch()
    execute([ONE], place)
    store = Store(place.results_dir)
    assert [store.read(run.id).provenance["code"] for run in (ONE, TWO)] == ["old", "new"]
    assert not scratch.exists()


def test_a_result_that_a_killed_process_had_written_whole_is_put_into_its_place(place):
    execute([ONE], place)
    store = Store(place.results_dir)
    aside = store.root / ".partial" / f"{ONE.id}~1-0"
    aside.parent.mkdir(exist_ok=True)
    (store.root / ONE.id).rename(aside)
    store.sweep()
    assert store.read(ONE.id).metrics["value"] == 1 and not aside.exists()


def test_the_traceback_of_a_failed_run_is_kept_until_it_succeeds(place):
    place.data_dir.mkdir(parents=True, exist_ok=True)
    broken = place.data_dir / f"break-{ONE.id}"
    broken.touch()
    with pytest.raises(RunsFailedError):
        execute([ONE], place)
    log = place.results_dir / ".failed" / f"{ONE.id}.log"
    assert log.read_text().startswith("Traceback") and "compute" in log.read_text()
    broken.unlink()
    execute([ONE], place, mode="retry")
    assert not log.exists()
