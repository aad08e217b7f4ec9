"""Checkpoints as people have them: each gives the outputs of the module it was saved from, or is refused in one line."""

import argparse
import hashlib
import json
import logging
import os
import pickle
import re
import subprocess
import tarfile
import time
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import swin_transformer
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.testing import assert_close

from tests.support import flip_a_byte
from vitlib import load_study
from vitlib.inputs.checkpoints.reading import WeightsError
from vitlib.inputs.models import ResNet, Timm, Vit, build, classifier_names, load_weights, weights_of
from vitlib.spec import Context, SpecError
from vitlib.teachers.teacher import Checkpoint, Teacher, named

MICRO = Vit(embed_dim=8, depth=2, num_heads=2, patch_size=4)
DISTILLED = MICRO.changed(distilled=True)
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
    context = Context("cpu", data_dir, None, parent=lambda run: None)
    return Teacher(origin=spec.pinned(data_dir)).module(context, **{"image_size": spec.image_size} | options).eval()


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


# ------------------------------------------------------------------------------------------------ what a network is wrapped in

CONTAINERS = [
    "state_dict", "model", "model_state_dict", "net", "network", "ema", "model_ema", "ema_state_dict", "state_dict_ema", "teacher",
    "student", "encoder", "backbone", "module", "params", "weights",
]  # fmt: skip
PREFIXES = ["module.", "_orig_mod.", "backbone.", "encoder.", "model.", "student.", "teacher.", "net.", "vit.", "_orig_mod.module.", "a.b."]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_state_dict_is_found_in_its_container(container, tmp_path):
    module = drawn()
    torch.save({"epoch": 3, container: module.state_dict(), "best": 71.5, "arch": "vit"}, tmp_path / "mine.pth")
    assert_same_outputs(loaded(described(), tmp_path), module)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("model", [MICRO, RESNET], ids=["vit", "resnet"])
def test_a_prefix_before_every_name_is_undone(prefix, model, tmp_path):
    module = drawn(model, image_size=16)
    torch.save(prefixed(prefix, module.state_dict()), tmp_path / "mine.pth")
    spec = described(model=model, image_size=16)
    assert_same_outputs(loaded(spec, tmp_path), module, image_size=16)
    assert spec.pinned(tmp_path).fitted(tmp_path).note == f"teacher.origin.file mine.pth: without prefix {prefix!r}"


LAYOUTS = {  # ways in which scripts save a network; `other` is a second one of the same architecture
    "an ordered state dict": lambda module, state, other: OrderedDict(state),
    "a list of named parameters": lambda module, state, other: list(module.named_parameters()),
    "a table of named parameters": lambda module, state, other: dict(module.named_parameters()),
    "named parameters in a container": lambda module, state, other: {"params": list(module.named_parameters())},
    "containers in containers": lambda module, state, other: {"checkpoint": {"model": {"state_dict": state}}},
    "an optimiser beside it": lambda module, state, other: {"optimizer": stepped(module), "model": state, "epoch": 7},
    "arguments of argparse": lambda module, state, other: {"model": state, "args": argparse.Namespace(rate=1e-3, out=Path("out"))},
    "numbers of numpy": lambda module, state, other: {"model": state, "best": np.float64(81.2), "curve": np.arange(3.0)},
    "a lightning checkpoint": lambda module, state, other: {
        "state_dict": prefixed("model.", state) | {"criterion.weight": torch.ones(3)},
        "callbacks": {"ModelCheckpoint{'mode': 'max'}": {"best_model_path": "x"}},
    },
    "DINO's teacher before its student": lambda module, state, other: {
        "student": prefixed("module.backbone.", other) | {"module.head.mlp.0.weight": torch.ones(3, 8)},
        "teacher": prefixed("backbone.", state) | {"head.mlp.0.weight": torch.ones(3, 8), "head.last_layer.weight_v": torch.ones(5, 3)},
    },
    "a network before its moving average": lambda module, state, other: {"model_ema": other, "model": state},
    "MoCo's query encoder before its key encoder": lambda module, state, other: {
        "state_dict": prefixed("module.encoder_k.", other) | prefixed("module.encoder_q.", state) | {"module.queue": torch.ones(3, 4)}
    },
    "counters of thop": lambda module, state, other: state | {"total_ops": torch.zeros(1), "blocks.0.total_params": torch.zeros(1)},
    "blocks compiled and sharded one by one": lambda module, state, other: prefixed(
        "module.", {re.sub(r"^(blocks\.\d)", r"\1._fsdp_wrapped_module._orig_mod", name): tensor for name, tensor in state.items()}
    ),
    "a compiled module in a distributed one": lambda module, state, other: prefixed("_orig_mod.module.backbone.", state),
}


