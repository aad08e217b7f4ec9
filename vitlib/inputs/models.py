"""Models: timm's, by full tag or in micro sizes; building, loading and saving their weights.

`Vit`, `ResNet` and `Timm` are specs; `build` makes the module. timm is imported where it is needed, not here: it takes
seconds, and a wrong head count must be refused before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vitlib.spec import Part, SpecError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

Positive = Annotated[int, Field(ge=1)]


class Vit(Part):
    """A Vision Transformer of timm in any size; `distilled` adds DeiT's distillation token and head.

    `init`: 'normal' is the truncated normal of standard deviation 0.02 that DeiT uses at widths of 192 and more;
    'xavier' (timm's 'jax') follows the width, without which micro models spend their few epochs on a plateau.
    """

    embed_dim: Annotated[int, Field(ge=1, le=65_536)]
    depth: Positive
    num_heads: Positive
    patch_size: Positive
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    distilled: bool = False
    init: Literal["normal", "xavier"] = "normal"

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.embed_dim % self.num_heads:
            allowed = [n for n in range(1, self.embed_dim + 1) if self.embed_dim % n == 0]
            raise ValueError(f"num_heads={self.num_heads} does not divide embed_dim={self.embed_dim}; allowed: divisors {allowed}")
        return self


class ResNet(Part):
    """A ResNet of timm for small images: 3 x 3 stem without stride or max-pool, basic blocks, width doubling by stage.

    ResNet-18 is width 64 with two blocks in each of the four stages; the stem has 64 channels at every width.
    """

    width: Positive
    blocks: tuple[Positive, Positive, Positive, Positive]


class Timm(Part):
    """A timm model by its full `architecture.tag`; `pretrained` loads the released weights."""

    name: str
    pretrained: bool = False

    @model_validator(mode="after")
    def _full_tag(self) -> Self:
        if "." not in self.name:
            raise ValueError(f"name={self.name!r} has no tag; allowed: 'architecture.tag', as in deit_tiny_patch16_224.fb_in1k")
        return self


Model = Vit | ResNet | Timm
VIT_B16 = Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16)


def known_vit(model: Model) -> Vit | None:
    """A transformer's sizes, as formulas ask for them; of timm's, those of ViT-B/16 are known by its name."""
    if isinstance(model, Timm):
        return VIT_B16 if "base_patch16" in model.name else None
    return model if isinstance(model, Vit) else None


def build(
    model: Model, *, image_size: int, channels: int, num_classes: int | None, drop_path: float = 0.0, any_size: bool = False
) -> nn.Module:
    """The timm module of a spec, freshly initialised (or with released weights, for a pretrained `Timm`).

    `num_classes` 0 is without classifier, None leaves a released model its own.
    `any_size` lets a `Vit` take images of other sizes than `image_size`, its position embedding resampled in each forward pass.

    Raises:
        SpecError: if patches do not tile the image, or timm does not know the name.
    """
    classes = {} if num_classes is None else {"num_classes": num_classes}
    common = {"in_chans": channels, "drop_path_rate": drop_path, **classes}
    if isinstance(model, Vit):
        return _vit(model, image_size, common | {"dynamic_img_size": any_size})
    if isinstance(model, ResNet):
        return _resnet(model, common)
    return _timm(model, image_size, common)


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """All parameters and buffers as numpy arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_weights(module: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Load `weights_of` another module; those of another grid or patch size are resampled, a classifier left out stays fresh.

    timm's `resample_abs_pos_embed` (bicubic; prefix tokens keep their own positions) and `resample_patch_embed` (FlexiViT).

    Raises:
        RuntimeError: if anything but the classifier is missing, or does not fit.
    """
    import torch

    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    target = module.state_dict()
    for name, resampled in (("pos_embed", _positions), ("patch_embed.proj.weight", _patches)):
        if name in target and name in state and state[name].shape != target[name].shape:
            state[name] = resampled(state[name], module)
    kept = {name: tensor for name, tensor in target.items() if is_classifier(name) and name not in state}
    module.load_state_dict(kept | state)


def is_classifier(name: str) -> bool:
    """Whether a parameter belongs to the classifier, by timm's names of it in transformers and ResNets."""
    return name.partition(".")[0] in ("head", "head_dist", "fc")


def without_classifier(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights.items() if not is_classifier(name)}


def classifier_outputs(weights: dict[str, np.ndarray]) -> int:
    """Number of classes that the weights' classifier tells apart, 0 without one."""
    rows = [len(array) for name, array in weights.items() if is_classifier(name) and name.endswith("weight")]
    return rows[0] if rows else 0


def _positions(positions: Tensor, module: nn.Module) -> Tensor:
    from timm.layers import resample_abs_pos_embed

    return resample_abs_pos_embed(positions, module.patch_embed.grid_size, num_prefix_tokens=module.num_prefix_tokens)


def _patches(kernel: Tensor, module: nn.Module) -> Tensor:
    from timm.layers import resample_patch_embed

    return resample_patch_embed(kernel, list(module.patch_embed.patch_size))


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _vit(model: Vit, image_size: int, common: dict) -> nn.Module:
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    check_tiling(model, image_size)
    cls = VisionTransformerDistilled if model.distilled else VisionTransformer
    sizes = model.model_dump(exclude={"distilled", "init"})
    return cls(img_size=image_size, weight_init="jax" if model.init == "xavier" else "", **sizes, **common)


def check_tiling(model: Model, image_size: int) -> None:
    if isinstance(model, Vit) and image_size % model.patch_size:
        raise SpecError(f"patch_size: got {model.patch_size}, which does not tile {image_size} px; allowed: divisors of {image_size}")


def _resnet(model: ResNet, common: dict) -> nn.Module:
    from timm.models import resnet
    from torch import nn

    channels = tuple(model.width * 2**stage for stage in range(4))
    module = resnet.ResNet(resnet.BasicBlock, layers=model.blocks, channels=channels, **common)
    module.conv1 = nn.Conv2d(common["in_chans"], module.conv1.out_channels, kernel_size=3, padding=1, bias=False)
    module.maxpool = nn.Identity()
    nn.init.kaiming_normal_(module.conv1.weight, mode="fan_out", nonlinearity="relu")
    return module


def _timm(model: Timm, image_size: int, common: dict) -> nn.Module:
    import timm

    if model.name.partition(".")[0] not in timm.list_models():
        raise SpecError(f"model.name: got {model.name!r}{nearest(model.name, timm.list_pretrained())[:200]}")
    sized = {"img_size": image_size} if model.name.startswith(("vit_", "deit")) else {}
    try:
        return timm.create_model(model.name, pretrained=model.pretrained, **sized, **common)
    except (RuntimeError, OSError) as error:
        raise SpecError(
            f"model.name: weights of {model.name!r} could not be had ({type(error).__name__}: {error}). Put them into the "
            "hub cache (HF_HOME) by hand, or use the profiles smoke, quick or cifar, which download nothing."
        ) from error
