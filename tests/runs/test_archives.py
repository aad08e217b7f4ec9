"""Archives are not trusted: what is imported is what was exported, or nothing is written."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.runs.made_archives import MALICIOUS
from tests.runs.support import FACTS, SPEC, delete
from tests.support import Number, assert_same_result, files_below, flip_a_byte
from vitlib.computing import Result
from vitlib.runs.archive import export, import_
from vitlib.runs.manifest import MANIFEST, DamagedError, StoreError
from vitlib.runs.reading.stored import WEIGHTS
from vitlib.runs.store import Store
from vitlib.spec import SpecError


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


@pytest.mark.parametrize("name", ["file", "allow_pickle"])
def test_arrays_by_a_name_of_numpys_own_are_refused(store, name):
    with pytest.raises(SpecError, match=f"arrays: got the names {name}, which numpy"):
        store.put(Number(value=1), Result({}, arrays={name: np.ones(2)}), {})
    assert store.ids() == []


@pytest.mark.parametrize("name", ["runs.tar", "runs.tar.xz"])
def test_the_same_runs_make_the_same_bytes_in_whatever_order_they_are_asked_for(store, result, tmp_path, name):
    ids = []
    for value in range(4):
        store.put(spec := Number(value=value), result, FACTS)
        ids.append(spec.id)
    for place, order in (("one", sorted(ids)), ("other", sorted(ids, reverse=True))):
        export(store, order, tmp_path / place / name)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_arrays_that_are_mostly_zeros_are_no_bomb(store, tmp_path):
    store.put(SPEC, Result({"value": 1}, arrays={"mask": np.zeros(2**20)}), FACTS)
    assert (store.root / SPEC.id / "arrays.npz").stat().st_size < 2**23 / 100
    export(store, [SPEC.id], tmp_path / "runs.tar.xz")
    other = Store(tmp_path / "elsewhere")
    assert import_(other, tmp_path / "runs.tar.xz") == [SPEC.id] and not other.read(SPEC.id).arrays["mask"].any()


@pytest.mark.usefixtures("folder")
def test_what_follows_the_end_of_an_archive_in_xz_is_refused(store, tmp_path):
    archive = tmp_path / "runs.tar.xz"
    export(store, [SPEC.id], archive)
    archive.write_bytes(2 * archive.read_bytes())
    refused(archive, tmp_path, "something follows its end")
