# ruff: noqa: E501  (one case a line)
"""Hostile files in the place of weights."""

import builtins
import ctypes
import gzip
import importlib
import json
import os
import pickle
import runpy
import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import joblib
import numpy as np
import torch
from safetensors.torch import save_file

from tests.faults.malice.cases import HARMLESS, Call, case, code, written
from tests.inputs.checkpoints.support import described, drawn
from vitlib.methods.adapters.peft import CONFIG, WEIGHTS, read_adapters
from vitlib.methods.pruning.masks import load_pruned
from vitlib.papers.comparison.left.forms import description

REFUSED = r"teacher\.origin\.file .*mine\."


def read(path: Path):
    """As a study does that names the file."""
    return described(path.name).pinned(path.parent)


def saved(folder: Path, content, suffix: str = "pth", **options) -> Path:
    torch.save(content, folder / f"mine.{suffix}", **options)
    return folder / f"mine.{suffix}"


def warm(folder: Path) -> None:
    """Have everything imported that reading imports, so that no case is charged for it."""
    read(saved(folder, drawn().state_dict()))


CALLS = {
    "exec": lambda canary: Call(builtins.exec, code(canary)),
    "eval": lambda canary: Call(builtins.eval, code(canary)),
    "os.system": lambda canary: Call(os.system, f"touch {canary}"),
    "subprocess.call": lambda canary: Call(subprocess.call, ["touch", str(canary)]),
    "subprocess.Popen": lambda canary: Call(subprocess.Popen, ["touch", str(canary)]),
    "open": lambda canary: Call(open, str(canary), "w"),
    "pathlib's touch": lambda canary: Call(Path.touch, canary),
    "shutil.copy": lambda canary: Call(shutil.copy, __file__, str(canary)),
    "os.open": lambda canary: Call(os.open, str(canary), os.O_CREAT),
    "a module by name": lambda canary: Call(importlib.import_module, "antigravity"),
    "a path run": lambda canary: Call(runpy.run_path, str(written(canary.with_name("payload.py"), code(canary)))),
    "a C library": lambda canary: Call(ctypes.CDLL, str(canary)),
    "torch.load of another": lambda canary: Call(torch.load, str(canary)),
    "numpy's fromfile": lambda canary: Call(np.memmap, str(canary), "uint8", "w+", 0, (1,)),
}
for called, make_call in CALLS.items():
    case(f"weights: a call of {called} in place of them", read, REFUSED)(
        lambda folder, canary, make_call=make_call: saved(folder, make_call(canary))
    )
for suffix in ("pt", "bin", "ckpt", "tar", "safetensors"):
    case(f"weights: a pickled call under .{suffix}", read, REFUSED)(
        lambda folder, canary, suffix=suffix: written(folder / f"mine.{suffix}", pickle.dumps(Call(builtins.exec, code(canary))))
    )
for protocol in (0, 1, 2, 3, 4, 5):
    case(f"weights: a plain pickle of protocol {protocol}", read, REFUSED)(
        lambda folder, canary, protocol=protocol: written(
            folder / "mine.pt", pickle.dumps({"head.bias": Call(os.system, f"touch {canary}")}, protocol)
        )
    )


@case("weights: a call beside good weights", read, HARMLESS)
def _beside(folder, canary):
    return saved(folder, {"model": drawn().state_dict(), "args": Call(subprocess.call, ["touch", str(canary)])})


@case("weights: a call in torch's older format", read, REFUSED)
def _older(folder, canary):
    return saved(folder, {"model": Call(builtins.exec, code(canary))}, _use_new_zipfile_serialization=False)


@case("weights: opcodes INST, OBJ and BUILD", read, REFUSED)
def _opcodes(folder, canary):
    return written(folder / "mine.pt", b"(S'touch " + str(canary).encode() + b"'\nios\nsystem\n.")


@case("weights: joblib's file", read, REFUSED)
def _joblib(folder, canary):
    joblib.dump({"head.bias": np.ones(3), "call": Call(os.system, f"touch {canary}")}, folder / "mine.pt")
    return folder / "mine.pt"


@case("weights: joblib's compressed file", read, REFUSED)
def _joblib_zlib(folder, canary):
    return written(folder / "mine.pt", zlib.compress(pickle.dumps(Call(os.system, f"touch {canary}"))))