def stepped(module):
    """State of an optimiser after its first step, at rate 0."""
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.0)
    module(torch.zeros(1, 1, 8, 8)).sum().backward()
    optimiser.step()
    return optimiser.state_dict()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_scripts_save_gives_the_module_it_was_saved_from(layout, tmp_path):
    module = drawn()
    torch.save(LAYOUTS[layout](module, module.state_dict(), drawn().state_dict()), tmp_path / "mine.pth")
    assert_same_outputs(loaded(described(), tmp_path), module)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt", "pth.tar", "safetensors"])
@pytest.mark.parametrize("saved_by", ["torch", "old torch", "safetensors"])
def test_the_format_is_told_by_the_bytes_under_any_suffix(suffix, saved_by, tmp_path):
    module, file = drawn(), tmp_path / f"mine.{suffix}"
    if saved_by == "safetensors":
        save_file(module.state_dict(), file)
    else:
        content = {"state_dict": module.state_dict(), "args": argparse.Namespace(lr=0.1)}
        torch.save(content, file, _use_new_zipfile_serialization=saved_by == "torch")
    assert_same_outputs(loaded(described(file.name), tmp_path), module)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-2), (torch.float64, 1e-6), (torch.float32, 1e-6)], ids=str
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("model", [MICRO, RESNET], ids=["vit", "resnet"])
def test_numbers_of_every_precision_are_read_as_float32_and_counters_stay(dtype, tolerance, suffix, model, tmp_path):
    module = drawn(model, image_size=16)
    state = recast(module.state_dict(), dtype)
    (save_file if suffix == "safetensors" else torch.save)(state, tmp_path / f"mine.{suffix}")
    read = loaded(described(f"mine.{suffix}", model, 16), tmp_path)
    assert_same_outputs(read, module, image_size=16, tolerance=tolerance)
    note = "" if dtype is torch.float32 else f"teacher.origin.file mine.{suffix}: {str(dtype).removeprefix('torch.')} read as float32"
    assert described(f"mine.{suffix}", model, 16).pinned(tmp_path).fitted(tmp_path).note == note
    kinds = {tensor.dtype for tensor in read.state_dict().values()}
    assert kinds == ({torch.float32} if model is MICRO else {torch.float32, torch.int64})


def test_statistics_of_a_resnet_that_never_counted_its_batches_are_taken(tmp_path):
    module = drawn(RESNET, image_size=16)
    torch.save({k: v for k, v in module.state_dict().items() if "num_batches" not in k}, tmp_path / "mine.pth")
    assert_same_outputs(loaded(described(model=RESNET, image_size=16), tmp_path), module, image_size=16)


def test_named_parameters_of_a_network_with_statistics_are_refused_for_what_they_leave_out(tmp_path):
    torch.save(list(drawn(RESNET, image_size=16).named_parameters()), tmp_path / "mine.pth")
    assert "parameters are missing (bn1.running_mean, bn1.running_var" in refusal(described(model=RESNET, image_size=16), tmp_path)


# ------------------------------------------------------------------------------------------------ which network, and what is said


def test_the_key_chooses_between_networks_and_the_note_names_the_others(tmp_path):
    module, average = drawn(), drawn()
    torch.save({"model_ema": average.state_dict(), "model": module.state_dict()}, tmp_path / "mine.pth")
    spec = described()
    assert spec.pinned(tmp_path).fitted(tmp_path).note == (
        "teacher.origin.file mine.pth: took 'model'; also fits: 'model_ema' (origin.key chooses)"
    )
    assert_same_outputs(loaded(spec, tmp_path), module)
    chosen = spec.changed(key="model_ema")
    assert_same_outputs(loaded(chosen, tmp_path), average)
    assert chosen.canonical() != spec.canonical()
    assert refusal(spec.changed(key="ema"), tmp_path).endswith("key 'ema' names no network that fits; allowed: 'model_ema', 'model'")


