"""Drivers and workers killed at random moments: tables equal to the bit, nothing stored is computed twice, claims are free."""

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.faults.counted import count
from tests.faults.kills.drivers import children, drive, gone, graph
from tests.support import assert_same_result, computed, files_below
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store

PATIENCE = 10.0  # seconds in which workers of a killed driver must have ended
LAST = {"driver": 0.3, "worker": 0.15}  # seconds within which a kill comes
BESIDE = (".partial", ".scratch", ".claims", ".damaged", ".failed", ".asked")


@dataclass(frozen=True)
class Way:
    """So many drivers with that executor, of which one, or one of whose workers, is killed."""

    drivers: int
    executor: str
    victim: str
    few: int  # kills in `make test`
    many: int  # and at length


WAYS = {
    "a driver killed at a random moment": Way(1, "inline", "driver", 70, 500),
    "one of four drivers killed": Way(4, "inline", "driver", 10, 200),
    "a driver with workers killed": Way(1, "local", "driver", 10, 150),
    "a worker killed": Way(1, "local", "worker", 6, 100),
    "a worker of one of four drivers killed": Way(4, "local", "worker", 4, 50),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same runs, computed without a kill."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "data").mkdir()
    place = Place(folder / "results", folder / "data", device="cpu")
    execute(graph(), place)
    assert len(computed(place)) == len(graph())
    return Store(place.results_dir, writable=False)


def written(store):
    found = {path.parent.name: path.stat() for path in store.root.glob("[!.]*/manifest.json")}
    return {run_id: (stat.st_mtime_ns, stat.st_ino) for run_id, stat in found.items()}


class Round:
    """A store of its own, worked on by drivers that are killed until one comes to the end."""

    def __init__(self, way, place, forking, moments):
        self.way, self.place, self.forking, self.moments = way, place, forking, moments
        self.store, self.kills, self.recovery = Store(place.results_dir), 0, 0.0

    def started(self):
        mode = "retry" if self.way.victim == "worker" else "cached"  # a worker that died twice over a run is a failure
        drivers = [
            self.forking.Process(target=drive, args=(self.place, self.way.executor, mode), daemon=True) for _ in range(self.way.drivers)
        ]
        for driver in drivers:
            driver.start()
        return drivers

    def kill_one(self):
        drivers, before = self.started(), written(self.store)
        lines = len(computed(self.place))
        victim = self.moments.choice(drivers)
        while self.way.victim == "worker" and victim.is_alive() and not children(victim.pid):
            time.sleep(0.002)
        victim.join(self.moments.uniform(0, LAST[self.way.victim]))
        below = children(victim.pid)
        hit = victim.pid if self.way.victim == "driver" else self.moments.choice(below or [0])
        if hit and victim.is_alive():
            with suppress(ProcessLookupError):  # a worker that was done before
                os.kill(hit, signal.SIGKILL)
                self.kills += 1
        for driver in drivers:
            driver.join(60)
        assert self.way.victim == "worker" or gone(below, PATIENCE)
        assert before.items() <= written(self.store).items(), "what was stored was written again"
        assert not before.keys() & set(computed(self.place)[lines:]), "what was stored was computed again"
        assert {driver.exitcode for driver in drivers} <= {0, -signal.SIGKILL} | ({1} if self.way.victim == "worker" else set())

    def finish(self):
        began, before = time.monotonic(), written(self.store)
        drivers = self.started()
        for driver in drivers:
            driver.join(60)
        self.recovery = time.monotonic() - began
        assert [driver.exitcode for driver in drivers] == [0] * len(drivers)
        assert before.items() <= written(self.store).items()

    def require_whole(self, whole):
        Store(self.place.results_dir).sweep()
        assert [files_below(self.store.root / name) for name in BESIDE] == [[]] * len(BESIDE)
        assert self.store.ids() == whole.ids()
        for run_id in whole.ids():
            assert_same_result(self.store.read(run_id), whole.read(run_id))


@pytest.mark.parametrize("at_length", [False, pytest.param(True, marks=pytest.mark.faults)])
@pytest.mark.parametrize("name", WAYS)
def test_whatever_is_killed_the_numbers_are_the_same_to_the_bit(name, at_length, whole, tmp_path, forking):
    moments, wanted, kills, recovery = random.Random(name), WAYS[name].many if at_length else WAYS[name].few, 0, 0.0
    for number in range(5 * wanted):
        (data := tmp_path / str(number) / "data").mkdir(parents=True)
        round_ = Round(WAYS[name], Place(data.parent / "results", data, device="cpu"), forking, moments)
        while kills + round_.kills < wanted and len(round_.store.ids()) < len(whole.ids()):
            round_.kill_one()
        round_.finish()
        round_.require_whole(whole)
        kills, recovery = kills + round_.kills, max(recovery, round_.recovery)
        if kills >= wanted:
            break
    assert kills >= wanted
    count(name, tries=kills, recovery=recovery)
