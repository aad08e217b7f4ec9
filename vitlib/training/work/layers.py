"""Networks as chains of layers, by formula: multiply-accumulates (MACs), parameters, activations and kernels of one image.

Which FLOPs a training step adds to a forward pass follows from the order of a chain: two for each MAC forward; as many again for the
gradient of a layer's weights where they train, and for that of its inputs where any layer before it trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from vitlib.inputs.models import Model, ResNet, Timm, Vit, build, parameter_count, sketch

STEM = 64  # channels of a ResNet's first convolution at every width


@dataclass(frozen=True)
class Layer:
    """A layer and what follows it up to the next one.

    Args:
        macs: multiply-accumulates of one image.
        parameters: 0 for a product of activations.
        elements: activations that one image leaves in memory.
        kernels: operations that a device is asked for, whatever the number of images.
        trains: whether its weights do.
        heads: of attention; a CPU multiplies the small matrices of each head of each image by themselves.
    """

    macs: float
    parameters: int
    elements: float
    kernels: int
    kind: Literal["product", "convolution"] = "product"
    trains: bool = True
    heads: float = 0


Chain = tuple[Layer, ...]


@dataclass(frozen=True)
class Network:
    """A network in order: what comes before its blocks, these, and what comes after."""

    front: Chain
    blocks: tuple[Chain, ...]
    end: Chain

    @property
    def layers(self) -> Chain:
        return self.front + sum(self.blocks, ()) + self.end

    def until(self, blocks: int) -> Chain:
        """Everything before the end, of so many blocks."""
        return self.front + sum(self.blocks[:blocks], ())


def frozen(chain: Iterable[Layer]) -> Chain:
    """The same, none of its weights trained."""
    return tuple(replace(layer, trains=False) for layer in chain)


def often(chain: Iterable[Layer], times: float) -> Chain:
    """The same for so many views of an image."""
    return tuple(replace(layer, macs=times * layer.macs, elements=times * layer.elements, heads=times * layer.heads) for layer in chain)


def operations(count: int) -> Chain:
    """So many operations of little work, such as those of a loss."""
    return (Layer(0, 0, 0, count),)


def forward_flops(chain: Iterable[Layer]) -> float:
    """FLOPs of one image forward."""
    return sum(2 * layer.macs for layer in chain)


def gradients(chain: Chain) -> list[int]:
    """Of each layer how many gradients a backward pass takes: its weights', and its inputs' where a layer before it trains.

    A product of activations has two inputs.
    """
    trained = accumulate((layer.trains and layer.parameters > 0 for layer in chain), lambda one, other: one or other, initial=False)
    return [2 * before if not layer.parameters else before + layer.trains for layer, before in zip(chain, trained, strict=False)]


def backward_flops(chain: Chain) -> float:
    """FLOPs of one image backward."""
    return sum(2 * count * layer.macs for count, layer in zip(gradients(chain), chain, strict=True))


@lru_cache(maxsize=1024)
def network(model: Model, image_size: int, channels: int, classes: int) -> Network:
    """The layers of a model; by formula for a Vit, a ResNet and timm's plain transformers, and otherwise as torch counts them."""
    if isinstance(model, Timm):
        return _released(model, image_size, channels, classes)
    return (transformer if isinstance(model, Vit) else convnet)(model, image_size, channels, classes)