def test_two_networks_between_which_no_rule_decides_are_refused_until_a_key_does(tmp_path):
    best, last = drawn(), drawn()
    torch.save({"best": best.state_dict(), "last": last.state_dict()}, tmp_path / "mine.pth")
    assert refusal(described(), tmp_path).endswith("holds several networks that fit; say which by origin.key; allowed: 'best', 'last'")
    for key, module in (("best", best), ("last", last)):
        assert_same_outputs(loaded(described(key=key), tmp_path), module)


def test_the_same_network_under_two_names_is_no_choice(tmp_path):
    state = drawn().state_dict()
    torch.save({"model": state, "state_dict": prefixed("module.", state)}, tmp_path / "mine.pth")
    assert described().pinned(tmp_path).fitted(tmp_path).note == "teacher.origin.file mine.pth: took 'model'"


def test_decoder_and_mask_token_of_mae_are_left_out_and_named(tmp_path, caplog):
    module = drawn(num_classes=0)
    decoder = {f"decoder_blocks.0.{name}.weight": torch.ones(2) for name in ("norm1", "norm2")} | {"mask_token": torch.ones(1, 1, 8)}
    torch.save({"model": module.state_dict() | decoder, "epoch": 800}, tmp_path / "mine.pth")
    with caplog.at_level(logging.WARNING, logger="vitlib"):
        spec = described().pinned(tmp_path)
    assert caplog.messages == ["teacher.origin.file mine.pth: took 'model'; left out decoder_blocks.* (2), mask_token"]
    assert_same_outputs(loaded(spec, tmp_path, num_classes=0), module)


def test_a_projection_head_in_the_classifiers_place_is_left_out(tmp_path):
    module = drawn(num_classes=0)
    head = {"head.0.weight": torch.ones(4, 8), "head.1.running_mean": torch.ones(4), "head.3.weight": torch.ones(4, 4)}  # MoCo v3
    torch.save({"state_dict": prefixed("module.base_encoder.", module.state_dict() | head)}, tmp_path / "mine.pth")
    read = loaded(described(), tmp_path)
    assert read.num_classes == 0
    assert_same_outputs(read, module)


def test_a_state_dict_as_timm_saves_it_needs_no_note(tmp_path, caplog):
    torch.save(drawn().state_dict(), tmp_path / "mine.pth")
    assert described().pinned(tmp_path).fitted(tmp_path).note == "" and not caplog.messages


# ------------------------------------------------------------------------------------------------ architectures, sizes, classifiers


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        "test_vit2",
        "test_vit3",
        "test_vit4",
        "test_convnext",
        "test_convnext2",
        "test_resnet",
        "test_byobnet",
        "test_efficientnet",
    ],
)
@pytest.mark.parametrize("classes", [0, 3, 5, None])
def test_a_model_of_timm_keeps_its_classifier_only_for_as_many_classes(name, classes, tmp_path):
    module = timm.create_model(name, num_classes=3).eval()
    torch.save(prefixed("module.", module.state_dict()), tmp_path / "mine.pth")
    spec = described(model=Timm(name=name), image_size=160 if "vit" in name else 96, channels=3)
    read = loaded(spec, tmp_path, num_classes=classes)
    images = torch.randn(2, 3, spec.image_size, spec.image_size)
    with torch.no_grad():
        assert_close(read.forward_head(read.forward_features(images), pre_logits=True), features_of(module, images), rtol=1e-6, atol=1e-6)
        if classes in (3, None):
            assert_close(read(images), module(images), rtol=1e-6, atol=1e-6)
    assert read.num_classes == (3 if classes is None else classes)


def features_of(module, images):
    return module.forward_head(module.forward_features(images), pre_logits=True)


