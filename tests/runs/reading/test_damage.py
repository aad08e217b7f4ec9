"""Results are read when they are asked for; what is damaged then is computed again, or shown as missing, and never shown as a number."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support import Number, Total, assert_same_result, computed, files_below, flip_a_byte
from vitlib.runs.execute import execute
from vitlib.runs.manifest import MANIFEST, DamagedError, content_of
from vitlib.runs.plan import make_plan
from vitlib.runs.store import Store

SPECS = [Number(value=value) for value in range(3)]
TOTAL = Total(left=SPECS[0], right=SPECS[1])


def harm(place, spec, name="arrays.npz"):
    flip_a_byte(place.results_dir / spec.id / name, np.random.default_rng(0))


def read(results):
    """All of them, so that they need no file any more."""
    for run in results.values():
        assert run.metrics and run.history is not None and run.arrays and run.provenance and run.spec
    return results


@pytest.mark.parametrize("name", ["result.json", "history.csv", "arrays.npz", "weights.safetensors", "provenance.json", "spec.json"])
def test_a_run_that_turns_out_to_be_damaged_is_set_aside_and_computed_again(place, caplog, name):
    before = read(execute(SPECS, place))
    after = execute(SPECS, place)
    harm(place, SPECS[1], name)
    for run_id in before:
        assert_same_result(before[run_id], after[run_id])
        assert after[run_id].spec["id"] == run_id and "code" in after[run_id].provenance
    assert computed(place) == [spec.id for spec in (*SPECS, SPECS[1])]
    assert f"damaged, computed again: {SPECS[1].id}: {name} changed since it was written" in caplog.text
    (kept,) = place.results_dir.glob(".damaged/*")
    assert kept.name.startswith(SPECS[1].id)
    Store(place.results_dir).read(SPECS[1].id)


def test_a_reader_gets_an_error_for_it_and_one_line_and_nothing_is_changed(place, caplog):
    execute(SPECS, place)
    harm(place, SPECS[1])
    before = files_below(place.results_dir)
    found = execute(SPECS, place, mode="read-only")
    assert found[SPECS[1].id].metrics["value"] == 1  # what is whole is read
    for _ in range(2):
        with pytest.raises(DamagedError, match=r"arrays\.npz changed"):
            found[SPECS[1].id].arrays  # noqa: B018
    assert caplog.text.count("damaged, shown as missing") == 1
    assert files_below(place.results_dir) == before and computed(place) == [spec.id for spec in SPECS]


@pytest.mark.parametrize("name", ["result.json", "weights.safetensors", MANIFEST])
def test_what_a_run_starts_from_is_read_whole_before_anything_is_computed(place, caplog, name):
    execute(SPECS, place)
    harm(place, SPECS[0], name)
    total = execute([*SPECS, TOTAL], place)[TOTAL.id]
    assert total.metrics == {"value": 1}
    assert computed(place) == [*(spec.id for spec in SPECS), SPECS[0].id, TOTAL.id]
    assert f"damaged, will be computed again: {SPECS[0].id}" in caplog.text


def test_retry_reads_every_byte_of_every_run(place, caplog):
    execute(SPECS, place)
    harm(place, SPECS[2])
    execute(SPECS, place)
    assert len(computed(place)) == 3
    execute(SPECS, place, mode="retry")
    assert computed(place)[3:] == [SPECS[2].id] and "will be computed again" in caplog.text


def test_planning_opens_nothing_but_manifests(place, monkeypatch):
    execute(SPECS, place)
    opened, open_ = [], open
    monkeypatch.setattr("builtins.open", lambda path, *how, **more: opened.append(Path(path).name) or open_(path, *how, **more))
    found = execute(SPECS, place, mode="read-only")
    assert set(opened) <= {MANIFEST}
    opened.clear()
    assert found[SPECS[0].id].metrics["value"] == 0
    assert opened == ["spec.json", "result.json"]


def test_a_run_that_another_process_computed_again_meanwhile_is_read_as_it_is_now(place, caplog):
    found = execute(SPECS, place)
    store = Store(place.results_dir)
    files = store.files(SPECS[0].id)
    store.install(SPECS[0].id, files | {"result.json": b'{"value": "anew"}'})
    assert found[SPECS[0].id].metrics == {"value": "anew"}
    assert "damaged" not in caplog.text


def test_a_run_that_was_removed_meanwhile_is_computed_again_and_missing_to_a_reader(place):
    results, shown = execute(SPECS, place), execute(SPECS, place, mode="read-only")
    Store(place.results_dir).set_aside(SPECS[0].id)
    with pytest.raises(DamagedError, match=r"not in .* any more"):
        shown[SPECS[0].id].metrics  # noqa: B018
    assert results[SPECS[0].id].metrics["value"] == 0
    assert computed(place)[3:] == [SPECS[0].id]


def test_two_that_find_the_same_damage_compute_it_once(place):
    one, other = execute(SPECS, place), execute(SPECS, place)
    harm(place, SPECS[0])
    assert_same_result(one[SPECS[0].id], other[SPECS[0].id])
    assert computed(place)[3:] == [SPECS[0].id]
    assert len(list(place.results_dir.glob(".damaged/*"))) == 1


@pytest.mark.parametrize("harmed", ["damaged", "removed"])
def test_what_is_damaged_or_removed_between_its_end_and_its_first_reading_is_computed_again(place, caplog, harmed):
    def harm_first(run_id):
        if run_id == SPECS[2].id and len(computed(place)) == 3:
            target = place.results_dir / SPECS[0].id
            (target / MANIFEST).write_bytes(b"") if harmed == "damaged" else shutil.rmtree(target)

    results = execute(SPECS, place, settled=harm_first)
    assert results[SPECS[0].id].metrics["value"] == 0
    assert computed(place) == [spec.id for spec in (*SPECS, SPECS[0])]


def test_what_another_driver_stores_after_planning_is_not_computed_once_more(place, monkeypatch):
    def planned(*arguments):
        plan = make_plan(*arguments)
        monkeypatch.setattr("vitlib.runs.execute.make_plan", make_plan)
        execute(SPECS[:2], place)
        return plan

    monkeypatch.setattr("vitlib.runs.execute.make_plan", planned)
    execute(SPECS, place)
    assert computed(place) == [spec.id for spec in SPECS]


@pytest.mark.parametrize("gone", ["folder", "file"])
def test_what_is_taken_away_while_it_is_read_is_missing_or_damaged_and_no_error_of_the_disk(place, monkeypatch, gone):
    execute(SPECS, place)
    folder = place.results_dir / SPECS[0].id

    def taken_away(path):
        if folder.exists():
            shutil.rmtree(folder) if gone == "folder" else path.unlink(missing_ok=True)
        return content_of(path)

    monkeypatch.setattr("vitlib.runs.manifest.content_of", taken_away)
    with pytest.raises(KeyError if gone == "folder" else DamagedError):
        Store(place.results_dir).read(SPECS[0].id)


def test_a_run_that_another_process_mended_meanwhile_is_not_set_aside(place):
    """Two drivers find the same damage; the second one sets aside what is damaged, not what the first one computed."""
    execute(SPECS, place)
    store = Store(place.results_dir)
    harm(place, SPECS[1])
    assert store.set_aside_damaged(SPECS[1].id)
    execute(SPECS, place)
    assert store.set_aside_damaged(SPECS[1].id) is None and store.set_aside_damaged("number-gone") is None
    assert len(computed(place)) == 4 and store.read(SPECS[1].id)


def test_a_damaged_run_that_is_removed_before_it_is_set_aside_is_missing(place, monkeypatch):
    execute(SPECS, place)
    store = Store(place.results_dir)
    harm(place, SPECS[1])

    def removed(self, run_id, asked=None):
        shutil.rmtree(place.results_dir / run_id)
        raise DamagedError(f"{run_id}: damaged")

    monkeypatch.setattr(Store, "read", removed)
    assert store.set_aside_damaged(SPECS[1].id) is None


def test_a_damaged_run_that_another_process_holds_is_left_to_it(place, store, forking):
    execute(SPECS, place)
    harm(place, SPECS[1])
    held, over = forking.Event(), forking.Event()
    holder = forking.Process(target=hold, args=(place.results_dir, SPECS[1].id, held, over), daemon=True)
    holder.start()
    held.wait()
    assert store.set_aside_damaged(SPECS[1].id) is None
    over.set()
    holder.join()
    assert store.set_aside_damaged(SPECS[1].id)


def hold(results_dir, run_id, held, over):
    with Store(results_dir).claim(run_id):
        held.set()
        over.wait()