@case("weights: an array of objects", read, REFUSED)
def _objects(folder, canary):
    np.save(folder / "mine.npy", np.array([Call(os.system, f"touch {canary}")], dtype=object), allow_pickle=True)
    return (folder / "mine.npy").rename(folder / "mine.bin")


@case("weights: an npz of arrays of objects", read, REFUSED)
def _npz(folder, canary):
    np.savez(folder / "mine.npz", a=np.array([Call(os.system, f"touch {canary}")], dtype=object))
    return (folder / "mine.npz").rename(folder / "mine.bin")


@case("weights: a TorchScript program", read, REFUSED)
def _script(folder, canary):
    with zipfile.ZipFile(folder / "mine.pt", "w") as archive:
        archive.writestr("mine/data.pkl", pickle.dumps({}))
        archive.writestr("mine/code/__torch__.py", code(canary))
    return folder / "mine.pt"


@case("weights: a zip with a name that climbs out", read, REFUSED)
def _climbing(folder, canary):
    with zipfile.ZipFile(folder / "mine.pt", "w") as archive:
        archive.writestr(f"../../{canary.name}", b"x")
        archive.writestr("mine/data.pkl", pickle.dumps(Call(builtins.exec, code(canary)), 2))
    return folder / "mine.pt"


@case("weights: a zip that unpacks to a thousand times its size", read, REFUSED + ".*would unpack to 128 MiB")
def _zip_bomb(folder, canary):
    saved(folder, drawn().state_dict())
    with zipfile.ZipFile(folder / "mine.pth", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mine/data/99", bytes(2**27))
    return folder / "mine.pth"


@case("weights: a zip that says it unpacks to ten GiB", read, REFUSED + ".*would unpack to 10240 MiB")
def _zip_lie(folder, canary):
    saved(folder, drawn().state_dict())
    with zipfile.ZipFile(folder / "mine.pth", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mine/data/99", b"x")
        archive.infolist()[-1].file_size = 10 * 2**30
    return folder / "mine.pth"


@case("weights: a zip of twenty thousand files", read, REFUSED)
def _many(folder, canary):
    with zipfile.ZipFile(folder / "mine.pth", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"mine/data/{number}", b"")
    return folder / "mine.pth"


@case("weights: one number repeated to a terabyte", read, REFUSED + ".*larger than the file")
def _repeated(folder, canary):
    return saved(folder, drawn().state_dict() | {"norm.bias": torch.zeros(1).expand(2**38)})


@case("weights: positions repeated to a terabyte", read, REFUSED + ".*larger than the file")
def _positions(folder, canary):
    return saved(folder, drawn().state_dict() | {"pos_embed": torch.zeros(1, 1, 1).expand(1, 2**34 + 1, 8)})


@case("weights: tables of tables of themselves", read, REFUSED)
def _laughs(folder, canary):
    content: dict = {"head.bias": torch.ones(3)}
    for _ in range(12):
        content = {f"x{number}": content for number in range(2000)}
    return saved(folder, content)


@case("weights: lists within lists without end", read, REFUSED)
def _deep(folder, canary):
    return written(folder / "mine.pt", b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")


@case("weights: a storage that says it is larger than it is", read, REFUSED)
def _lying(folder, canary):
    path = saved(folder, {"head.bias": torch.ones(3)})
    with zipfile.ZipFile(path) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in files if name.endswith("data.pkl"))
    files[name] = files[name].replace(b"K\x03tq", b"J\xff\xff\xff\x7ftq")
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in files.items():
            archive.writestr(each, content)
    return path


@case("weights: a bytearray of a terabyte", read, REFUSED)
def _bytearray(folder, canary):
    return saved(folder, Call(bytearray, 2**40))


def safetensors(folder: Path, header: bytes | dict, body: bytes = b"", length: int | None = None) -> Path:
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(packed) if length is None else length
    return written(folder / "mine.safetensors", struct.pack("<Q", size) + packed + body)


def tensor(shape=(3,), offsets=(0, 12), dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "names that are code": lambda canary: {f"__import__('os').system('touch {canary}')": tensor()},
    "names that climb out": lambda canary: {f"../../{canary.name}": tensor()},
    "a shape of 2^62 numbers": lambda canary: {"head.bias": tensor((2**31, 2**31))},
    "a shape that overflows": lambda canary: {"head.bias": tensor((2**63, 2))},
    "offsets beyond the file": lambda canary: {"head.bias": tensor(offsets=(0, 2**40))},
    "offsets backwards": lambda canary: {"head.bias": tensor(offsets=(12, 0))},
    "offsets that overlap": lambda canary: {"head.bias": tensor(), "head.weight": tensor()},
    "a type that is code": lambda canary: {"head.bias": tensor(dtype=code(canary))},
    "metadata that is code": lambda canary: {"__metadata__": {"format": code(canary)}, "head.bias": tensor()},
    "metadata that is a list": lambda canary: {"__metadata__": [1], "head.bias": tensor()},
    "a name of a megabyte": lambda canary: {"x" * 2**20: tensor()},
}
for what, header in HEADERS.items():
    case(f"safetensors: {what}", read, REFUSED)(lambda folder, canary, header=header: safetensors(folder, header(canary), bytes(12)))
case("safetensors: a header of 2^63 bytes", read, REFUSED)(lambda folder, canary: safetensors(folder, b"{}", b"", 2**63))
case("safetensors: a header of 99 MB that is not there", read, REFUSED)(lambda folder, canary: safetensors(folder, b"{}", b"", 99_000_000))
case("safetensors: a header nested without end", read, REFUSED)(lambda folder, canary: safetensors(folder, b'{"a":' * 50_000))
case("weights: a gzip bomb", read, REFUSED)(lambda folder, canary: written(folder / "mine.pt", gzip.compress(bytes(2**24))))
case("weights: a web page with a script", read, REFUSED)(
    lambda folder, canary: written(folder / "mine.pt", "<html><script>alert(1)</script></html>")
)


def adapter(path: Path):
    return read_adapters(drawn(), path)


def made_adapter(folder: Path, config: bytes, state: dict) -> Path:
    written(folder / "adapter" / CONFIG, config)
    save_file(state, folder / "adapter" / WEIGHTS)
    return folder / "adapter"


GOOD = b'{"lora_alpha": 4, "alpha_pattern": {}}'
A = "base_model.model.blocks.0.mlp.fc1.lora_A.weight"
ADAPTERS = {
    "settings that are code": (lambda canary: code(canary).encode(), {A: torch.ones(1, 8)}),
    "settings nested without end": (lambda canary: b"[" * 100_000, {A: torch.ones(1, 8)}),
    "a scale that is code": (lambda canary: json.dumps({"lora_alpha": code(canary)}).encode(), {A: torch.ones(1, 8)}),
    "an A without its B": (lambda canary: GOOD, {A: torch.ones(1, 8)}),
    "a layer called __class__": (
        lambda canary: GOOD,
        {f"base_model.model.__class__.lora_{part}.weight": torch.ones(1, 1) for part in "AB"},
    ),
}
for what, (config, state) in ADAPTERS.items():
    case(f"adapter: {what}", adapter, "adapter ")(
        lambda folder, canary, config=config, state=state: made_adapter(folder, config(canary), state)
    )

PRUNED = {
    "a class that is not vitlib's": {"type": "os.system", "model": {}, "build": {}},
    "sizes that are code": {"type": "Vit", "model": {"embed_dim": "__import__('os')"}, "build": {}},
    "arguments nobody takes": {
        "type": "Vit", "model": {"embed_dim": 8, "depth": 1, "num_heads": 2, "patch_size": 4}, "build": {"hook": "x", "image_size": 8, "channels": 1},
    },
    "a list": [1],
}  # fmt: skip


def pruned(folder: Path, told: str) -> Path:
    save_file({"head.bias": torch.ones(3)}, folder / "mine.safetensors", metadata={"vitlib": told})
    return folder / "mine.safetensors"


for what, told in PRUNED.items():
    case(f"pruned model: {what}", load_pruned, "mine|embed_dim|Vit")(lambda folder, canary, told=told: pruned(folder, json.dumps(told)))
case("pruned model: a description nested without end", load_pruned, "mine")(lambda folder, canary: pruned(folder, "[" * 100_000))
case("own model: a description nested without end", description, HARMLESS)(lambda folder, canary: pruned(folder, "[" * 100_000))
