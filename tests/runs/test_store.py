"""The store: what is written is read back to the bit, damage is seen, claims exclude, archives are not trusted."""

import gzip
import io
import itertools
import json
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support import Number, assert_same_arrays, assert_same_result, computed, execute_numbers, files_below, flip_a_byte
from vitlib.runs import store as store_module
from vitlib.runs.execute import execute
from vitlib.runs.manifest import MANIFEST, DamagedError, StoreError, digests_of, manifest_of
from vitlib.runs.store import FILES, WEIGHTS, Store
from vitlib.runs.transfer.archive import export, import_
from vitlib.spec import Context, Result, SpecError

SPEC = Number(value=3)
FACTS = {"finished": "now", "code": "0", "versions": {"numpy": "2"}}


@pytest.fixture
def result(tmp_path):
    return SPEC.compute(Context("cpu", tmp_path, None, parent=None))


@pytest.fixture
def folder(store, result):
    store.put(SPEC, result, FACTS)
    return store.root / SPEC.id


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


def delete(folder: Path, name: str) -> None:
    (folder / name).unlink()


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


def test_damaged_runs_are_set_aside_and_computed_again(place, caplog):
    specs = [Number(value=value) for value in range(3)]
    before = execute(specs, place)
    store = Store(place.results_dir)
    flip_a_byte(store.root / specs[1].id / "arrays.npz", np.random.default_rng(0))
    after = execute(specs, place)
    assert computed(place) == [spec.id for spec in (*specs, specs[1])]
    assert f"damaged, will be computed again: {specs[1].id}: arrays.npz changed" in caplog.text
    (kept,) = store.root.glob(".damaged/*")
    assert kept.name.startswith(specs[1].id)
    for run_id in before:
        assert_same_result(before[run_id], after[run_id])


# ------------------------------------------------------------------------------------------------ writing


class PowerCut(BaseException):
    """Nothing of ours may catch this."""


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
        (store_module, "_write_synced"),
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
            places = [store.root / SPEC.id, *store.root.glob(".damaged/*")]
            whole = [json.loads((path / "result.json").read_text()) for path in places if (path / MANIFEST).exists()]
            assert whole[0] in ({"value": "old"}, {"value": "new"})
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


# ------------------------------------------------------------------------------------------------ claims


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


# ------------------------------------------------------------------------------------------------ archives


@pytest.mark.parametrize("with_weights", [True, False])
def test_exported_runs_are_the_same_where_they_are_imported(store, result, tmp_path, with_weights):
    specs = [Number(value=value) for value in range(3)]
    for spec in specs:
        store.put(spec, result, FACTS)
    archive = tmp_path / "runs.tar"
    export(store, [spec.id for spec in specs[:2]], archive, with_weights=with_weights)
    other = Store(tmp_path / "elsewhere")
    assert import_(other, archive) == other.ids() == sorted(spec.id for spec in specs[:2])
    if not with_weights:
        result.weights = None
    for spec in specs[:2]:
        assert_same_result(other.read(spec.id), result)
        assert other.read(spec.id).provenance == store.read(spec.id).provenance


def test_importing_again_adds_and_replaces_nothing(store, folder, tmp_path):
    export(store, [SPEC.id], tmp_path / "runs.tar")
    before = (folder / MANIFEST).stat()
    assert import_(store, tmp_path / "runs.tar") == []
    assert (folder / MANIFEST).stat().st_ino == before.st_ino


def test_a_damaged_run_is_not_exported(store, folder, tmp_path):
    delete(folder, WEIGHTS)
    with pytest.raises(DamagedError):
        export(store, [SPEC.id], tmp_path / "runs.tar")
    assert not (tmp_path / "runs.tar").exists()


