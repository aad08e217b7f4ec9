"""A module becomes one file that gives its logits, in silence, or no file at all."""

import copy
import logging
import sys

import numpy as np
import onnx
import pytest
import timm
import torch

from vitlib.deploy import export as export_module
from vitlib.deploy import needed
from vitlib.deploy.export import agreement, export, logits_of
from vitlib.deploy.int8 import quantise
from vitlib.deploy.session import OnnxModel
from vitlib.inputs.models import ResNet, build
from vitlib.spec import SpecError

SIZES = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "in_chans": 1, "num_classes": 4}


def pictures(count, channels=1, side=16):
    return np.random.default_rng(0).normal(size=(count, channels, side, side)).astype(np.float32)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", drop_rate=0.5, **SIZES).train()


@pytest.fixture(scope="module")
def file(module, tmp_path_factory):
    """Of a module in training mode, with dropout."""
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    export(module, path, pictures(5), {"classes": "a\nb"})
    return path


def evaluated(module):
    return copy.deepcopy(module).eval()


@pytest.mark.parametrize("count", [1, 7, 100])
def test_logits_are_the_modules_in_eval_mode_whatever_the_batch(count, module, file):
    found = agreement(evaluated(module), OnnxModel(file), pictures(count))
    assert found.file.shape == (count, 4) and found.largest < 1e-5 and found.changed == 0


def test_the_module_is_left_as_it_was(module, file):
    assert module.training and all(parameter.requires_grad for parameter in module.parameters())


def test_one_file_holds_all_and_says_what_it_was_told(file):
    assert [path.name for path in file.parent.iterdir()] == ["x.onnx"]
    model = onnx.load(file, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props}["classes"] == "a\nb"
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param and [size.dim_value for size in shape[1:]] == [1, 16, 16]


def test_a_file_holds_its_weights_and_nothing_of_the_machine_that_it_was_written_on(module, file):
    packed = file.read_bytes()
    for place in (sys.prefix, timm.__file__.rpartition("/")[0], str(file.parent)):
        assert place.encode() not in packed
    weights = 4 * sum(parameter.numel() for parameter in module.parameters())
    assert len(packed) < weights + 50_000


def test_a_convnet_gives_the_logits_of_its_running_statistics(tmp_path):
    torch.manual_seed(0)
    net = build(ResNet(width=8, blocks=(1, 1, 1, 1)), image_size=8, channels=1, num_classes=10)
    net.train()(torch.randn(64, 1, 8, 8) * 2 + 1)
    images = pictures(100, side=8)
    export(net, tmp_path / "x.onnx", images)
    expected, session = logits_of(net.eval(), images), OnnxModel(tmp_path / "x.onnx")
    for count in (1, 7, 100):
        assert np.abs(session.logits(images[:count]) - expected[:count]).max() < 1e-4


class Otherwise(torch.nn.Module):
    """Gives the exporter other logits than anybody else."""

    def forward(self, images):
        return images.flatten(1)[:, :3] * (2.0 if torch.compiler.is_exporting() else 1.0)


def test_a_file_with_other_logits_is_not_written(tmp_path):
    (tmp_path / "x.onnx").write_text("of before")
    with pytest.raises(SpecError, match=r"differ by up to \d.* on 5 images; allowed: at most 0.001; x.onnx was not written"):
        export(Otherwise(), tmp_path / "x.onnx", pictures(5))
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"] and (tmp_path / "x.onnx").read_text() == "of before"


class Untraceable(torch.nn.Module):
    """Decides by the values of its images, which no graph can."""

    def forward(self, images):
        return images.flatten(1)[:, :3] * (2.0 if float(images.sum()) > 0 else 1.0)


def test_what_cannot_be_traced_is_refused_in_a_line(tmp_path, capfd):
    with pytest.raises(SpecError, match="onnx: torch cannot write this Untraceable") as refused:
        export(Untraceable(), tmp_path / "x.onnx", pictures(2))
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_what_does_not_fit_into_one_file_is_refused(module, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "LARGEST", 10_000)
    with pytest.raises(SpecError, match=r"onnx: VisionTransformer has 0\.0 GB of weights; allowed: below"):
        export(module, tmp_path / "x.onnx", pictures(2))


def test_nothing_is_said_and_the_log_is_as_before(module, tmp_path, capfd):
    handlers, level = list(logging.getLogger().handlers), logging.root.manager.disable
    export(module, tmp_path / "x.onnx", pictures(5))
    quantise(tmp_path / "x.onnx", tmp_path / "x.int8.onnx")
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger().handlers, logging.root.manager.disable) == (handlers, level)


def test_weights_of_eight_bits_are_within_a_step_of_each_channels_range(module, file, tmp_path):
    quantise(file, tmp_path / "x.int8.onnx")
    model = onnx.load(tmp_path / "x.int8.onnx")
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    stored = {name: array for name, array in arrays.items() if array.dtype == np.int8}
    matrices = [evaluated(module).blocks[block].mlp.fc1.weight.detach().numpy() for block in range(2)]
    found = [array for array in stored.values() if array.shape == (24, 96)]
    assert len(found) == 2
    for whole, weight in zip(found, matrices, strict=True):
        step = np.abs(weight).max(axis=1) / 127
        assert np.abs(whole.T * step[:, None] - weight).max() <= 0.51 * step.max()
    for count in (1, 7, 100):
        assert agreement(evaluated(module), OnnxModel(tmp_path / "x.int8.onnx"), pictures(count)).largest < 0.1
    assert {entry.key: entry.value for entry in model.metadata_props}["classes"] == "a\nb"


@pytest.mark.parametrize("name", needed.NEEDED)
def test_without_the_extra_it_is_said_what_installs_it(name, monkeypatch, module, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SpecError, match=rf"onnx: {name} not installed; allowed: after pip install 'vitlib\[deploy\]'"):
        export(module, tmp_path / "x.onnx", pictures(1))
