"""A grid that is computed on several machines, in part on each: archives bring its halves together, and it goes on from them."""

import shutil

import pytest

from tests.support import assert_same_result, files_below
from vitlib import load_study
from vitlib.__main__ import main
from vitlib.runs.clock.budget import REACHED, Budget, noted
from vitlib.runs.execute import RunsFailedError, TimeIsUpError, execute
from vitlib.runs.manifest import MANIFEST
from vitlib.runs.store import Store
from vitlib.studies.costs.budget import in_order
from vitlib.studies.travel import NAME, started_from

TIMED = ("table_models", "throughput")  # artefacts that show what was timed


def study_in(folder, name):
    return load_study("deit", "smoke", results_dir=str(folder / name), figures_dir=str(folder / "figures" / name), device="cpu")


def command(act, folder, name, *arguments) -> int:
    places = ["--results-dir", str(folder / name)]
    study = ["deit", "--profile", "smoke", "--device", "cpu", "--figures-dir", str(folder / "figures" / name)]
    return main([act, *(study if act != "import" else []), *places, *map(str, arguments)])


def kept(store, run_ids):
    """When the folders of runs were written."""
    return {run_id: (store.root / run_id / MANIFEST).stat().st_mtime_ns for run_id in run_ids}


@pytest.fixture
def loan(smoke, tmp_path):
    """`loan(name, specs)`: a store that has these runs of the finished study and all that they start from."""

    def loan(name, specs):
        store = Store(tmp_path / name)
        for run_id in {member.id for spec in specs for member in spec.family()}:
            shutil.copytree(smoke.place.results_dir / run_id, store.root / run_id)
        return store

    return loan


@pytest.fixture
def runs(smoke):
    """Those that take no time of their own: timed ones apart."""
    return [spec for spec in in_order(smoke) if not spec.timed]


def test_two_halves_come_together_and_go_on_without_computing_anything_twice(smoke, runs, loan, tmp_path, capsys):
    """One with all weights, the other with those that are needed."""
    third = len(runs) // 3
    halves = {"one": loan("one", runs[:third]), "other": loan("other", runs[third : 2 * third])}
    home = Store(tmp_path / "home")
    for name, weights in zip(halves, ([], ["--needed-weights"]), strict=True):
        assert command("export", tmp_path, name, tmp_path / f"{name}.tar.xz", *weights) == 0
        assert command("import", tmp_path, "home", tmp_path / f"{name}.tar.xz") == 0
    both = {run_id for store in halves.values() for run_id in store.ids()}
    assert set(home.ids()) == both
    before = kept(home, both)
    study = study_in(tmp_path, "home")
    study.execute()
    assert kept(home, both) == before
    whole = Store(smoke.place.results_dir, writable=False)
    assert home.ids() == whole.ids()
    without_weights = set(halves["other"].ids()) - set(halves["one"].ids())
    for spec in runs:
        if spec.id not in without_weights:
            assert_same_result(home.read(spec.id), whole.read(spec.id))
        assert home.read(spec.id).metrics == whole.read(spec.id).metrics
    places = ["--profile", "smoke", "--results-dir", str(smoke.place.results_dir), "--figures-dir", str(tmp_path / "figures" / "whole")]
    assert main(["render", "deit", *places]) == command("render", tmp_path, "home") == 0
    shown = [tmp_path / "figures" / name / "deit" / "smoke" for name in ("home", "whole")]
    names = [name for name in files_below(shown[1]) if name != NAME and not any(word in name for word in TIMED)]
    assert len(names) > 20 and files_below(shown[0]) == files_below(shown[1])
    assert [name for name in names if (shown[0] / name).read_bytes() != (shown[1] / name).read_bytes()] == []


