"""A model and photos in, a plain timm model and the numbers before and after out."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import vitlib
from tests.compress.conftest import network
from vitlib.compress import call
from vitlib.papers.dual_ssl_kd.specs import Joint
from vitlib.runs.executors import inline
from vitlib.runs.workers import one

MATRICES = 4 * (24 * 72 + 24 * 24 + 24 * 96 + 96 * 24)  # weights of qkv, proj, fc1 and fc2 in four blocks
ALONE = """
import json, sys, numpy, timm, torch
line, asked, told = sys.argv[1:]
images = torch.from_numpy(numpy.load(asked))
with torch.inference_mode():
    numpy.save(told, eval(line).eval()(images).numpy())
assert "vitlib" not in sys.modules
"""


def test_photos(compressed):
    """The test photos, read by Pillow alone and normalised as the model says, and their labels."""
    root = compressed.place.data_dir / compressed.run.data.source.removeprefix("folder/") / "test"
    files = sorted(root.glob("*/*.png"), key=lambda path: (path.parent.name, path.name))
    mean, std = (np.array(compressed.model.pretrained_cfg[name]) for name in ("mean", "std"))
    pictures = np.stack([(np.asarray(Image.open(file)) / 255 - mean) / std for file in files])
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2)).float(), [["ant", "bee", "cat"].index(file.parent.name) for file in files]


test_photos.__test__ = False


def told_by_timm_alone(compressed, tmp_path, images):
    """Logits of the saved file in a process without vitlib, loaded by the line that is given."""
    file = compressed.save(tmp_path / "x.safetensors")
    np.save(tmp_path / "images.npy", images.numpy())
    arguments = [compressed.how_to_load(str(file)), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", ALONE, *arguments], check=True, timeout=120)
    return np.load(tmp_path / "logits.npy")


@pytest.mark.parametrize("which", ["pruned", "halved"])
def test_timm_alone_repeats_the_logits_and_the_accuracy(which, request, tmp_path):
    compressed = request.getfixturevalue(which)
    images, labels = test_photos(compressed)
    with torch.inference_mode():
        logits = compressed.model(images).numpy()
    alone = told_by_timm_alone(compressed, tmp_path, images)
    assert np.abs(alone - logits).max() < 1e-5
    right = np.mean(alone.argmax(axis=1) == labels)
    assert 100 * right == pytest.approx(compressed.summary()["top-1 %"].iloc[-1])
    assert 100 * right == pytest.approx(compressed.stored[compressed.run.id].metrics["top1"])


def test_zeros_are_as_many_as_asked_for(pruned, tmp_path):
    weights = load_file(pruned.save(tmp_path / "x.safetensors"))
    assert not [name for name in weights if "mask" in name]
    zeros = sum(int((tensor == 0).sum()) for name, tensor in weights.items() if name.startswith("blocks") and tensor.ndim == 2)
    assert zeros == MATRICES - round(0.1 * MATRICES)
    before, after = pruned.summary().to_dict("records")
    assert before["parameters"] == after["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert before["MACs"] == after["MACs"] and after["non-zero"] < before["non-zero"]


def test_a_packed_file_is_smaller_than_the_dense_model_and_holds_the_same(pruned, tmp_path):
    dense, packed = pruned.save(tmp_path / "x.safetensors"), pruned.save(tmp_path / "x.npz")
    assert packed.stat().st_size < dense.stat().st_size / 2
    with np.load(packed) as arrays:
        assert {name: array.tobytes() for name, array in arrays.items()} == {
            name: tensor.numpy().tobytes() for name, tensor in load_file(dense).items()
        }
    names = {"timm": timm, "torch": torch, "numpy": np}
    exec(pruned.how_to_load(str(packed)), names)
    assert torch.equal(names["model"].blocks[0].attn.qkv.weight, pruned.model.blocks[0].attn.qkv.weight)


def test_half_of_the_blocks_are_left(halved):
    assert len(halved.model.blocks) == 2 and not halved.model.training
    before, after = halved.summary().to_dict("records")
    block = 24 * 72 + 72 + 24 * 24 + 24 + 24 * 96 + 96 + 96 * 24 + 24 + 4 * 24
    assert before["parameters"] - after["parameters"] == 2 * block
    assert "depth=2" in halved.how_to_load()


def test_intervals_are_wilsons(pruned):
    row = pruned.summary().iloc[-1]
    n, share, z = row["test photos"], row["top-1 %"] / 100, 1.959963984540054
    centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert (row["low"], row["high"]) == pytest.approx([100 * (centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1)])


def test_a_second_call_computes_nothing(pruned, photos, places, monkeypatch):
    monkeypatch.setattr(inline, "compute_one", lambda *_, **__: pytest.fail("computed"))
    again = vitlib.prune(network(), str(photos), sparsity=0.9, **places)
    pd.testing.assert_frame_equal(again.summary(), pruned.summary())


def test_a_killed_call_goes_on_with_what_is_stored(photos, places, monkeypatch):
    computed, compute = [], one.result_of

    def kill_second(spec, context):
        if len(computed) == 1:
            raise KeyboardInterrupt
        computed.append(spec.id)
        return compute(spec, context)

    monkeypatch.setattr(one, "result_of", kill_second)
    with pytest.raises(KeyboardInterrupt):
        vitlib.prune(network(), photos, sparsity=0.5, seed=7, **places)
    monkeypatch.setattr(one, "result_of", lambda spec, context: computed.append(spec.id) or compute(spec, context))
    vitlib.prune(network(), photos, sparsity=0.5, seed=7, **places)
    assert len(computed) == len(set(computed)) == 6


@pytest.mark.parametrize(("student", "teachers", "method"), [
    ("deit_tiny_distilled_patch16_224", 1, "deit"), ("vit_tiny_patch16_224", 1, ""), ("vit_tiny_patch16_224", 0, ""),
])  # fmt: skip
def test_students_are_taken_away_whichever_way_they_were_taught(student, teachers, method, photos, places, tmp_path):
    tuning = {"finetune": {"epochs": 1, "batch_size": 6}} if teachers else {}
    taught = vitlib.distill(student, photos, [network()] * teachers, method, image_size=32, **tuning, **places)
    images, labels = test_photos(taught)
    model = eval(taught.how_to_load(str(taught.save(tmp_path / "x.safetensors"))), {"timm": timm}).eval()
    with torch.inference_mode():
        guesses = model(images).numpy().argmax(axis=1)
    assert 100 * np.mean(guesses == labels) == pytest.approx(taught.summary()["top-1 %"].iloc[-1])
    assert list(taught.summary()["model"])[-2:] in (["student alone", "student distilled"], ["alone", "multi-distilled"])


def test_two_teachers_train_along(photos, places):
    teacher = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2)
    tuning = {"finetune": {"epochs": 1, "batch_size": 6}}
    taught = vitlib.distill("vit_tiny_patch16_224", photos, [teacher, teacher], lambda_2=0.5, image_size=32, **tuning, **places)
    assert isinstance(taught.run, Joint) and taught.run.lambda_2 == 0.5
    assert len(taught.summary()) == 4 and len(taught.model.blocks) == 12


def test_attention_distances_of_several_models(pruned, photos, places, tmp_path):
    own = {name: places[name] for name in ("results_dir", "device")}
    found = vitlib.attention_distance({"mine": network(), "pruned": pruned.model}, photos, images=4, **own)
    assert list(found.summary().groupby("model").size()) == [4, 4]
    assert {line.get_label() for line in found.figure().axes[0].containers} == {"mine", "pruned"}
    assert found.save(tmp_path / "x.png").stat().st_size > 1000 and len(pd.read_csv(found.save(tmp_path / "x.csv"))) == 8


def test_a_saved_file_says_its_classes_and_how_it_is_loaded(halved, tmp_path):
    from safetensors import safe_open

    with safe_open(halved.save(tmp_path / "x.safetensors"), "np") as file:
        said = file.metadata()
    assert said["classes"].split("\n") == ["ant", "bee", "cat"] and said["load"].startswith("timm.create_model(")
    assert json.loads(said["vitlib"])["model"]["depth"] == 2


def test_notes_state_the_recipe_and_what_was_given(pruned):
    assert "1 epochs of 24 photos, batch 6" in pruned.notes[1] and "given: epochs=1, batch_size=6" in pruned.notes[1]
    assert "6 of 30 photos" in pruned.notes[0]
    assert "afr 90 %" in repr(pruned)


def test_the_figure_has_a_bar_for_each_model_in_each_panel(pruned):
    panels = pruned.figure().axes
    assert [len(panel.patches) for panel in panels] == [2] * 5
    assert [bar.get_width() for bar in panels[1].patches] == list(pruned.summary()["non-zero"] / 1e6)


def test_sets_too_large_to_hold_are_streamed(photos, places, monkeypatch, tmp_path):
    monkeypatch.setattr(call, "LARGEST", 0)
    streamed = vitlib.prune(network(), photos, sparsity=0.5, **places | {"results_dir": tmp_path})
    assert not streamed.run.data.resident and streamed.model.pretrained_cfg["crop_pct"] == 0.875
    assert streamed.summary()["test photos"].tolist() == [6, 6]
