"""Weights of another image or patch size, or of an architecture's first release: resampled and renamed by timm's own rules."""

from __future__ import annotations

import inspect
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def resized(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The state with positions and patch kernels as the module has them; what cannot be resampled stays as it is.

    timm's `resample_abs_pos_embed` (bicubic; prefix tokens keep their own positions, where the model gives them any) and
    `resample_patch_embed` (FlexiViT); families with relative positions (Swin) go by their `checkpoint_filter_fn`.
    """
    target = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = dict(state)
    for name, resample in (("pos_embed", _positions), ("patch_embed.proj.weight", _patches)):
        if name in target and name in state and state[name].shape != target[name]:
            found[name] = _tried(resample, state[name], module)
    others = [name for name in found.keys() & target.keys() if ".relative_position" in name and found[name].shape != target[name]]
    return converted(found, module) if others else found


def converted(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The state by the names and shapes of the module, where timm knows how its family was released; otherwise as it is."""
    family = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if family is None:
        return state
    options = {"adapt_layer_scale": True} if "adapt_layer_scale" in inspect.signature(family).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's interpolation of tables makes torch warn of timm's code
        try:
            return family(dict(state), module, **options)
        except Exception:  # a filter meets names that it was not written for
            return state


def _tried(resample, tensor: Tensor, module: nn.Module) -> Tensor:
    try:
        return resample(tensor, module)
    except (RuntimeError, AttributeError):  # not a square grid, or a family that keeps its positions otherwise
        return tensor


def _positions(positions: Tensor, module: nn.Module) -> Tensor:
    from timm.layers import resample_abs_pos_embed

    prefix_tokens = 0 if getattr(module, "no_embed_class", False) else module.num_prefix_tokens
    return resample_abs_pos_embed(positions, module.patch_embed.grid_size, num_prefix_tokens=prefix_tokens)


def _patches(kernel: Tensor, module: nn.Module) -> Tensor:
    from timm.layers import resample_patch_embed

    return resample_patch_embed(kernel, list(module.patch_embed.patch_size))