def test_weights_are_needed_of_what_missing_runs_start_from_and_of_nothing_else(smoke, runs, loan, tmp_path, capsys):
    child = next(spec for spec in runs if spec.parents() and all(not parent.parents() for parent in spec.parents()))
    others = [spec for spec in runs if child.id not in {member.id for member in spec.family()}]
    store = loan("one", others)
    study = study_in(tmp_path, "one")
    by_hand = {parent.id for spec in smoke.specs.values() if spec.id not in store for parent in spec.parents() if parent.id in store}
    assert started_from(study, store) == by_hand and {parent.id for parent in child.parents()} & by_hand
    for name, option in {"light": "--without-weights", "needed": "--needed-weights", "whole": ""}.items():
        assert command("export", tmp_path, "one", tmp_path / f"{name}.tar", *filter(None, [option])) == 0
        assert command("import", tmp_path, name, tmp_path / f"{name}.tar") == 0
    light, needed, whole = (Store(tmp_path / name) for name in ("light", "needed", "whole"))
    with_weights = {run_id for run_id in whole.ids() if whole.read(run_id).weights is not None}
    assert {run_id for run_id in needed.ids() if needed.read(run_id).weights is not None} == by_hand & with_weights < with_weights
    assert not any(light.read(run_id).weights for run_id in light.ids())
    sizes = [(tmp_path / f"{name}.tar").stat().st_size for name in ("light", "needed", "whole")]
    assert sizes == sorted(set(sizes))


def test_of_a_finished_study_no_weights_are_needed(smoke):
    assert started_from(smoke, Store(smoke.place.results_dir, writable=False)) == set()


# ------------------------------------------------------------------------------------------------ without the weights


@pytest.fixture
def lacking(smoke, runs, loan, tmp_path, capsys):
    """A store whose teacher came without its weights, and a student that learns from it; the archive with weights lies beside."""
    student = next(cell.spec for cell in smoke.cells if cell.point.get("method") == "hard")
    loan("far", [student.teacher])
    for name, option in {"light.tar": ["--without-weights"], "whole.tar": []}.items():
        assert command("export", tmp_path, "far", tmp_path / name, *option) == 0
    assert command("import", tmp_path, "home", tmp_path / "light.tar") == 0
    return student


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_a_child_of_a_parent_without_weights_fails_with_what_helps_and_is_not_recorded_as_failed(lacking, executor, tmp_path):
    study = study_in(tmp_path, "home")
    with pytest.raises(RunsFailedError) as error:
        execute_alone(study, lacking, executor)
    said = str(error.value)
    assert f"{lacking.id}: NoWeightsError: weights of {lacking.teacher.id}: left out of the archive it was imported from" in said
    assert "import an archive that has them, which adds them, or mode='retry' computes that run again" in said
    store = Store(tmp_path / "home")
    assert store.failure(lacking.id) is None and store.ids() == [lacking.teacher.id]
    assert dict(study.status()[["run", "state"]].to_numpy())[lacking.teacher.id] == "stored"


def execute_alone(study, spec, executor="inline", mode="cached", budget=None):
    return execute([spec], study.place, executor=executor, mode=mode, budget=budget)


def test_an_archive_with_weights_adds_them_and_the_child_is_computed(lacking, smoke, tmp_path):
    study, store = study_in(tmp_path, "home"), Store(tmp_path / "home")
    with pytest.raises(RunsFailedError):
        execute_alone(study, lacking)
    assert command("import", tmp_path, "home", tmp_path / "whole.tar") == 0
    assert store.failure(lacking.teacher.id) is None
    before = kept(store, [lacking.teacher.id])
    for mode in ("cached", "retry"):
        execute_alone(study, lacking, mode=mode)
    assert kept(store, [lacking.teacher.id]) == before
    assert_same_result(store.read(lacking.id), Store(smoke.place.results_dir, writable=False).read(lacking.id))


def test_retry_computes_the_parent_again_for_its_weights_and_then_the_child(lacking, smoke, tmp_path):
    study, store = study_in(tmp_path, "home"), Store(tmp_path / "home")
    execute_before = kept(store, [lacking.teacher.id])
    with pytest.raises(RunsFailedError):
        execute_alone(study, lacking, mode="retry")  # nobody knew before that the weights are needed
    assert kept(store, [lacking.teacher.id]) == execute_before
    with pytest.raises(TimeIsUpError):
        execute_alone(study, lacking, mode="retry", budget=Budget(-1.0))  # one step; the checkpoint stays, though the run is stored
    assert noted(store, lacking.teacher.id, REACHED) > 0
    execute_alone(study, lacking, mode="retry")
    whole = Store(smoke.place.results_dir, writable=False)
    for spec in (lacking, lacking.teacher):
        assert_same_result(store.read(spec.id), whole.read(spec.id))
    before = kept(store, [lacking.teacher.id])
    assert before != execute_before and store.failure(lacking.teacher.id) is None
    execute_alone(study, lacking, mode="retry")
    assert kept(store, [lacking.teacher.id]) == before
