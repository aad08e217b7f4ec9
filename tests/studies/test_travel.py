"""Results that travel: what was computed elsewhere is drawn again to the byte, and an archive that is not as it was written is refused."""

import io
import lzma
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.runs.made_archives import MALICIOUS, regular, with_manifest
from tests.support import Number, assert_same_result, context, files_below, flip_a_byte
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.computing import Result, result_of
from vitlib.runs import archive as archive_module
from vitlib.runs.archive import export, import_, read
from vitlib.runs.manifest import StoreError
from vitlib.runs.reading.stored import WEIGHTS
from vitlib.runs.store import Store
from vitlib.studies import travel
from vitlib.studies.headless import batch
from vitlib.studies.travel import NAME, Archived, is_archived, leave

FACTS = {"finished": "now", "code": "0", "versions": {}, "device": "CPU", "commit": "0"}


def deit(results_dir: Path, figures_dir: Path, **more):
    return load_study("deit", "smoke", results_dir=str(results_dir), figures_dir=str(figures_dir), device="cpu", **more)


@pytest.fixture(scope="module")
def written(smoke, tmp_path_factory) -> bytes:
    """The archive of the finished study; read it, do not write it."""
    study = deit(smoke.place.results_dir, tmp_path_factory.mktemp("written"))
    leave(study)
    return (study.folder / NAME).read_bytes()


@pytest.fixture
def archive(written, tmp_path) -> Path:
    path = tmp_path / "figures" / "deit" / "smoke" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(written)
    return path


@pytest.fixture
def reader(archive, tmp_path):
    """The study where nothing is stored, beside its archive."""
    return deit(tmp_path / "nothing", tmp_path / "figures")


def shown(study):
    return study.execute(mode="read-only").stored


