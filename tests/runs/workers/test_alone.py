"""Runs that measure time compute alone on their host, whichever drivers compute there."""

import os
import random
import signal
import time

import pytest

from vitlib.runs.workers import alone
from vitlib.runs.workers.alone import NoRoomError, on_the_host


@pytest.fixture(autouse=True)
def _own_host(tmp_path, monkeypatch):
    monkeypatch.setattr(alone.tempfile, "tempdir", str(tmp_path))


def compute(folder, number, start):
    """Ten short runs, each third alone, begun when all processes are there; when they began and ended is written down."""
    alone.tempfile.tempdir = str(folder)
    generator = random.Random(number)
    start.wait()
    with (folder / f"log{number}").open("w") as log:
        for run in range(10):
            by_itself = run % 3 == 0
            with on_the_host(alone=by_itself):
                began = time.monotonic()
                time.sleep(generator.random() / 20)
                log.write(f"{began} {time.monotonic()} {int(by_itself)}\n")


def test_no_run_of_any_process_computes_beside_one_that_measures_time_and_others_do(tmp_path, forking):
    start = forking.Barrier(4)
    processes = [forking.Process(target=compute, args=(tmp_path, number, start), daemon=True) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    runs = [tuple(map(float, line.split())) for log in tmp_path.glob("log*") for line in log.read_text().splitlines()]
    assert len(runs) == 40
    together = [(one, other) for one in runs for other in runs if one != other and one[0] < other[1] and other[0] < one[1]]
    assert not [pair for pair in together if any(by_itself for _, _, by_itself in pair)]
    assert together


def hold(folder, held, *, by_itself):
    alone.tempfile.tempdir = str(folder)
    with on_the_host(alone=by_itself):
        held.set()
        time.sleep(60)


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_holder_that_is_killed_leaves_the_host_free(tmp_path, forking, by_itself):
    held = forking.Event()
    process = forking.Process(target=hold, args=(tmp_path, held), kwargs={"by_itself": by_itself}, daemon=True)
    process.start()
    assert held.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    with on_the_host(alone=True):
        pass


def test_nobody_waits_for_room_beyond_the_deadline(tmp_path, forking):
    held = forking.Event()
    process = forking.Process(target=hold, args=(tmp_path, held), kwargs={"by_itself": True}, daemon=True)
    process.start()
    assert held.wait(60)
    began = time.monotonic()
    with pytest.raises(NoRoomError), on_the_host(alone=False, deadline=began + 0.2):
        pass
    assert 0.2 <= time.monotonic() - began < 5
    process.kill()
    process.join()
    with on_the_host(alone=False, deadline=began):  # the room is free: nobody waits
        pass


def wait_alone(folder, log):
    alone.tempfile.tempdir = str(folder)
    with on_the_host(alone=True):
        log.put("alone")


def pass_by(folder, log):
    alone.tempfile.tempdir = str(folder)
    with on_the_host(alone=False):
        log.put("beside")


def test_who_waits_to_be_alone_comes_before_those_who_ask_later(tmp_path, forking):
    log = forking.SimpleQueue()  # whose `put` is over when it returns
    with on_the_host(alone=False):
        first = forking.Process(target=wait_alone, args=(tmp_path, log), daemon=True)
        first.start()
        while not waits(first):
            time.sleep(0.01)
        second = forking.Process(target=pass_by, args=(tmp_path, log), daemon=True)
        second.start()
        while not waits(second):
            time.sleep(0.01)
    assert [log.get(), log.get()] == ["alone", "beside"]


def waits(process) -> bool:
    """Whether the process asks for a lock that it does not get."""
    with open("/proc/locks") as table:
        return any("->" in line and f" {process.pid} " in line for line in table)
