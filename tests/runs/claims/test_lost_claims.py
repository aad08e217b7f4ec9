"""What a run does whose claim is lost, and what a claim that was given back leaves."""

import os
import time

import pytest

from tests.runs.support import SPEC
from vitlib import computing
from vitlib.computing import Result
from vitlib.runs.claims.held import LostClaimError, while_held
from vitlib.runs.workers.one import compute_one


def test_claims_that_were_given_back_leave_no_file_open(shared):
    with shared.claim(SPEC.id):
        pass  # what is probed once is probed
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with shared.claim(SPEC.id) as mine:
            assert mine
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_step_under_a_lost_claim_ends_the_run_and_is_not_told():
    told = []
    while_held(True, lambda *how_far: told.append(how_far))(0, 1, 10)
    with pytest.raises(LostClaimError):
        while_held(False, lambda *how_far: told.append(how_far))(1, 1, 10)
    assert told == [(0, 1, 10)]


def test_a_run_that_takes_no_step_after_its_claim_was_lost_stores_nothing(by_lease, place, monkeypatch):
    def robbed(spec, context):
        (by_lease.root / ".claims" / spec.id).write_text('{"token": "another"}')
        time.sleep(0.2)
        return Result({"value": 1})

    monkeypatch.setitem(computing._FUNCTIONS, type(SPEC), robbed)
    assert compute_one(SPEC, by_lease, place, lambda *how_far: None).what == "held"
    assert SPEC.id not in by_lease and by_lease.failure(SPEC.id) is None
