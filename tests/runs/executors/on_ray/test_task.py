"""What a node does with an order, in this process: nothing of the driver's store is needed, and everything comes back as bytes."""

import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.support import Number, assert_same_result
from vitlib.dumped import dump
from vitlib.runs.executors.on_ray import task
from vitlib.runs.executors.on_ray.task import Order, compute, look, put, taken
from vitlib.runs.executors.on_ray.versions import versions
from vitlib.runs.manifest import json_bytes
from vitlib.runs.store import Store
from vitlib.spec import SpecError


@pytest.fixture(autouse=True)
def node(tmp_path, monkeypatch):
    """Its folder for what is under way."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(task.tempfile, "gettempdir", lambda: str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture
def board():
    said = []
    return SimpleNamespace(say=SimpleNamespace(remote=lambda *what: said.append(what)), said=said)


@pytest.fixture
def student(smoke):
    return next(cell.spec for cell in smoke.cells if cell.point.get("method") == "none")


def order(spec, place, seconds=1e6):
    elsewhere = replace(place, results_dir=place.results_dir / "of the driver")
    return Order(dump(spec), elsewhere, time.time() + seconds, "key", versions())


def test_a_run_comes_back_as_the_files_that_the_driver_would_have_written(student, place, store, smoke, board, node):
    report = compute(order(student, place), board, {}, {})
    store.install(student.id, report.files)
    assert_same_result(store.read(student.id), Store(smoke.place.results_dir, writable=False).read(student.id))
    assert report.outcome == "stored" and report.seconds > 0 and not report.failures
    assert not (place.results_dir / "of the driver").exists()
    assert list(next(node.iterdir()).iterdir()) == []
    assert board.said[0] == (student.id, None) and all(run_id == student.id for run_id, _ in board.said)


def test_an_interrupted_run_comes_back_as_its_checkpoint_and_goes_on_on_another_node(student, place, store, smoke, board):
    scratch, shares = {}, []
    while (report := compute(order(student, place, seconds=-1), board, scratch, {})).outcome == "interrupted":
        scratch = report.scratch
        assert {"checkpoint.pt", "code", "reached"} <= scratch.keys()
        shares.append(float(scratch["reached"].split()[0]))
    assert shares == sorted(shares) and shares[0] < shares[-1] and len(shares) > 2
    store.install(student.id, report.files)
    assert_same_result(store.read(student.id), Store(smoke.place.results_dir, writable=False).read(student.id))


def test_what_a_killed_task_left_on_a_node_is_gone_on_from_and_nothing_else_of_it_is_used(student, place, board, node):
    begun = compute(order(student, place, seconds=-1), board, {}, {}).scratch
    left = Store(next(node.iterdir()) / f"key-{student.id}")
    put(left.scratch(student.id), begun)
    (left.root / student.id).mkdir()  # half a result
    again = compute(order(student, place, seconds=-1), board, {}, {})
    assert float(again.scratch["reached"].split()[0]) > float(begun["reached"].split()[0])


def test_a_failure_comes_back_with_its_traceback(student, place, board):
    doomed = student.changed(recipe=student.recipe.changed(lr=1e30, clip_grad=None))
    report = compute(order(doomed, place), board, {}, {})
    assert report.outcome == "failed" and report.reason.startswith("DivergedError: ")
    reason, trace = report.failures[doomed.id]
    assert reason == report.reason and trace.startswith("Traceback")


def test_an_ancestor_is_fetched_when_it_is_read_for_the_first_time(tmp_path, store, monkeypatch):
    asked = []
    ray = SimpleNamespace(get=lambda name: asked.append(name) or store.files(name))
    monkeypatch.setitem(sys.modules, "ray", ray)
    spec = Number(value=3)
    store.install(spec.id, {"result.json": b"{}", "provenance.json": b"{}", "spec.json": json_bytes({"id": spec.id, **dump(spec)})})
    there = task._WithAncestors(tmp_path / "there", {spec.id: spec.id, "other": "other"})
    assert [read(spec.id, spec).metrics for read in (there.open, there.read)] == [{}, {}] and asked == [spec.id]
    with pytest.raises(KeyError):
        there.read("unknown")


def test_a_node_with_another_version_computes_nothing(student, place, board):
    other = replace(order(student, place), versions=versions() | {"torch": "1.0"})
    with pytest.raises(SpecError, match=r"has torch 2\..*, and the driver has torch 1.0"):
        compute(other, board, {}, {})
    assert board.said == []


def test_a_node_says_what_it_is_and_whether_it_has_the_data(student, place, tmp_path, monkeypatch):
    assert look([dump(student)], place.data_dir, versions()) == (versions(), "", 0)
    away = student.changed(data=student.data.changed(source="folder/pets", fingerprint=""))
    _, refused, _ = look([dump(away)], place.data_dir, versions())
    assert "pets" in refused and str(place.data_dir) in refused
    monkeypatch.setenv(task.DATA, str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in look([dump(away)], place.data_dir, versions())[1]


def test_what_nobody_came_back_to_is_swept_after_a_week(node):
    home = task._home()
    for name, days in [("old", 8), ("new", 6)]:
        (home / name).mkdir()
        when = time.time() - days * 86400
        task.os.utime(home / name, (when, when))
    task._sweep()
    assert [path.name for path in home.iterdir()] == ["new"] and home.stat().st_mode & 0o077 == 0


def test_files_of_a_folder_are_put_back_as_they_were(tmp_path):
    files = {"checkpoint.pt": b"\0\1", "code": b"abc"}
    put(tmp_path / "there", files)
    assert taken(tmp_path / "there") == files and taken(tmp_path / "nowhere") == {}
