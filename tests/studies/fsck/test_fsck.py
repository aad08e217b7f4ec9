"""`vitlib fsck`: every harm is found and named, looking changes nothing, and what can be mended is mended to the byte."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.support import execute_smoke
from vitlib.__main__ import main
from vitlib.runs import archive
from vitlib.runs.manifest import MANIFEST, digests_of, json_bytes, manifest_of
from vitlib.runs.reading.stored import WEIGHTS
from vitlib.runs.store import Store
from vitlib.studies.fsck.findings import findings
from vitlib.studies.fsck.repair import repair
from vitlib.studies.travel import NAME


@pytest.fixture
def store(smoke, tmp_path):
    """A copy of a study's results, as a machine holds them that computed it."""
    return Store(shutil.copytree(smoke.place.results_dir, tmp_path / "results"))


@pytest.fixture
def figures(smoke, tmp_path):
    """Where an archive of the same results lies, weights among them."""
    whole = Store(smoke.place.results_dir, writable=False)
    archive.export(whole, whole.ids(), tmp_path / "figures/deit/smoke" / NAME)
    return tmp_path / "figures"


def archives(figures: Path) -> list[Path]:
    return sorted(figures.glob(f"*/*/{NAME}"))


def kinds(store) -> list[tuple[str, str]]:
    return [(finding.kind, finding.name) for finding in findings(store)]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def relabelled(folder: Path, change) -> None:
    """Other fields, and a manifest that fits them: whole by its checksums."""
    spec = json.loads((folder / "spec.json").read_bytes())
    change(spec["fields"])
    (folder / "spec.json").write_bytes(json_bytes(spec))
    remanifested(folder)


def remanifested(folder: Path) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    (folder / MANIFEST).write_bytes(manifest_of(digests_of(files)))


# ------------------------------------------------------------------------------------------------ looking


def test_a_whole_store_is_as_it_should_be(store, capsys):
    assert kinds(store) == []
    assert main(["fsck", "--results-dir", str(store.root)]) == 0
    assert "every byte read; all as it should be" in capsys.readouterr().out


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << at % 8
    path.write_bytes(content)


def test_a_flipped_bit_anywhere_is_found_and_nothing_else_is(store):
    for at in (random.randrange(10**6) for _ in range(60)):
        run_id = random.choice(store.ids())
        path = random.choice(sorted((store.root / run_id).iterdir()))
        before = path.read_bytes()
        flip(path, at)
        assert kinds(store) == [("damaged", run_id)], path
        path.write_bytes(before)
    assert kinds(store) == []


