"""Clocks of 1970 and of 2100, in files and in drivers: nothing is computed twice, nothing kept is removed, nobody waits for ever."""

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.counted import count
from tests.faults.damage.children import in_a_child
from tests.faults.damage.support import NUMBERS, SPECS, Stop, again, place_in, quiet, train
from tests.support import Number, assert_same_arrays, assert_same_result, computed
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.runs import archive
from vitlib.runs.clock.budget import IN_VAIN, Budget, Turns, noted
from vitlib.runs.execute import execute
from vitlib.runs.executors.driver import drive
from vitlib.runs.executors.protocol import Job
from vitlib.runs.plan import make_plan
from vitlib.runs.reading.described import Described
from vitlib.runs.store import Store

ROW = "clocks of 1970 and 2100"
MOMENTS = {"1970": 1.0, "2100": 4102444800.0}
YEAR = 365 * 86400


def touched(folder: Path, moment: float) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (moment, moment), follow_symlinks=False)


def shifted(seconds: float) -> None:
    """From now on the clock of this process is another one."""
    real = time.time
    time.time = lambda: real() + seconds


@pytest.mark.parametrize("moment", MOMENTS)
def test_runs_written_at_any_time_are_whole_and_are_not_computed_again(place, moment):
    execute(SPECS, place)
    touched(place.results_dir, MOMENTS[moment])
    execute(SPECS, place, mode="retry")
    assert len(computed(place)) == len(SPECS)
    execute([NUMBERS[0]], place, mode="force")
    (place.results_dir / NUMBERS[1].id / "result.json").write_bytes(b"")
    assert again(place, Store(place.results_dir), [NUMBERS[0], NUMBERS[2]]) == []
    execute(SPECS, place, mode="retry")
    assert computed(place)[len(SPECS) :] == [NUMBERS[0].id, NUMBERS[1].id]
    count(ROW)


@pytest.mark.parametrize("moment", MOMENTS)
def test_gc_removes_nothing_that_is_asked_for_whatever_the_times(smoke, tmp_path, moment, capsys):
    results = shutil.copytree(smoke.place.results_dir, tmp_path / "results")
    touched(results, MOMENTS[moment])
    before = Store(results).ids()
    assert main(["gc", "--delete", "--older-than", "0m", "--results-dir", str(results), "--figures-dir", str(tmp_path / "figures")]) == 0
    assert Store(results).ids() == before
    assert "removed: 0 of 0 runs" in capsys.readouterr().out
    count(ROW)


@pytest.mark.parametrize("moment", MOMENTS)
def test_gc_takes_what_is_from_the_future_for_new(store, place, moment, capsys):
    """Runs of settings of one's own, which go when asked: those of 1970 do, those of 2100 are newer than any age."""
    execute(NUMBERS, place)
    touched(place.results_dir, MOMENTS[moment])
    assert main(["gc", "--older-than", "1d", "--results-dir", str(place.results_dir)]) == 0
    assert ("newer than --older-than" in capsys.readouterr().out) is (moment == "2100")
    assert len(store.ids()) == len(NUMBERS)
    count(ROW)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_checkpoint_of_any_time_is_gone_on_from(tmp_path, moment):
    with pytest.raises(Stop):
        train(tmp_path / "run-0", stop_at=7)
    touched(tmp_path, MOMENTS[moment])
    weights, steps = train(tmp_path / "run-0")
    assert_same_arrays(weights, train(None)[0])
    assert steps == 4
    count(ROW)


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_runs_were_described_with_is_found_whatever_their_times(smoke, tmp_path, moment):
    results = shutil.copytree(smoke.place.results_dir, tmp_path / "results")
    touched(results, MOMENTS[moment])
    source = smoke.settings.data.source
    assert Described(results).known("source", source) == Described(smoke.place.results_dir).known("source", source)
    assert set(load_study("deit", "smoke", results_dir=str(results), device="cpu").status()["state"]) == {"stored"}
    count(ROW)


