"""What every executor promises: the same identities and bits, parents first, failures where they are, nothing computed twice."""

import shutil
from functools import partial

import numpy as np
import pytest

from tests.runs.support import delete
from tests.support import assert_same_result, files_below, flip_a_byte
from vitlib.runs.execute import RunsFailedError, TimeIsUpError, execute
from vitlib.runs.plan import make_plan
from vitlib.runs.store import Store


def written(store):
    """When each stored run was written, and the file that holds it."""
    found = {path.parent.name: path.stat() for path in store.root.glob("[!.]*/manifest.json")}
    return {run_id: (stat.st_mtime_ns, stat.st_ino) for run_id, stat in found.items()}


def left_behind(store):
    return [name for folder in (".partial", ".scratch", ".claims", ".damaged") for name in files_below(store.root / folder)]


def flip(folder, name):
    flip_a_byte(folder / name, np.random.default_rng(0))


def test_a_study_has_the_identities_bits_and_provenance_of_one_process_its_parents_first_and_nothing_is_computed_twice(
    compute, chain, place, store, smoke
):
    alone, teacher = Store(smoke.place.results_dir, writable=False), chain.student.teacher
    store.install(teacher.id, alone.files(teacher.id))
    before = written(store)
    results = compute([chain], place)
    family = {run.id: run for run in chain.family()}
    assert store.ids() == sorted(family) and chain.id in results
    for run_id in family:
        assert_same_result(store.read(run_id), alone.read(run_id))
        said, expected = store.read(run_id).provenance, alone.read(run_id).provenance
        assert all(said[name] == expected[name] for name in ("code", "python", "versions", "device"))
    when = written(store)
    assert all(when[parent.id] < when[run_id] for run_id, run in family.items() for parent in run.parents())
    assert before.items() < when.items() and len(before) == 1
    assert left_behind(store) == []


def test_a_failure_takes_its_children_with_it_and_nothing_else_keeps_its_traceback_and_is_tried_again_if_that_is_asked_for(
    compute, chain, doomed, place, store
):
    student, sibling = chain.student.changed(teacher=doomed), chain.student.teacher
    with pytest.raises(RunsFailedError, match=r"^2 run\(s\) failed") as error:
        compute([student, sibling], place)
    assert f"{student.id}: its parent {doomed.id} failed" in str(error.value)
    assert "DivergedError: " in store.failure(doomed.id) and store.failure(student.id) is None
    assert "Traceback" in (store.root / ".failed" / f"{doomed.id}.log").read_text()
    assert store.ids() == [sibling.id]
    store.record_failure(doomed.id, "before")
    with pytest.raises(RunsFailedError, match=rf"{doomed.id}: failed before \(mode='retry' tries again\): before"):
        compute([doomed], place)
    with pytest.raises(RunsFailedError, match="DivergedError"):
        compute([doomed], place, mode="retry")


def test_what_time_does_not_suffice_for_or_another_driver_holds_goes_on_later_to_the_same_bits(compute, chain, place, store, smoke):
    student = chain.student
    with store.claim(student.teacher.id), pytest.raises(TimeIsUpError, match=r"0 run\(s\) stored, 2 left"):
        compute([student], place, seconds=0.5)
    with pytest.raises(TimeIsUpError, match=r"time is up: \d run\(s\) stored, \d left"):
        compute([student], place, seconds=0.01)
    compute([student], place)
    alone = Store(smoke.place.results_dir, writable=False)
    for run in student.family():
        assert_same_result(store.read(run.id), alone.read(run.id))
    assert left_behind(store) == []


@pytest.mark.parametrize("harm", [shutil.rmtree, partial(delete, name="manifest.json"), partial(flip, name="weights.safetensors")])
def test_a_parent_that_is_damaged_or_removed_after_planning_is_computed_again_and_then_its_child(
    compute, chain, place, store, smoke, monkeypatch, harm
):
    alone, teacher = Store(smoke.place.results_dir, writable=False), chain.student.teacher
    store.install(teacher.id, alone.files(teacher.id))

    def planned(*arguments):
        monkeypatch.setattr("vitlib.runs.execute.make_plan", make_plan)
        plan = make_plan(*arguments)
        harm(place.results_dir / teacher.id)
        return plan

    monkeypatch.setattr("vitlib.runs.execute.make_plan", planned)
    compute([chain.student], place)
    execute([teacher], place, mode="retry")  # where drivers computed all, the harm came afterwards
    for run in chain.student.family():
        assert_same_result(store.read(run.id), alone.read(run.id))
    assert not list(place.results_dir.glob(".failed/*"))


def test_a_parent_that_came_without_weights_is_named_and_computed_again_when_that_is_asked_for(compute, chain, place, store, smoke):
    teacher, alone = chain.student.teacher, Store(smoke.place.results_dir, writable=False)
    store.install(teacher.id, {name: content for name, content in alone.files(teacher.id).items() if name != "weights.safetensors"})
    with pytest.raises(RunsFailedError, match=f"NoWeightsError: weights of {teacher.id}"):
        compute([chain.student], place)
    assert store.failure(teacher.id) and not store.failure(chain.student.id)
    compute([chain.student], place, mode="retry")
    assert_same_result(store.read(chain.student.id), alone.read(chain.student.id))