def test_tables_and_figures_are_the_same_to_the_byte_and_no_store_is_made(smoke, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = ["render", "deit", "--profile", "smoke", "--device", "cpu"]
    assert main([*arguments, "--results-dir", str(smoke.place.results_dir), "--figures-dir", str(one)]) == 0
    (two / "deit" / "smoke").mkdir(parents=True)
    shutil.copy(one / "deit" / "smoke" / NAME, two / "deit" / "smoke")
    capsys.readouterr()
    assert main([*arguments, "--results-dir", str(tmp_path / "nothing"), "--figures-dir", str(two)]) == 0
    assert f"0 of {len(smoke.specs)} runs stored; {len(smoke.specs)} from {NAME}; artefacts in" in capsys.readouterr().out
    assert files_below(one) == files_below(two) and len(files_below(one)) > 30
    assert [name for name in files_below(one) if (one / name).read_bytes() != (two / name).read_bytes()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_notebook_is_executed_again_without_a_store_and_leaves_the_archive_alone(reader, archive, tmp_path):
    before = archive.stat()
    places = {"results_dir": str(tmp_path / "nothing"), "figures_dir": str(tmp_path / "figures")}
    receipt = batch.run_notebook(batch.notebooks()["deit"], {"profile": "smoke", "mode": "read-only", **places})
    assert receipt.status == "done", receipt.error
    assert "runs)" not in (reader.folder / "claims.md").read_text() and (reader.folder / "table_strategies.csv").exists()
    assert archive.stat().st_mtime_ns == before.st_mtime_ns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures"]


def test_archived_runs_are_the_stored_ones_without_their_weights(smoke, reader):
    found, stored = shown(reader), shown(smoke)
    assert list(found) == list(stored) == list(smoke.specs)
    for run_id, run in found.items():
        assert run.id == run_id and run.weights is None
        assert_same_result(run, Result(stored[run_id].metrics, stored[run_id].history, stored[run_id].arrays))
        assert (run.provenance, run.spec) == (stored[run_id].provenance, stored[run_id].spec)


def test_an_archive_holds_the_studys_own_runs_without_weights_and_names_nobody(smoke, archive):
    with tarfile.open(archive, "r:xz") as tar:
        members = tar.getmembers()
    assert {member.name.partition("/")[0] for member in members} == set(smoke.specs)
    assert not [member for member in members if member.name.endswith(WEIGHTS)]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert [member.name for member in members] == sorted(member.name for member in members)


def test_the_same_results_give_the_same_bytes_whatever_way_they_came(smoke, archive, tmp_path):
    other = deit(tmp_path / "other", tmp_path / "again")
    store = Store(tmp_path / "other")
    assert sorted(import_(store, archive)) == sorted(smoke.specs)
    store.put(Number(value=1), Result({"value": 1}), FACTS)  # of no concern
    leave(other)
    assert (other.folder / NAME).read_bytes() == archive.read_bytes()


def test_the_archive_of_the_checkout_serves_figures_that_go_elsewhere(archive, tmp_path, monkeypatch):
    elsewhere = deit(tmp_path / "nothing", tmp_path / "elsewhere")
    assert shown(elsewhere) == {}
    monkeypatch.setattr("vitlib.paths.root", lambda: tmp_path)
    assert shown(elsewhere).keys() == elsewhere.specs.keys()


def test_a_changed_study_takes_what_it_shares_with_its_profile(reader, tmp_path, caplog):
    changed = deit(tmp_path / "nothing", tmp_path / "figures", overrides={"throughput_batch": 7})
    shared = changed.specs.keys() & reader.specs.keys()
    assert 0 < len(shared) < len(changed.specs)
    assert shown(changed).keys() == shared
    assert f"{len(reader.specs) - len(shared)} of its {len(reader.specs)} runs are none of this study's" in caplog.text


@pytest.mark.parametrize("mode", ["cached", "retry"])
def test_only_read_only_believes_an_archive(mode, reader, monkeypatch):
    monkeypatch.setattr("vitlib.studies.study.execute", lambda *_, **__: {})
    assert reader.execute(mode=mode).stored == {}


# ------------------------------------------------------------------------------------------------ stored and archived


@pytest.fixture
def store(smoke, tmp_path) -> Store:
    """A copy of the finished store."""
    shutil.copytree(smoke.place.results_dir, tmp_path / "store")
    return Store(tmp_path / "store")


def test_a_stored_run_wins_over_an_archived_one(reader, tmp_path):
    run_id, spec = next(iter(reader.specs.items()))
    Store(tmp_path / "store").put(spec, Result({"top1": 12.5}), FACTS)
    found = shown(deit(tmp_path / "store", tmp_path / "figures"))
    assert found[run_id].metrics == {"top1": 12.5}
    assert [run_id for run_id, run in found.items() if not isinstance(run, Archived)] == [run_id]
    assert list(found) == list(reader.specs)


@pytest.mark.usefixtures("archive")
def test_what_is_missing_or_damaged_in_the_store_comes_from_the_archive(smoke, store, tmp_path):
    damaged, missing = list(smoke.specs)[:2]
    flip_a_byte(store.root / damaged / "result.json", np.random.default_rng(0))
    shutil.rmtree(store.root / missing)
    before = files_below(store.root)
    found = shown(deit(store.root, tmp_path / "figures"))
    assert all(found[run_id].metrics == run.metrics for run_id, run in shown(smoke).items())
    assert {run_id for run_id, run in found.items() if is_archived(run)} == {damaged, missing}
    assert files_below(store.root) == before


def test_where_all_is_stored_no_archive_is_opened(store, archive, tmp_path):
    archive.write_bytes(b"no archive")
    assert not any(isinstance(run, Archived) for run in shown(deit(store.root, tmp_path / "figures")).values())


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def damage(folder: Path) -> None:
    flip_a_byte(folder / "result.json", np.random.default_rng(0))


@pytest.mark.parametrize(
    ("harm", "said"), [(remove, "not written, 1 of 30 runs are not stored"), (damage, "not written, a stored run is damaged")]
)
def test_an_archive_with_a_hole_is_not_written_and_the_whole_one_before_it_stays(harm, said, store, archive, written, tmp_path, caplog):
    study = deit(store.root, tmp_path / "figures")
    harm(store.root / list(study.specs)[3])
    leave(study)
    assert archive.read_bytes() == written and said in caplog.text
    assert files_below(archive.parent) == [NAME]


def test_runs_that_an_archive_lacks_are_missing_from_the_answer(store, reader, archive):
    lacking = next(cell.spec.id for cell in reader.cells if cell.table == "strategies")
    export(store, reader.specs.keys() - {lacking}, archive, with_weights=False)
    results = reader.execute(mode="read-only")
    assert results.stored.keys() == reader.specs.keys() - {lacking}
    frame = results.frame("strategies")
    assert (frame["run"] == lacking).any() and (frame["top1"].isna() == (frame["run"] == lacking)).all()


def test_an_archive_of_another_study_is_not_used_and_one_line_says_so(reader, archive, tmp_path, caplog):
    store = Store(tmp_path / "numbers")
    for value in range(3):
        store.put(Number(value=value), Result({"value": value}), FACTS)
    export(store, store.ids(), archive)
    assert shown(reader) == {}
    assert [record.getMessage() for record in caplog.records] == [f"{archive}: 3 of its 3 runs are none of this study's, and are not shown"]


# ------------------------------------------------------------------------------------------------ what is not as it was written


def test_a_flipped_byte_is_found_wherever_it_is(reader, archive, written):
    generator = np.random.default_rng(0)
    ends = [*range(12), *range(len(written) - 28, len(written))]  # where xz keeps its headers, index and footer
    for position in (*ends, *generator.integers(len(written), size=60).tolist()):
        changed = bytearray(written)
        changed[position] ^= int(generator.integers(1, 256))
        archive.write_bytes(changed)
        with pytest.raises(StoreError, match=f"archive .*{NAME}: cannot be read"):
            shown(reader)
    archive.write_bytes(written)
    assert len(shown(reader)) == len(reader.specs)


@pytest.mark.parametrize("left", [0, 5, 6, 12, 1000, -100, -12, -1])
def test_an_archive_that_was_cut_is_refused(reader, archive, written, left):
    archive.write_bytes(written[:left])
    with pytest.raises(StoreError, match=f"archive .*{NAME}: cannot be read"):
        shown(reader)


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"more", lzma.compress(b"more")])
def test_an_archive_that_something_was_added_to_is_refused(reader, archive, written, tail):
    archive.write_bytes(written + tail)
    with pytest.raises(StoreError, match="something follows its end"):
        shown(reader)


