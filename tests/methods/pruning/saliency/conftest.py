"""In double precision, so that autograd can be compared with."""

import pytest
import torch


@pytest.fixture
def model(model):
    return model.double()


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8, dtype=torch.float64)
