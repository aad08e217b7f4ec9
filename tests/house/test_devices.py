"""No kind of run of any study lets tensors of the CPU meet those of its device, nor waits for it in an update, shown without a GPU.

test_gpu.py and test_gpu_steps.py need a real one.
"""

import json
import traceback
from pathlib import Path

import pytest
import torch

from tests import pretended_gpu
from tests.kinds import one_of_each_kind
from tests.programs import LONG_ENOUGH, Programs
from vitlib import load_study
from vitlib.computing import Context, result_of
from vitlib.grid.entries import studies
from vitlib.spec import RunSpec
from vitlib.training import loop
from vitlib.training.step import steps


def in_a_process(forking, tmp_path, target, *args):
    """What `target` writes as JSON into the path that it gets last."""
    report = tmp_path / "report.json"
    child = forking.Process(target=target, args=(*args, report), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    return json.loads(report.read_text())


def compute_there(paper: str, report: Path) -> None:
    """A run of every kind of a smoke study on the device; of each that fails, why, and of each training what its updates consist of."""
    torch.set_num_threads(1)
    steps.FIRST, trainings = 1, []
    loop.graphs_of = lambda device: trainings.append(Programs()) or trainings[-1]
    study = load_study(paper, "smoke", overrides=LONG_ENOUGH.get(paper), results_dir=str(report.parent))
    results, failures, found = {}, {}, {}

    def visit(spec: RunSpec) -> None:
        if spec.id in results or spec.id in failures:
            return
        for parent in spec.parents():
            visit(parent)
        context = Context(f"{pretended_gpu.NAME}:0", study.place.data_dir, None, parent=lambda parent: results[parent.id])
        try:
            results[spec.id] = result_of(spec, context)
        except Exception:
            failures[spec.id] = traceback.format_exc()
        found[spec.id] = [[training.compared, sorted(training.waits), sorted(training.changes)] for training in trainings if training.asked]
        trainings.clear()

    with pretended_gpu.install():
        for spec in one_of_each_kind(study):
            visit(spec)
    report.write_text(json.dumps([len(results), failures, found]))


@pytest.mark.parametrize("paper", studies())
def test_every_kind_of_run_stays_on_its_device_and_its_updates_can_be_replayed(forking, tmp_path, paper):
    """They wait for nothing, and those of a kind are one program: operations, numbers and shapes are the same."""
    computed, failures, found = in_a_process(forking, tmp_path, compute_there, paper)
    assert computed and not failures, "\n".join(failures.values())
    trainings = [(run, *training) for run, every in found.items() for training in every]
    classes = {run.partition("-")[0] for run, *_ in trainings}
    assert classes and classes == {run.partition("-")[0] for run, compared, _, _ in trainings if compared}
    assert [(run, waits, changes) for run, _, waits, changes in trainings if waits or changes] == []


def take_updates(report: Path) -> None:
    """Each of some updates four times; what is found of it."""
    with pretended_gpu.install():
        device = torch.device(pretended_gpu.NAME)
        there, numbers = torch.arange(6.0, device=device), iter(range(8))
        works = {
            "plain": lambda: (there * 2.0 + torch.rand(6, device=device)).sum(),
            "value": lambda: there.sum() * there[0].item(),
            "truth": lambda: there.sum() if (there > 0).any() else there[0],
            "as many as there are": lambda: there[there > 2].sum(),
            "numbers of Python": lambda: there[[0, 2]].sum(),
            "made here": lambda: there.sum() * torch.tensor([2.0], device=device)[0],
            "taken away": lambda: there.cpu().sum(),
            "another number": lambda: there.sum() * float(next(numbers)),
            "another shape": lambda: there[: next(numbers) % 3 + 1].sum(),
        }
        found = {}
        for name, work in works.items():
            programs = Programs()
            update = programs.record(work)
            for _ in range(4):
                update.replay()
            found[name] = [bool(programs.waits), bool(programs.changes)]
    report.write_text(json.dumps(found))


def test_updates_that_wait_or_change_are_told_from_those_that_do_not(forking, tmp_path):
    found = in_a_process(forking, tmp_path, take_updates)
    waiting = {"value", "truth", "as many as there are", "numbers of Python", "made here", "taken away"}
    assert {name for name, (waits, _) in found.items() if waits} == waiting
    assert {name for name, (_, changes) in found.items() if changes} == {"another number", "another shape"}


def meet(report: Path) -> None:
    with pretended_gpu.install():
        device = torch.device(pretended_gpu.NAME)
        there, here = torch.arange(6.0, device=device).view(2, 3), torch.arange(6.0).view(2, 3)
        model = torch.nn.Linear(3, 2).to(device)
        attempts = {
            "sum": lambda: there + here,
            "matrix product": lambda: there @ here.T,
            "layer": lambda: model(here),
            "join": lambda: torch.cat([there, here]),
            "index into the CPU": lambda: here[torch.tensor([1], device=device)],
            "array": there.numpy,
            "number of the CPU": lambda: float((there * torch.tensor(2.0)).sum()),
            "index from the CPU": lambda: float(there[torch.tensor([1])].sum()),
            "moved": lambda: float((there.cpu() + here).sum()),
            "training": lambda: model(there).sum().backward() or float(model.weight.grad.sum()),
        }
        report.write_text(json.dumps({name: outcome(attempt) for name, attempt in attempts.items()}))


def outcome(attempt):
    try:
        return attempt()
    except RuntimeError:
        return "refused"


def test_the_pretended_device_refuses_what_a_gpu_refuses_and_computes_the_rest(forking, tmp_path):
    refused = ["sum", "matrix product", "layer", "join", "index into the CPU", "array"]
    expected = dict.fromkeys(refused, "refused")
    expected |= {"number of the CPU": 30.0, "index from the CPU": 12.0, "moved": 30.0, "training": 30.0}
    assert in_a_process(forking, tmp_path, meet) == expected
