"""Notice reaches what is under way: its deadline is then, and an earlier one stays."""

import time

import pytest

from tests.support import context
from vitlib.runs.clock import notice


@pytest.mark.parametrize("before", [float("inf"), 0.0])
def test_the_deadline_of_a_run_under_way_comes_forward_and_is_never_put_off(before):
    run = context(deadline=before)
    with notice.by_signals(), notice.heeded_by(run):
        notice.give()
        assert run.deadline <= min(before, time.monotonic())
