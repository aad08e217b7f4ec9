"""Models: timm's, by full tag or in micro sizes; building, loading and saving their weights.

`Vit`, `RegNetY` and `Timm` are specs; `build` makes the module. timm is imported where it is needed, not here: it takes
seconds, and a wrong head count must be refused before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from vitlib.spec import Part, SpecError, nearest

if TYPE_CHECKING:
    from torch import nn

Positive = Annotated[int, Field(ge=1)]


class Vit(Part):
    """A Vision Transformer of timm in any size; `distilled` adds DeiT's distillation token and head."""

    embed_dim: Positive
    depth: Positive
    num_heads: Positive
    patch_size: Positive
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    distilled: bool = False

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.embed_dim % self.num_heads:
            allowed = [n for n in range(1, self.embed_dim + 1) if self.embed_dim % n == 0]
            raise ValueError(
                f"num_heads={self.num_heads} does not divide embed_dim={self.embed_dim}; allowed: divisors {allowed}"
            )
        return self


class RegNetY(Part):
    """A RegNetY of timm in micro sizes: stage widths width, 2 width, 4 width, 8 width; stem without stride.

    Source: the design space of RegNet (w_0 = width, w_a = 1.5 width, w_m = 2), timm's implementation.
    """

    width: Annotated[int, Field(ge=8, multiple_of=8)]
    depth: Annotated[int, Field(ge=6)] = 6
    group_size: Positive = 8
    stem_width: Positive = 8


class Timm(Part):
    """A timm model by its full `architecture.tag`; `pretrained` loads the released weights."""

    name: str
    pretrained: bool = False

    @model_validator(mode="after")
    def _full_tag(self) -> Self:
        if "." not in self.name:
            raise ValueError(f"name={self.name!r} has no tag; allowed: 'architecture.tag', as in deit_tiny_patch16_224.fb_in1k")
        return self


Model = Vit | RegNetY | Timm


def build(model: Model, *, image_size: int, channels: int, num_classes: int, drop_path: float = 0.0) -> nn.Module:
    """The timm module of a spec, freshly initialised (or with released weights, for a pretrained `Timm`).

    Raises:
        SpecError: if patches do not tile the image, or timm does not know the name.
    """
    common = {"in_chans": channels, "num_classes": num_classes, "drop_path_rate": drop_path}
    if isinstance(model, Vit):
        return _vit(model, image_size, common)
    if isinstance(model, RegNetY):
        return _regnety(model, common)
    return _timm(model, image_size, common)


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """All parameters and buffers as numpy arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_weights(module: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Load `weights_of` another module; position embeddings of another grid are resampled bicubically.

    Prefix tokens keep their own positions (timm's `resample_abs_pos_embed`).
    """
    import torch
    from timm.layers import resample_abs_pos_embed

    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    target = module.state_dict()
    if "pos_embed" in target and state["pos_embed"].shape != target["pos_embed"].shape:
        state["pos_embed"] = resample_abs_pos_embed(
            state["pos_embed"], module.patch_embed.grid_size, num_prefix_tokens=module.num_prefix_tokens
        )
    module.load_state_dict(state)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _vit(model: Vit, image_size: int, common: dict) -> nn.Module:
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    check_tiling(model, image_size)
    cls = VisionTransformerDistilled if model.distilled else VisionTransformer
    sizes = model.model_dump(exclude={"distilled"})
    return cls(img_size=image_size, **sizes, **common)


def check_tiling(model: Model, image_size: int) -> None:
    if isinstance(model, Vit) and image_size % model.patch_size:
        raise SpecError(f"patch_size: got {model.patch_size}, which does not tile {image_size} px; allowed: divisors of {image_size}")


def _regnety(model: RegNetY, common: dict) -> nn.Module:
    from timm.models.regnet import RegNet, RegNetCfg

    config = RegNetCfg(
        depth=model.depth, w0=model.width, wa=1.5 * model.width, wm=2.0,
        group_size=model.group_size, stem_width=model.stem_width, se_ratio=0.25,
    )  # fmt: skip
    module = RegNet(config, **common)
    module.stem.conv.stride = (1, 1)  # small images: timm's stem halves them before the first stage
    return module


def _timm(model: Timm, image_size: int, common: dict) -> nn.Module:
    import timm

    if model.name.partition(".")[0] not in timm.list_models():
        raise SpecError(f"model.name: got {model.name!r};{nearest(model.name, timm.list_pretrained())[:200]}")
    sized = {"img_size": image_size} if "vit" in model.name or "deit" in model.name else {}
    try:
        return timm.create_model(model.name, pretrained=model.pretrained, **sized, **common)
    except (RuntimeError, OSError) as error:
        raise SpecError(
            f"model.name: weights of {model.name!r} could not be had ({type(error).__name__}: {error}). Put them into the "
            "hub cache (HF_HOME) by hand, or use the profiles smoke, quick or cifar, which download nothing."
        ) from error
