"""A signal ends what is under way as a deadline does: with a checkpoint, and the same numbers in the end, to the bit."""

import os
import signal
import threading
import time

import pytest

from tests.support import Number, assert_same_result, files_below
from vitlib.computing import Context
from vitlib.runs.clock import notice
from vitlib.runs.clock.budget import Budget
from vitlib.runs.execute import TimeIsUpError, execute
from vitlib.runs.store import Store
from vitlib.runs.workers.alone import NoRoomError, on_the_host


@pytest.fixture
def chain(smoke):
    """A student and the teacher it learns from."""
    return next(cell.spec for cell in smoke.cells if cell.point.get("method") == "hard")


def execute_till_told(chain, place, executor, answers) -> None:
    with notice.by_signals():
        try:
            execute([chain], place, executor=executor)
        except TimeIsUpError as error:
            answers.put(str(error).splitlines()[0])
            raise SystemExit(3) from None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_driver_told_to_end_again_and_again_ends_in_the_numbers_of_an_undisturbed_one(place, store, smoke, chain, forking, number):
    """Told as soon as a run has begun, four times; then left alone."""
    answers = forking.Queue()
    codes = []
    for _ in range(4):
        child = forking.Process(target=execute_till_told, args=(chain, place, "inline", answers), daemon=True)
        child.start()
        while child.is_alive() and not list(store.root.glob(".claims/student-*")) + list(store.root.glob(".claims/teacher-*")):
            time.sleep(0.002)
        if child.is_alive():
            os.kill(child.pid, number)
        child.join(60)
        codes.append(child.exitcode)
    assert codes[0] == 3 and set(codes) <= {0, 3}
    assert answers.get(timeout=5).startswith("told to end: ")
    execute([chain], place)
    for spec in (chain, chain.teacher):
        assert_same_result(store.read(spec.id), Store(smoke.place.results_dir, writable=False).read(spec.id))
    assert [files_below(store.root / name) for name in (".scratch", ".claims", ".failed")] == [[]] * 3


def test_workers_are_told_by_their_driver_and_come_home_with_their_checkpoints(place, store, smoke, chain, forking):
    answers = forking.Queue()
    child = forking.Process(target=execute_till_told, args=(chain, place, "local", answers))  # a daemon may have no children
    child.start()
    while child.is_alive() and not list(store.root.glob(".scratch/*/code")):
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGUSR1)
    child.join(60)
    assert child.exitcode == 3
    assert "left" in answers.get(timeout=5)
    assert store.failure(chain.teacher.id) is None
    execute([chain], place)
    assert_same_result(store.read(chain.id), Store(smoke.place.results_dir, writable=False).read(chain.id))


@pytest.fixture
def told():
    with notice.by_signals():
        os.kill(os.getpid(), signal.SIGUSR1)
        while not notice.given():
            time.sleep(0.001)
        yield


def test_nothing_begins_after_notice_not_even_the_first_run_of_a_call(place, told):
    with pytest.raises(TimeIsUpError, match=r"told to end: 0 run\(s\) stored, 1 left"):
        execute([Number(value=1)], place)
    budget = Budget(1000)
    assert budget.left <= 0 and budget.over and not budget.begun


def test_a_run_that_begins_to_listen_after_notice_has_its_deadline_behind_it(place, told):
    context = Context("cpu", place.data_dir, None, lambda parent: None)
    with notice.heeded_by(context):
        assert context.deadline <= time.monotonic()


def test_who_waits_for_the_host_stops_waiting(monkeypatch, tmp_path):
    monkeypatch.setattr("vitlib.runs.workers.alone.tempfile.tempdir", str(tmp_path))
    with notice.by_signals(), on_the_host(alone=True):
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(NoRoomError), on_the_host(alone=False):
            pass


def test_signals_are_what_they_were_afterwards():
    before = [signal.getsignal(number) for number in notice.SIGNALS]
    with notice.by_signals():
        assert notice.expected() and [signal.getsignal(number) for number in notice.SIGNALS] != before
        notice.give()
    assert [signal.getsignal(number) for number in notice.SIGNALS] == before
    assert not notice.given() and not notice.expected()
