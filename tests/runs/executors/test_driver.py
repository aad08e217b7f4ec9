"""The driver over a pool that is told what to say: deaths, runs that others hold, and the table of executors."""

import importlib
from typing import ClassVar, get_args

import pytest

from tests.support import Number, Total
from vitlib.runs.clock.budget import Budget, Turns
from vitlib.runs.clock.progress import Progress
from vitlib.runs.executors import driver
from vitlib.runs.executors.driver import drive
from vitlib.runs.executors.protocol import MODULES, Ended, Job, Lost
from vitlib.runs.plan import Executor, make_plan

ONE, TWO = Number(value=1), Number(value=2)
SUM = Total(left=ONE, right=TWO)


class Watch(Number):
    timed: ClassVar[bool] = True


class Told:
    """Says, of each run in turn, what it is told to; without more to say, that it is stored."""

    tries = 3

    def __init__(self, room, **said):
        self.room, self.said, self.order, self.taken = room, {int(value): list(what) for value, what in said.items()}, [], []

    def has_room(self):
        return len(self.taken) < self.room

    def submit(self, spec):
        self.taken.append(spec)
        self.order.append(spec)

    def wait(self, timeout):
        taken, self.taken = self.taken, []
        for spec in taken:
            said = self.said.get(getattr(spec, "value", 0))
            yield said.pop(0)(spec.id) if said else Ended(spec.id, "stored", 1.0)


def stored(run_id):
    return Ended(run_id, "stored", 1.0)


def held(run_id):
    return Ended(run_id, "held")


def lost(run_id):
    return Lost(run_id, "killed")


@pytest.fixture
def driven(place, store, monkeypatch):
    monkeypatch.setattr(driver, "PAUSE", 0.01)

    def driven(pool, *specs, before_timed=lambda: None):
        plan = make_plan(specs, store)
        job = Job(plan, store, place, set(), lambda *_: None, lambda spec: 0.0, before_timed)
        drive(job, pool, Turns(plan, store, Budget(), lambda spec: 0.0), Progress(len(plan.pending)))
        return plan

    return driven


def test_every_executor_has_its_module():
    assert set(MODULES) == set(get_args(Executor))
    assert all(callable(importlib.import_module(module).opened) for module in MODULES.values())


@pytest.mark.parametrize("room", [1, 5])
def test_parents_are_handed_out_before_their_child_and_everything_once(driven, room):
    pool = Told(room)
    plan = driven(pool, SUM)
    assert pool.order == [ONE, TWO, SUM] and plan.left == plan.failed == {}


def test_a_run_that_is_lost_is_handed_out_again_and_at_last_given_up_with_its_children(driven, store):
    once, ever = Told(2, **{"1": [lost]}), Told(2, **{"1": [lost] * 9})
    assert driven(once, SUM).failed == {} and once.order.count(ONE) == 2
    plan = driven(ever, SUM)
    assert ever.order.count(ONE) == ever.tries and ever.order.count(TWO) == 1 and SUM not in ever.order
    assert plan.failed == {ONE.id: "its worker died 3 times (killed)", SUM.id: f"its parent {ONE.id} failed"}
    assert store.failure(ONE.id) == "its worker died 3 times (killed)" and plan.left == {}


def test_a_run_that_another_driver_holds_comes_last_and_that_is_no_try(driven):
    pool = Told(1, **{"1": [held] * 9 + [lost, stored]})
    plan = driven(pool, ONE, TWO)
    assert pool.order[:2] == [ONE, TWO] and pool.order[2:] == [ONE] * 10 and plan.failed == plan.left == {}


def test_what_a_pool_does_not_come_to_is_left(driven):
    class Stopping(Told):
        def wait(self, timeout):
            raise KeyboardInterrupt

    plans = []
    pool = Stopping(1)
    with pytest.raises(KeyboardInterrupt):
        plans.append(driven(pool, SUM))
    assert pool.order == [ONE]


def test_whoever_wants_quiet_is_asked_before_each_run_that_measures_time(driven):
    pool, found = Told(2), []
    driven(pool, ONE, Watch(value=3), Watch(value=4), before_timed=lambda: found.append(list(pool.order)))
    assert found == [[ONE], [ONE, Watch(value=3)]]
