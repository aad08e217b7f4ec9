"""A stored run of which any file was damaged: found however it is read, never shown, and computed again to the same bits."""

import itertools
import json
import shutil
import time

import numpy as np
import pytest

from tests.faults.counted import count
from tests.faults.damage.harms import HARMS
from tests.faults.damage.support import NUMBERS, SPECS, TOTAL, again, at_risk, copied, place_in, quiet, shown_wrong
from tests.support import computed, files_below
from vitlib.runs.execute import execute
from vitlib.runs.manifest import MANIFEST, DamagedError, json_bytes
from vitlib.runs.reading.stored import WEIGHTS
from vitlib.runs.store import FILES, Store

KINDS = sorted({*FILES, MANIFEST})
CASES = list(itertools.product(KINDS, HARMS))
ROW = "a file of a stored run damaged"


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Runs as they were computed, each on a day of its own."""
    place = place_in(tmp_path_factory.mktemp("truth"))
    execute(SPECS, place)
    for number, spec in enumerate(SPECS):
        finished(Store(place.results_dir), Store(place.results_dir), spec.id, f"2026-01-0{number + 1}")
    return place


@pytest.fixture(scope="module")
def older(truth, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("older"))
    finished(Store(truth.results_dir), store, NUMBERS[0].id, "2025-01-01")
    return store


def finished(store: Store, other: Store, run_id: str, day: str) -> None:
    """Put the run into the other store as if it had been computed on that day."""
    files = store.files(run_id)
    other.install(run_id, files | {"provenance.json": json_bytes(json.loads(files["provenance.json"]) | {"finished": day})})


def tried(truth, folder, harm, row=ROW, expected=None) -> None:
    """A copy of the store is harmed, read in every way, and computed whole."""
    quiet()
    place, store = copied(truth, folder), Store(truth.results_dir, writable=False)
    damaged = expected or {NUMBERS[0].id}
    harm(Store(place.results_dir))
    began = time.monotonic()
    wrong, refused = shown_wrong(place, store)
    for run_id in damaged:
        with pytest.raises((DamagedError, KeyError)):
            Store(place.results_dir).read(run_id, next(spec for spec in SPECS if spec.id == run_id))
    assert at_risk(Store(place.results_dir)) >= damaged - gone(place, damaged)
    before = len(computed(place))
    found = again(place, store)
    count(row, lost=len(set(found) - damaged), wrong=wrong, recovery=time.monotonic() - began)
    assert wrong == 0 and refused >= 1 and before == 0
    assert set(found) == damaged, "what is whole is not computed again"
    assert at_risk(Store(place.results_dir)) == set()
    assert [files_below(place.results_dir / name) for name in (".partial", ".claims")] == [[]] * 2


def gone(place, run_ids) -> set[str]:
    """Runs of which nothing lies there: missing, not damaged."""
    return {run_id for run_id in run_ids if not (place.results_dir / run_id).is_dir()}


def harmed(truth, folder, name, kind, seed) -> None:
    path = Store(truth.results_dir, writable=False).root / NUMBERS[1].id / name
    tried(truth, folder, lambda store: HARMS[kind](store.root / NUMBERS[0].id / name, path, np.random.default_rng(seed)))


@pytest.mark.parametrize(("name", "kind"), CASES[::3])
def test_a_damaged_file_is_found_and_its_run_computed_again(truth, tmp_path, name, kind):
    harmed(truth, tmp_path, name, kind, seed=0)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_any_damaged_file_is_found_and_its_run_computed_again(truth, tmp_path, name, kind, seed):
    harmed(truth, tmp_path, name, kind, seed)


# ------------------------------------------------------------------------------------------------ whole files in the wrong place


@pytest.mark.parametrize("name", KINDS)
def test_a_file_exchanged_between_two_runs_is_found_in_both(truth, tmp_path, name):
    def exchange(store):
        one, other = (store.root / spec.id / name for spec in NUMBERS[:2])
        one.rename(tmp_path / "aside")
        other.rename(one)
        (tmp_path / "aside").rename(other)

    tried(truth, tmp_path, exchange, "files or whole runs exchanged", {spec.id for spec in NUMBERS[:2]})


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 3)])
def test_two_whole_runs_exchanged_are_found(truth, tmp_path, one, other):
    def exchange(store):
        here, there = (store.root / SPECS[place].id for place in (one, other))
        here.rename(tmp_path / "aside")
        there.rename(here)
        (tmp_path / "aside").rename(there)

    tried(truth, tmp_path, exchange, "files or whole runs exchanged", {SPECS[one].id, SPECS[other].id})


def test_a_whole_run_copied_over_another_is_found(truth, tmp_path):
    def copy(store):
        shutil.rmtree(store.root / NUMBERS[0].id)
        shutil.copytree(store.root / NUMBERS[2].id, store.root / NUMBERS[0].id)

    tried(truth, tmp_path, copy, "files or whole runs exchanged")


@pytest.mark.parametrize("name", [MANIFEST, "provenance.json"])
def test_a_file_of_an_older_result_of_the_same_run_is_found(truth, older, tmp_path, name):
    """The manifest above all: rsync that was interrupted leaves it so."""
    stale = older.root / NUMBERS[0].id / name
    tried(truth, tmp_path, lambda store: shutil.copyfile(stale, store.root / NUMBERS[0].id / name), "a stale manifest")


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", f"{WEIGHTS}.part", ".nfs000000000001", "result (1).json"])
def test_a_file_that_does_not_belong_there_is_found(truth, tmp_path, name):
    tried(truth, tmp_path, lambda store: (store.root / NUMBERS[0].id / name).write_text("{}"), "a file too many in a stored run")


# ------------------------------------------------------------------------------------------------ the folder of a run


def unmade(make):
    """Of the run's folder: it is taken away, and something else put in its place."""

    def act(store):
        folder = store.root / NUMBERS[0].id
        shutil.rmtree(folder)
        make(folder)

    return act


