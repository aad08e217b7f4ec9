"""Stores copied while drivers write to them, and stores merged by copying one over the other."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.counted import count
from tests.faults.damage.support import NUMBERS, SPECS, place_in, quiet
from tests.support import Number, assert_same_result, computed, execute_numbers, files_below
from vitlib.runs.claims import leases
from vitlib.runs.claims.kinds import BY_LEASE
from vitlib.runs.execute import execute
from vitlib.runs.manifest import MANIFEST, DamagedError
from vitlib.runs.store import Store

RUNS, DRIVERS = 60, 4
ALL = [Number(value=value) for value in range(RUNS)]


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    place = place_in(tmp_path_factory.mktemp("truth"))
    execute([*ALL, *SPECS], place)
    return Store(place.results_dir, writable=False)


def completed(folder: Path, truth: Store, specs) -> tuple[int, int]:
    """Runs that a copy has whole, and those that it has damaged; computed to its end it is as the original."""
    quiet()
    place = place_in(folder)
    store = Store(place.results_dir)
    whole = damaged = 0
    for run_id in store.ids():
        try:
            assert_same_result(store.read(run_id), truth.read(run_id))
            whole += 1
        except DamagedError:
            damaged += 1
    found = execute(specs, place, mode="retry")
    assert len(set(computed(place))) == len(computed(place)) <= len(specs) - whole, "what is whole is not computed again"
    for spec in specs:
        assert_same_result(found[spec.id], truth.read(spec.id))
    assert [files_below(store.root / name) for name in (".partial", ".claims", ".scratch")] == [[]] * 3
    return whole, damaged


def copied_while_written(forking, tmp_path, truth, seconds: float, pause: float) -> int:
    """How often the store was copied while four drivers computed; the drivers begin anew in another store till the time is over."""
    began, copies, whole, damaged = time.monotonic(), 0, 0, 0
    while time.monotonic() - began < seconds:
        place = place_in(tmp_path / f"store-{copies}")
        start = forking.Barrier(DRIVERS + 1)
        drivers = [forking.Process(target=execute_numbers, args=(RUNS, order, place, start), daemon=True) for order in range(DRIVERS)]
        for driver in drivers:
            driver.start()
        Store(place.results_dir)
        start.wait()
        taken = []
        while any(driver.is_alive() for driver in drivers):
            taken.append(tmp_path / f"copy-{copies}-{len(taken)}")
            taken[-1].mkdir()
            subprocess.run(["cp", "-r", place.results_dir, taken[-1] / "results"], check=False, capture_output=True)  # files go meanwhile
            time.sleep(pause)
        assert all(driver.exitcode == 0 for driver in drivers)
        for copy in taken:
            found = completed(copy, truth, ALL)
            whole, damaged = whole + found[0], damaged + found[1]
            shutil.rmtree(copy)
        copies += len(taken)
        shutil.rmtree(tmp_path / f"store-{copies - len(taken)}")
    assert whole > 0
    return copies


def test_a_store_copied_while_four_drivers_write_has_whole_runs_or_none(forking, tmp_path, truth):
    count("a store copied while four drivers write", tries=copied_while_written(forking, tmp_path, truth, 0.1, pause=0.1))


@pytest.mark.faults
def test_a_store_copied_again_and_again_while_four_drivers_write_has_whole_runs_or_none(forking, tmp_path, truth):
    count("a store copied while four drivers write", tries=copied_while_written(forking, tmp_path, truth, 60, pause=0.0))


# ------------------------------------------------------------------------------------------------ merged

MERGED = "two stores copied over each other"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two stores that share some runs, computed at other times, and have more of their own; a process was killed in each."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "other")]
    for folder, specs in zip(folders, ([*NUMBERS, SPECS[3]], [*NUMBERS[1:], *ALL[3:6]]), strict=True):
        place = place_in(folder)
        execute(specs, place)
        store = Store(place.results_dir)
        files = store.files(NUMBERS[1].id)
        store.install(NUMBERS[1].id, files | {"provenance.json": files["provenance.json"].replace(b"0.5", str(len(specs)).encode())})
        half = store.root / ".partial" / f"{ALL[7].id}~123-ab"
        half.mkdir(parents=True)
        (half / "result.json").write_text("{")
        shutil.copytree(store.root / NUMBERS[2].id, store.root / ".partial" / f"{NUMBERS[2].id}~123-cd")
        for name in (".claims", ".asked"):
            (store.root / name).mkdir(exist_ok=True)
        (store.root / ".claims" / ALL[7].id).write_text('{"host": "elsewhere"}')
        (store.root / ".asked" / "driver-1-ab").write_text(ALL[7].id)
        store.scratch(ALL[7].id).mkdir(parents=True)
        (store.scratch(ALL[7].id) / "checkpoint.pt").write_bytes(os.urandom(100))
    return folders


def over(one: Path, other: Path, how: str, seed: int = 0) -> None:
    """Copy the one's results over the other's: all files, those that are not there yet, or by chance as one that was stopped did."""
    if how != "by chance":
        options = {"all": [], "new": ["-n"], "newer": ["-u"]}[how]
        subprocess.run(["cp", "-r", *options, f"{one}/results/.", f"{other}/results/"], check=False, capture_output=True)
        return
    generator = random.Random(seed)
    for path in sorted((one / "results").rglob("*")):
        target = other / "results" / path.relative_to(one / "results")
        if path.is_file() and generator.random() < 0.7:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("how", "seed"), [("all", 0), ("new", 0), ("newer", 0), *(("by chance", seed) for seed in range(3))])
def test_a_merged_store_has_whole_runs_or_damaged_ones_and_is_completed(two, truth, tmp_path, first, how, seed):
    shutil.copytree(two[1 - first] / "results", tmp_path / "results")
    over(two[first], tmp_path, how, seed)
    whole, _ = completed(tmp_path, truth, [*ALL[:9], SPECS[3]])
    assert whole >= 4 or how == "by chance"
    count(MERGED)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3, 60))
def test_stores_of_which_any_part_was_merged_are_completed(two, truth, tmp_path, seed):
    shutil.copytree(two[seed % 2] / "results", tmp_path / "results")
    over(two[1 - seed % 2], tmp_path, "by chance", seed)
    completed(tmp_path, truth, [*ALL[:9], SPECS[3]])
    count(MERGED)


def test_a_run_that_lost_its_weights_in_one_store_and_has_them_in_the_other_is_damaged_and_whole_again(truth, tmp_path):
    place = place_in(tmp_path)
    store = Store(place.results_dir)
    files = truth.files(NUMBERS[0].id)
    store.install(NUMBERS[0].id, {name: content for name, content in files.items() if name != "weights.safetensors"})
    subprocess.run(["cp", "-rn", f"{truth.root}/.", f"{store.root}/"], check=False, capture_output=True)
    with pytest.raises(DamagedError, match="weights"):
        store.read(NUMBERS[0].id)
    completed(tmp_path, truth, [*ALL, SPECS[3]])
    count(MERGED)


@pytest.mark.parametrize("held", ["long ago", "in the future"])
def test_leases_that_came_with_a_copy_hold_nobody_up(two, truth, tmp_path, monkeypatch, held):
    """The other store's processes are not here; their leases bear the times at which they were touched last."""
    monkeypatch.setattr(leases, "BEAT", 0.1)
    shutil.copytree(two[0] / "results", tmp_path / "results")
    (tmp_path / "results" / BY_LEASE).touch()
    moment = 1.0 if held == "long ago" else time.time() + 50 * 365 * 86400
    for spec in ALL[3:8]:
        lease = tmp_path / "results" / ".claims" / spec.id
        lease.write_text('{"token": "abcdef"}')
        os.utime(lease, (moment, moment))
    completed(tmp_path, truth, [*ALL[:9], SPECS[3]])
    count(MERGED)


def test_the_manifests_of_the_two_differ_so_that_a_mixture_would_be_seen(two):
    one, other = (Path(folder / "results" / NUMBERS[1].id / MANIFEST).read_bytes() for folder in two)
    assert one != other
