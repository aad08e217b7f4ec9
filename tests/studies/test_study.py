"""Studies: layers of settings, grids, shared runs, status, frames, and results without their data."""

import numpy as np
import pytest

from tests.support import flip_a_byte, make_images, smoke_study
from vitlib import documents, load_study
from vitlib.computing import Result
from vitlib.grid.entries import merged, read_entry
from vitlib.inputs.sources import fingerprint
from vitlib.runs.provenance import code_fingerprint, facts
from vitlib.runs.store import Store
from vitlib.spec import SpecError
from vitlib.studies.artefacts import stamp

# ------------------------------------------------------------------------------------------------ settings


def test_later_layers_win_key_by_key():
    base = {"lr": 1, "recipe": {"epochs": 3, "augment": {"flip": 0.5, "crop": 1}}, "seeds": [0, 1]}
    profile = {"recipe": {"augment": {"crop": 2}}, "seeds": [7]}
    overrides = {"recipe": {"epochs": 9}, "new": {"a": 1}}
    assert merged(base, profile, overrides) == {
        "lr": 1,
        "recipe": {"epochs": 9, "augment": {"flip": 0.5, "crop": 2}},
        "seeds": [7],
        "new": {"a": 1},
    }
    assert base["recipe"]["epochs"] == 3


def test_a_table_replaces_a_value_and_a_value_a_table():
    assert merged({"a": 1, "b": {"c": 1}}, {"a": {"c": 1}, "b": 2}) == {"a": {"c": 1}, "b": 2}


def test_an_origin_replaces_another_kind_of_origin_whole():
    layers = {"origin": {"name": "vit.tag", "pretrained": True}, "seed": 0}, {"origin": {"shipped": "dino"}}
    assert merged(*({"teacher": layer} for layer in layers)) == {"teacher": {"origin": {"shipped": "dino"}, "seed": 0}}


@pytest.mark.parametrize("method", ["supervised", "dino", "mae"])
def test_a_teacher_named_by_its_pretraining_run_is_that_run(method, tmp_path):
    point = {"method": method, "model": "micro", "seed": 0}
    place = {"results_dir": str(tmp_path), "device": "cpu"}
    study = load_study("wecolora", "smoke", overrides={"teacher": {"origin": {"run": {"profile": "smoke", **point}}}}, **place)
    wanted = [cell.spec for cell in load_study("teachers", "smoke", **place).cells if cell.point == point and cell.table == "pretraining"]
    assert [study.settings.teacher.origin] == wanted
    assert all(wanted[0] in spec.parents() for spec in study.specs.values() if spec.teacher.origin == wanted[0])
    assert any(wanted[0] in spec.parents() for spec in study.specs.values())


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"profile": "smok"}, "teacher.origin.run.profile: got 'smok'.*smoke"),
        ({"profile": "smoke", "method": "dino", "model": "huge", "seed": 0}, "got .*'huge'.*allowed with that profile: .*'micro'"),
        ("dino", "origin"),
    ],
)
def test_a_teacher_by_a_run_that_is_none_is_refused(run, message):
    with pytest.raises(SpecError, match=message):
        load_study("wecolora", "smoke", overrides={"teacher": {"origin": {"run": run}}})


def test_overrides_reach_the_runs(tmp_path):
    study = load_study("deit", "smoke", overrides={"recipe": {"epochs": 5}, "seeds": [3]}, results_dir=str(tmp_path))
    students = [cell.spec for cell in study.cells if cell.point.get("method") == "soft" and cell.point["resolution"] == "native"]
    assert {student.recipe.epochs for student in students} == {5}
    assert {student.seed for student in students} == {3}
    assert {student.recipe.batch_size for student in students} == {40}  # the profile's
    assert {student.recipe.weight_decay for student in students} == {0.05}  # the base's


# ------------------------------------------------------------------------------------------------ grids


def test_artefacts_of_changed_settings_say_what_was_changed():
    plain = load_study("deit", "smoke")
    changed = load_study("deit", "smoke", overrides={"seeds": [3], "recipe": {"epochs": 1, "lr": 0.5}})
    assert "changed" not in stamp(plain)
    assert "profile smoke · changed: recipe.epochs=1, recipe.lr=0.5, seeds=3 · digits, 8 and 12 px · 1 seed" in stamp(changed)


