"""What leaves in ONNX gives the model's logits where neither vitlib nor torch is, whichever way the model was made."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import timm
import torch

import vitlib
from tests.compress.conftest import network
from vitlib.deploy.two_of_four import on_sparse_units
from vitlib.methods.pruning.masks import prunable
from vitlib.spec import SpecError

TUNING = {"finetune": {"epochs": 1, "batch_size": 6}}
ALONE = """
import json, sys, numpy, onnxruntime
lines, asked, told = sys.argv[1:]
for count, file in json.loads(told).items():
    names = {"images": numpy.load(asked)[:int(count)], "onnxruntime": onnxruntime}
    exec(lines, names)
    numpy.save(file, names["logits"])
assert not {"vitlib", "torch", "timm"} & set(sys.modules)
"""


def told_by_onnx_runtime_alone(lines, images, folder):
    """Logits of the first 1, 7 and 100 images in a process of its own."""
    np.save(folder / "images.npy", images)
    files = {count: folder / f"{count}.npy" for count in (1, 7, 100)}
    told = json.dumps({count: str(file) for count, file in files.items()})
    subprocess.run([sys.executable, "-c", ALONE, lines, str(folder / "images.npy"), told], check=True, timeout=120)
    return {count: np.load(file) for count, file in files.items()}


def distilled(student, teachers, method, photos, places, **more):
    return vitlib.distill(student, photos, teachers, method, image_size=32, **more, **places)


def two_teachers(photos, places):
    teacher = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2)
    return distilled("test_vit", [teacher, teacher], "two-teachers", photos, places, lambda_2=0.5, **TUNING)


def with_registers(photos, places):
    torch.manual_seed(0)
    return vitlib.prune(timm.create_model("test_vit2", img_size=32), photos, sparsity=0.5, **places)


KINDS = {
    "DeiT's two heads": lambda photos, places: distilled("deit_tiny_distilled_patch16_224", [network()], "deit", photos, places, **TUNING),
    "one teacher": lambda photos, places: distilled("test_vit", [network()], "one-teacher", photos, places, **TUNING),
    "two teachers": two_teachers,
    "each other": lambda photos, places: distilled("test_vit", [], "multi", photos, places),
    "registers": with_registers,
}


@pytest.mark.parametrize("kind", ["pruned", "halved", *KINDS])
def test_onnx_runtime_alone_repeats_the_logits_of_every_kind(kind, photos, places, request, tmp_path):
    compressed = KINDS[kind](photos, places) if kind in KINDS else replace(request.getfixturevalue(kind))
    file = compressed.save_onnx(tmp_path / "x.onnx")
    images = np.random.default_rng(0).normal(size=(100, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = compressed.model(torch.from_numpy(images)).numpy()
    for count, logits in told_by_onnx_runtime_alone(compressed.how_to_load(str(file)), images, tmp_path).items():
        assert np.abs(logits - expected[:count]).max() < 1e-4
    assert compressed.summary()["ONNX largest |Δlogit|"].iloc[-1] < 1e-4


@pytest.fixture
def again(pruned):
    """The pruned model, before anything was exported."""
    return replace(pruned)


def test_the_summary_says_how_the_file_fared_beside_the_model(again, tmp_path):
    file = again.save_onnx(tmp_path / "x.onnx")
    before, after = again.summary().to_dict("records")
    assert after["ONNX MB"] == file.stat().st_size / 1e6 and np.isnan(before["ONNX MB"])
    assert (after["ONNX Δtop-1 points"], after["compared photos"]) == (0, 6)
    assert f"{after['ONNX largest |Δlogit|']:.1e}" in repr(again)
    assert {entry.key: entry.value for entry in onnx.load(file).metadata_props}["classes"] == "ant\nbee\ncat"


def test_a_file_of_eight_bits_has_an_accuracy_of_its_own(again, tmp_path):
    again.save_onnx(tmp_path / "x.int8.onnx", int8=True)
    row = again.summary().iloc[-1]
    assert "ONNX MB" not in row
    assert row["int8 top-1 %"] - row["top-1 %"] == pytest.approx(row["int8 Δtop-1 points"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.int8.onnx"]


def test_of_weights_pruned_two_of_four_no_four_neighbours_have_three(photos, places):
    pruned = vitlib.prune(network(), photos, sparsity=0.5, threshold="2:4", **places)
    masks = [weight.detach().reshape(-1, 4) != 0 for weight in prunable(pruned.model).values()]
    assert len(masks) == 16 and all((mask.sum(dim=1) <= 2).all() for mask in masks)
    if not torch.cuda.is_available():
        with pytest.raises(SpecError, match="device: no CUDA device; allowed"):
            on_sparse_units(pruned.model)


def test_another_suffix_is_refused_and_so_is_a_machine_without_the_extra(pruned, tmp_path, monkeypatch):
    with pytest.raises(SpecError, match=r"save_onnx: got 'x.pt'; allowed: a name that ends in .onnx"):
        pruned.save_onnx(tmp_path / "x.pt")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SpecError, match=r"onnxruntime not installed; .* pip install 'vitlib\[deploy\]'"):
        pruned.save_onnx(tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