def rewritten(archive: Path, members: list) -> None:
    """The archive with members added, in place of those of the same name, its compression whole."""
    content, named = io.BytesIO(), {member.name for member, _ in members}
    with (
        tarfile.open(fileobj=io.BytesIO(lzma.decompress(archive.read_bytes()))) as before,
        tarfile.open(fileobj=content, mode="w") as tar,
    ):
        for member in before:
            if member.name not in named:
                tar.addfile(member, before.extractfile(member))
        for member, body in members:
            tar.addfile(member, io.BytesIO(body))
    archive.write_bytes(lzma.compress(content.getvalue()))


@pytest.mark.parametrize("members", [*MALICIOUS.values()], ids=[*MALICIOUS])
def test_foreign_members_are_refused(reader, archive, members):
    rewritten(archive, members)
    with pytest.raises(StoreError, match=f"archive .*{NAME}: "):
        shown(reader)


def test_a_file_in_place_of_another_is_refused_by_its_checksum(reader, archive):
    run_id = next(iter(reader.specs))
    rewritten(archive, [regular(f"{run_id}/result.json", b'{"top1": 100.0}')])
    with pytest.raises(StoreError, match=f"archive .*{NAME}: {run_id}: result.json changed since it was written"):
        shown(reader)


NO_RUNS = {
    "no result": {"provenance_json": b"{}"},
    "result that is a list": {"provenance_json": b"{}", "result_json": b"[]"},
    "arrays that are none": {"provenance_json": b"{}", "result_json": b"{}", "arrays_npz": b"no arrays"},
    "empty history": {"provenance_json": b"{}", "result_json": b"{}", "history_csv": b""},
}


