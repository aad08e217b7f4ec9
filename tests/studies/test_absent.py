"""Sets of images that a study can do without: their runs wait until the images are there, and everything else is computed."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from tests.support import files_below, make_images
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.inputs.pictures import AbsentError
from vitlib.runs.preflight import lacking
from vitlib.spec import SpecError
from vitlib.studies.costs.command import report
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.studies.travel import NAME

DRAWN = {"embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 4}
TEACHERS = {"supervised": {"origin": {"model": DRAWN, "image_size": 8, "mean": [0.5], "std": [0.5]}}, "dino": None}
SETS = {"generic": {"photos": {"source": "folder/photos", "image_size": 8}}, "stands_for": {"photos": "CIFAR-100"}}
PHOTOS = SETS | {"teachers": TEACHERS}
CLASSES = ("cat", "dog", "eel", "fox", "gnu")


def described(root: Path, document: str = "afr_pruning", **overrides):
    """A smoke study all of whose places are below `root`."""
    places = {f"{name}_dir": str(root / name) for name in ("results", "figures", "data")}
    return load_study(document, "smoke", overrides=overrides, device="cpu", **places)


def put_photos(root: Path) -> Path:
    return make_images(root / "data" / "photos", classes=CLASSES, images=4)


def on_photos(study) -> set[str]:
    return {cell.id for cell in study.cells if cell.point.get("dataset") == "photos"}


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """A place where AFR pruning was computed without the photos that it asks for, and what was said then; read it, do not write to it."""
    root, said = tmp_path_factory.mktemp("without"), []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("vitlib").addHandler(handler)
    described(root, **PHOTOS).execute()
    logging.getLogger("vitlib").removeHandler(handler)
    return root, said


@pytest.fixture
def copied(without, tmp_path):
    shutil.copytree(without[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_runs_on_a_set_that_is_not_here_are_left_out_and_one_line_says_so(without):
    root, said = without
    study = described(root, **PHOTOS)
    waiting = on_photos(study)
    (line,) = said
    assert line.startswith(f"generic.photos: data.source: 'folder/photos' was looked for in {root / 'data' / 'photos'}")
    assert "Put train|val|test/CLASS/*.jpg there" in line
    assert line.endswith(f"Its {len(waiting)} of {len(study.specs)} runs are left out.")
    status = study.status().drop_duplicates("run").set_index("run")["state"]
    assert waiting and set(status[list(waiting)]) == {"absent"} and set(status.drop(list(waiting))) == {"stored"}


def test_they_are_computed_when_the_set_is_there_and_nothing_else_is(copied, caplog):
    before = set(described(copied, **PHOTOS).execute().stored)
    put_photos(copied)
    caplog.clear()
    study = described(copied, **PHOTOS)
    now = study.execute().stored.keys()
    assert now == study.specs.keys() and now - before == on_photos(study)
    assert not [record for record in caplog.records if record.name == "vitlib"]


def test_tables_show_dashes_for_it_and_claims_say_which_images_they_lack(without):
    study = described(without[0], **PHOTOS)
    results = study.execute(mode="read-only")
    table = study.module.table_2(results).set_index("dataset")
    assert table.loc["photos", "measured"].isna().all() and table.loc["digits", "measured"].notna().all()
    board = results.board().set_index("table")["to decide"]
    assert set(board["generic"]) == {"the images of photos"}
    assert not {"the images of photos"} & set(board.drop(["generic", "kept_spread"]))
    for name in dir(study.module):
        if name.startswith(("table_", "figure_")):
            getattr(study.module, name)(results)


def test_a_study_on_nothing_but_sets_that_are_not_here_is_refused(tmp_path):
    generic, stands_for = PHOTOS["generic"] | {"digits": None}, PHOTOS["stands_for"] | {"digits": None}
    study = described(tmp_path, generic=generic, stands_for=stands_for, fine={"few": {"source": "folder/few"}})
    with pytest.raises(AbsentError, match=r"generic.photos: .*'folder/photos' was looked for.*fine.few: .*'folder/few' was looked for"):
        study.execute()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("field", ["data", "timing_data"])
def test_the_documents_own_images_are_needed_whatever_else_is_there(field, tmp_path):
    study = described(tmp_path, "wecolora", **{field: {"source": "folder/photos", "image_size": 16, "per_class": 1}})
    with pytest.raises(AbsentError, match="'folder/photos' was looked for"):
        study.execute()
    assert not list((tmp_path / "results").glob("[!.]*/manifest.json"))


def test_a_set_that_is_the_documents_own_images_too_is_needed(tmp_path):
    own = {"source": "folder/photos", "image_size": 16, "per_class": 1}
    study = described(tmp_path, "wecolora", data=own, downstream={"digits": own, "more": own | {"source": "folder/more"}})
    assert study.optional == {"folder/more": "downstream.more"}


def test_a_damaged_set_is_an_error_and_not_an_absent_one(tmp_path):
    next(put_photos(tmp_path).rglob("*.png")).write_bytes(b"")
    with pytest.raises(SpecError, match="cannot be read"):
        described(tmp_path, **PHOTOS).execute()


def test_a_run_that_starts_from_one_on_an_absent_set_lacks_it_too_unless_that_one_is_stored(tmp_path, store):
    study = described(tmp_path, "dual_ssl_kd", downstream={"few": {"source": "folder/few"}})
    student = next(cell.spec for cell in study.cells if cell.point.get("method") == "kd-cl" and cell.table == "downstream")
    (teacher,), child = student.parents(), student.changed(data=study.settings.data)
    assert lacking([student, child], {"folder/few"}, store) == {student.id: "folder/few", child.id: "folder/few"}
    (store.root / teacher.id).mkdir()
    (store.root / teacher.id / "manifest.json").touch()
    assert lacking([student, child], {"folder/few"}, store) == {student.id: "folder/few"}
    assert lacking([student, child], set(), store) == {}


def test_plan_prices_what_can_be_computed_here(tmp_path):
    study, plain = described(tmp_path, **PHOTOS), described(tmp_path, teachers=TEACHERS)
    rows, priced = ([line.split() for line in report(each, SHIPPED["cpu-2-cores"]).splitlines()] for each in (study, plain))
    assert ["absent", "Pruned", str(len(on_photos(study)))] in rows
    assert [row for row in rows if row[:1] == ["missing"]] == [row for row in priced if row[:1] == ["missing"]]
    assert "cost of the missing runs" in study._repr_html_()


def test_results_are_drawn_again_from_their_archive_where_the_images_are_not(copied, tmp_path):
    arguments = ["render", "afr_pruning", "--profile", "smoke", "--device", "cpu", "--overrides", json.dumps(PHOTOS)]
    images = put_photos(copied)
    study = described(copied, **PHOTOS)
    study.execute()
    assert main([*arguments, *(f"--{name}-dir={copied / name}" for name in ("results", "figures", "data"))]) == 0
    shutil.rmtree(images)
    elsewhere = tmp_path / "elsewhere"
    archive = elsewhere / study.folder.relative_to(copied) / NAME
    archive.parent.mkdir(parents=True)
    shutil.copy(study.folder / NAME, archive)
    assert {state for state in described(elsewhere, **PHOTOS).status()["state"]} == {"archived"}
    assert main([*arguments, *(f"--{name}-dir={elsewhere / name}" for name in ("results", "figures", "data"))]) == 0
    one, other = copied / "figures", elsewhere / "figures"
    assert files_below(one) == files_below(other)
    assert [name for name in files_below(one) if (one / name).read_bytes() != (other / name).read_bytes()] == []
