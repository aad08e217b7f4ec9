"""Progress in a log: what a reader sees of a study that takes hours."""

import io
import re

import pytest

from tests.support import Number, Total
from vitlib.runs import execute as execute_module
from vitlib.runs.clock import progress as progress_module
from vitlib.runs.clock.progress import Progress
from vitlib.runs.execute import RunsFailedError, execute


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_a_log_line_holds_runs_epoch_speed_and_time_left(clock):
    log = io.StringIO()
    progress = Progress(4, stream=log, every=10)
    for epoch in range(5):
        clock.now += 2
        progress.tick("student-1", epoch, 10, images=500)
    # after 10 s, 4 of 10 epochs of the first of 4 runs are done: a tenth of all, so 90 s are left
    assert log.getvalue() == "runs 0/4 | student-1, epoch 5/10 | 250 images/s | 01:30 left\n"
    clock.now += 30
    progress.finished("student-1")  # a quarter in 40 s
    assert log.getvalue().endswith("\nruns 1/4 | student-1 | 02:00 left\n")


def test_runs_are_named_in_words_where_there_are_some(clock):
    log = io.StringIO()
    progress = Progress(58, {"student-6d2c": "DeiT-S, token, seed 1"}, stream=log, every=1)
    clock.now += 2
    progress.tick("student-6d2c", 30, 40, images=500)
    assert log.getvalue() == "runs 0/58 | DeiT-S, token, seed 1, epoch 31/40 | 250 images/s | --:-- left\n"
    clock.now += 2
    progress.finished("student-6d2c")
    assert log.getvalue().splitlines()[-1].startswith("runs 1/58 | DeiT-S, token, seed 1 | ")


def test_a_log_gets_no_more_than_a_line_every_so_many_seconds_and_always_the_last(clock):
    log = io.StringIO()
    progress = Progress(1000, stream=log, every=10)
    for run in range(1000):
        clock.now += 0.1
        progress.finished(f"run-{run}")
    lines = log.getvalue().splitlines()
    assert len(lines) <= 100 / 10 + 1
    assert lines[-1] == "runs 1000/1000 | run-999 | 00:00 left"


def test_what_stood_before_a_run_was_taken_up_again_does_not_shorten_the_time_left(clock):
    log = io.StringIO()
    progress = Progress(2, stream=log, every=1)
    for epoch in (6, 7):
        clock.now += 5
        progress.tick("a", epoch, 10, images=10)
    # a tenth of a run in 10 s, 1.3 runs are left
    assert log.getvalue().splitlines()[-1] == "runs 0/2 | a, epoch 8/10 | 2 images/s | 02:10 left"
    clock.now += 30
    progress.finished("a")  # four tenths in 40 s
    assert log.getvalue().splitlines()[-1] == "runs 1/2 | a | 01:40 left"


def test_two_runs_at_once_both_count(clock):
    log = io.StringIO()
    progress = Progress(2, stream=log, every=1)
    for run, epoch in (("a", 0), ("b", 0), ("a", 1), ("b", 1)):
        clock.now += 2.5
        progress.tick(run, epoch, 2, images=5)
    # 10 s for two half runs: as much again is left
    assert log.getvalue().splitlines()[-1] == "runs 0/2 | b, epoch 2/2 | 2 images/s | 00:10 left"


def test_time_left_is_unknown_before_anything_is_done(clock):
    log = io.StringIO()
    progress = Progress(2, stream=log, every=1)
    clock.now += 5
    progress.tick("a", 0, 2, images=10)
    assert log.getvalue() == "runs 0/2 | a, epoch 1/2 | 2 images/s | --:-- left\n"


def test_hours_are_written_as_hours(clock):
    log = io.StringIO()
    progress = Progress(100, stream=log, every=1)
    clock.now += 100
    progress.finished("a")  # 99 more in 9,900 s
    assert log.getvalue() == "runs 1/100 | a | 2:45:00 left\n"


def test_a_bar_shows_the_same_time_left_as_a_log(clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    log = Terminal()
    progress = Progress(2, stream=log)
    for epoch in (6, 7):
        clock.now += 5
        progress.tick("a", epoch, 10, images=10)
    progress.close()
    assert "02:10 left" in log.getvalue()


def test_a_terminal_gets_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    log = Terminal()
    progress = Progress(2, stream=log)
    progress.finished("a")
    progress.finished("b")
    progress.close()
    assert re.search(r"100%.*2/2 runs .*, b\]", log.getvalue())


@pytest.mark.parametrize("fails", [False, True])
def test_the_last_line_of_a_study_says_that_all_runs_are_dealt_with(place, monkeypatch, fails):
    log = io.StringIO()
    monkeypatch.setattr(execute_module, "Progress", lambda total, titles, settled: Progress(total, titles, settled, stream=log))
    one, two = Number(value=1), Number(value=2)
    total = Total(left=one, right=two)
    if fails:
        (place.data_dir / f"break-{two.id}").touch()
        with pytest.raises(RunsFailedError):
            execute([total], place)
    else:
        execute([total], place)
    assert log.getvalue().splitlines()[-1] == f"runs 3/3 | {total.id} | 00:00 left"


def test_ticks_go_on_at_most_so_often_the_first_at_once_and_no_image_is_lost(monkeypatch):
    now = iter([10.0, 10.0, 10.2, 10.4, 10.5, 10.5])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(now))
    said = []
    tick = progress_module.seldom(lambda *how_far: said.append(how_far), every=0.5)
    for epoch in range(4):
        tick(epoch, 4, 10)
    assert said == [(0, 4, 10), (3, 4, 30)]
