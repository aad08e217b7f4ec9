"""What a model has that a method may need, read from its architecture alone: built without weights, run without numbers.

Start from `architecture`. A `Vit` or a `ResNet` is known by its fields; a timm model is built on torch's device for shapes, and what its
blocks take and give in one forward pass is looked at. torch is imported for timm models alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vitlib.inputs.models import Model, ResNet, Timm, Vit, check_tiling, classifier_names, classifiers, sketch
from vitlib.spec import SpecError

if TYPE_CHECKING:
    from torch import nn

MATRICES = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")  # the linear layers of a block, as timm names them


@dataclass(frozen=True)
class Architecture:
    """What a model has for images of one size.

    Attributes:
        kind: the class of the module.
        classifiers: as many, each on a token of its own; a plain model has one.
        depth: blocks in a chain: alike, each handing its tokens (B, T, D) to the next one and to nothing else; 0 without such a chain.
        heads: of every block's attention; 0 where they cannot be seen.
        tokens: of the chain; prefix_tokens: those of them that are no patches.
        class_token: the first token of the chain is a class token.
        matrices: every block has a linear qkv, proj, fc1 and fc2.
        maps: the attention of every block is between all tokens, and can be looked at.
        plain_attention: these maps follow from what the qkv layers give, without positions or rotations.
        open_end: the forward pass is that of timm's VisionTransformer, which can be taken up before any block.
        attention_pooling: the classifier reads what a further attention layer makes of the tokens.
    """

    kind: str
    classifiers: int = 1
    depth: int = 0
    heads: int = 0
    tokens: int = 0
    prefix_tokens: int = 0
    class_token: bool = False
    matrices: bool = False
    maps: bool = False
    plain_attention: bool = False
    open_end: bool = False
    attention_pooling: bool = False

    @property
    def patches(self) -> int:
        return self.tokens - self.prefix_tokens


def architecture(model: Model, image_size: int, channels: int, drop_path: float = 0.0) -> Architecture:
    """What the model has at this size of images.

    Raises:
        SpecError: if timm does not know the model, or it takes no such images or no drop path.
    """
    if isinstance(model, Timm):
        return _looked_at(model.changed(pretrained=False), image_size, channels, drop_path)
    check_tiling(model, image_size)
    if isinstance(model, ResNet):
        return Architecture("ResNet")
    prefix = 2 if model.distilled else 1
    return Architecture(
        kind="VisionTransformerDistilled" if model.distilled else "VisionTransformer",
        classifiers=prefix,
        depth=model.depth,
        heads=model.num_heads,
        tokens=(image_size // model.patch_size) ** 2 + prefix,
        prefix_tokens=prefix,
        class_token=True,
        matrices=True,
        maps=True,
        plain_attention=True,
        open_end=True,
    )


def known_vit(model: Model, image_size: int, channels: int) -> Vit | None:
    """A transformer's sizes, as formulas ask for them; None for a model that no plain `Vit` is equal to."""
    if isinstance(model, Timm):
        return sizes_of(sketch(model, image_size=image_size, channels=channels), image_size, channels)
    return model if isinstance(model, Vit) else None


def sizes_of(module: nn.Module, image_size: int, channels: int) -> Vit | None:
    """The `Vit` whose parameters have the names and shapes of a built module's, its classifier aside; None if there is none."""
    blocks = _blocks(module)
    if not blocks or not _has_matrices(blocks[0]) or not hasattr(module, "patch_embed"):
        return None
    width, hidden = blocks[0].mlp.fc1.in_features, blocks[0].mlp.fc1.out_features
    side = module.patch_embed.patch_size
    sizes = {"embed_dim": width, "depth": len(blocks), "num_heads": blocks[0].attn.num_heads, "mlp_ratio": hidden / width}
    candidate = Vit(patch_size=side if isinstance(side, int) else side[0], distilled=hasattr(module, "dist_token"), **sizes)
    return candidate if _shapes(module) == _shapes(sketch(candidate, image_size=image_size, channels=channels)) else None


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    told = classifier_names(module)
    return {name: tuple(value.shape) for name, value in module.named_parameters() if name not in told}


