"""Claims: one process computes a run, until it ends or is killed; several share one store."""

import os
import signal
from pathlib import Path

import pytest

from tests.runs.support import SPEC, PowerCut
from tests.support import Number, computed, execute_numbers, files_below
from vitlib.runs.store import Store


def hold(root: Path, run_id: str, held) -> None:
    with Store(root).claim(run_id) as mine:
        if mine:
            held.set()
        signal.pause()


def test_a_claim_excludes_other_processes_until_its_holder_is_killed(store, forking):
    held = forking.Event()
    child = forking.Process(target=hold, args=(store.root, SPEC.id, held), daemon=True)
    child.start()
    assert held.wait(30)
    with store.claim(SPEC.id) as mine:
        assert not mine
    with store.claim("another-run") as mine:
        assert mine
    child.kill()
    child.join()
    with store.claim(SPEC.id) as mine:
        assert mine


def test_a_claim_excludes_this_process_too_and_is_freed_by_an_error(store):
    with pytest.raises(PowerCut), store.claim(SPEC.id) as first:
        with store.claim(SPEC.id) as second:
            assert (first, second) == (True, False)
        raise PowerCut
    with store.claim(SPEC.id) as mine:
        assert mine
    assert files_below(store.root / ".claims") == []


def test_a_file_that_its_holder_removed_meanwhile_is_no_claim(store, monkeypatch):
    """Between opening the file and locking it, the holder may finish: it removes the file, then unlocks it."""
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


def test_four_processes_on_one_store_compute_nothing_twice(place, store, forking):
    together = forking.Barrier(4)
    children = [forking.Process(target=execute_numbers, args=(40, order, place, together), daemon=True) for order in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert sorted(computed(place)) == sorted(Number(value=value).id for value in range(40))
    assert store.ids() == sorted(computed(place))
