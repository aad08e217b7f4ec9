"""Where a store may lie: on read-only disks, on disks that tell no capitals, under odd and long names, moved; and small machines."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.faults.counted import count
from tests.faults.damage import disks
from tests.faults.damage.children import CANNOT, in_a_child
from tests.faults.damage.operations import OPERATIONS
from tests.faults.damage.support import NUMBERS, SPECS, place_in, quiet, train
from tests.golden.renew import pinned
from tests.support import ROOT, assert_same_result, computed, files_below, make_images
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.inputs import data as data_module
from vitlib.inputs.data import training_batches
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.runs import archive
from vitlib.runs.execute import execute
from vitlib.runs.manifest import StoreError
from vitlib.runs.store import Store

READ_ONLY = "a store on a read-only disk"


def assert_all_stored(place, truth) -> None:
    for spec in SPECS:
        assert_same_result(Store(place.results_dir, writable=False).read(spec.id, spec), truth.read(spec.id))


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    place = place_in(tmp_path_factory.mktemp("truth"))
    execute(SPECS, place)
    return Store(place.results_dir, writable=False)


# ------------------------------------------------------------------------------------------------ read-only


def looked_at(results: Path, figures: Path) -> list[int]:
    """Exit statuses of all that only looks."""
    places = ["--results-dir", str(results), "--figures-dir", str(figures)]
    commands = [["status", "deit", "--profile", "smoke", "--verify"], ["fsck"], ["gc"], ["render", "deit", "--profile", "smoke"]]
    export = ["export", "deit", str(figures / "deit.tar"), "--profile", "smoke", "--results-dir", str(results)]
    return [main([*command, *places]) for command in commands] + [main(export)]


def refused_writes(results: Path, places) -> list[str]:
    """What is said to whoever would write there."""
    said = []
    for act in (
        lambda: execute(NUMBERS, places),
        lambda: Store(results),
        lambda: load_study("deit", "smoke", **{"results_dir": str(results)}).execute(),
    ):
        with pytest.raises((StoreError, OSError)) as refusal:
            act()
        said.append(str(refusal.value))
    return said


def on_a_read_only_disk(results: Path, figures: Path) -> tuple[list[int], list[str]] | None:
    quiet()
    if not (disks.apart() and disks.mount_read_only(results)):
        return None
    return looked_at(results, figures), refused_writes(results, place_in(results.parent))


def assert_read_only(statuses, said, results) -> None:
    assert statuses == [0] * 5
    assert all(str(results) in each and "Read-only file system" in each for each in said), said
    count(READ_ONLY, tries=len(statuses) + len(said))


def test_a_store_on_a_disk_that_is_mounted_read_only_is_read_and_what_would_write_is_refused(smoke, forking, tmp_path):
    results = shutil.copytree(smoke.place.results_dir, tmp_path / "results")
    found = in_a_child(forking, on_a_read_only_disk, results, tmp_path / "figures")
    if found is None:
        pytest.skip(CANNOT)
    assert_read_only(*found, results)


@pytest.mark.faults
def test_a_store_that_may_not_be_written_to_is_read_and_what_would_write_is_refused(smoke, tmp_path):
    results = shutil.copytree(smoke.place.results_dir, tmp_path / "results")
    before = files_below(results)
    with disks.pretended(disks.read_only(results)):
        statuses, said = looked_at(results, tmp_path / "figures"), refused_writes(results, place_in(tmp_path))
    assert_read_only(statuses, said, results)
    assert files_below(results) == before


# ------------------------------------------------------------------------------------------------ names


def test_runs_are_told_apart_without_capitals():
    ids = [run_id for profiles in pinned()["runs"].values() for runs in profiles.values() if isinstance(runs, list) for run_id in runs]
    assert len(ids) > 100 and all(run_id == run_id.casefold() for run_id in ids)


def test_no_two_files_of_the_checkout_differ_by_capitals_alone():
    skipped = {".git", ".venv", "results", "data", "build", "site", "__pycache__"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped]
        names = [*folders, *files]
        assert len({name.casefold() for name in names}) == len(names), folder
        assert not [name for name in names if set(name) & set('<>:"\\|?*') or name.endswith((".", " "))], folder


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_that_is_written_needs_capitals(tmp_path, name):
    """Two names that differ by capitals alone are one file on some disks."""
    quiet()
    tmp_path = tmp_path / "a" / "b"
    tmp_path.mkdir(parents=True)
    met, operation = [], OPERATIONS[name]
    with disks.pretended(disks.without_capitals(met)):
        operation.prepare(tmp_path)
        try:
            operation.act(tmp_path)
        except RuntimeError:
            assert operation.soft
        operation.whole(tmp_path)
    assert met == []
    count("a disk that tells no capitals")


NAMES = {
    "blanks": " two  blanks ",
    "Japanese": "結果 その一",
    "accents, composed and not": "résultats re\u0301sultats",
    "a face": "🙂",
    "quotes and signs": "a'b\"c$d;e&f%20#?*[x]{y}~!",
    "a line break": "one\ntwo",
    "a dash first": "-rf",
    "no UTF-8": os.fsdecode(b"\xff\xfe"),
    "long": "/".join(["x" * 200] * 15),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_store_may_have_any_name(truth, tmp_path, kind):
    """Computed, exported, imported, looked at from the command line."""
    place = place_in(tmp_path / NAMES[kind])
    execute(SPECS, place)
    assert_all_stored(place, truth)
    store = Store(place.results_dir)
    archive.export(store, store.ids(), place.data_dir / "runs.tar.xz")
    assert main(["import", str(place.data_dir / "runs.tar.xz"), "--results-dir", str(place.data_dir / "again")]) == 0
    assert Store(place.data_dir / "again").ids() == store.ids()
    assert main(["fsck", "--results-dir", str(place.results_dir)]) == 0
    count("a store by an odd or long name")


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["quotes and signs", "Japanese"])
def test_workers_compute_in_a_store_of_any_name(truth, tmp_path, kind, monkeypatch):
    monkeypatch.setattr("vitlib.paths.cores", lambda: 1)
    study = load_study("deit", "smoke", results_dir=str(tmp_path / NAMES[kind]), device="cpu")
    run = next(spec for spec in study.specs.values() if not list(spec.parents()))
    execute([run], study.place, executor="local")
    assert run.id in Store(study.place.results_dir)
    count("a store by an odd or long name")


def test_a_place_whose_name_is_too_long_is_refused_by_name(tmp_path):
    with pytest.raises(StoreError, match=r"results_dir: .*(too long|cannot be written)"):
        Store(tmp_path / ("x" * 300))


# ------------------------------------------------------------------------------------------------ moved


def test_a_store_that_was_moved_is_the_same_store(smoke, tmp_path):
    results = shutil.copytree(smoke.place.results_dir, tmp_path / "before")
    results.rename(tmp_path / "after")
    study = load_study("deit", "smoke", results_dir=str(tmp_path / "after"), device="cpu")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "after").glob("*/manifest.json")}
    found = study.execute()
    assert len(found.stored) == len(study.specs) and set(study.status(verify=True)["state"]) == {"stored"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "after").glob("*/manifest.json")} == written
    count("a store moved")


def test_a_store_moved_while_its_results_are_shown_is_missing_there_and_never_wrong(truth, tmp_path):
    quiet()
    place = place_in(tmp_path)
    execute(SPECS, place)
    shown = execute(SPECS, place, mode="read-only")
    place.results_dir.rename(tmp_path / "moved")
    for run in shown.values():
        with pytest.raises(StoreError, match="any more"):
            run.metrics  # noqa: B018
    (tmp_path / "moved").rename(place.results_dir)
    assert execute(SPECS, place, mode="read-only")[NUMBERS[1].id].metrics["value"] == 1
    assert len(computed(place)) == len(SPECS)
    count("a store moved")


# ------------------------------------------------------------------------------------------------ small machines


def drawn(data_dir: Path) -> list[bytes]:
    data = Data(source="folder/set", image_size=8, resident=False)
    recipe = Recipe(epochs=1, batch_size=2, lr=0.1, augment=Augment(flip=0.5))
    batches = training_batches(data, recipe, seed=0, device="cpu", data_dir=data_dir)
    return [images.numpy().tobytes() for images, _ in batches.epoch(0)]


def without_shared_memory(data_dir: Path) -> list[bytes] | None:
    hidden = disks.apart() and disks.mount_memory(Path(data_module.SHARED), size="4k") and disks.mount_read_only(Path(data_module.SHARED))
    return drawn(data_dir) if hidden else None


def test_without_shared_memory_images_are_the_same(forking, tmp_path, monkeypatch):
    make_images(tmp_path / "set")
    expected = drawn(tmp_path)
    found = in_a_child(forking, without_shared_memory, tmp_path)
    if found is None:
        monkeypatch.setattr(data_module, "SHARED", str(tmp_path / "nothing"))
        found = drawn(tmp_path)
    assert found == expected and len(found) == 3
    count("no shared memory")


def on_one_core(folder: Path) -> list[str]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    study = load_study("deit", "smoke", results_dir=str(folder), device="cpu")
    runs = [spec for spec in study.specs.values() if not list(spec.parents())][:2]
    execute(runs, study.place, executor="local")
    return [spec.id for spec in runs]


def test_on_one_core_workers_compute_the_same_bits(smoke, forking, tmp_path):
    quiet()
    for run_id in in_a_child(forking, on_one_core, tmp_path / "results"):
        mine, whole = Store(tmp_path / "results").read(run_id), Store(smoke.place.results_dir, writable=False).read(run_id)
        if not run_id.startswith("throughput"):  # its numbers are times
            assert_same_result(mine, whole)
        count("one core")


def test_a_training_on_one_core_has_the_same_weights(tmp_path):
    before = os.sched_getaffinity(0)
    weights = train(None)[0]
    try:
        os.sched_setaffinity(0, {min(before)})
        alone = train(None)[0]
    finally:
        os.sched_setaffinity(0, before)
    assert all(np.array_equal(weights[name], alone[name]) for name in weights)
    count("one core")