@lru_cache(maxsize=64)
def _looked_at(model: Timm, image_size: int, channels: int, drop_path: float) -> Architecture:
    import torch

    module = sketch(model, image_size=image_size, channels=channels, drop_path=drop_path).eval()
    images = torch.zeros(1, channels, image_size, image_size, device="meta")
    try:
        with torch.no_grad(), _watched(module) as seen:
            module.forward_head(module.forward_features(images), pre_logits=True)
    except (AssertionError, RuntimeError, ValueError, NotImplementedError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SpecError(
            f"model.name: {model.name!r} gives no features of images of {image_size} px and {channels} channels; {reason}"
        ) from None
    return _described(module, seen)


@dataclass
class _Seen:
    """Of each block what it took and gave, and the shape of its attention map."""

    calls: list[tuple[tuple, dict[str, Any], Any]] = field(default_factory=list)
    maps: list[tuple[int, ...]] = field(default_factory=list)


@contextmanager
def _watched(module: nn.Module) -> Iterator[_Seen]:
    seen = _Seen()
    with ExitStack() as hooks:
        for block in _blocks(module):
            call = block.register_forward_hook(lambda _, given, named, got: seen.calls.append((given, named, got)), with_kwargs=True)
            hooks.enter_context(call)
            attention = getattr(block, "attn", None)
            if hasattr(attention, "fused_attn") and hasattr(attention, "attn_drop"):
                attention.fused_attn = False
                hooks.enter_context(attention.attn_drop.register_forward_hook(lambda _, __, maps: seen.maps.append(tuple(maps.shape))))
        yield seen


def _blocks(module: nn.Module) -> list[nn.Module]:
    from torch import nn

    blocks = getattr(module, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.Sequential | nn.ModuleList) else []


def _described(module: nn.Module, seen: _Seen) -> Architecture:
    blocks = _blocks(module)
    facts = {"kind": type(module).__name__, "classifiers": len(classifiers(module))}
    if not (_is_chain(seen) and len(seen.calls) == len(blocks) and _are_alike(blocks) and _has_patches(module, seen)):
        return Architecture(**facts)
    tokens = seen.calls[0][2].shape[1]
    prefix = tokens - module.patch_embed.num_patches
    heads = {shape[1] for shape in seen.maps}
    maps = len(seen.maps) == len(blocks) and len(heads) == 1 and all(shape[2:] == (tokens, tokens) for shape in seen.maps)
    return Architecture(
        **facts,
        depth=len(blocks),
        heads=heads.pop() if maps else 0,
        tokens=tokens,
        prefix_tokens=prefix,
        class_token=prefix > 0 and _has_class_token(module),
        matrices=all(_has_matrices(block) for block in blocks),
        maps=maps,
        plain_attention=maps and all(_is_plain(block) for block in blocks),
        open_end=_has_open_end(module),
        attention_pooling=getattr(module, "attn_pool", None) is not None,
    )


def _is_chain(seen: _Seen) -> bool:
    """Whether each block takes the very tokens that the one before gave, and beside them what all others take."""
    if not seen.calls or any(not hasattr(got, "ndim") or got.ndim != 3 for *_, got in seen.calls):
        return False
    (first, named, _), outputs = seen.calls[0], [got for *_, got in seen.calls]
    for (given, others, _), before in zip(seen.calls[1:], outputs, strict=False):
        same = len(given) == len(first) and all(one is other for one, other in zip(given[1:], first[1:], strict=True))
        if given[0] is not before or not same or any(others.get(name) is not value for name, value in named.items()):
            return False
    return len({tuple(got.shape) for got in outputs}) == 1


def _are_alike(blocks: list[nn.Module]) -> bool:
    shapes = [{name: value.shape for name, value in block.state_dict().items()} for block in blocks]
    return all(type(block) is type(blocks[0]) for block in blocks) and all(shape == shapes[0] for shape in shapes)


def _has_patches(module: nn.Module, seen: _Seen) -> bool:
    """Whether the chain's tokens are the patches, after the prefix tokens if these do not join them later."""
    patches = getattr(getattr(module, "patch_embed", None), "num_patches", 0)
    return patches > 0 and seen.calls[0][2].shape[1] - patches in (0, getattr(module, "num_prefix_tokens", 0))


def _has_class_token(module: nn.Module) -> bool:
    return getattr(module, "has_class_token", True) and getattr(module, "cls_token", None) is not None


def _has_matrices(block: nn.Module) -> bool:
    from torch import nn

    found = [_part(block, name) for name in MATRICES]
    return all(isinstance(layer, nn.Linear) for layer in found) and found[0].out_features == 3 * found[1].in_features


def _part(block: nn.Module, name: str) -> Any:
    for step in name.split("."):
        block = getattr(block, step, None)
    return block


def _is_plain(block: nn.Module) -> bool:
    from timm.layers import Attention

    return type(block.attn) is Attention


def _has_open_end(module: nn.Module) -> bool:
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(module, VisionTransformer) and type(module).forward_features is VisionTransformer.forward_features
