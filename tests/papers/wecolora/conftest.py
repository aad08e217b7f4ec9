"""A teacher in a file, the distillation of one step from it, and what trainings do."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from safetensors.numpy import save_file

from tests.papers.wecolora.support import DIGITS, MICRO, RECIPE
from tests.support import context
from vitlib.inputs.models import build, weights_of
from vitlib.papers.wecolora.compute import students as compute
from vitlib.papers.wecolora.specs import Distilled
from vitlib.teachers.teacher import Checkpoint, Teacher


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with the weights of a teacher of twelve blocks, all of whose parameters are drawn at random."""
    folder = tmp_path_factory.mktemp("wecolora")
    torch.manual_seed(0)
    module = build(MICRO, image_size=8, channels=1, num_classes=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_file(weights_of(module), folder / "micro.safetensors")
    return folder


@pytest.fixture(scope="session")
def spec(files):
    """Plain distillation at r = 2."""
    origin = Checkpoint(file="micro.safetensors", model=MICRO, image_size=8, mean=(0.3,), std=(0.4,)).pinned(files)
    return Distilled(teacher=Teacher(origin=origin), data=DIGITS, recipe=RECIPE, seed=0, reduction=2, rank=3, lora_init="zero_b")


@pytest.fixture
def where(files):
    """Makes a context in the teacher's folder."""
    return lambda **fields: context(files, **fields)


@pytest.fixture
def teacher(spec, where):
    return compute.frozen_teacher(spec.teacher, 8, where())


@pytest.fixture
def watched(monkeypatch):
    """Runs a training and tells, for each update, its epoch, the block calls of both models and the blocks with gradients."""

    def watch(spec, make_context):
        calls, rows = Counter(), []
        student, teacher, group_list = compute.adapted_student(spec, make_context())
        for name, model in (("student", student), ("teacher", teacher)):
            for index, block in enumerate(model.blocks):
                block.register_forward_hook(lambda *_, key=(name, index): calls.update([key]))
        start = weights_of(student)

        def tick(epoch, *_):
            blocks = enumerate(student.blocks)
            graded = [i for i, block in blocks if any(p.grad is not None for p in block.parameters())]
            moved = sorted({int(name.split(".")[1]) for name, array in weights_of(student).items() if (array != start[name]).any()})
            rows.append(SimpleNamespace(epoch=epoch, calls=Counter(calls), graded=graded, moved=moved))
            calls.clear()

        compute.train_adapters(spec, student, teacher, group_list, make_context(tick=tick))
        return rows

    return watch
