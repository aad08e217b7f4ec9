"""A transformer drawn at random, its images and labels."""

import pytest
import torch

from tests.support import drawn_vit


@pytest.fixture
def model():
    return drawn_vit()


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8)


@pytest.fixture
def labels():
    return torch.tensor([0, 2, 1, 1, 0, 2])
