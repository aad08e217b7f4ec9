"""What a training computes forward, by formula and by count: parameters, and multiply-accumulates (MACs) of one image.

A ResNet is a list of convolutions, each with batch norm: k x k from `inside` to `outside` channels on a map of `side` x `side`. Hence
parameters = sum(k^2 inside outside + 2 outside), MACs = sum(k^2 inside outside side^2), and D C (+ C) for a classifier on D features.
The angle relation of a batch of B is B products of (B, D) and (D, B), for student and teacher: 2 B^2 D MACs an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitlib.computing import Context, Result
from vitlib.inputs.models import ResNet, Vit, build, parameter_count
from vitlib.inputs.sources import class_names
from vitlib.methods.distillation.exits import EXITS, with_exits
from vitlib.methods.distillation.relations import angle_relation_loss
from vitlib.papers.multi_distillation.specs import NetworkCost
from vitlib.training.cost import VitCost, counted_macs

STEM = 64  # channels of a ResNet's first convolution at every width


class Convolution(NamedTuple):
    kernel: int
    inside: int
    outside: int
    side: int

    @property
    def products(self) -> int:
        return self.kernel**2 * self.inside * self.outside


class Cost(NamedTuple):
    parameters: int
    macs: int


def count_cost(spec: NetworkCost, context: Context) -> Result:
    """Both ways of counting."""
    classes = len(class_names(spec.data, context.data_dir))
    by_formula, counted = formula(spec, classes), count(spec, classes)
    return Result(counted._asdict() | {f"{name}_formula": value for name, value in by_formula._asdict().items()})


def formula(spec: NetworkCost, classes: int) -> Cost:
    features, size, channels = features_of(spec.model), spec.data.image_size, spec.data.channels
    if spec.part == "angle relation":
        return Cost(0, 2 * spec.batch_size**2 * features)
    exits = EXITS if spec.part == "with exits" else 0
    classifier = Cost(features * classes + classes, features * classes)
    if isinstance(spec.model, Vit):
        whole, norm = VitCost(spec.model, size, channels, classes), 2 * features
        return Cost(whole.parameters + exits * (norm + classifier.parameters), whole.macs + exits * classifier.macs)
    layers = [*convolutions(spec.model, size, channels), *(exit_convolutions(spec.model, size) if exits else [])]
    parameters = sum(layer.products + 2 * layer.outside for layer in layers)
    macs = sum(layer.products * layer.side**2 for layer in layers)
    return Cost(parameters + (1 + exits) * classifier.parameters, macs + (1 + exits) * classifier.macs)


def count(spec: NetworkCost, classes: int) -> Cost:
    """By torch, on a network or a batch of features that is built for it."""
    size, channels = spec.data.image_size, spec.data.channels
    if spec.part == "angle relation":
        batches = [torch.randn(spec.batch_size, features_of(spec.model)) for _ in range(2)]
        with FlopCounterMode(display=False) as counter:
            angle_relation_loss(*batches)
        return Cost(0, counter.get_total_flops() // (2 * spec.batch_size))
    network = build(spec.model, image_size=size, channels=channels, num_classes=classes)
    network = with_exits(network) if spec.part == "with exits" else network
    return Cost(parameter_count(network), counted_macs(network, size, channels))


def features_of(model: ResNet | Vit) -> int:
    """Width of the deepest features."""
    return model.embed_dim if isinstance(model, Vit) else 8 * model.width


def convolutions(model: ResNet, size: int, channels: int) -> Iterator[Convolution]:
    """Stem, then two a block; a block that changes channels or halves its map has a 1 x 1 shortcut."""
    yield Convolution(3, channels, STEM, size)
    inside = STEM
    for stage, blocks in enumerate(model.blocks):
        outside, side = model.width * 2**stage, side_after(size, stage)
        for block in range(blocks):
            yield Convolution(3, inside, outside, side)
            yield Convolution(3, outside, outside, side)
            if inside != outside or (stage and not block):
                yield Convolution(1, inside, outside, side)
            inside = outside


def exit_convolutions(model: ResNet, size: int) -> Iterator[Convolution]:
    """Three an exit: to a quarter of the features, k x k with stride k, to all of them."""
    features = features_of(model)
    for stage in range(EXITS):
        kernel, side = 2 ** (EXITS - stage), side_after(size, stage)
        yield Convolution(1, model.width * 2**stage, features // 4, side)
        yield Convolution(kernel, features // 4, features // 4, side // kernel)
        yield Convolution(1, features // 4, features, side // kernel)


def side_after(size: int, stage: int) -> int:
    """Of a stage's map: each stage but the first halves it, rounding up."""
    return -(-size // 2**stage)
