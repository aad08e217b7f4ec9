"""The store: what is written is read back to the bit, damage is seen, a crash at any step leaves a whole run or none."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.runs.support import FACTS, SPEC, PowerCut, delete
from tests.support import Number, assert_same_arrays, assert_same_result, files_below, flip_a_byte
from vitlib.computing import Result
from vitlib.runs import store as store_module
from vitlib.runs.manifest import MANIFEST, DamagedError
from vitlib.runs.reading.stored import WEIGHTS
from vitlib.runs.store import FILES, Store
from vitlib.spec import SpecError


def test_metrics_history_arrays_and_weights_come_back_to_the_bit(store, folder, result):
    stored = store.read(SPEC.id)
    assert_same_result(stored, result)
    assert stored.provenance == FACTS | {"measured": {"seconds": 0.5}}
    assert stored.spec["id"] == SPEC.id


def test_awkward_floats_come_back_to_the_bit(store):
    generator = np.random.default_rng(0)
    floats = np.frombuffer(generator.bytes(8 * 2000), np.float64)
    floats = floats[np.isfinite(floats)]
    history = {"loss": floats, "lr": np.nextafter(0.1, np.arange(len(floats)))}
    store.put(SPEC, Result({"value": floats[0].item()}, pd.DataFrame(history), {"all": floats}), FACTS)
    stored = store.read(SPEC.id)
    assert stored.metrics == {"value": floats[0]}
    for name, values in history.items():
        assert stored.history[name].to_numpy().tobytes() == values.tobytes()


def test_a_run_without_history_arrays_and_weights_leaves_no_such_files(store):
    store.put(SPEC, Result({"value": 1}), FACTS)
    assert files_below(store.root / SPEC.id) == sorted(["spec.json", "result.json", "provenance.json", MANIFEST])
    stored = store.read(SPEC.id)
    assert (stored.history, stored.arrays, stored.weights) == (None, {}, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_refused(store, value):
    with pytest.raises(SpecError, match="not finite"):
        store.put(SPEC, Result({"value": value}), FACTS)
    assert store.ids() == []


def test_what_was_never_stored_is_a_key_error(store):
    assert SPEC.id not in store
    with pytest.raises(KeyError):
        store.read(SPEC.id)


# ------------------------------------------------------------------------------------------------ damage


def test_any_changed_byte_is_seen_in_fifty_of_fifty_random_tries(store, folder):
    generator = np.random.default_rng(0)
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    names = sorted(path.name for path in whole)
    for trial in range(50):
        flip_a_byte(folder / names[trial % len(names)], generator)
        with pytest.raises(DamagedError, match=SPEC.id):
            store.read(SPEC.id)
        for path, content in whole.items():
            path.write_bytes(content)
    store.read(SPEC.id)


def test_weights_are_read_when_asked_for_and_checked_then(store, folder, result):
    stored = store.read(SPEC.id)
    assert_same_arrays(stored.weights, result.weights)
    assert not any(isinstance(value, dict) and result.weights.keys() <= value.keys() for value in vars(stored).values())
    flip_a_byte(folder / WEIGHTS, np.random.default_rng(0))
    with pytest.raises(DamagedError, match=WEIGHTS):
        stored.weights  # noqa: B018


def truncate(folder: Path, name: str) -> None:
    os.truncate(folder / name, (folder / name).stat().st_size - 1)


def empty(folder: Path, name: str) -> None:
    os.truncate(folder / name, 0)


def lengthen(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as stream:
        stream.write(b"\n")


@pytest.mark.parametrize("harm", [truncate, empty, delete, lengthen])
@pytest.mark.parametrize("name", sorted(FILES | {MANIFEST}))
def test_a_file_of_another_length_is_seen(store, folder, harm, name):
    harm(folder, name)
    with pytest.raises(DamagedError, match=SPEC.id):
        store.read(SPEC.id)


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(sorted(FILES | {MANIFEST}), 2)])
def test_two_exchanged_files_are_seen(store, folder, one, other):
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)
    with pytest.raises(DamagedError, match=SPEC.id):
        store.read(SPEC.id)


@pytest.mark.parametrize("name", ["notes.txt", ".ipynb_checkpoints/result.json"])
def test_something_that_does_not_belong_in_the_folder_is_seen(store, folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    with pytest.raises(DamagedError, match=name.partition("/")[0]):
        store.read(SPEC.id)


@pytest.mark.parametrize("manifest", ["[]", "1", "null", "{}", "\xff"])
def test_a_manifest_that_is_something_else_is_seen(store, folder, manifest):
    (folder / MANIFEST).write_bytes(manifest.encode("latin-1"))
    with pytest.raises(DamagedError, match=SPEC.id):
        store.read(SPEC.id)


# ------------------------------------------------------------------------------------------------ writing


def cut_power_at(step: int, monkeypatch) -> None:
    """Raise in place of the step-th write, fsync or rename that the store asks for."""
    steps = itertools.count()

    def cutting(act):
        def wrapped(*arguments, **keywords):
            if next(steps) == step:
                raise PowerCut
            return act(*arguments, **keywords)

        return wrapped

    for owner, name in [
        (store_module.durable, "write"),
        (os, "fsync"),
        (Path, "rename"),
        (Path, "mkdir"),
        (store_module.shutil, "rmtree"),
    ]:
        monkeypatch.setattr(owner, name, cutting(getattr(owner, name)))


def test_a_crash_at_any_step_of_writing_leaves_a_whole_run_or_none(place, result, monkeypatch):
    for step in itertools.count():
        store = Store(place.results_dir / str(step))
        store.put(Number(value=1), result, FACTS)
        try:
            with monkeypatch.context() as patch:
                cut_power_at(step, patch)
                store.put(SPEC, result, FACTS)
        except PowerCut:
            assert store.ids() in ([Number(value=1).id], sorted([Number(value=1).id, SPEC.id]))
            assert (SPEC.id in store) == (store.root / SPEC.id).exists()
            for run_id in store.ids():
                assert_same_result(store.read(run_id), result)
            with store.claim(SPEC.id):  # whoever takes the run over sweeps what is left of it
                assert files_below(store.root / ".partial") == []
        else:
            break
    assert step > 10


def test_a_crash_at_any_step_of_replacing_loses_neither_the_old_nor_the_new_result(place, result, monkeypatch):
    for step in itertools.count():
        store = Store(place.results_dir / str(step))
        store.put(SPEC, Result({"value": "old"}), FACTS)
        try:
            with monkeypatch.context() as patch:
                cut_power_at(step, patch)
                store.put(SPEC, Result({"value": "new"}), FACTS)
        except PowerCut:
            store.sweep()  # as every driver begins
            assert store.read(SPEC.id).metrics in ({"value": "old"}, {"value": "new"})
            assert files_below(store.root / ".partial") == []
        else:
            break
    assert step > 10
    assert store.read(SPEC.id).metrics == {"value": "new"}
    assert files_below(store.root / ".damaged") == []


def test_stored_runs_hold_no_pickle(smoke):
    for run_id in (store := Store(smoke.place.results_dir, writable=False)).ids():
        assert set(files_below(store.root / run_id)) <= FILES | {MANIFEST}
        if (path := store.root / run_id / "arrays.npz").exists():
            arrays = np.load(path, allow_pickle=False)
            assert all(arrays[name].dtype != object for name in arrays)


def test_an_array_of_objects_is_refused(store):
    with pytest.raises(ValueError, match=r"[Pp]ickle|[Oo]bject"):
        store.put(SPEC, Result({}, arrays={"objects": np.array([{}, None])}), FACTS)
    assert store.ids() == []