@pytest.mark.parametrize("classes", [None, 5])
def test_a_convnet_saved_without_classifier_keeps_its_norm_and_gets_a_fresh_classifier_only_if_asked(classes, tmp_path):
    module = timm.create_model("test_convnext", num_classes=0).eval()
    nn.init.uniform_(module.head.norm.weight)
    torch.save(module.state_dict(), tmp_path / "mine.pth")
    read = loaded(described(model=Timm(name="test_convnext"), image_size=64, channels=3), tmp_path, num_classes=classes)
    assert read.num_classes == (classes or 0)
    assert torch.equal(read.head.norm.weight, module.head.norm.weight)


@pytest.mark.parametrize("classes", [3, 5])
def test_both_classifiers_of_a_distilled_model_stay_or_go(classes, tmp_path):
    module = drawn(DISTILLED)
    torch.save({"model": module.state_dict()}, tmp_path / "mine.pth")
    read = loaded(described(model=DISTILLED), tmp_path, num_classes=classes)
    same = [torch.equal(getattr(read, head).weight[:3], getattr(module, head).weight) for head in ("head", "head_dist")]
    assert same == [classes == 3] * 2
    if classes == 3:
        assert_same_outputs(read, module)


def test_one_classifier_of_two_or_two_of_different_size_are_refused(tmp_path):
    state = drawn(DISTILLED).state_dict()
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("head_dist")}, tmp_path / "mine.pth")
    assert "2 of 35 parameters are missing (head_dist.bias, head_dist.weight)" in refusal(described(model=DISTILLED), tmp_path)
    torch.save(state | {"head.weight": torch.ones(4, 8), "head.bias": torch.ones(4)}, tmp_path / "mine.pth")
    assert "classifiers of 3 and 4 classes" in refusal(described(model=DISTILLED), tmp_path)


def test_a_distilled_model_and_a_plain_one_do_not_take_each_others_weights(tmp_path):
    torch.save(drawn(DISTILLED).state_dict(), tmp_path / "distilled.pth")
    torch.save(drawn(MICRO).state_dict(), tmp_path / "plain.pth")
    assert "3 are unknown (dist_token, head_dist.weight, head_dist.bias)" in refusal(described("distilled.pth"), tmp_path)
    assert "missing (dist_token" in refusal(described("plain.pth", DISTILLED), tmp_path)


def test_the_norm_before_a_convnets_classifier_is_no_part_of_it():
    assert classifier_names(timm.create_model("test_convnext")) == {"head.fc.weight", "head.fc.bias"}
    assert classifier_names(timm.create_model("test_efficientnet")) == {"classifier.weight", "classifier.bias"}
    assert classifier_names(drawn(RESNET, image_size=16)) == {"fc.weight", "fc.bias"}
    assert len(classifier_names(drawn(DISTILLED))) == 4
    assert classifier_names(drawn(num_classes=0)) == classifier_names(nn.Linear(2, 3)) == set()


@pytest.mark.parametrize(("tokens", "prefix"), [({}, 0), ({"reg_tokens": 2}, 0), ({"reg_tokens": 2, "no_embed_class": False}, 3)])
def test_positions_of_another_size_follow_the_models_own_rule(tokens, prefix):
    """DeiT-III and timm's register models give their prefix tokens no positions; the patches' are interpolated on their grid."""
    small, large = (
        VisionTransformer(image_size, 4, 3, 3, embed_dim=8, depth=1, num_heads=2, **{"no_embed_class": True} | tokens)
        for image_size in (16, 24)
    )
    nn.init.normal_(small.pos_embed)
    load_weights(large, weights_of(small))
    grid = small.pos_embed[:, prefix:].detach().reshape(1, 4, 4, 8).permute(0, 3, 1, 2)
    finer = nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", antialias=True).flatten(2).mT
    assert_close(large.pos_embed, torch.cat([small.pos_embed[:, :prefix].detach(), finer], dim=1))


def test_a_file_of_another_image_and_patch_size_is_taken_and_the_note_says_what_is_resampled(tmp_path):
    module = drawn(image_size=16)
    torch.save(module.state_dict(), tmp_path / "mine.pth")
    spec = described(model=MICRO.changed(patch_size=2), image_size=12)
    assert spec.pinned(tmp_path).fitted(tmp_path).note == (
        "teacher.origin.file mine.pth: pos_embed, patch_embed.proj.weight resampled to the size of the model"
    )
    assert_same_outputs(loaded(spec, tmp_path, image_size=16, patch_size=4), module, image_size=16)