HARMS = {
    "cut": lambda folder: (folder / "result.json").write_bytes((folder / "result.json").read_bytes()[:-5]),
    "a block of zeros": lambda folder: (folder / "provenance.json").write_bytes(bytes(512)),
    "emptied": lambda folder: (folder / "spec.json").write_bytes(b""),
    "a file is gone": lambda folder: (folder / "spec.json").unlink(),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "one file more": lambda folder: (folder / "notes.txt").write_text("mine"),
    "a manifest of something else": lambda folder: (folder / MANIFEST).write_bytes(b"[]"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_each_harm_is_found_named_and_left_alone_without_repair(store, harm, capsys):
    run_id = store.ids()[3]
    HARMS[harm](store.root / run_id)
    before = bytes_of(store.root)
    assert kinds(store) == [("damaged", run_id)]
    assert main(["fsck", "--results-dir", str(store.root)]) == 1
    assert run_id in capsys.readouterr().out
    assert bytes_of(store.root) == before


def test_two_runs_exchanged_are_found_though_every_checksum_is_right(store):
    one, other = store.ids()[0], store.ids()[-1]
    for run_id, name in ((one, "aside"), (other, one), ("aside", other)):
        (store.root / run_id).rename(store.root / name)
    assert kinds(store) == [("mislabelled", one), ("mislabelled", other)]


def test_fields_edited_with_their_manifest_are_found(store):
    run_id = next(run_id for run_id in store.ids() if run_id.startswith("student"))
    relabelled(store.root / run_id, lambda fields: fields.update(seed=fields["seed"] + 1))
    assert kinds(store) == [("mislabelled", run_id)]


def test_what_is_not_damage_is_told_apart(store, capsys):
    stale, unknown, *_ = store.ids()
    provenance = store.root / stale / "provenance.json"
    provenance.write_bytes(json_bytes(json.loads(provenance.read_bytes()) | {"code": "older"}))
    remanifested(store.root / stale)
    spec = store.root / unknown / "spec.json"
    spec.write_bytes(json_bytes(json.loads(spec.read_bytes()) | {"type": "vitlib.papers.deit.specs:Gone"}))
    remanifested(store.root / unknown)
    store.record_failure("student-0123456789abcdef", "RuntimeError: no luck")
    (store.root / "notes.txt").write_text("mine")
    (store.root / "photos").mkdir()
    assert sorted(kinds(store)) == [
        ("failed", "student-0123456789abcdef"), ("foreign", "notes.txt"), ("of another version", unknown), ("stale", stale),
    ]  # fmt: skip
    assert main(["fsck", "--results-dir", str(store.root)]) == 0
    assert "RuntimeError: no luck" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ mending


def test_damaged_runs_come_back_from_an_archive_to_the_byte_and_stay_to_be_looked_at(store, figures, capsys):
    whole, ids = bytes_of(store.root), store.ids()
    for run_id, harm in zip(ids, HARMS.values(), strict=False):
        harm(store.root / run_id)
    assert main(["fsck", "--repair", "--results-dir", str(store.root), "--figures-dir", str(figures)]) == 0
    assert capsys.readouterr().out.count("taken from an archive; what was damaged is kept") == len(HARMS)
    mended = {name: content for name, content in bytes_of(store.root).items() if not name.startswith(".damaged")}
    assert mended == whole
    assert kinds(store) == [("set aside", f".damaged/{path.name}") for path in sorted((store.root / ".damaged").iterdir())]
    assert len(kinds(store)) == len(HARMS)


def test_without_an_archive_they_are_set_aside_and_the_next_driver_computes_them_to_the_same_bits(store, smoke, forking):
    run_id = next(run_id for run_id in store.ids() if run_id.startswith("student"))
    before = store.files(run_id)
    HARMS["emptied"](store.root / run_id)
    (line,) = repair(store, findings(store), [])
    assert "the next driver computes it again" in line and run_id not in store
    child = forking.Process(target=execute_smoke, args=(store.root,), daemon=True)
    child.start()
    child.join()
    again = store.files(run_id)
    assert all(again[name] == before[name] for name in before if name != "provenance.json")


def test_an_archive_without_weights_says_so(store, smoke, tmp_path):
    whole = Store(smoke.place.results_dir, writable=False)
    run_id = next(run_id for run_id in whole.ids() if WEIGHTS in whole.files(run_id))
    archive.export(whole, [run_id], tmp_path / "runs.tar.xz", with_weights=False)
    HARMS["emptied"](store.root / run_id)
    (line,) = repair(store, findings(store), [tmp_path / "nothing.tar.xz", tmp_path / "runs.tar.xz"])
    assert "taken from an archive, without weights" in line


def test_what_killed_processes_left_is_finished_or_removed(store):
    whole, torn, stored = (run_id for run_id in store.ids()[:3])
    partial, scratch = store.root / ".partial", store.scratch(stored)
    (store.root / whole).rename(partial / f"{whole}~1-a")
    shutil.copytree(store.root / torn, partial / f"{torn}~1-b")
    (partial / f"{torn}~1-b" / MANIFEST).unlink()
    scratch.mkdir(parents=True)
    assert {kind for kind, _ in kinds(store)} == {"half-written", "left behind"}
    said = list(repair(store, findings(store), []))
    assert any(whole in line and "it was whole" in line for line in said)
    assert kinds(store) == [] and whole in store and not scratch.exists()


def test_what_another_process_holds_is_left_to_it(store, forking):
    run_id = store.ids()[0]
    HARMS["emptied"](store.root / run_id)
    held, done = forking.Event(), forking.Event()
    holder = forking.Process(target=hold, args=(store.root, run_id, held, done), daemon=True)
    holder.start()
    held.wait()
    assert list(repair(store, findings(store), [])) == [f"{run_id}: another process is at it; left as it is"]
    assert kinds(store) == [("damaged", run_id)]
    done.set()
    holder.join()


def hold(root, run_id, held, done):
    with Store(root).claim(run_id) as mine:
        assert mine
        held.set()
        done.wait()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_read_and_not_repaired(store, capsys):
    store.root.chmod(0o500)
    try:
        assert main(["fsck", "--results-dir", str(store.root)]) == 0
        assert main(["fsck", "--repair", "--results-dir", str(store.root)]) == 2
    finally:
        store.root.chmod(0o700)


def test_a_store_that_is_not_there_is_empty_and_none_is_made(tmp_path, capsys):
    assert main(["fsck", "--results-dir", str(tmp_path / "none")]) == 0
    assert "0 runs" in capsys.readouterr().out and not (tmp_path / "none").exists()
