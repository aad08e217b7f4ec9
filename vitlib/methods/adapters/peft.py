"""Adapters in the file format of PEFT: adapter_config.json and adapter_model.safetensors, which its `PeftModel.from_pretrained` reads.

PEFT adapts whole linear layers, so the adapters of q, k and v become one of three times their rank: the A stacked, the B on the
diagonal of blocks. Its scale is alpha / rank; both are written for each layer, in `rank_pattern` and `alpha_pattern`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitlib.methods.adapters.lora import ADAPTED, LoraLinear, adapters
from vitlib.spec import SpecError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."


def write_adapters(model: nn.Module, folder: Path | str) -> Path:
    """Save the adapters of a model, relative to the weights that they were attached to; returns the folder.

    A layer that started shifted is `W - B0 A0 + B A`: its adapter against W has twice the rank.

    Raises:
        SpecError: if the model has no adapters.
    """
    layers = {name: _unshifted(layer) for name, layer in adapters(model)}
    if not layers:
        raise SpecError("model: got one without adapters; attach them first")
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.a.detach().flatten(0, 1).cpu().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = torch.block_diag(*layer.b.detach()).cpu().contiguous()
    ranks = {name: layer.a.shape[0] * layer.a.shape[1] for name, layer in layers.items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    alphas = {name: layers[name].scale * rank for name, rank in ranks.items()}
    (folder / CONFIG).write_text(json.dumps(_config(ranks, alphas), indent=2) + "\n")
    return folder


def read_adapters(model: nn.Module, folder: Path | str) -> None:
    """Attach the adapters of a folder to the plain model that they belong to.

    Raises:
        SpecError: if a layer is absent or of another shape, or an adapter of the fused qkv mixes q, k and v.
    """
    folder = Path(folder)
    config, tensors = _read(folder)
    for key in [key for key in tensors if key.endswith(".lora_A.weight")]:
        name = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        a, b = tensors[key], tensors.get(key.replace("lora_A", "lora_B"))
        alpha = config["alpha_pattern"].get(name, config["lora_alpha"])
        if b is None or not isinstance(alpha, int | float):
            raise SpecError(f"adapter of {name}: no B beside its A, or alpha={alpha!r}; allowed: a folder that PEFT wrote")
        model.set_submodule(name, _layer(model, name, a, b, alpha / len(a)))


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config, tensors = json.loads((folder / CONFIG).read_text(encoding="utf-8")), load_file(folder / WEIGHTS)
        read = {"lora_alpha": float(config["lora_alpha"]), "alpha_pattern": dict(config.get("alpha_pattern") or {})}
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise SpecError(f"adapter {folder}: cannot be read ({type(error).__name__}: {error}); allowed: a folder that PEFT wrote") from None
    return read, tensors


def _layer(model: nn.Module, name: str, a: Tensor, b: Tensor, scale: float) -> LoraLinear:
    parts = next((parts for layer, parts in ADAPTED.items() if name.endswith(layer)), 1)
    try:
        base = model.get_submodule(name)
        layer = LoraLinear(base, parts, len(a) // parts, scale)
        layer.a.data.copy_(a.unflatten(0, layer.a.shape[:2]))
        layer.b.data.copy_(torch.stack([rows.chunk(parts, dim=1)[part] for part, rows in enumerate(b.chunk(parts))]))
    except (AttributeError, RuntimeError) as error:
        raise SpecError(f"adapter of {name}: A {tuple(a.shape)}, B {tuple(b.shape)} does not fit the model; {error}") from None
    if not torch.equal(torch.block_diag(*layer.b.data), b.to(layer.b)):
        raise SpecError(f"adapter of {name}: its B mixes the {parts} matrices of the layer; allowed: one block for each on the diagonal")
    return layer


def _unshifted(layer: LoraLinear) -> LoraLinear:
    if layer.original is None:
        return layer
    plain = nn.Linear(layer.in_features, layer.out_features, bias=False).to(layer.original)
    plain.weight.data.copy_(layer.original)
    twice = LoraLinear(plain, len(layer.a), 2 * layer.a.shape[1])
    twice.start("svd", [layer.weight.detach() - layer.original])
    return twice


def _config(ranks: dict[str, int], alphas: dict[str, float]) -> dict:
    first = next(iter(ranks))
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": ranks[first],
        "lora_alpha": alphas[first],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": list(ranks),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    }
