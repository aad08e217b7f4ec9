"""Networks with three exits before the deepest classifier, over timm's ResNets and Vision Transformers.

Source: L. Zhang et al., Be your own teacher (BYOT, ICCV 2019), `models/resnet.py` of its code: an exit after each of the first three
stages. The transformer version has exits after a quarter, half and three quarters of its blocks (3, 6, 9 of 12).
"""

from __future__ import annotations

from typing import NamedTuple

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

EXITS = 3


class Outputs(NamedTuple):
    """Logits (B, C) and features (B, D) of the exits, shallow first; the deepest classifier's stand last."""

    logits: list[Tensor]
    features: list[Tensor]


def with_exits(backbone: nn.Module) -> nn.Module:
    """The backbone with its exits, as a module from images (B, C, H, W) to `Outputs`; `backbone` alone is the model to keep."""
    return TransformerExits(backbone) if isinstance(backbone, VisionTransformer) else ResNetExits(backbone)


class DeepestEnd(nn.Module):
    """A timm backbone alone, as a module from images (B, C, H, W) to `Outputs` of its own classifier."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone, self.classifiers = backbone, ()

    def forward(self, images: Tensor) -> Outputs:
        return classified([self.backbone.forward_head(self.backbone.forward_features(images), pre_logits=True)], self)


class ResNetExits(nn.Module):
    """A timm ResNet of four stages; each exit shrinks its stage's map to the last one's and widens it to as many features."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        widths = [stage["num_chs"] for stage in backbone.feature_info[1 : EXITS + 1]]
        self.branches = nn.ModuleList(branch(width, backbone.num_features, 2 ** (EXITS - place)) for place, width in enumerate(widths))
        self.classifiers = nn.ModuleList(nn.Linear(backbone.num_features, backbone.num_classes) for _ in widths)

    def forward(self, images: Tensor) -> Outputs:
        deepest, maps = self.backbone.forward_intermediates(images, indices=list(range(1, EXITS + 1)))
        features = [branch(stage).mean(dim=(2, 3)) for branch, stage in zip(self.branches, maps, strict=True)]
        return classified([*features, self.backbone.forward_head(deepest, pre_logits=True)], self)


def branch(width: int, features: int, stride: int) -> nn.Sequential:
    """1 x 1 to a quarter of the features, k x k with stride k, 1 x 1 to all of them; each with batch norm and ReLU (BYOT: 128 and 512)."""
    narrow = features // 4
    sizes = [(width, narrow, 1), (narrow, narrow, stride), (narrow, features, 1)]
    layers = [
        (nn.Conv2d(inside, outside, k, stride=k, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True))
        for inside, outside, k in sizes
    ]
    return nn.Sequential(*(layer for group in layers for layer in group))


class TransformerExits(nn.Module):
    """A timm Vision Transformer; each exit is a layer norm and a linear classifier on the class token."""

    def __init__(self, backbone: VisionTransformer):
        super().__init__()
        self.backbone = backbone
        depth, width = len(backbone.blocks), backbone.num_features
        self._blocks = [depth * (place + 1) // (EXITS + 1) - 1 for place in range(EXITS)]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self._blocks)
        self.classifiers = nn.ModuleList(nn.Linear(width, backbone.num_classes) for _ in self._blocks)

    def forward(self, images: Tensor) -> Outputs:
        deepest, tokens = self.backbone.forward_intermediates(images, indices=self._blocks, return_prefix_tokens=True, output_fmt="NLC")
        features = [norm(prefix[:, 0]) for norm, (_, prefix) in zip(self.norms, tokens, strict=True)]
        return classified([*features, self.backbone.forward_head(deepest, pre_logits=True)], self)


def classified(features: list[Tensor], model: DeepestEnd | ResNetExits | TransformerExits) -> Outputs:
    """Each exit's classifier on its features, and the backbone's own on the deepest."""
    classifiers = [*model.classifiers, model.backbone.get_classifier()]
    return Outputs([classifier(feature) for classifier, feature in zip(classifiers, features, strict=True)], features)
