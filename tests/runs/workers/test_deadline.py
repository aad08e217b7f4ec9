"""The deadline in local workers: what is under way comes home with its checkpoint, and a worker that does not is ended."""

import time

import pytest

from tests.support import assert_same_result, files_below
from vitlib.runs.clock.budget import IN_VAIN, REACHED, Budget, noted
from vitlib.runs.execute import TimeIsUpError, execute
from vitlib.runs.executors import driver
from vitlib.runs.store import Store
from vitlib.runs.workers import local


@pytest.fixture
def chain(smoke):
    """A student and the teacher it learns from: two runs of the smoke study, one after the other."""
    return next(cell.spec for cell in smoke.cells if cell.point.get("method") == "hard")


@pytest.fixture
def processes(monkeypatch):
    """The workers that were started; there is one at a time."""
    started = []
    popen = local.subprocess.Popen
    monkeypatch.setattr(local, "slots", lambda device, per_gpu: [{"OMP_NUM_THREADS": "1"}])
    monkeypatch.setattr(local.subprocess, "Popen", lambda *args, **options: started.append(popen(*args, **options)) or started[-1])
    return started


def execute_within(place, seconds, specs, estimate):
    return execute(specs, place, executor="local", budget=Budget(seconds), seconds=lambda spec: estimate)


def test_runs_interrupted_in_their_worker_again_and_again_end_in_the_numbers_of_uninterrupted_ones(place, store, smoke, chain, processes):
    """At first not even the start of a process lies within the budget, and one step is taken each time."""
    reached = [0.0]
    for _ in range(2):
        with pytest.raises(TimeIsUpError, match=r"0 run\(s\) stored, 2 left"):
            execute_within(place, 0.01, [chain], 1.0)
        assert files_below(store.scratch(chain.teacher.id)) == ["checkpoint.pt", "code", REACHED]
        reached.append(noted(store, chain.teacher.id, REACHED))
    assert reached == sorted(set(reached)) and reached[-1] < 1 and store.failure(chain.teacher.id) is None
    results = execute_within(place, 1000, [chain], 1.0)
    assert all(process.returncode == 0 for process in processes)
    inline = Store(smoke.place.results_dir, writable=False)
    for spec in (chain, chain.teacher):
        assert_same_result(store.read(spec.id), inline.read(spec.id))
    assert results[chain.id].metrics == inline.read(chain.id).metrics
    assert files_below(store.root / ".scratch") == []


def test_a_worker_that_does_not_come_back_within_the_grace_is_ended_and_its_run_not_begun_again_in_as_little_time(
    place, store, chain, processes, monkeypatch
):
    """It is ended while it starts: nothing was kept."""
    monkeypatch.setattr(driver, "GRACE", 0.1)
    began = time.monotonic()
    with pytest.raises(TimeIsUpError, match=rf"{chain.teacher.id} keeps no checkpoint and takes more than 0 s: give it more"):
        execute_within(place, 0.01, [chain], 1.0)
    assert time.monotonic() - began < 10
    assert [process.poll() is not None for process in processes] == [True]
    tried = noted(store, chain.teacher.id, IN_VAIN)
    assert 0.1 < tried < 1 and store.failure(chain.teacher.id) is None
    with pytest.raises(TimeIsUpError, match=r"0 run\(s\) stored, 2 left"):
        execute_within(place, tried / 2, [chain], 0.0)
    assert noted(store, chain.teacher.id, IN_VAIN) == tried, "it was begun again"
    monkeypatch.undo()
    assert chain.id in execute_within(place, 1000, [chain], 1.0)


def test_a_worker_that_does_not_leave_is_killed(place, chain, processes, monkeypatch):
    """One that is stopped reads no end of its input."""
    monkeypatch.setattr(driver, "GRACE", 0.1)
    monkeypatch.setattr(local, "LEAVING", 0.2)
    hand_out = local.Workers._hand_out

    def stopping(pool, worker, spec):
        hand_out(pool, worker, spec)
        worker.process.send_signal(19)

    monkeypatch.setattr(local.Workers, "_hand_out", stopping)
    with pytest.raises(TimeIsUpError):
        execute_within(place, 0.01, [chain], 1.0)
    assert [process.returncode for process in processes] == [-9]


def test_a_run_that_another_driver_holds_keeps_no_worker_beyond_the_deadline(place, store, chain, processes):
    with store.claim(chain.teacher.id), pytest.raises(TimeIsUpError, match=r"0 run\(s\) stored, 2 left"):
        execute_within(place, 0.5, [chain], 0.01)
    assert [process.returncode for process in processes] == [0]
