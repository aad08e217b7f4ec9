"""Masks: which weights stay, exactly how many, and that the others stay zero.

A mask is a boolean tensor of its weight's shape, True where the weight is kept; masks are named as the weights are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vitlib.inputs.foreign.architecture import MATRICES
from vitlib.inputs.models import Model, ResNet, Timm, Vit, build
from vitlib.spec import SpecError

Masks = dict[str, Tensor]
MASK = "mask."


def prunable(model: nn.Module, include_patch_embed: bool = False) -> dict[str, nn.Parameter]:
    """The weights of qkv, proj, fc1 and fc2 of every block (84,934,656 of ViT-B), with or without the patch embedding's.

    Raises:
        SpecError: if the model has no such weights.
    """
    layers = [rf"blocks\.\d+\.{layer}" for layer in MATRICES] + ["patch_embed.proj"] * include_patch_embed
    wanted = re.compile(rf"({'|'.join(layers)})\.weight")
    chosen = {name: weight for name, weight in model.named_parameters() if wanted.fullmatch(name)}
    if not chosen:
        raise SpecError(f"model: {type(model).__name__} has none of {', '.join(MATRICES)}; allowed: timm Vision Transformers")
    return chosen


def keep_masks(scores: dict[str, Tensor], sparsity: float, scope: str = "global") -> Masks:
    """Keep exactly round((1 - sparsity) n) of the n weights with the largest scores: of all together, or of each matrix ('layer').

    Among equal scores at the threshold the first are kept, so that the masks of a higher sparsity lie inside those of a lower one.

    Raises:
        SpecError: for a sparsity outside 0..1 or a score that is not finite.
    """
    if not 0 <= sparsity <= 1:
        raise SpecError(f"sparsity: got {sparsity}; allowed: 0 to 1")
    if scope == "layer":
        return {name: keep_masks({name: score}, sparsity)[name] for name, score in scores.items()}
    _require_finite(scores)
    flat = np.concatenate([score.numpy().ravel() for score in scores.values()])
    kept = torch.from_numpy(_largest(flat, round((1 - sparsity) * len(flat))))
    parts = kept.split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def two_of_four(scores: dict[str, Tensor]) -> Masks:
    """The two largest of every four neighbours in a row: the pattern that semi-structured kernels run.

    Raises:
        SpecError: if a matrix's columns are no multiple of four, or a score is not finite.
    """
    _require_finite(scores)
    masks = {}
    for name, score in scores.items():
        if score.shape[-1] % 4:
            raise SpecError(f"{name}: {score.shape[-1]} columns; allowed: a multiple of 4")
        fours = score.reshape(-1, 4)
        order = fours.argsort(dim=1, descending=True, stable=True)
        masks[name] = torch.zeros_like(fours, dtype=torch.bool).scatter_(1, order[:, :2], True).view_as(score)
    return masks


def most_of_four(mask: Tensor) -> int:
    """How many of four neighbours in a row a mask keeps, at most.

    Raises:
        SpecError: if its columns are no multiple of four.
    """
    if mask.shape[-1] % 4:
        raise SpecError(f"mask: {mask.shape[-1]} columns; allowed: a multiple of 4")
    return int(mask.reshape(-1, 4).sum(dim=1).max())


@torch.no_grad()
def semi_structured(model: nn.Module, masks: Masks) -> None:
    """Put 2:4-pruned weights into the compressed form that the GPU's sparse matrix units multiply by, in place; inference only.

    Raises:
        SpecError: if a mask keeps more than two of four neighbours, or the model is not in half precision on a CUDA device.
    """
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        if (most := most_of_four(mask)) > 2:
            raise SpecError(f"{name}: keeps {most} of four neighbours; allowed: masks of two_of_four")
        if weight.device.type != "cuda" or weight.dtype not in (torch.float16, torch.bfloat16):
            raise SpecError(f"{name}: got {weight.dtype} on {weight.device}; allowed: float16 or bfloat16 on a CUDA device")
    for name in masks:
        layer = model.get_submodule(name.removesuffix(".weight"))
        layer.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(layer.weight.detach()), requires_grad=False)


def left_out(model: nn.Module, masks: Masks) -> list[tuple[nn.Parameter, Tensor]]:
    """Each masked weight and what its mask leaves out: True where the weight is pruned, on the weight's device."""
    weights = [model.get_parameter(name) for name in masks]
    return [(weight, ~mask.to(weight.device)) for weight, mask in zip(weights, masks.values(), strict=True)]


