"""Leases: what locks get from the kernel they get from the disk alone, whatever stops or stalls in between."""

import os
import signal
import time

import pytest

from tests.runs.claims.support import Suspended, execute_suspended, win_once
from tests.runs.support import FACTS, SPEC
from tests.support import computed, files_below
from vitlib.computing import Result
from vitlib.runs.claims import leases
from vitlib.runs.manifest import StoreError


def test_of_many_that_find_a_lease_expired_at_the_same_moment_one_takes_it(by_lease, expired, forking):
    for number in range(3):
        expired(f"run-{number}")
        together, over, winners = forking.Barrier(8), forking.Barrier(8), forking.Queue()
        arguments = (by_lease.root, f"run-{number}", together, over, winners)
        children = [forking.Process(target=win_once, args=arguments, daemon=True) for _ in range(8)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 8
        assert winners.get(timeout=5) and winners.empty()
    assert files_below(by_lease.root / ".claims") == []


@pytest.mark.parametrize("stays", [True, False], ids=["and is at it", "and is done with it"])
def test_a_taker_that_was_slow_takes_nothing_from_one_that_was_faster(by_lease, expired, monkeypatch, stays):
    """Between its look at the expired lease and the next step another has taken the run."""
    path, ending, faster = expired(SPEC.id), leases._ending, []

    def late(*arguments):
        if not faster:
            faster.append(None)
            faster[0] = leases._take(path)
            if not stays:
                leases._give_back(faster[0])
        return ending(*arguments)

    monkeypatch.setattr(leases, "_ending", late)
    assert leases._take(path) is None
    assert faster[0]
    assert files_below(path.parent) == ([SPEC.id] if stays else [])
    assert bool(leases._take(path)) is not stays


def test_a_lease_that_is_renewed_while_another_takes_it_stays(by_lease, expired, monkeypatch):
    path, ending = expired(SPEC.id), leases._ending

    def late(*arguments):
        os.utime(path)
        return ending(*arguments)

    monkeypatch.setattr(leases, "_ending", late)
    assert leases._take(path) is None
    assert path.read_text() == '{"token": "dead"}'


def test_a_taker_that_died_in_the_middle_is_in_nobodys_way_for_longer_than_a_lease_lasts(by_lease, expired):
    path, taking = expired(SPEC.id), expired(f"{SPEC.id}~dead")
    os.utime(taking)
    with by_lease.claim(SPEC.id) as mine:
        assert not mine  # someone may be about to take it
    os.utime(taking, (time.time() - 10, time.time() - 10))
    expired(f"{SPEC.id}~0123.new")
    with by_lease.claim(SPEC.id) as mine:
        assert mine
        assert files_below(path.parent) == [SPEC.id]
    assert files_below(path.parent) == []


def test_a_file_that_names_no_holder_is_a_claim_until_it_is_old(by_lease, expired):
    path = expired(SPEC.id)
    path.write_text("")
    with by_lease.claim(SPEC.id) as mine:
        assert not mine
    os.utime(path, (time.time() - 10, time.time() - 10))
    with by_lease.claim(SPEC.id) as mine:
        assert mine


def test_a_process_that_was_suspended_for_longer_than_its_lease_stores_nothing(by_lease, place, forking):
    """Another has taken the run by then, and what that one stores is what the first finds."""
    spec = Suspended()
    child = forking.Process(target=execute_suspended, args=(place,), daemon=True)
    child.start()
    until = time.monotonic() + 60
    taken = False
    while not taken and time.monotonic() < until:
        with by_lease.claim(spec.id) as mine:
            if mine and computed(place):
                taken = True
                os.kill(child.pid, signal.SIGCONT)
                time.sleep(1.0)
                assert spec.id not in by_lease and mine
                by_lease.put(spec, Result({"value": 2}), FACTS)
        time.sleep(0.1)
    child.join(30)
    assert taken and child.exitcode == 0
    assert by_lease.read(spec.id).metrics == {"value": 2} and len(computed(place)) == 1
    assert by_lease.failure(spec.id) is None


def test_a_lease_whose_disk_does_not_answer_holds_until_it_may_have_expired(by_lease, monkeypatch):
    def unreachable(*arguments):
        raise OSError(5, "no answer")

    with by_lease.claim(SPEC.id) as mine:
        monkeypatch.setattr(leases.os, "utime", unreachable)
        time.sleep(0.3)
        assert mine
        time.sleep(1.0)
        assert not mine
        monkeypatch.undo()


def test_a_lease_that_another_took_or_a_person_removed_is_lost(by_lease):
    with by_lease.claim(SPEC.id) as mine:
        mine.path.write_text('{"token": "another"}')
        time.sleep(0.15)
        assert not mine
    assert files_below(by_lease.root / ".claims") == [SPEC.id], "it is not the first one's to remove"
    (by_lease.root / ".claims" / SPEC.id).unlink()
    with by_lease.claim(SPEC.id) as mine:
        mine.path.unlink()
        time.sleep(0.15)
        assert not mine


def test_a_disk_that_answers_twice_that_the_name_is_given_has_given_it_to_the_asker(by_lease, monkeypatch):
    """NFS sends a request again whose answer was lost."""
    link = os.link

    def repeated(*arguments):
        link(*arguments)
        raise FileExistsError

    monkeypatch.setattr(leases.os, "link", repeated)
    with by_lease.claim(SPEC.id) as mine:
        assert mine


def test_a_disk_without_second_names_is_refused(by_lease, monkeypatch):
    def refused(*arguments):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(leases.os, "link", refused)
    with (
        pytest.raises(StoreError, match=r"files there bear no second name \(Operation not permitted\).*allowed: another disk"),
        by_lease.claim("run"),
    ):
        pass
    assert files_below(by_lease.root / ".claims") == []
