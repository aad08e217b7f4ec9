"""Which of a plan's runs come last."""

from typing import ClassVar

from tests.support import Number
from vitlib.runs.plan import make_plan


class Timed(Number):
    timed: ClassVar[bool] = True


def test_runs_that_measure_time_come_last_and_the_rest_in_its_order(store):
    specs = [Timed(value=1), Number(value=2), Timed(value=3), Number(value=4)]
    assert [spec.value for spec in make_plan(specs, store).timed_last().values()] == [2, 4, 1, 3]