PLACES = {
    "nothing": lambda folder: None,
    "an empty folder": lambda folder: folder.mkdir(),
    "a file": lambda folder: folder.write_text("conflicted copy"),
    "a link to nothing": lambda folder: folder.symlink_to("nowhere"),
    "a link to another run": lambda folder: folder.symlink_to(NUMBERS[1].id),
    "a link to itself": lambda folder: folder.symlink_to(folder.name),
}


@pytest.mark.parametrize("what", PLACES)
def test_something_else_in_place_of_a_run_s_folder_is_no_run(truth, tmp_path, what):
    tried(truth, tmp_path, unmade(PLACES[what]), "a stored run's folder lost or replaced")


def test_a_link_to_a_whole_run_elsewhere_is_that_run_and_may_be_forced_again(truth, tmp_path):
    """As who has moved the store to a larger disk may leave it."""
    place = copied(truth, tmp_path)
    folder = place.results_dir / NUMBERS[0].id
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    store = Store(place.results_dir)
    execute(SPECS, place)
    assert computed(place) == [] and store.read(NUMBERS[0].id).metrics["value"] == 0
    execute([NUMBERS[0]], place, mode="force")
    assert computed(place) == [NUMBERS[0].id] and not folder.is_symlink() and (tmp_path / "elsewhere" / MANIFEST).exists()


def test_damage_found_by_whoever_reads_on_is_mended_then(truth, tmp_path):
    """Results that a driver handed out are damaged afterwards, each file in turn; whoever reads them is given the same bits."""
    quiet()
    store = Store(truth.results_dir, writable=False)
    for number, (name, kind) in enumerate(CASES[1::5]):
        place = copied(truth, tmp_path / str(number))
        results = execute(SPECS, place)
        HARMS[kind](place.results_dir / NUMBERS[0].id / name, store.root / NUMBERS[1].id / name, np.random.default_rng(number))
        results = {spec.id: results[spec.id] for spec in (TOTAL, NUMBERS[0])}
        for run_id, run in results.items():
            assert run.metrics == store.read(run_id).metrics
            assert run.history is None or run.history.equals(store.read(run_id).history)
            assert all(run.arrays[name].tobytes() == array.tobytes() for name, array in store.read(run_id).arrays.items())
            assert run.provenance and run.spec
        count(ROW, lost=len(set(computed(place)) - {NUMBERS[0].id}))
        assert set(computed(place)) <= {NUMBERS[0].id}
