"""Notebooks side by side: each after its own runs, measured runs with nothing beside them, every failure its own."""

import threading
import time
from dataclasses import dataclass

import pytest

from vitlib.runs.execute import RunsFailedError
from vitlib.runs.workers.alone import NoRoomError, on_the_host
from vitlib.spec import SpecError
from vitlib.studies.headless.together import Job, execute_together


@dataclass(frozen=True)
class Run:
    """As much of a run as the table looks at."""

    id: str
    timed: bool = False


class Kitchen:
    """Stored runs and a diary of what happened, in order."""

    def __init__(self, *failing):
        self.failing, self.stored, self.diary, self.under_way = failing, set(), [], 0

    def job(self, name, *runs, takes=0.0):
        def execute():
            self.under_way += 1
            self.diary.append(f"{name} begins")
            time.sleep(takes)
            self.diary.append(f"{name} ends")
            self.under_way -= 1
            return name

        return Job(execute, {run.id: run for run in runs}, self.stored.__contains__)

    def compute(self, specs, settled, before_timed):
        for spec in sorted(specs, key=lambda spec: spec.timed):
            if spec.timed:
                before_timed()
            self.diary.append(f"{spec.id} beside {self.under_way}" if spec.timed else spec.id)
            self.stored |= {spec.id} - set(self.failing)
            settled(spec.id)
            time.sleep(0.05)


@pytest.fixture
def kitchen():
    return Kitchen()


def test_a_notebook_is_executed_once_its_runs_are_stored_while_those_of_the_next_are_computed(kitchen):
    executed = threading.Event()

    def compute(specs, settled, before_timed):
        for spec in specs:
            if spec.id == "b":
                assert executed.wait(60), "the first notebook waited for runs that are not its own"
            kitchen.stored.add(spec.id)
            settled(spec.id)

    first = Job(executed.set, {"a": Run("a")}, kitchen.stored.__contains__)
    execute_together([first, kitchen.job("two", Run("b"), Run("c"))], compute)
    assert executed.is_set() and kitchen.diary == ["two begins", "two ends"]


def test_runs_that_measure_time_come_last_and_find_no_notebook_under_way(kitchen):
    jobs = [kitchen.job("slow", Run("a"), takes=0.4), kitchen.job("other", Run("t", timed=True), Run("b")), kitchen.job("free")]
    execute_together(jobs, kitchen.compute)
    assert "t beside 0" in kitchen.diary
    assert kitchen.diary.index("slow ends") < kitchen.diary.index("t beside 0") < kitchen.diary.index("other begins")


def test_nothing_is_begun_between_two_runs_that_measure_time():
    kitchen = Kitchen()
    jobs = [kitchen.job("one", Run("a"), Run("t", timed=True), takes=0.4), kitchen.job("two", Run("u", timed=True), Run("b"))]
    execute_together(jobs, kitchen.compute)
    assert [line for line in kitchen.diary if "begins" not in line and "ends" not in line] == ["a", "b", "t beside 0", "u beside 0"]


def test_a_notebook_with_a_run_that_failed_is_executed_when_all_is_measured():
    kitchen = Kitchen("a")
    execute_together([kitchen.job("one", Run("a")), kitchen.job("two", Run("t", timed=True))], kitchen.compute)
    assert kitchen.diary[:2] == ["a", "t beside 0"] and "one ends" in kitchen.diary


def test_a_run_that_two_notebooks_share_is_asked_for_once_in_each_and_serves_both(kitchen):
    asked = []

    def compute(specs, *hooks):
        asked.extend(spec.id for spec in specs)
        kitchen.compute(specs, *hooks)

    execute_together([kitchen.job("one", Run("a")), kitchen.job("two", Run("a"), Run("b"))], compute)
    assert sorted(set(asked)) == ["a", "b"] and kitchen.diary[-1] == "two ends"


def test_what_is_stored_is_not_computed_and_nothing_is_asked_for_where_all_is(kitchen):
    kitchen.stored |= {"a"}
    assert execute_together([kitchen.job("one", Run("a"))], lambda *_: pytest.fail("it asked for runs")) == ["one"]


@pytest.mark.parametrize("error", [RunsFailedError("1 run(s) failed"), SpecError("data: not here")])
def test_notebooks_are_executed_whatever_became_of_their_runs(kitchen, error):
    def compute(specs, *hooks):
        raise error

    assert execute_together([kitchen.job("one", Run("a")), kitchen.job("two")], compute) == ["one", "two"]


def test_nobody_measures_beside_a_notebook_whose_runs_are_stored_and_one_that_may_compute_keeps_nobody_away(kitchen):
    kitchen.stored |= {"a"}
    refused = []

    def execute():
        def measure():
            try:
                with on_the_host(alone=True, deadline=time.monotonic()):
                    refused.append(False)
            except NoRoomError:
                refused.append(True)

        other = threading.Thread(target=measure)
        other.start()
        other.join()

    execute_together([Job(execute, {"a": Run("a")}, kitchen.stored.__contains__)], kitchen.compute)
    execute_together([Job(execute)], kitchen.compute)
    assert refused[0]


def test_an_error_of_a_notebook_itself_is_not_lost(kitchen):
    with pytest.raises(ZeroDivisionError):
        execute_together([Job(lambda: 1 / 0)], kitchen.compute)