@pytest.mark.parametrize("paper", documents())
@pytest.mark.parametrize("profile", ["smoke", "quick", "tiny", "paper"])
def test_every_table_of_an_entry_has_a_grid_unless_an_axis_is_empty(paper, profile, tmp_path):
    study = load_study(paper, profile, results_dir=str(tmp_path), data_dir=str(tmp_path))
    empty = {
        table
        for table, blocks in study.entry["grid"].items()
        if all(
            any(isinstance(axis, str) and not getattr(study.settings, axis) for name, axis in b.items() if name != "run") for b in blocks
        )
    }
    assert set(study.grid()["table"]) == set(study.entry["grid"]) - empty
    assert (study.grid()["runs"] > 0).all()


@pytest.mark.parametrize("paper", documents())
def test_every_profile_of_an_entry_is_there(paper):
    assert {"smoke", "quick", "tiny", "paper"} <= set(read_entry(paper)["profile"])


def test_an_axis_given_as_a_name_is_the_settings_field_of_that_name(tmp_path):
    study = load_study("deit", "smoke", overrides={"seeds": [4, 2]}, results_dir=str(tmp_path))
    points = [cell.point for cell in study.cells if cell.table == "strategies" and cell.point["resolution"] == "native"]
    # the axes as the entry gives them, the last one turning fastest
    assert points == [
        {"method": method, "size": size, "resolution": "native", "seed": seed}
        for method in ("none", "soft", "hard", "token")
        for size in ("tiny", "base")
        for seed in (4, 2)
    ]


def test_points_that_tables_share_are_one_run(smoke):
    """Tables 3 and 5 of DeiT share the students without a teacher and those with the token."""
    specs = {table: {tuple(c.point.items()): c.spec.id for c in smoke.cells if c.table == table} for table in ("strategies", "models")}
    shared = specs["strategies"].keys() & specs["models"].keys()
    assert len(shared) == 2 * 2 + 2  # two methods: two sizes as they are, the largest also finer
    assert all(specs["strategies"][point] == specs["models"][point] for point in shared)


def test_every_cell_is_stored_once_with_its_parents(smoke):
    family = {member.id for spec in smoke.specs.values() for member in spec.family()}
    assert set(Store(smoke.place.results_dir, writable=False).ids()) == family


# ------------------------------------------------------------------------------------------------ status


def test_status_tells_stored_missing_stale_failed_and_damaged_apart(tmp_path, smoke):
    study, finished = smoke_study(tmp_path), Store(smoke.place.results_dir, writable=False)
    store = Store(tmp_path)
    stored, stale, failed, damaged, missing, *_ = study.specs.values()
    for spec, code in [(stored, code_fingerprint(type(stored))), (stale, "of yesterday"), (damaged, "any")]:
        found = finished.read(spec.id)
        result = Result(found.metrics, found.history, found.arrays, found.weights)
        store.put(spec, result, found.provenance | {"code": code})
    store.record_failure(failed.id, "told to fail")
    flip_a_byte(tmp_path / damaged.id / "result.json", np.random.default_rng(0))
    states = study.status().drop_duplicates("run").set_index("run")["state"]
    expected = {
        stored.id: "stored",
        stale.id: "stale",
        failed.id: "failed",
        damaged.id: "damaged",
        missing.id: "missing",
    }
    assert {run_id: states[run_id] for run_id in expected} == expected
    assert (states.drop(list(expected)) == "missing").all()
    assert "1 stored" in study._repr_html_() and "1 damaged" in study._repr_html_()


def test_status_of_a_finished_study_is_stored_and_one_row_a_cell(smoke):
    frame = smoke.status()
    assert set(frame["state"]) == {"stored"}
    assert frame["run"].tolist() == [cell.spec.id for cell in smoke.cells]


# ------------------------------------------------------------------------------------------------ results


