"""Weight copy: a student made of every r-th block of its teacher, and the features that it is taught by.

Source: D. Grigore et al., Weight copy and low-rank adaptation for few-shot distillation of vision transformers (WeCoLoRA,
arXiv 2404.09326), section 3; reference code lora_layers.py and engine_kd.py. Block indices here count from 0.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """Teacher blocks that one student block stands for: the kept one, the dropped ones after it; `target` is its last block."""

    kept: int
    dropped: tuple[int, ...]

    @property
    def target(self) -> int:
        return self.dropped[-1] if self.dropped else self.kept


def groups(depth: int, reduction: int) -> list[Group]:
    """Blocks 0, r, 2r, ... are kept; a depth that r does not divide leaves the last group shorter."""
    return [Group(kept, tuple(range(kept + 1, min(kept + reduction, depth)))) for kept in range(0, depth, reduction)]


def weight_copy(teacher: nn.Module, reduction: int) -> nn.Module:
    """A student with copies of the kept blocks and of everything outside the blocks; it shares no memory with the teacher."""
    copied: dict[int, object] = {}
    kept = [copy.deepcopy(teacher.blocks[group.kept], copied) for group in groups(len(teacher.blocks), reduction)]
    copied[id(teacher.blocks)] = nn.Sequential(*kept)
    return copy.deepcopy(teacher, copied)


def features(model: nn.Module, images: Tensor, blocks: list[int]) -> list[Tensor]:
    """Residual stream after these blocks, before the final norm, each (B, tokens, D), prefix tokens first; no later block is run."""
    prefix = {"return_prefix_tokens": True} if prefix_tokens(model) else {}
    streams = model.forward_intermediates(images, indices=blocks, stop_early=True, output_fmt="NLC", intermediates_only=True, **prefix)
    return [torch.cat([first, patches], dim=1) for patches, first in streams] if prefix else streams


def prefix_tokens(model: nn.Module) -> int:
    """How many of the blocks' tokens are no patches: none where the class token joins them after the blocks, as in CaiT and XCiT."""
    joined = "return_prefix_tokens" in inspect.signature(model.forward_intermediates).parameters
    return model.num_prefix_tokens if joined else 0


def feature_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Mean over the pairs of mean |T - S| over batch, tokens and channels (the document's equation 1 for one pair)."""
    return torch.stack([(target - stream).abs().mean() for stream, target in zip(student, teacher, strict=True)]).mean()
