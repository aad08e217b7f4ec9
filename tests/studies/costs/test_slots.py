"""How many runs share a GPU, for cards of any size."""

import os

import pytest

from tests.support import smoke_study
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Recipe
from vitlib.runs.workers.slots import ASKING
from vitlib.studies import study as studies
from vitlib.studies.costs import slots
from vitlib.training.work.registry import Sets

DIGITS = Data(source="digits", image_size=8)


def student(**fields):
    return Student(data=DIGITS, model=Vit(patch_size=2, **fields), recipe=Recipe(epochs=1, batch_size=32, lr=1e-3), seed=0)


SMALL, LARGE = student(embed_dim=16, depth=2, num_heads=2), student(embed_dim=2048, depth=48, num_heads=16)


@pytest.fixture
def card(tmp_path, monkeypatch):
    """`card(*mebibytes)`: a host of 16 cores with cards of these sizes, all visible."""

    def card(*sizes):
        program = tmp_path / ASKING[0]
        program.write_text("#!/bin/sh\n" + "".join(f"echo {size}\n" for size in sizes))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(len(sizes)))))
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))

    return card


def test_small_runs_fill_a_large_card_up_to_the_most_that_helps_and_large_ones_have_it_to_themselves(card, tmp_path):
    sets = Sets(tmp_path)
    card(141_000)
    assert slots.slots_per_gpu([SMALL], sets) == slots.MOST
    card(40_000)
    assert slots.memory(LARGE, sets) > 20e9  # 2.4 billion weights, gradients, two moments
    assert slots.slots_per_gpu([SMALL, LARGE], sets) == 1


def test_memory_for_two_processes_bears_two(card, tmp_path):
    card(int(2.5 * slots.PROCESS / 2**20))
    assert slots.slots_per_gpu([SMALL], Sets(tmp_path)) == 2


def test_the_smallest_card_and_the_cores_of_each_decide(card, tmp_path, monkeypatch):
    card(141_000, 2_000)
    assert slots.slots_per_gpu([SMALL], Sets(tmp_path)) == 1
    card(*[141_000] * 8)
    assert slots.slots_per_gpu([SMALL], Sets(tmp_path)) == 2


def test_a_host_without_gpus_has_no_slots_to_share(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slots.slots_per_gpu([SMALL], Sets(tmp_path)) == 1


@pytest.mark.parametrize(("executor", "asked", "given"), [("local", None, slots.MOST), ("local", 3, 3), ("inline", None, 1)])
def test_a_study_asks_for_what_fits_unless_it_is_told(card, tmp_path, monkeypatch, executor, asked, given):
    card(141_000)
    places = []
    monkeypatch.setattr(studies, "execute", lambda specs, place, **options: places.append(place) or {})
    smoke_study(tmp_path).execute(executor, slots_per_gpu=asked)
    assert places[0].slots_per_gpu == given
