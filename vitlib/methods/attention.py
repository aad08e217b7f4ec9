"""Attention maps of timm transformers, whose fused attention hides them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.inference_mode()
def attention_maps(model: nn.Module, images: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) of every block; (B, depth, heads, tokens, tokens), rows sum to 1.

    The model is put into eval mode and is otherwise as before afterwards.

    Raises:
        ValueError: if the model has no timm attention to read.
    """
    model.eval()
    maps: list[Tensor] = []
    with unfused_attention(model) as modules:
        hooks = [module.attn_drop.register_forward_hook(lambda _, __, output: maps.append(output)) for module in modules]
        try:
            model(images)
        finally:
            for hook in hooks:
                hook.remove()
    if not maps:
        raise ValueError(f"{type(model).__name__} gave no attention maps; allowed: timm Vision Transformers")
    return torch.stack(maps, dim=1)


@contextmanager
def unfused_attention(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Compute softmax(q k^T) as a tensor of its own inside the block, so that hooks see it; yields the attention modules."""
    modules = [module for module in model.modules() if hasattr(module, "fused_attn")]
    before = [module.fused_attn for module in modules]
    for module in modules:
        module.fused_attn = False
    try:
        yield modules
    finally:
        for module, fused in zip(modules, before, strict=True):
            module.fused_attn = fused
