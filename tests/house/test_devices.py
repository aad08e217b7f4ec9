"""No run of any study lets tensors of the CPU meet those of its device, shown without a GPU; test_gpu.py needs a real one."""

import json
import traceback
from pathlib import Path

import pytest
import torch

from tests import pretended_gpu
from vitlib import load_study
from vitlib.computing import Context, result_of
from vitlib.grid.entries import studies
from vitlib.spec import RunSpec


def in_a_process(forking, tmp_path, target, *args):
    """What `target` writes as JSON into the path that it gets last."""
    report = tmp_path / "report.json"
    child = forking.Process(target=target, args=(*args, report), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    return json.loads(report.read_text())


def compute_there(paper: str, report: Path) -> None:
    """Every run of a smoke study on the device; of each that fails, why."""
    torch.set_num_threads(1)
    study, results, failures = load_study(paper, "smoke", results_dir=str(report.parent)), {}, {}

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

    with pretended_gpu.install():
        for cell in study.cells:
            visit(cell.spec)
    report.write_text(json.dumps([len(results), failures]))


@pytest.mark.parametrize("paper", studies())
def test_every_run_stays_on_its_device(forking, tmp_path, paper):
    computed, failures = in_a_process(forking, tmp_path, compute_there, paper)
    assert computed and not failures, "\n".join(failures.values())


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
