"""A run of every kind of `tiny`, cut down, on a GPU that is not there: bfloat16, mixing and augmentation stay on it and can be replayed."""

import json
import traceback
from pathlib import Path

import pytest
import torch

from tests import cut_down, pretended_gpu
from tests.programs import Programs
from vitlib import load_study
from vitlib.computing import Context, result_of
from vitlib.grid.entries import studies
from vitlib.training import loop
from vitlib.training.step import steps


def compute_there(paper: str, report: Path) -> None:
    """One run of each kind on the device: failures, what trainings' updates consist of, and what is computed in under autocast."""
    torch.set_num_threads(1)
    steps.FIRST, trainings = 1, []
    loop.graphs_of = lambda device: trainings.append(Programs()) or trainings[-1]
    images, results, failures = cut_down.folders(report.parent / "images"), {}, []
    study = load_study(paper, "tiny", overrides=cut_down.overrides(paper, images), results_dir=str(report.parent), data_dir=str(images))
    with pretended_gpu.install():
        for spec in cut_down.one_of_each_class(study):
            context = Context(f"{pretended_gpu.NAME}:0", images, None, parent=lambda parent: results[parent.id])
            try:
                results[spec.id] = result_of(spec, context)
            except Exception:
                failures.append(traceback.format_exc())
        there = torch.ones(2, 2, device=torch.device(pretended_gpu.NAME))
        with torch.autocast(pretended_gpu.NAME, torch.bfloat16):
            dtypes = [str((there @ there).dtype), str(there.softmax(dim=0).dtype), str((there + there).dtype)]
    updates = [[training.compared, sorted(training.waits), sorted(training.changes)] for training in trainings if training.asked]
    report.write_text(json.dumps([len(results), failures, updates, dtypes]))


@pytest.mark.parametrize("paper", studies())
def test_every_kind_of_run_of_tiny_stays_on_its_device_and_its_updates_can_be_replayed(forking, tmp_path, paper):
    report = tmp_path / "report.json"
    child = forking.Process(target=compute_there, args=(paper, report), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    computed, failures, updates, dtypes = json.loads(report.read_text())
    assert computed and not failures, "\n".join(failures)
    assert any(compared for compared, _, _ in updates)
    assert [(waits, changes) for _, waits, changes in updates if waits or changes] == []
    assert dtypes == ["torch.bfloat16", "torch.float32", "torch.float32"]
