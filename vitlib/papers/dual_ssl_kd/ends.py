"""Teachers in two parts: the frozen front that a protocol leaves as it is, and the end that it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from vitlib.inputs.models import classifiers, in_eval_mode
from vitlib.papers.dual_ssl_kd.specs import Protocol
from vitlib.training.remembered import Frozen


@dataclass(frozen=True)
class Cut:
    """`end(model, front(model, images))` are the model's logits (B, C); the end alone has trained parameters."""

    front: Callable[[nn.Module, Tensor], Tensor]
    end: Callable[[nn.Module, Tensor], Tensor]


def entering_last_blocks(model: nn.Module, images: Tensor, count: int = 1) -> Tensor:
    """Tokens that enter the last `count` blocks, (B, tokens, D): timm's `forward_features` up to there."""
    tokens = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    return model.blocks[:-count](tokens)


def from_last_blocks(model: nn.Module, tokens: Tensor, count: int = 1) -> Tensor:
    """Logits (B, C) of tokens that enter the last `count` blocks."""
    return model.forward_head(model.norm(model.blocks[-count:](tokens)))


def after_blocks(model: nn.Module) -> list[nn.Module]:
    """What a VisionTransformer's tokens go through after the last block: norms, pooling where that has weights, and the classifier."""
    return [part for part in (model.norm, model.attn_pool, model.fc_norm, *classifiers(model)) if part is not None]


def before_head(model: nn.Module, images: Tensor) -> Tensor:
    """What the classifier reads, (B, D)."""
    return model.forward_head(model.forward_features(images), pre_logits=True)


CUTS: dict[Protocol, Cut] = {
    "finetune": Cut(lambda model, images: images, lambda model, images: model(images)),
    "linear": Cut(before_head, lambda model, features: classifiers(model)[0](features)),
    "partial1": Cut(entering_last_blocks, from_last_blocks),
}


def frozen_front(model: nn.Module, protocol: Protocol) -> Frozen:
    """The front in eval mode while the rest trains: what is frozen keeps its running statistics, too."""

    def given(images: Tensor) -> tuple[Tensor]:
        with in_eval_mode(model):
            return (CUTS[protocol].front(model, images),)

    return given
