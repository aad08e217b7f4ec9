"""Checkpoints made small: networks drawn at random, files of them, what is said where one is refused."""

import time

import pytest
import torch
from torch.testing import assert_close

from tests.support import MICRO, context
from vitlib.inputs.models import ResNet, build
from vitlib.spec import SpecError
from vitlib.teachers.teacher import Checkpoint, Teacher

RESNET = ResNet(width=4, blocks=(1, 1, 1, 1))


def described(file="mine.pth", model=MICRO, image_size=8, channels=1, key=""):
    return Checkpoint(file=file, model=model, image_size=image_size, mean=(0.3,) * channels, std=(0.4,) * channels, key=key)


def drawn(model=MICRO, image_size=8, channels=1, num_classes=3):
    """A module all of whose parameters and statistics are drawn, so that two of them agree nowhere."""
    module = build(model, image_size=image_size, channels=channels, num_classes=num_classes).eval()
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 0.5)
    return module


def loaded(spec, data_dir, **options):
    """The module that a study would start from."""
    return Teacher(origin=spec.pinned(data_dir)).module(context(data_dir), **{"image_size": spec.image_size} | options).eval()


def assert_same_outputs(one, other, image_size=8, channels=1, tolerance=1e-6):
    images = torch.randn(2, channels, image_size, image_size)
    with torch.no_grad():
        assert_close(one(images), other(images), rtol=tolerance, atol=tolerance)


def refusal(spec, data_dir) -> str:
    """The one line with which a file is refused when its study is loaded."""
    start = time.monotonic()
    with pytest.raises(SpecError) as refused:
        spec.pinned(data_dir)
    message = str(refused.value)
    assert time.monotonic() - start < 5
    assert len(message.splitlines()) == 1 and spec.file in message and len(message.replace(str(data_dir), "")) < 400
    return message


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def recast(state, dtype):
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
