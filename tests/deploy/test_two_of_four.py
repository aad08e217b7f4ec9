"""What is refused on the way to a GPU's sparse matrix units; what they compute is in tests/house/test_gpu.py."""

import pytest
import timm
import torch

from vitlib.deploy import two_of_four
from vitlib.deploy.two_of_four import on_sparse_units
from vitlib.methods.pruning.masks import apply_masks, prunable
from vitlib.methods.pruning.masks import two_of_four as masks_of
from vitlib.methods.pruning.saliency import magnitude
from vitlib.spec import SpecError


@pytest.fixture
def masked():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=32, depth=1, num_heads=2, num_classes=4)
    apply_masks(model, masks_of(magnitude(prunable(model))))
    return model


def test_weights_that_are_not_two_of_four_are_refused_before_a_gpu_is_looked_for(masked):
    with torch.no_grad():
        masked.blocks[0].mlp.fc1.weight[0, :4] = 1.0
    with pytest.raises(SpecError, match=r"blocks.0.mlp.fc1.weight: 4 of four neighbours are not zero; allowed: two"):
        on_sparse_units(masked)


@pytest.mark.parametrize(("there", "capability", "said"), [(False, None, "no CUDA device"), (True, (7, 5), r"compute capability 7\.5")])
def test_a_machine_without_such_units_is_refused(there, capability, said, masked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with pytest.raises(SpecError, match=rf"device: {said}; allowed: a CUDA device of compute capability 8.0 or more"):
        on_sparse_units(masked)


def test_sizes_without_a_kernel_are_refused_in_a_line(masked, monkeypatch):
    def no_kernel(model, masks):
        raise RuntimeError("Error original_tensor.shape (96, 32) is not supported!\nBoth dimensions must be ...")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(two_of_four, "semi_structured", no_kernel)
    with pytest.raises(SpecError, match=r"model: Error original_tensor.shape \(96, 32\) is not supported!; allowed"):
        on_sparse_units(masked, "cpu")
    assert next(masked.parameters()).dtype == torch.float32
