"""Files of pruned models: outputs, zeros and masks come back to the bit, or the file is refused."""

import copy

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.methods.pruning.support import QKV
from tests.support import MICRO, MICRO_SIZES, assert_same_arrays, drawn_vit
from vitlib.inputs.models import ResNet, Timm, build, weights_of
from vitlib.methods.pruning.masks import apply_masks, densities, keep_masks, load_pruned, prunable, save_pruned, two_of_four
from vitlib.methods.pruning.saliency import magnitude
from vitlib.spec import SpecError


@pytest.fixture
def pruned(tmp_path):
    """A pruned transformer, its masks and its file."""
    model = drawn_vit()
    masks = keep_masks(magnitude(prunable(model, include_patch_embed=True)), 0.8)
    apply_masks(model, masks)
    return model, masks, save_pruned(tmp_path / "new" / "folder" / "pruned.safetensors", model.state_dict(), masks, MICRO, **MICRO_SIZES)


def rewritten(path, change):
    """The file with its tensors changed and its description kept."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def test_a_pruned_model_comes_back_with_its_outputs_its_zeros_and_its_masks_to_the_bit(pruned, images):
    model, masks, path = pruned
    again, found = load_pruned(str(path))
    assert torch.equal(again(images), model(images))
    assert_same_arrays(weights_of(again), weights_of(model))
    assert {name: mask.tolist() for name, mask in found.items()} == {name: mask.tolist() for name, mask in masks.items()}
    assert all(mask.dtype == torch.bool and not again.get_parameter(name)[~mask].any() for name, mask in found.items())
    assert not any(module.training for module in again.modules())
    assert all(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("distilled", [False, True])
def test_other_sizes_and_classes_and_channels_come_back_too(tmp_path, distilled):
    spec = MICRO.changed(distilled=distilled, depth=3, mlp_ratio=2.0)
    options = {"image_size": 12, "channels": 3, "num_classes": 5}
    model, images = drawn_vit(spec, **options), torch.randn(2, 3, 12, 12)
    masks = two_of_four(magnitude(prunable(model)))
    apply_masks(model, masks)
    again, found = load_pruned(save_pruned(tmp_path / "file", model.state_dict(), masks, spec, **options))
    assert torch.equal(again(images), model(images))
    assert densities(found) == dict.fromkeys(masks, 0.5)


def test_a_resnet_with_masks_of_its_own_comes_back_too(tmp_path, images):
    spec = ResNet(width=4, blocks=(1, 1, 1, 1))
    model = build(spec, **MICRO_SIZES).train()
    model(images)
    masks = keep_masks({"layer1.0.conv1.weight": model.layer1[0].conv1.weight.detach().abs()}, 0.5)
    apply_masks(model, masks)
    again, _ = load_pruned(save_pruned(tmp_path / "file", model.state_dict(), masks, spec, **MICRO_SIZES))
    assert torch.equal(again(images), model.eval()(images))


def test_a_released_model_comes_back_without_its_released_weights(tmp_path):
    spec = Timm(name="test_vit.r160_in1k")
    options = {"image_size": 160, "channels": 3, "num_classes": 5}
    model, images = build(spec, **options).eval(), torch.randn(1, 3, 160, 160)
    masks = keep_masks(magnitude(prunable(model)), 0.9)
    apply_masks(model, masks)
    path = save_pruned(tmp_path / "file", model.state_dict(), masks, spec.changed(pretrained=True), **options)
    again, _ = load_pruned(path)
    assert torch.equal(again(images), model(images))


def test_saving_leaves_weights_and_masks_as_they_were(pruned):
    model, masks, path = pruned
    weights, copies = model.state_dict(), copy.deepcopy(masks)
    save_pruned(path, weights, masks, MICRO, **MICRO_SIZES)
    assert list(weights) == list(model.state_dict())
    assert all(torch.equal(masks[name], copies[name]) for name in copies)


def test_a_pruned_weight_that_is_not_zero_is_refused(pruned):
    _, masks, path = pruned
    for value in (1e-30, float("nan")):
        rewritten(path, lambda tensors, value=value: tensors[QKV].view(-1).__setitem__(int((~masks[QKV]).flatten().nonzero()[-1]), value))
        with pytest.raises(SpecError, match=rf"{QKV} has weights that its mask leaves out; allowed: zeros there"):
            load_pruned(path)


def test_a_kept_weight_may_have_any_value(pruned):
    _, masks, path = pruned
    first = int(masks[QKV].flatten().nonzero()[0])
    rewritten(path, lambda tensors: tensors[QKV].view(-1).__setitem__(first, 0.0))
    assert load_pruned(path)[0].get_parameter(QKV).flatten().tolist()[first] == 0.0


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}], ids=str)
def test_a_safetensors_file_of_another_program_is_refused(tmp_path, model, metadata):
    save_file(model.state_dict(), tmp_path / "file", metadata)
    with pytest.raises(SpecError, match="not a file of save_pruned"):
        load_pruned(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100)], ids=["empty", "text", "zip"])
def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SpecError, match="save_pruned"):
        load_pruned(tmp_path / "file")


@pytest.mark.parametrize("name", [QKV, "norm.weight"])
def test_a_file_that_lacks_a_weight_is_refused(pruned, name):
    _, _, path = pruned
    rewritten(path, lambda tensors: [tensors.pop(name), tensors.pop(f"mask.{name}", None)])
    with pytest.raises(SpecError, match=f'Missing key.*"{name}"|the mask of {name} fits no weight'):
        load_pruned(path)
