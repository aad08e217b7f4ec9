"""A sweep that is killed, and one beside drivers at work: every run is whole or gone, and nothing that is needed is lost."""

import random
import time
from pathlib import Path

import numpy as np

from tests.support import Number, Total, computed, files_below
from vitlib.computing import Result
from vitlib.runs.execute import execute
from vitlib.runs.store import Store
from vitlib.studies.sweeping.removal import REMOVED, empty, remove_runs

FACTS = {"code": "0", "device": "CPU", "commit": "0", "versions": {}}
RUNS, KILLS = 150, 12


def sweep(root: Path, run_ids: list[str]) -> None:
    remove_runs(Store(root), run_ids)


def test_a_sweep_killed_again_and_again_leaves_each_run_whole_or_gone(store, forking):
    specs = [Number(value=value) for value in range(RUNS)]
    kept = [Total(left=specs[0], right=specs[1])]
    arrays = {"noise": np.zeros(2000)}
    for spec in [*specs, *kept]:
        store.put(spec, Result({"value": 1}, arrays=arrays), FACTS)
    going, moments, seen = [spec.id for spec in specs], random.Random(0), []
    for _ in range(KILLS):
        child = forking.Process(target=sweep, args=(store.root, going), daemon=True)
        child.start()
        before = len(store.ids())
        while child.is_alive() and len(store.ids()) == before:
            time.sleep(0.001)
        child.join(moments.uniform(0, 0.02))
        child.kill()
        child.join()
        seen.append(len(store.ids()))
        for run_id in store.ids():
            store.read(run_id)
    assert kept[0].id in store.ids()
    assert sum(1 < count <= RUNS for count in seen) >= 2  # some of the kills came in the middle
    remove_runs(store, going)
    empty(store)
    assert store.ids() == [kept[0].id]
    assert not (store.root / REMOVED).exists() and files_below(store.root / ".claims") == []


def drive(place, start) -> None:
    """Compute the totals of numbers that are stored: for a process of its own."""
    numbers = [Number(value=value) for value in range(30)]
    totals = [Total(left=one, right=other) for one in numbers[:15] for other in numbers[15:]]
    start.set()
    execute(totals, place)


def test_a_sweep_beside_a_driver_takes_nothing_that_it_goes_on_from(place, forking):
    numbers = [Number(value=value) for value in range(60)]
    execute(numbers, place)
    store, start = Store(place.results_dir), forking.Event()
    child = forking.Process(target=drive, args=(place, start), daemon=True)
    child.start()
    assert start.wait(60)
    while not list(store.root.glob(".asked/driver-*")):
        assert child.is_alive()
        time.sleep(0.001)
    removed = set()
    while child.is_alive():
        removed |= set(remove_runs(store, [number.id for number in numbers if number.id in store]))
    child.join()
    assert child.exitcode == 0
    assert removed >= {number.id for number in numbers[30:]}
    assert len(computed(place)) == 60 + 225  # nothing was computed twice
    assert len([run_id for run_id in store.ids() if run_id.startswith("total")]) == 225
    assert list(store.root.glob(".failed/*")) == [] and list(store.root.glob(".asked/*")) == []


def test_a_run_that_a_driver_took_up_between_the_look_and_the_removal_stays(store, forking):
    """The claim is taken before the run is moved, and what drivers ask for is read after that."""
    store.put(Number(value=1), Result({"value": 1}), FACTS)
    with store.claim(Number(value=1).id):
        assert remove_runs(store, [Number(value=1).id]) == []
    assert remove_runs(store, [Number(value=1).id, Number(value=2).id]) == [Number(value=1).id]
    assert store.ids() == []