def test_a_swins_relative_positions_are_resampled_as_timm_does():
    small, large = (
        SwinTransformer(img_size=size, patch_size=4, window_size=size // 4, embed_dim=8, depths=(1,), num_heads=(2,), num_classes=3)
        for size in (16, 32)
    )
    load_weights(large, weights_of(small))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of timm's own interpolation
        expected = swin_transformer.checkpoint_filter_fn(small.state_dict(), large)
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    assert small.state_dict()[name].shape == (7 * 7, 2) and expected[name].shape == (15 * 15, 2)
    assert torch.equal(large.state_dict()[name], expected[name])


def test_names_that_timm_knows_from_an_architectures_first_release_are_renamed(tmp_path):
    """DeiT-III calls its layer scale gamma_1; a ViT of the 21k classes has a layer before its classifier that timm drops."""
    module = timm.create_model("test_vit2", num_classes=3).eval()
    state = {re.sub(r"ls(\d)\.gamma", r"gamma_\1", name): tensor for name, tensor in module.state_dict().items()}
    torch.save({"model": state | {"pre_logits.fc.weight": torch.ones(2, 2)}}, tmp_path / "mine.pth")
    spec = described(model=Timm(name="test_vit2"), image_size=160, channels=3)
    assert_same_outputs(loaded(spec, tmp_path), module, image_size=160, channels=3)
    assert spec.pinned(tmp_path).fitted(tmp_path).note == "teacher.origin.file mine.pth: took 'model'; renamed by timm"


def test_another_depth_width_or_number_of_channels_is_refused_with_names_and_shapes(tmp_path):
    torch.save(drawn().state_dict(), tmp_path / "mine.pth")
    assert "12 are unknown (blocks.1.norm1.weight, " in refusal(described(model=MICRO.changed(depth=1)), tmp_path)
    assert "12 of 44 parameters are missing (blocks.2.norm1.weight, " in refusal(described(model=MICRO.changed(depth=3)), tmp_path)
    assert "(cls_token: (1, 1, 8), not (1, 1, 12))" in refusal(described(model=MICRO.changed(embed_dim=12)), tmp_path)
    assert "1 are of another shape or type (patch_embed.proj.weight: (8, 1, 4, 4), not (8, 3, 4, 4))" in refusal(
        described(channels=3), tmp_path
    )
    assert "parameters are missing (conv1.weight" in refusal(described(model=RESNET), tmp_path)


# ------------------------------------------------------------------------------------------------ what is no checkpoint


STRANGERS = {
    "names of Hugging Face transformers": "vit.encoder.layer.0.attention.attention.query.weight",
    "CLIP's names": "vision_model.encoder.layers.0.self_attn.k_proj.weight",
    "an adapter of PEFT": "base_model.model.blocks.0.attn.qkv.lora_A.weight",
    "torchvision's names": "encoder.layers.encoder_layer_0.ln_1.weight",
    "OpenMMLab's names": "backbone.layers.0.ln1.weight",
}


@pytest.mark.parametrize("what", STRANGERS)
def test_names_of_another_library_are_refused_by_its_name(what, tmp_path):
    torch.save({STRANGERS[what]: torch.ones(3), "other.weight": torch.ones(2)}, tmp_path / "mine.pth")
    message = refusal(described(), tmp_path)
    assert f"holds {what}" in message and STRANGERS[what] in message and "names as timm's" in message


class Network(nn.Linear):
    """A user's own class, which no other machine can import."""


CONTENTS = {
    "a whole object of test_checkpoints.Network": lambda: Network(2, 3),
    "a whole object of test_checkpoints.Network in 'model'": lambda: {"model": Network(2, 3), "epoch": 3},
    "a whole object of pathlib": lambda: {"model": Path("/tmp")},
    "one tensor without a name": lambda: torch.ones(3),
    "2 tensors without names": lambda: [torch.ones(3), torch.ones(2)],
    "'epoch', 'args' without tensors": lambda: {"epoch": 3, "args": {"rate": 0.1}},
    "int without tensors": lambda: 3,
}


@pytest.mark.parametrize("what", CONTENTS)
def test_a_content_without_tensors_by_name_is_described(what, tmp_path):
    torch.save(CONTENTS[what](), tmp_path / "mine.pth")
    message = refusal(described(), tmp_path)
    assert f"holds {what}" in message and "save the model's state_dict()" in message


def test_code_in_a_file_is_never_run(tmp_path):
    """What a pickle would call is refused by name, or left aside beside good weights."""
    module, trace = drawn(), tmp_path / "ran"
    calls = {
        "exec": Call(exec, f"open({str(trace)!r}, 'w')"),
        "posix.system": Call(os.system, f"touch {trace}"),
        "aside": Call(subprocess.call, ["touch", str(trace)]),
    }
    for name, call in calls.items():
        torch.save({"model": module.state_dict(), "args": call}, tmp_path / f"{name}.pth")
    for name in ("exec", "posix.system"):
        assert f"it asks for {name}" in refusal(described(f"{name}.pth"), tmp_path)
    assert_same_outputs(loaded(described("aside.pth"), tmp_path), module)
    assert not trace.exists()
    pickle.loads(pickle.dumps(calls["aside"]))
    assert trace.exists(), "the call does something where pickle runs it"


class Call:
    """Pickled as a call, as an attacker's file is."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        function, *arguments = self.call
        return function, tuple(arguments)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state | {"head.bias": torch.tensor([0.0, torch.nan, 0.0])}, "1 parameters hold NaN or infinity (head.bias)"),
        (
            lambda state: recast(state, torch.float64) | {"norm.bias": torch.full((8,), 1e300, dtype=torch.float64)},
            "NaN or infinity (norm.bias)",
        ),
        (lambda state: recast(state, torch.float8_e4m3fn), "(cls_token: float8_e4m3fn, not float32, float16, "),
        (lambda state: recast(state, torch.complex64), "(cls_token: complex64, not float32"),
        (lambda state: state | {"norm.bias": torch.ones(8, dtype=torch.int8)}, "(norm.bias: (8,) of whole numbers, not (8,))"),
        (lambda state: state | {"norm.bias": torch.ones(8).to_sparse()}, "(norm.bias: sparse_coo, not float32"),
        (lambda state: state | {"norm.bias": torch.ones(8, device="meta")}, "(norm.bias: meta, not float32"),
        (lambda state: state | {"head.weight": torch.ones(1, 8), "head.bias": torch.tensor(1.0)}, "(head.bias: (), not (1,))"),
        (lambda state: state | {"head.weight": torch.ones(0, 8), "head.bias": torch.ones(0)}, "classifiers of 0 classes"),
        (lambda state: state | {"head.weight": torch.ones(4, 8)}, "classifiers of 3 and 4 classes"),
        (lambda state: state | {"extra.weight": torch.ones(8)}, "1 are unknown (extra.weight)"),
    ],
)
def test_numbers_that_are_none_or_not_understood_are_refused(change, said, tmp_path):
    torch.save(change(drawn().state_dict()), tmp_path / "mine.pth")
    assert said in refusal(described(), tmp_path)


def damaged(kind, file, module):
    """Write what lies on disks under the name of a checkpoint."""
    torch.save({"model": module.state_dict()}, file)
    packed = file.read_bytes()
    texts = {
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 346\n",
        "a web page": b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>",
        "empty (0 bytes)": b"",
        "text, 'see the README": b"see the README for the weights\n",
        "the index of a checkpoint": json.dumps({"metadata": {}, "weight_map": {"head.bias": "model-00001-of-00002.safetensors"}}).encode(),
        "the settings of an adapter": json.dumps({"peft_type": "LORA", "r": 8}).encode(),
        "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "a gzip archive": b"\x1f\x8b\x08" + bytes(100),
        "a damaged or truncated archive": packed[: len(packed) // 2],
        "not loadable as plain tensors": bytes(range(128, 256)) * 8,
        "not loadable as plain tensors ": pickle.dumps({"head.bias": [1.0]}),
    }
    if kind in texts:
        file.write_bytes(texts[kind])
    elif kind == "an npz archive":
        with file.open("wb") as stream:
            np.savez(stream, kernel=np.ones(3))
    elif kind == "a zip archive of 1 files":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model.pth", packed)
    elif kind == "a tar archive":
        with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as archive:
            archive.add(__file__, "model.pth")


DAMAGES = [
    "a Git LFS pointer", "a web page", "empty (0 bytes)", "text, 'see the README", "the index of a checkpoint",
    "the settings of an adapter",
    "an HDF5 file", "a gzip archive", "a damaged or truncated archive", "not loadable as plain tensors", "not loadable as plain tensors ",
    "an npz archive", "a zip archive of 1 files", "a tar archive",
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_what_is_no_checkpoint_is_named(kind, suffix, tmp_path):
    damaged(kind, tmp_path / f"mine.{suffix}", drawn())
    assert kind.strip() in refusal(described(f"mine.{suffix}"), tmp_path)


def test_truncated_safetensors_and_a_folder_are_refused(tmp_path):
    save_file(drawn().state_dict(), tmp_path / "mine.safetensors")
    packed = (tmp_path / "mine.safetensors").read_bytes()
    for length in (4, 9, 200, len(packed) - 1):
        (tmp_path / "mine.safetensors").write_bytes(packed[:length])
        refusal(described("mine.safetensors"), tmp_path)
    (tmp_path / "mine.pth").mkdir()
    assert "is a folder, not a file" in refusal(described(), tmp_path)


def test_a_flipped_bit_in_a_number_is_seen_by_its_checksum_where_there_is_one(tmp_path):
    """torch.load reads such a file without a word."""
    module, file = drawn(), tmp_path / "mine.pth"
    torch.save(module.state_dict(), file)
    packed, number = bytearray(file.read_bytes()), module.norm.bias.detach().numpy().tobytes()
    packed[packed.index(number) + 3] ^= 1
    file.write_bytes(packed)
    assert not torch.equal(torch.load(file)["norm.bias"], module.norm.bias)
    assert "is a damaged or truncated archive (BadZipFile: Bad CRC-32 for file 'mine/data/" in refusal(described(), tmp_path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(module.state_dict(), file)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_same_outputs(loaded(described(), tmp_path), module)


@pytest.mark.parametrize("form", ["zip", "old torch", "safetensors"])
def test_flipped_and_missing_bytes_give_a_model_or_a_refusal(form, tmp_path):
    """Where a flip fell into a number, the model of that number; never another kind of error."""
    generator, file = np.random.default_rng(0), tmp_path / ("mine.safetensors" if form == "safetensors" else "mine.pth")
    state, refused = drawn().state_dict(), 0
    for trial in range(50):
        if form == "safetensors":
            save_file(state, file)
        else:
            torch.save({"model": state}, file, _use_new_zipfile_serialization=form == "zip")
        for _ in range(1 + trial % 3):
            flip_a_byte(file, generator)
        if trial % 2:
            os.truncate(file, int(generator.integers(file.stat().st_size)))
        try:
            described(file.name).pinned(tmp_path)
        except WeightsError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused >= 25


# ------------------------------------------------------------------------------------------------ in a study


def study_of(origin, tmp_path, **settings):
    teachers = {name: {"origin": origin} for name in ("supervised", "dino")}
    places = {"data_dir": str(tmp_path), "results_dir": str(tmp_path / "results"), "device": "cpu"}
    return load_study("afr_pruning", "smoke", overrides={"teachers": teachers} | settings, **places)


FIELDS = {"file": "mine.pth", "model": MICRO.model_dump(), "image_size": 8, "mean": [0.3] * 3, "std": [0.4] * 3}


def test_a_study_starts_from_a_checkpoint_wrapped_as_it_comes(tmp_path, caplog):
    torch.save({"epoch": 3, "model_state_dict": prefixed("module.", drawn(channels=3).state_dict())}, tmp_path / "mine.pth")
    with caplog.at_level(logging.WARNING, logger="vitlib"):
        study = study_of(FIELDS, tmp_path)
    assert set(caplog.messages) == {"teacher.origin.file mine.pth: took 'model_state_dict'; without prefix 'module.'"}
    spec = study.cells[0].spec
    assert spec.teacher.origin.sha256 == hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()


def test_a_study_with_a_bad_checkpoint_is_refused_before_anything_is_computed_or_written(tmp_path):
    torch.save({"model": {"wrong.weight": torch.ones(3)}}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=r"mine\.pth: does not fit the model: 30 of 32 parameters are missing .* 1 are unknown"):
        study_of(FIELDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.pth"]


def test_stored_results_are_shown_where_the_checkpoint_is_absent_but_pinned(tmp_path):
    study = study_of(FIELDS | {"sha256": "0" * 64}, tmp_path)
    assert study.status()["state"].unique().tolist() == ["missing"]
    with pytest.raises(WeightsError, match="no such file; put the file there"):
        study_of(FIELDS, tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        study.execute()


def test_a_pinned_checkpoint_that_has_changed_is_refused_when_the_study_is_loaded(tmp_path):
    torch.save(drawn(channels=3).state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="expected 000000000000: the file was changed or damaged"):
        study_of(FIELDS | {"sha256": "0" * 64}, tmp_path)


def test_a_model_of_timm_may_be_text_and_brings_its_image_size_and_normalisation(tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), tmp_path / "mine.pth")
    sets = {"generic": {"digits": {"image_size": 16}}, "fine": {"few": {"image_size": 16}}}  # its patches have 16 px
    origin = study_of({"file": "mine.pth", "model": "test_vit"}, tmp_path, **sets).settings.teachers["dino"].origin
    assert origin.model == Timm(name="test_vit")
    assert (origin.image_size, origin.mean, origin.std) == (160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    given = study_of({"file": "mine.pth", "model": {"name": "test_vit.r160_in1k"}, "mean": [0.1, 0.2, 0.3]}, tmp_path, **sets)
    assert given.settings.teachers["dino"].origin.mean == (0.1, 0.2, 0.3)
    run = {"model": {"name": "test_vit.r160_in1k"}, "data": {"source": "digits", "image_size": 8}}
    assert named(run) == run, "a pretraining run keeps its fields"
    untrained = study_of({"model": "test_vit", "image_size": 64}, tmp_path, **sets).settings.teachers["dino"].origin
    assert (type(untrained).__name__, untrained.image_size) == ("Untrained", 64)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"file": "mine.pth", "model": "test_vitt"}, "model.name: got 'test_vitt'; did you mean 'test_vit'?"),
        ({"file": "mine.pth", "model": {"name": "test_vit.nope"}}, "model.name: got 'test_vit.nope'"),
        (FIELDS | {"model": 3}, "teachers.dino.origin.model: got 3; Input should be an object"),
        (FIELDS | {"model": FIELDS["model"] | {"dpth": 3}}, "teachers.dino.origin.model.dpth: unknown field; did you mean 'depth'?"),
        (FIELDS | {"model": FIELDS["model"] | {"num_heads": 3}}, "teachers.dino.origin.model: num_heads=3 does not divide embed_dim=8"),
        (
            FIELDS | {"model": {"name": "test_vit.r160_in1k", "pretrained": True}},
            "teachers.dino.origin.model: pretrained = true beside a file",
        ),
        (FIELDS | {"file": "mine.onnx"}, "teachers.dino.origin.file: got 'mine.onnx'; allowed: a path below data_dir that ends in .saf"),
        ({"file": "mine.onnx", "model": "test_vit"}, "teachers.dino.origin.file: got 'mine.onnx'; allowed: a path below data_dir"),
        (FIELDS | {"keys": "ema"}, "teachers.dino.origin.keys: unknown field; did you mean 'key'? allowed: file, image_size, key, mean, "),
    ],
)
def test_a_checkpoint_described_wrongly_is_refused_for_what_is_wrong_alone(fields, said, tmp_path):
    with pytest.raises(SpecError) as refused:
        load_study("afr_pruning", "smoke", overrides={"teachers": {"dino": {"origin": fields}}}, data_dir=str(tmp_path))
    assert str(refused.value).startswith(said) and len(str(refused.value).splitlines()) == 1
