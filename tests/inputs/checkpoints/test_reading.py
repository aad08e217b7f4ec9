"""What is no checkpoint, or a damaged one, is refused in one line, and code in a file is never run."""

import json
import os
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.inputs.checkpoints.support import assert_same_outputs, described, drawn, loaded, recast, refusal
from tests.support import flip_a_byte
from vitlib.inputs.checkpoints.reading import WeightsError

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
    f"a whole object of {__name__}.Network": lambda: Network(2, 3),
    f"a whole object of {__name__}.Network in 'model'": lambda: {"model": Network(2, 3), "epoch": 3},
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