def transformer(model: Vit, image_size: int, channels: int, classes: int) -> Network:
    prefix, width = 1 + model.distilled, model.embed_dim
    patches = (image_size // model.patch_size) ** 2
    patch = channels * model.patch_size**2
    tokens = patches + prefix
    front = Layer(patch * width * patches, patch * width + width * (tokens + prefix + 1), 2 * tokens * width, 4, "convolution")
    blocks = (block(width, tokens, model.num_heads, model.mlp_ratio),) * model.depth
    return Network((front,), blocks, (norm(width, tokens), *(linear(width, classes) for _ in range(prefix if classes else 0))))


def block(width: int, tokens: int, heads: int, mlp_ratio: float = 4.0) -> Chain:
    """timm's transformer block, in five layers: qkv, attention, projection, and the two of the perceptron."""
    hidden = round(mlp_ratio * width)
    here, wide = tokens * width, tokens * hidden
    return (
        Layer(3 * here * width, 3 * width * (width + 1) + 2 * width, 4 * here, 3),
        Layer(2 * tokens * here, 0, 2 * heads * tokens**2 + here, 2, heads=heads),
        Layer(here * width, width * (width + 1), 2 * here, 2),
        Layer(here * hidden, (width + 1) * hidden + 2 * width, here + 2 * wide, 3),
        Layer(wide * width, (hidden + 1) * width, 2 * here, 2),
    )


def adapted(chain: Chain, width: int, tokens: int, rank: int, mlp_ratio: float = 4.0) -> Chain:
    """A frozen block with trained adapters of its six matrices: k (in + out) MACs a token and matrix."""
    hidden = round(mlp_ratio * width)
    sizes = {0: (width, width, 3), 2: (width, width, 1), 3: (width, hidden, 1), 4: (hidden, width, 1)}
    layers = []
    for place, layer in enumerate(frozen(chain)):
        layers.append(layer)
        if place in sizes:
            inside, outside, parts = sizes[place]
            inner, outer = parts * rank * inside, parts * rank * outside
            layers.append(Layer(tokens * inner, inner, tokens * parts * rank, 3))
            layers.append(Layer(tokens * outer, outer, 2 * tokens * parts * outside, 5))
    return tuple(layers)


def norm(width: int, tokens: int) -> Layer:
    return Layer(0, 2 * width, tokens * width, 1)


def linear(inside: int, outside: int, tokens: int = 1) -> Layer:
    return Layer(tokens * inside * outside, (inside + 1) * outside, tokens * outside, 1)


def convnet(model: ResNet, image_size: int, channels: int, classes: int) -> Network:
    """Stem, then two convolutions a block; a block that changes channels or halves its map has a 1 x 1 shortcut."""
    blocks, inside = [], STEM
    for stage, count in enumerate(model.blocks):
        outside, side = model.width * 2**stage, side_after(image_size, stage)
        for number in range(count):
            chain = [convolution(3, inside, outside, side), convolution(3, outside, outside, side)]
            if inside != outside or (stage and not number):
                chain.append(convolution(1, inside, outside, side))
            blocks.append(tuple(chain))
            inside = outside
    end = (linear(inside, classes),) if classes else ()
    return Network((convolution(3, channels, STEM, image_size),), tuple(blocks), end)


def convolution(kernel: int, inside: int, outside: int, side: int) -> Layer:
    """With its batch norm and activation, on a map of `side` x `side` pixels."""
    products = kernel**2 * inside * outside
    return Layer(products * side**2, products + 2 * outside, 3 * outside * side**2, 4, "convolution")


def side_after(size: int, stage: int) -> int:
    """Of a stage's map: each stage but the first halves it, rounding up."""
    return -(-size // 2**stage)


def _released(model: Timm, image_size: int, channels: int, classes: int) -> Network:
    from vitlib.inputs.foreign.architecture import sizes_of

    found = sizes_of(sketch(model, image_size=image_size, channels=channels), image_size, channels)
    if found:
        return transformer(found, image_size, channels, classes)
    return _counted(lambda: build(model.changed(pretrained=False), image_size=image_size, channels=channels, num_classes=classes))(
        image_size, channels
    )


def _counted(make: Callable) -> Callable[[int, int], Network]:
    """Layer by layer as torch counts a forward pass of one image, without storage."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    def count(image_size: int, channels: int) -> Network:
        with torch.device("meta"):
            module = make().eval()
            counter = FlopCounterMode(display=False)
            written: list[int] = []
            for part in module.modules():
                if not list(part.children()):
                    part.register_forward_hook(lambda _, __, output: written.append(getattr(output, "numel", int)()))
            with torch.no_grad(), counter:
                module(torch.zeros(1, channels, image_size, image_size))
        kind = "convolution" if any(isinstance(part, nn.Conv2d) and part.kernel_size != (1, 1) for part in module.modules()) else "product"
        whole = Layer(counter.get_total_flops() / 2, parameter_count(module), sum(written), len(written), kind)
        return Network((), ((whole,),), ())

    return count
