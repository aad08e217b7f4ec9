"""Runs of every document, one of each class and table that trains: with and without a record they end in the same result, to the bit."""

import pytest

from tests.programs import LONG_ENOUGH
from tests.support import assert_same_result, context
from vitlib import load_study
from vitlib.computing import result_of
from vitlib.grid.entries import documents
from vitlib.runs.workers.one import one_thread
from vitlib.training.step import steps


@pytest.mark.parametrize("paper", [*documents(), "teachers"])
def test_runs_of_each_class_end_in_the_same_result_with_and_without_a_record(graphs, monkeypatch, tmp_path, paper):
    monkeypatch.setattr(steps, "FIRST", 1)
    study = load_study(paper, "smoke", overrides=LONG_ENOUGH.get(paper), results_dir=str(tmp_path), device="cpu")
    results, trained = {}, set()

    def compute(spec, capture):
        for parent in spec.parents():
            if parent.id not in results:
                results[parent.id] = compute(parent, False)
        return result_of(spec, context(study.place.data_dir, capture=capture, parent=lambda parent: results[parent.id]))

    with one_thread("cpu"):
        for cell in study.cells:
            kind, before = (type(cell.spec), cell.table), graphs.replays
            if kind in trained or cell.spec.timed:
                continue
            found = compute(cell.spec, True)
            if graphs.replays > before:
                trained.add(kind)
                assert_same_result(found, compute(cell.spec, False))
    assert trained
