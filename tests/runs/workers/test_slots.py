"""Where local workers compute: on the GPUs that are visible, several on each where that is asked for, or on the cores."""

import json
import os

import pytest

from tests.runs.workers import pretended_worker
from tests.support import ROOT, assert_same_result, smoke_study
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.runs.workers import local, slots
from vitlib.spec import SpecError

CORE = {"OMP_NUM_THREADS": "1"}


def gpus(*numbers):
    return [{"CUDA_VISIBLE_DEVICES": number} for number in numbers]


@pytest.mark.parametrize(("visible", "expected"), [("0,1", gpus("0", "1")), ("3", gpus("3")), ("", [CORE]), ("-1", gpus("-1"))])
def test_workers_take_the_gpus_that_are_visible_and_none_that_are_hidden(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(slots.glob, "glob", lambda pattern: ["/dev/nvidia0"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    assert slots.slots("auto", 1) == expected


@pytest.mark.parametrize(
    ("nodes", "device", "expected"), [(["3"], "auto", gpus("0")), (["0", "7"], "cuda", gpus("0", "1")), (["0"], "cpu", [CORE] * 3)]
)
def test_workers_number_gpus_as_cuda_does_and_take_none_for_a_cpu(monkeypatch, nodes, device, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(slots.glob, "glob", lambda pattern: [f"/dev/nvidia{node}" for node in nodes] if "nvidia" in pattern else [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5})
    assert slots.slots(device, 1) == expected


def test_slots_of_several_gpus_are_taken_in_turn_and_a_cpu_has_one_a_core_whatever_is_asked_of_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    assert slots.slots("auto", 3) == gpus("0", "1") * 3
    assert slots.slots("cpu", 3) == [CORE] * 2


def test_fewer_than_one_slot_is_refused(tmp_path):
    with pytest.raises(SpecError, match="slots_per_gpu: got 0; allowed: a number from 1 on"):
        Place(tmp_path, tmp_path, slots_per_gpu=0)


def test_two_slots_on_one_gpu_give_the_bits_of_one_process_and_compute_nothing_twice(tmp_path, monkeypatch, forking):
    """On the pretended GPU."""
    study = smoke_study(tmp_path)
    asked = [cell.spec for cell in study.cells if cell.point.get("method") in ("none", "hard") and cell.table == "strategies"]
    child = forking.Process(target=pretended_worker.compute_alone, args=(asked, tmp_path / "alone", tmp_path), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(local, "WORKER", ("-m", pretended_worker.__name__))
    place = Place(tmp_path / "slots", tmp_path, slots_per_gpu=2)
    stored = execute(asked, place, executor="local")
    alone = Store(tmp_path / "alone", writable=False)
    assert len(stored) == len(asked) >= 4 and stored.keys() <= {*alone.ids()}
    for run_id, run in stored.items():
        assert_same_result(run, alone.read(run_id))
    said = [json.loads(line) for line in (tmp_path / "slots.log").read_text().splitlines()]
    assert sorted(run for _, run in said) == alone.ids()
    assert len({process for process, _ in said}) == 2