@pytest.mark.parametrize("files", [*NO_RUNS.values()], ids=[*NO_RUNS])
def test_right_checksums_over_what_is_no_run_are_refused(reader, archive, files):
    run_id = next(iter(reader.specs))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for member, body in with_manifest(run_id, spec_json=f'{{"id": "{run_id}"}}'.encode(), **files):
            tar.addfile(member, io.BytesIO(body))
    archive.write_bytes(lzma.compress(content.getvalue()))
    with pytest.raises(StoreError, match=f"archive .*{NAME}: (holds what is no run|the arrays.npz of .* cannot be read)"):
        shown(reader)


# ------------------------------------------------------------------------------------------------ bombs


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(reader, archive, monkeypatch):
    monkeypatch.setattr(archive_module, "LARGEST", 2**20)
    archive.write_bytes(lzma.compress(bytes(2**20 + 1)))
    with pytest.raises(StoreError, match=f"archive .*{NAME}: unpacks to more than 1 MiB"):
        shown(reader)


def test_arrays_that_unpack_to_too_much_are_refused_before_they_are_unpacked(reader, archive, monkeypatch):
    run_id = next(iter(reader.specs))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as npz:
        npz.writestr("zeros.npy", bytes(2**20 + 1))
    files = {"spec_json": f'{{"id": "{run_id}"}}'.encode(), "result_json": b"{}", "provenance_json": b"{}", "arrays_npz": packed.getvalue()}
    rewritten(archive, with_manifest(run_id, **files))
    monkeypatch.setattr(travel, "LARGEST", 2**20)
    with pytest.raises(StoreError, match="arrays that unpack to more than 1 MiB"):
        shown(reader)


def test_a_sparse_member_that_would_grow_is_refused(reader, archive):
    member = tarfile.TarInfo("number-1/spec.json")
    member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": f"{2**40},0", "GNU.sparse.size": str(2**40)}
    rewritten(archive, [(member, b"")])
    with pytest.raises(StoreError, match=r"'number-1/spec\.json' refused"):
        shown(reader)


def test_a_compressed_export_that_could_not_be_read_again_is_not_written(store, smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "LARGEST", 2**16)
    with pytest.raises(StoreError, match=r"runs.tar.xz: holds more than 0 MiB; allowed: a plain tar"):
        export(store, smoke.specs, tmp_path / "runs.tar.xz")
    assert not list(tmp_path.glob("runs*"))


# ------------------------------------------------------------------------------------------------ by export and import


@pytest.mark.parametrize("with_weights", [True, False])
def test_export_and_import_speak_xz_by_the_name_of_the_archive(with_weights, tmp_path):
    spec = Number(value=3)
    result = result_of(spec, context(tmp_path))
    store = Store(tmp_path / "store")
    store.put(spec, result, FACTS)
    for name in ("runs.tar", "runs.tar.xz"):
        export(store, [spec.id], tmp_path / name, with_weights)
    assert lzma.decompress((tmp_path / "runs.tar.xz").read_bytes())[:512] == (tmp_path / "runs.tar").read_bytes()[:512]
    assert read(tmp_path / "runs.tar.xz") == read(tmp_path / "runs.tar")
    other = Store(tmp_path / "other")
    assert import_(other, tmp_path / "runs.tar.xz") == [spec.id]
    assert (other.read(spec.id).weights is not None) is with_weights


def test_results_that_travelled_can_be_imported(archive, reader, tmp_path, capsys):
    assert main(["import", str(archive), "--results-dir", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{len(reader.specs)} runs added\n"