@torch.no_grad()
def set_to_zero(places: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Zero in place what `left_out` found."""
    for weight, pruned in places:
        weight.masked_fill_(pruned, 0.0)


def apply_masks(model: nn.Module, masks: Masks) -> None:
    """Zero in place what the masks leave out."""
    set_to_zero(left_out(model, masks))


@contextmanager
def masked_gradients(model: nn.Module, masks: Masks) -> Iterator[None]:
    """While it lasts, gradients of pruned weights are zero: neither momentum nor the norm that clipping sees counts them."""
    pruned = dict(left_out(model, masks))

    def mask(weight: nn.Parameter) -> None:
        weight.grad.masked_fill_(pruned[weight], 0.0)

    with ExitStack() as hooks:
        for weight in pruned:
            hooks.enter_context(weight.register_post_accumulate_grad_hook(mask))
        yield


def densities(masks: Masks) -> dict[str, float]:
    """Share of the weights kept, by matrix."""
    return {name: float(mask.float().mean()) for name, mask in masks.items()}


def save_pruned(path: Path | str, weights: dict[str, Tensor], masks: Masks, model: Model, **build_options: int) -> Path:
    """A safetensors file that `load_pruned` turns into a model again: weights, masks, and what to build.

    Args:
        build_options: image_size, channels and num_classes of `vitlib.inputs.models.build`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = model.changed(pretrained=False) if isinstance(model, Timm) else model
    described = {"type": type(spec).__name__, "model": spec.model_dump(), "build": build_options}
    save_file(weights | {MASK + name: mask for name, mask in masks.items()}, path, metadata={"vitlib": json.dumps(described)})
    return path


def load_pruned(path: Path | str) -> tuple[nn.Module, Masks]:
    """The model of `save_pruned` in eval mode, and its masks.

    Raises:
        SpecError: if the file was not written by `save_pruned`, or a pruned weight is not zero.
    """
    described, tensors = None, {}
    with suppress(SafetensorError, ValueError, RecursionError), safe_open(path, "pt") as file:
        described = json.loads((file.metadata() or {}).get("vitlib", "null"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    kinds: dict[str, type[Model]] = {"Vit": Vit, "ResNet": ResNet, "Timm": Timm}
    if not isinstance(described, dict) or described.get("type") not in kinds or not {"model", "build"} <= described.keys():
        raise SpecError(f"{path}: not a file of save_pruned; allowed: one with its description")
    spec = kinds[described["type"]].parse(described["model"])
    masks = {name.removeprefix(MASK): tensors.pop(name) for name in list(tensors) if name.startswith(MASK)}
    for name, mask in masks.items():
        if name not in tensors or mask.dtype != torch.bool or mask.shape != tensors[name].shape:
            raise SpecError(f"{path}: the mask of {name} fits no weight; allowed: one of its shape")
        if bool(tensors[name][~mask].any()):
            raise SpecError(f"{path}: {name} has weights that its mask leaves out; allowed: zeros there")
    try:
        model = build(spec, **described["build"])
        model.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise SpecError(f"{path}: its weights do not fit the model that it describes ({' '.join(str(error).split())[:200]})") from None
    return model.eval(), masks


def _require_finite(scores: dict[str, Tensor]) -> None:
    if odd := [name for name, score in scores.items() if not bool(score.isfinite().all())]:
        raise SpecError(f"scores: some of {odd[0]} are not finite; allowed: finite numbers")


def _largest(flat: np.ndarray, count: int) -> np.ndarray:
    if count == 0:
        return np.zeros(len(flat), dtype=bool)
    threshold = np.partition(flat, len(flat) - count)[len(flat) - count]
    kept = flat > threshold
    ties = np.flatnonzero(flat == threshold)
    kept[ties[: count - int(kept.sum())]] = True
    return kept
