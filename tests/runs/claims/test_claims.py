"""Claims: one process computes a run, until it ends or is killed; several share one store. By locks and by leases."""

import os
import time

import pytest

from tests.runs.claims.support import hold, race
from tests.runs.support import SPEC, PowerCut
from tests.support import Number, computed, execute_numbers, files_below


def taken_within(store, run_id, seconds) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with store.claim(run_id) as mine:
            if mine:
                return True
        time.sleep(0.05)
    return False


def test_a_claim_excludes_other_processes_until_its_holder_is_killed(shared, forking):
    held = forking.Event()
    child = forking.Process(target=hold, args=(shared.root, SPEC.id, held), daemon=True)
    child.start()
    assert held.wait(30)
    assert not taken_within(shared, SPEC.id, 2.0)  # twice as long as a lease lasts without a touch
    with shared.claim("another-run") as mine:
        assert mine
    child.kill()
    child.join()
    assert taken_within(shared, SPEC.id, 5.0)
    assert files_below(shared.root / ".claims") == []


def test_a_claim_excludes_this_process_too_and_is_freed_by_an_error(shared):
    with pytest.raises(PowerCut), shared.claim(SPEC.id) as first:
        with shared.claim(SPEC.id) as second:
            assert first and not second
        raise PowerCut
    with shared.claim(SPEC.id) as mine:
        assert mine
    assert files_below(shared.root / ".claims") == []


def test_a_claim_names_its_holder_for_whoever_looks(shared):
    with shared.claim(SPEC.id):
        said = (shared.root / ".claims" / SPEC.id).read_text()
    assert f'"process": {os.getpid()}' in said and '"host": ' in said


def test_processes_that_race_for_one_claim_never_have_it_at_the_same_time(shared, forking):
    together = forking.Barrier(6)
    children = [forking.Process(target=race, args=(shared.root, SPEC.id, together, 20), daemon=True) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 6
    assert files_below(shared.root / ".claims") == []


def test_holders_killed_one_after_the_other_leave_the_claim_to_the_next(shared, forking):
    for _ in range(3):
        held = forking.Event()
        child = forking.Process(target=hold, args=(shared.root, SPEC.id, held), daemon=True)
        assert taken_within(shared, SPEC.id, 5.0)
        child.start()
        assert held.wait(30)
        child.kill()
        child.join()
    assert taken_within(shared, SPEC.id, 5.0)


def test_a_file_that_its_holder_removed_meanwhile_is_no_claim(store, monkeypatch):
    """Between opening the file and locking it, the holder may finish: it removes the file, then unlocks it."""
    with store.claim("another-run"):
        pass  # what is probed once is probed
    open_, removed = os.open, []

    def removing(path, *arguments):
        handle = open_(path, *arguments)
        if not removed:
            removed.append(path)
            os.unlink(path)
        return handle

    monkeypatch.setattr(os, "open", removing)
    with store.claim(SPEC.id) as first, store.claim(SPEC.id) as second:
        assert (first, second) == (True, False)
    assert removed


def test_four_processes_on_one_store_compute_nothing_twice(place, shared, forking):
    together = forking.Barrier(4)
    children = [forking.Process(target=execute_numbers, args=(40, order, place, together), daemon=True) for order in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert sorted(computed(place)) == sorted(Number(value=value).id for value in range(40))
    assert shared.ids() == sorted(computed(place))
