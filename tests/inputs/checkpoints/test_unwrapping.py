"""Networks wrapped as people save them: each gives the outputs of the module it was saved from, and the note names what is left out."""

import argparse
import logging
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.inputs.checkpoints.support import RESNET, assert_same_outputs, described, drawn, loaded, prefixed, recast, refusal
from tests.support import MICRO

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
