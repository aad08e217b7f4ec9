"""A damaged archive of results is refused by name, whoever reads it; what is taken from one is what was put in."""

import shutil

import numpy as np
import pytest

from tests.faults.counted import count
from tests.faults.damage.harms import HARMS
from tests.faults.damage.support import ATTRIBUTES, SPECS, place_in, same
from tests.support import files_below
from vitlib import load_study
from vitlib.runs import archive
from vitlib.runs.execute import execute
from vitlib.runs.manifest import DamagedError, StoreError
from vitlib.runs.store import Store
from vitlib.studies.travel import NAME, leave

ROW = "an archive of results damaged"
NAMES = ("runs.tar", "runs.tar.xz")
CASES = [(name, kind) for name in NAMES for kind in HARMS if "loop" not in kind]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A store, and archives of all its runs and of one of them."""
    folder = tmp_path_factory.mktemp("archives")
    place = place_in(folder)
    execute(SPECS, place)
    store = Store(place.results_dir)
    for name in NAMES:
        archive.export(store, store.ids(), folder / name)
        archive.export(store, store.ids()[:1], folder / "other" / name)
    return store, folder


def imported(archives, folder, name, kind, seed) -> None:
    truth, place = archives
    path = shutil.copyfile(place / name, folder / name)
    HARMS[kind](path, place / "other" / name, np.random.default_rng(seed))
    store = Store(folder / "results")
    try:
        archive.import_(store, path)
    except (StoreError, OSError):
        assert store.ids() == [] and files_below(store.root) == []
    else:  # a byte that pads, or the archive of another: what was taken is what was put in
        assert name == "runs.tar" or kind.startswith(("another's", "a link to another's"))
    wrong = sum(
        not same(getattr(store.read(run_id), field), getattr(truth.read(run_id), field)) for run_id in store.ids() for field in FIELDS
    )
    count(ROW, wrong=wrong)
    assert wrong == 0


FIELDS = [field for field in ATTRIBUTES if field != "arrays"]


@pytest.mark.parametrize(("name", "kind"), CASES[::2])
def test_a_damaged_archive_adds_nothing_that_was_not_in_it(archives, tmp_path, name, kind):
    imported(archives, tmp_path, name, kind, seed=0)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_no_damaged_archive_adds_what_was_not_in_it(archives, tmp_path, name, kind, seed):
    imported(archives, tmp_path, name, kind, seed)


@pytest.mark.parametrize("kind", ["a bit flipped", "a block of zeros", "cut", "emptied"])
def test_a_damaged_archive_beside_the_figures_is_named_by_a_reader_and_by_repair(smoke, tmp_path, kind, capsys):
    from vitlib.__main__ import main

    whole = load_study("deit", "smoke", results_dir=str(smoke.place.results_dir), figures_dir=str(tmp_path / "figures"), device="cpu")
    leave(whole)
    path = whole.folder / NAME
    HARMS[kind](path, path, np.random.default_rng(0))
    reader = load_study("deit", "smoke", results_dir=str(tmp_path / "empty"), figures_dir=str(tmp_path / "figures"), device="cpu")
    with pytest.raises(StoreError, match=NAME):
        reader.execute(mode="read-only")
    store = Store(shutil.copytree(smoke.place.results_dir, tmp_path / "results"))
    run_id = store.ids()[0]
    HARMS["emptied"](store.root / run_id / "result.json", path, np.random.default_rng(0))
    assert main(["fsck", "--repair", "--results-dir", str(store.root), "--figures-dir", str(tmp_path / "figures")]) == 0
    assert f"{run_id}: set aside" in capsys.readouterr().out and run_id not in store
    count(ROW)


def test_a_damaged_run_is_not_exported(archives, tmp_path):
    store = Store(shutil.copytree(archives[0].root, tmp_path / "results"))
    run_id = store.ids()[0]
    HARMS["a bit flipped"](store.root / run_id / "result.json", store.root, np.random.default_rng(0))
    (tmp_path / "runs.tar").write_bytes(b"the one before")
    with pytest.raises(DamagedError, match=run_id):
        archive.export(store, store.ids(), tmp_path / "runs.tar")
    assert (tmp_path / "runs.tar").read_bytes() == b"the one before" and len(files_below(tmp_path)) == len(files_below(store.root)) + 1
    count(ROW)
