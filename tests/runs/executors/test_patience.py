"""How long a run may take is a matter of the deadline alone."""

import time

from tests.support import Number
from vitlib.runs.clock.budget import Budget, Turns
from vitlib.runs.clock.progress import Progress
from vitlib.runs.executors import driver
from vitlib.runs.executors.protocol import Ended, Job
from vitlib.runs.plan import make_plan


class Slow:
    """A pool whose one run ends at the third look."""

    tries = 1

    def __init__(self):
        self.looks, self.taken, self.cancelled = 0, [], []

    def has_room(self):
        return not self.taken

    def submit(self, spec):
        self.taken.append(spec)

    def wait(self, timeout):
        time.sleep(0.03)
        self.looks += 1
        return [Ended(self.taken.pop().id, "stored", 1.0)] if self.looks == 3 else []

    def cancel(self, run_id):
        self.cancelled.append(self.taken.pop().id)


def test_a_run_that_takes_long_before_the_deadline_is_not_given_up(place, store, monkeypatch):
    monkeypatch.setattr(driver, "GRACE", 0.02)
    pool, plan = Slow(), make_plan([Number(value=1)], store)
    job = Job(plan, store, place, set(), lambda *_: None, lambda spec: 0.0)
    driver.drive(job, pool, Turns(plan, store, Budget(60.0), lambda spec: 0.0), Progress(1))
    assert pool.cancelled == [] and pool.looks == 3 and plan.left == {}