def test_frames_hold_one_row_a_cell_with_its_point_and_metrics(smoke):
    results = smoke.execute(mode="read-only")
    for table in smoke.grid()["table"]:
        cells = [cell for cell in smoke.cells if cell.table == table]
        frame = results.frame(table)
        assert frame["run"].tolist() == [cell.spec.id for cell in cells]
        for row, cell in zip(frame.to_dict("records"), cells, strict=True):
            assert cell.point.items() <= row.items()
            assert results.stored[cell.spec.id].metrics.items() <= row.items()


def test_history_holds_one_row_a_cell_and_epoch(smoke):
    history = smoke.execute(mode="read-only").history("strategies")
    native = history[history["resolution"] == "native"]
    assert native.groupby(["method", "size", "seed"])["epoch"].agg(list).tolist() == [[1, 2]] * 8


def test_a_missing_run_is_a_row_without_metrics_under_read_only(tmp_path):
    results = smoke_study(tmp_path).execute(mode="read-only")
    frame = results.frame("strategies")
    assert len(frame) == 4 * 2 + 4
    assert "top1" not in frame or frame["top1"].isna().all()
    assert results.history("strategies").empty
    assert results.runs("strategies") == []
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_table_is_refused_with_the_nearest_one(smoke):
    with pytest.raises(SpecError, match="table: got 'strategy'; did you mean 'strategies'"):
        smoke.execute(mode="read-only").frame("strategy")


def test_provenance_counts_every_stored_run_once(smoke):
    results = smoke.execute(mode="read-only")
    provenance = results.provenance()
    assert provenance["runs"].sum() == len(results.stored) == len(smoke.specs)
    assert {"torch", "timm", "numpy"} <= set(provenance.columns)


# ------------------------------------------------------------------------------------------------ results without data


@pytest.fixture
def on_images(tmp_path):
    """The smoke study on an image folder, looked for in the given data_dir."""
    make_images(tmp_path / "data" / "pets", classes=[f"c{number}" for number in range(10)])

    def load(data_dir):
        recipes = {name: {"batch_size": 30} for name in ("recipe", "teacher_recipe", "finetune")}
        overrides = {"data": {"source": "folder/pets", "per_class": None}, "second_test": None, **recipes}
        return load_study(
            "deit",
            "smoke",
            overrides=overrides,
            results_dir=str(tmp_path / "results"),
            data_dir=str(tmp_path / data_dir),
        )

    fingerprint.cache_clear()
    return load


def test_results_are_found_on_a_machine_that_holds_no_data(on_images):
    here = on_images("data")
    run_id, spec = next((run_id, spec) for run_id, spec in here.specs.items() if run_id.startswith("student"))
    Store(here.place.results_dir).put(spec, Result({"top1": 12.5}), facts(type(spec), "cpu"))
    there = on_images("nowhere")
    assert list(there.specs) == list(here.specs)
    assert there.execute(mode="read-only").stored[run_id].metrics == {"top1": 12.5}


def test_without_data_and_results_runs_are_described_but_not_computed(on_images):
    there = on_images("nowhere")
    assert not set(there.specs) & {run_id for run_id in on_images("data").specs if run_id.startswith("student")}
    with pytest.raises(SpecError, match=r"data.source: 'folder/pets' was looked for in .*nowhere/pets"):
        there.execute()


def test_a_damaged_description_does_not_hide_the_others(on_images):
    here = on_images("data")
    students = [spec for run_id, spec in here.specs.items() if run_id.startswith("student")][:2]
    store = Store(here.place.results_dir)
    for spec in students:
        store.put(spec, Result({"top1": 12.5}), facts(type(spec), "cpu"))
    (store.root / students[1].id / "spec.json").write_text("{")
    assert list(on_images("nowhere").specs) == list(here.specs)


def test_files_that_changed_since_the_study_was_described_are_refused(on_images):
    study = on_images("data")
    (study.place.data_dir / "pets" / "train" / "c0" / "0.png").write_bytes(b"changed")
    with pytest.raises(SpecError, match=r"data.fingerprint: folder/pets .*describe the study again"):
        study.execute()
    assert not any(study.place.results_dir.glob("student*"))