# ------------------------------------------------------------------------------------------------ clocks of drivers


def driven(folder: Path, seconds: float, values: list[int], lease: bool) -> None:
    quiet()
    if lease:
        os.environ["VITLIB_CLAIMS"] = "lease"
    shifted(seconds)
    place = place_in(folder)
    execute([Number(value=value) for value in values], place)
    store = Store(place.results_dir)
    archive.export(store, store.ids(), folder / f"runs{seconds}.tar.xz")


@pytest.mark.parametrize("lease", [False, True], ids=["locks", "leases"])
def test_drivers_whose_clocks_are_years_apart_share_a_store(forking, tmp_path, lease):
    shifts = [-60 * YEAR, -5 * YEAR, 0, 75 * YEAR]
    children = [
        forking.Process(target=driven, args=(tmp_path, shift, [*range(12)][:: (-1) ** number], lease), daemon=True)
        for number, shift in enumerate(shifts)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * len(shifts)
    place = place_in(tmp_path)
    assert len(computed(place)) == len(set(computed(place))) == 12
    assert len({(tmp_path / f"runs{shift}.tar.xz").read_bytes() for shift in shifts}) == 1, "archives hold no times"
    count(ROW, tries=len(shifts))


def forced(folder: Path, seconds: float) -> None:
    quiet()
    shifted(seconds)
    place = place_in(folder)
    execute([NUMBERS[0]], place, mode="force")
    (place.results_dir / NUMBERS[1].id / "result.json").write_bytes(b"")
    execute(NUMBERS, place, mode="retry")


@pytest.mark.parametrize("years", [-60, 75])
def test_a_driver_with_another_clock_forces_and_mends_to_the_same_bits(forking, place, years):
    execute(NUMBERS, place)
    before = {spec.id: Store(place.results_dir).read(spec.id) for spec in NUMBERS}
    for stored in before.values():
        assert stored.metrics and dict(stored.arrays) and stored.history is not None  # read now
    in_a_child(forking, forced, place.results_dir.parent, years * YEAR)
    for spec in NUMBERS:
        now = Store(place.results_dir).read(spec.id)
        assert now.metrics == before[spec.id].metrics and now.history.equals(before[spec.id].history)
    assert_same_result(Store(place.results_dir).read(NUMBERS[2].id), before[NUMBERS[2].id])
    count(ROW)


class Dying:
    """A pool in which a run takes longer than the grace, and keeps a checkpoint or does not."""

    tries = 1

    def __init__(self, act):
        self.act, self.taken = act, None

    def has_room(self):
        return self.taken is None

    def submit(self, spec):
        self.taken = spec

    def wait(self, timeout):
        self.act()
        return []

    def cancel(self, run_id):
        self.taken = None


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("moment", MOMENTS)
def test_whether_a_run_kept_a_checkpoint_does_not_depend_on_the_disk_s_clock(store, place, monkeypatch, keeps, moment):
    """A run that is said to have kept none is not begun again in the same time."""
    monkeypatch.setattr("vitlib.runs.executors.driver.GRACE", 0.01)
    run, checkpoint = NUMBERS[0], store.scratch(NUMBERS[0].id) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"before")
    os.utime(checkpoint, (MOMENTS[moment],) * 2)

    def act():
        if keeps:
            checkpoint.with_suffix(".partial").write_bytes(b"after")
            os.utime(checkpoint.with_suffix(".partial"), (MOMENTS[moment] + 1,) * 2)
            checkpoint.with_suffix(".partial").replace(checkpoint)
        time.sleep(0.05)

    plan = make_plan([run], store)
    budget = Budget(0.02)
    job = Job(plan, store, place, set(), lambda *_: None, lambda spec: None)
    drive(job, Dying(act), Turns(plan, store, budget, lambda spec: 0.0), Quiet())
    assert plan.left == {run.id: run} and bool(noted(store, run.id, IN_VAIN)) is not keeps
    count(ROW)


class Quiet:
    def finished(self, run_id):
        pass
