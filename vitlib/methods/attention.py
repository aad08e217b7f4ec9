"""Attention maps of timm transformers, whose fused attention hides them; how far and how surely their heads look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention_maps(model: nn.Module, images: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) of every block; (B, depth, heads, tokens, tokens), rows sum to 1; see `by_block` for the model's state."""
    return torch.stack(by_block(model, images, lambda maps: maps), dim=1)


def attention_distances(model: nn.Module, images: Tensor) -> Tensor:
    """`attention_distance` of every block and head of a Vision Transformer, in pixels; (B, depth, heads)."""
    embed, prefix = model.patch_embed, model.num_prefix_tokens
    found = by_block(model, images, lambda maps: attention_distance(maps, embed.grid_size, embed.patch_size[0], prefix))
    return torch.stack(found, dim=1)


@torch.inference_mode()
def by_block(model: nn.Module, images: Tensor, measure: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """`measure` of the attention map (B, heads, tokens, tokens) of each block, taken while the block runs.

    So no map outlives its block unless `measure` keeps it. The model is put into eval mode and is otherwise as before afterwards.

    Raises:
        ValueError: if the model has no timm attention to read.
    """
    model.eval()
    measured: list[Tensor] = []
    blocks = getattr(model, "blocks", ())
    with unfused_attention(model) as unfused, ExitStack() as hooks:
        for layer in (block.attn for block in blocks if getattr(block, "attn", None) in unfused):
            hooks.enter_context(layer.attn_drop.register_forward_hook(lambda _, __, maps: measured.append(measure(maps))))
        model(images)
    if not measured:
        raise ValueError(f"{type(model).__name__} gave no attention maps; allowed: timm Vision Transformers")
    return measured


def attention_distance(attention: Tensor, grid: tuple[int, int], patch_size: int, prefix_tokens: int = 1) -> Tensor:
    """Mean distance in pixels between a query patch and what it attends to.

    Prefix tokens are dropped and each row is normalised over the patches; the distances d(i, j) = p |x_i - x_j| are summed over keys
    by their attention, and averaged over queries; 1e-32 is added to each weight, so that a row may be zero.
    Source: N. Park et al., What do self-supervised vision transformers learn? (2023).

    Args:
        attention: (..., tokens, tokens), rows summing to 1; tokens = prefix_tokens + rows * columns of the grid.

    Returns:
        (...): one distance a map.
    """
    patches = attention[..., prefix_tokens:, prefix_tokens:]
    by_query = patches.reshape(-1, *patches.shape[-2:]).movedim(1, 0)  # (queries, maps, keys)
    distances = patch_distances(grid, patch_size).to(patches)
    weights = torch.stack([distances, torch.ones_like(distances)], dim=-1)
    sums = by_query @ weights + 1e-32 * weights.sum(dim=1, keepdim=True)  # by distance, and plain: one pass over the maps for both
    return (sums[..., 0] / sums[..., 1]).mean(dim=0).view(patches.shape[:-2])


def attention_unevenness(attention: Tensor, prefix_tokens: int = 1) -> Tensor:
    """Share of a query patch's attention that would have to move for it to be even: 0 even, (L - 1) / L all on one of L patches.

    The total variation distance from even attention, sum_k |a_k - 1/L| / 2 over the patches, prefix tokens dropped and rows normalised
    again; mean over query patches.

    Args:
        attention: (..., tokens, tokens), rows summing to 1.

    Returns:
        (...): one share a map.
    """
    patches = attention[..., prefix_tokens:, prefix_tokens:] + 1e-32
    shares = patches / patches.sum(dim=-1, keepdim=True)
    return (shares - 1 / shares.shape[-1]).abs().sum(dim=-1).mean(dim=-1) / 2


def patch_distances(grid: tuple[int, int], patch_size: int) -> Tensor:
    """Euclidean distance in pixels between the patches of a grid, counted by rows; (L, L) float64."""
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    places = patch_size * torch.stack([rows.flatten(), columns.flatten()], dim=1)
    return (places[:, None] - places[None]).square().sum(dim=-1).sqrt()


def attention_confidence(attention: Tensor, prefix_tokens: int = 0) -> Tensor:
    """Mean over images and queries of the largest weight that a query gives to a key, by head (equation 2); (heads,).

    Source: E. Voita et al., Analyzing multi-head self-attention (ACL 2019).

    Args:
        attention: (B, heads, tokens, tokens), rows summing to 1.
        prefix_tokens: as many first queries and keys are left out, and the rows normalised again.
    """
    kept = attention[..., prefix_tokens:, prefix_tokens:] + (1e-32 if prefix_tokens else 0.0)
    return (kept.amax(dim=-1) / kept.sum(dim=-1)).mean(dim=(0, 2))


class AttentionTap:
    """The attention map of a timm attention module, recomputed from what its qkv layer gave in the latest forward pass.

    Exact under fused attention, differentiable, and only for the heads asked for. `eject` takes the hook away.
    """

    def __init__(self, attention: nn.Module):
        self._attention, self._qkv = attention, None
        self._hook = attention.qkv.register_forward_hook(self._keep)

    def log_map(self, heads: list[int] | None = None, prefix_tokens: int = 0) -> Tensor:
        """log softmax(q k^T / sqrt(d)); (B, heads, tokens, tokens), float32.

        Args:
            prefix_tokens: as many first queries and keys are left out, so that the rows are normalised over the rest.

        Raises:
            ValueError: before any forward pass.
        """
        if self._qkv is None:
            raise ValueError("attention: no forward pass was seen; allowed: after the model was called")
        module = self._attention
        queries, keys, _ = self._qkv[:, prefix_tokens:].unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys = module.q_norm(queries), module.k_norm(keys)
        if heads is not None:
            places = _places(tuple(heads), queries.device)
            queries, keys = queries[:, places], keys[:, places]
        with torch.autocast(queries.device.type, enabled=False):
            return F.log_softmax((queries.float() * module.scale) @ keys.float().mT, dim=-1)

    def eject(self) -> None:
        self._hook.remove()
        self._qkv = None

    def _keep(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self._qkv = output


@cache
def _places(heads: tuple[int, ...], device: torch.device) -> Tensor:
    """Once for a device: numbers of Python reach it only while it is waited for."""
    with torch.inference_mode(False):
        return torch.tensor(heads, device=device)


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