def regular(name: str, content: bytes = b"{}") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def with_manifest(run_id: str, **files: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A run folder whose checksums are right."""
    files = {name.replace("_", "."): content for name, content in files.items()}
    return [regular(f"{run_id}/{name}", content) for name, content in {**files, MANIFEST: manifest_of(digests_of(files))}.items()]


def whole(run_id: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A run with nothing wrong but its name."""
    return with_manifest(run_id, spec_json=json.dumps({"id": run_id}).encode())


MALICIOUS = {
    "parent folder in a name": [regular("../escaped/result.json")],
    "parent folder as the run": whole(".."),
    "the store as the run": whole("."),
    "root as the run": whole(""),
    "parent folder as the file": [regular("number-1/..")],
    "parent folder behind the run": [regular("number-1/../../escaped/result.json")],
    "absolute name": [regular("/escaped/result.json")],
    "no folder": [regular("result.json")],
    "folder in a folder": [regular("number-1/deeper/result.json")],
    "hidden run": whole(".claims"),
    "run with a backslash": whole("..\\run"),
    "unexpected file": [regular("number-1/code.py")],
    "upper case": [regular("number-1/RESULT.JSON")],
    "symbolic link": [special("number-1/result.json", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [special("number-1/result.json", tarfile.LNKTYPE, "/etc/passwd")],
    "character device": [special("number-1/result.json", tarfile.CHRTYPE)],
    "block device": [special("number-1/result.json", tarfile.BLKTYPE)],
    "fifo": [special("number-1/result.json", tarfile.FIFOTYPE)],
    "folder for a file": [special("number-1/result.json", tarfile.DIRTYPE)],
    "no manifest": [regular("number-1/spec.json", b'{"id": "number-1"}')],
    "manifest that is a list": [
        regular("number-1/spec.json", b'{"id": "number-1"}'),
        regular(f"number-1/{MANIFEST}", b"[]"),
    ],
    "spec of another run": with_manifest("number-1", spec_json=b'{"id": "number-2"}'),
    "no spec": with_manifest("number-1", result_json=b"{}"),
    "spec that is a list": with_manifest("number-1", spec_json=b"[]"),
    "spec that is not json": with_manifest("number-1", spec_json=b"\xff"),
}


def refused(archive: Path, tmp_path: Path, match: str = "") -> None:
    store = Store(tmp_path / "elsewhere")
    before = files_below(tmp_path)
    with pytest.raises(StoreError, match=f"(?s)archive .*runs.tar.*{match}"):
        import_(store, archive)
    assert files_below(tmp_path) == before
    assert not any(path for path in store.root.glob("*"))


@pytest.mark.usefixtures("folder")
def test_an_archive_repairs_a_damaged_run_and_brings_weights_that_were_left_behind(store, tmp_path):
    whole, light = tmp_path / "whole.tar", tmp_path / "light.tar"
    export(store, [SPEC.id], whole)
    export(store, [SPEC.id], light, with_weights=False)
    other = Store(tmp_path / "other")
    assert import_(other, light) == [SPEC.id] and other.read(SPEC.id).weights is None
    assert import_(other, whole) == [SPEC.id] and other.read(SPEC.id).weights is not None
    assert import_(other, light) == import_(other, whole) == []
    flip_a_byte(other.root / SPEC.id / "result.json", np.random.default_rng(0))
    assert import_(other, whole) == [SPEC.id] and other.read(SPEC.id).metrics == store.read(SPEC.id).metrics


@pytest.mark.parametrize("members", [*MALICIOUS.values()], ids=[*MALICIOUS])
def test_malicious_archives_are_refused_and_nothing_is_written(store, folder, tmp_path, members):
    archive = tmp_path / "runs.tar"
    export(store, [SPEC.id], archive)  # a good run comes first: it must not be written either
    with tarfile.open(archive, "a") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    refused(archive, tmp_path)


def test_an_archive_with_a_wrong_checksum_is_refused(store, folder, tmp_path):
    archive = tmp_path / "runs.tar"
    export(store, [SPEC.id], archive)
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b'"value": 3', b'"value": 4'))
    refused(archive, tmp_path, "result.json.* changed since it was written; nothing of it was taken")


@pytest.mark.parametrize("content", [b"", b"not a tar", b"PK\x03\x04" + bytes(600), bytes(100)], ids=["empty", "text", "zip", "short"])
def test_what_is_no_tar_is_refused(tmp_path, content):
    (tmp_path / "runs.tar").write_bytes(content)
    refused(tmp_path / "runs.tar", tmp_path, "cannot be read as a plain tar")


def test_an_archive_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "runs.tar", tmp_path, "No such file")


def test_a_compressed_or_cut_archive_is_refused(store, folder, tmp_path):
    archive = tmp_path / "runs.tar"
    export(store, [SPEC.id], archive)
    content = archive.read_bytes()
    archive.write_bytes(gzip.compress(content))
    refused(archive, tmp_path, "cannot be read as a plain tar")
    archive.write_bytes(content[:1000])
    refused(archive, tmp_path)


def test_a_changed_byte_in_an_archive_is_refused_or_harmless(store, folder, tmp_path, result):
    """Some bytes of a tar carry nothing (padding, owner): where the import goes through, the run is what it was."""
    archive = tmp_path / "runs.tar"
    export(store, [SPEC.id], archive)
    content, generator = archive.read_bytes(), np.random.default_rng(0)
    for trial in range(100):
        archive.write_bytes(content)
        flip_a_byte(archive, generator)
        other = Store(tmp_path / str(trial))
        try:
            for run_id in import_(other, archive):
                assert_same_result(other.read(run_id), result)
        except StoreError:
            assert other.ids() == []


def test_arrays_of_python_objects_are_refused_instead_of_pickled(store):
    with pytest.raises(SpecError, match="arrays: odd hold Python objects; allowed"):
        store.put(Number(value=1), Result({}, arrays={"odd": np.array([{}, None])}), {})
    assert store.ids() == []
