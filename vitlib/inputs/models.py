"""Models: timm's, by full tag or in micro sizes; building, loading and saving their weights.

`Vit`, `ResNet` and `Timm` are specs; `build` makes the module. timm is imported where it is needed, not here: it takes
seconds, and a wrong head count must be refused before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vitlib.inputs.checkpoints.resizing import resized
from vitlib.messages import nearest
from vitlib.spec import Part, SpecError

if TYPE_CHECKING:
    from torch import nn

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
    """A timm model by its name; `pretrained` loads the released weights, which the full `architecture.tag` alone says for certain."""

    name: str
    pretrained: bool = False

    @model_validator(mode="after")
    def _full_tag(self) -> Self:
        if self.pretrained and "." not in self.name:
            raise ValueError(f"name={self.name!r} has no tag; allowed: 'architecture.tag', as in deit_tiny_patch16_224.fb_in1k")
        return self

    @property
    def architecture(self) -> str:
        return self.name.partition(".")[0]


Model = Vit | ResNet | Timm


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
    common = {"in_chans": channels, **({"drop_path_rate": drop_path} if drop_path else {}), **classes}
    if isinstance(model, Vit):
        return _vit(model, image_size, common | {"dynamic_img_size": any_size})
    if isinstance(model, ResNet):
        return _resnet(model, common)
    return _timm(model, image_size, common)


def weights_of(module: nn.Module) -> dict[str, np.ndarray]:
    """All parameters and buffers as numpy arrays on the CPU."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_weights(module: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Load `weights_of` another module; those of another grid or patch size are `resized`, a classifier left out stays fresh.

    Raises:
        RuntimeError: if anything but the classifier is missing, or does not fit.
    """
    import torch

    state = resized({name: torch.from_numpy(np.array(array)) for name, array in weights.items()}, module)
    target = module.state_dict()
    module.load_state_dict({name: target[name] for name in classifier_names(module)} | state)


def sketch(model: Model, *, image_size: int, channels: int, drop_path: float = 0.0) -> nn.Module:
    """The module of a spec with one class, without storage: it has names and shapes alone, and costs no memory and no random numbers."""
    import torch

    if isinstance(model, Timm):
        model = model.changed(pretrained=False)  # released weights, which timm would fetch, have nowhere to go
    with torch.device("meta"):
        return build(model, image_size=image_size, channels=channels, num_classes=1, drop_path=drop_path)


def classifiers(module: nn.Module) -> list[nn.Module]:
    """The layers that give the logits: one, or in DeiT's distilled models two; where norms stand before it, the linear layer alone."""
    from torch import nn

    heads = _heads(module)
    layers = [[layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)] for head in heads]
    return [inner[-1] if inner else head for head, inner in zip(heads, layers, strict=True)]


def classifier_names(module: nn.Module) -> frozenset[str]:
    """Names of the parameters of the module's classifier, of both classifiers where it is distilled; empty without one."""
    own = {id(parameter) for head in _heads(module) for parameter in head.parameters()}
    return frozenset(name for name, parameter in module.named_parameters() if id(parameter) in own)


def _heads(module: nn.Module) -> list[nn.Module]:
    """What timm calls the module's classifier."""
    from torch import nn

    found = module.get_classifier() if hasattr(module, "get_classifier") else ()
    return list(found) if isinstance(found, tuple | list | nn.ModuleList) else [found]


def without_classifier(weights: dict[str, np.ndarray], classifier: frozenset[str]) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights.items() if name not in classifier}


def classifier_outputs(weights: dict[str, np.ndarray], classifier: frozenset[str]) -> int:
    """Number of classes that the weights' classifier tells apart, 0 without one."""
    return next((len(weights[name]) for name in sorted(classifier) if name in weights), 0)


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Every part of the module in eval mode, and as it was afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


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
        raise SpecError(_untiled(model.patch_size, image_size))


def _untiled(patch_size: int, image_size: int) -> str:
    return f"patch_size: got {patch_size}, which does not tile {image_size} px; allowed: divisors of {image_size}"


def _resnet(model: ResNet, common: dict) -> nn.Module:
    from timm.models import resnet
    from torch import nn

    channels = tuple(model.width * 2**stage for stage in range(4))
    module = resnet.ResNet(resnet.BasicBlock, layers=model.blocks, channels=channels, **common)
    module.conv1 = nn.Conv2d(common["in_chans"], module.conv1.out_channels, kernel_size=3, padding=1, bias=False)
    module.maxpool = nn.Identity()
    nn.init.kaiming_normal_(module.conv1.weight, mode="fan_out", nonlinearity="relu")
    return module


@lru_cache(maxsize=256)
def released(name: str) -> dict[str, Any]:
    """What timm says of a model by its name: image size, mean, std and number of classes of its weights.

    Raises:
        SpecError: for an architecture or a tag that timm does not know.
    """
    import timm

    architecture, _, tag = name.partition(".")
    if architecture not in timm.list_models():
        hint = nearest(name, timm.list_pretrained() if tag else timm.list_models()).partition(" allowed:")[0]
        raise SpecError(f"model.name: got {name!r}{hint} allowed: the names of timm.list_models(), with or without a tag")
    tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise SpecError(f"model.name: got {name!r}; allowed: {architecture} with one of the tags {', '.join(tags) or 'none'}")
    facts = timm.get_pretrained_cfg(name).to_dict()
    return {"image_size": facts["input_size"][-1], "mean": facts["mean"], "std": facts["std"], "num_classes": facts["num_classes"]}


def _timm(model: Timm, image_size: int, common: dict) -> nn.Module:
    import timm

    native = released(model.name)["image_size"]
    sized = {"img_size": image_size} if has_size(model.architecture) else {}
    try:
        module = timm.create_model(model.name, pretrained=model.pretrained, **sized, **common)
    except (TypeError, ValueError, AssertionError) as error:
        raise SpecError(f"model.name: {model.name!r} cannot be built for images of {image_size} px with {common}; {error}") from None
    except (RuntimeError, OSError) as error:
        raise SpecError(
            f"model.name: weights of {model.name!r} could not be had ({type(error).__name__}: {error}). Put them into the "
            "hub cache (HF_HOME) by hand, or use the profiles smoke, quick or tiny, which download nothing."
        ) from error
    side = getattr(getattr(module, "patch_embed", None), "patch_size", 1)
    side = side if isinstance(side, int) else side[0]
    if image_size % side and image_size != native:  # some are released at a size whose margin they leave out
        raise SpecError(_untiled(side, image_size))
    return module


@lru_cache(maxsize=256)
def has_size(architecture: str) -> bool:
    """Whether the architecture is built for images of one size, as timm's transformers are; its convnets take any."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            timm.create_model(architecture, img_size=released(architecture)["image_size"])
    except TypeError:
        return False
    return True
