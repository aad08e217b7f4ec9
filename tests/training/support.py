"""A recipe of a few steps, its batches, a bare run of the loop."""

import numpy as np
import torch

from tests.support import context
from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import Vit, build
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.training.loop import cross_entropy, train

DIGITS = Data(source="digits", image_size=8, per_class=6, mean=(0.304,), std=(0.375,))
VIT = Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4, init="xavier")
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.01)
STEPS = 5


def batches(augment=Augment()):  # noqa: B008  (frozen)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (44, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (44,), generator=generator)
    return ResidentBatches(images, labels, DIGITS, batch_size=8, training=Training(augment, seed=0))


def model(seed=0, spec=VIT):
    torch.manual_seed(seed)
    return build(spec, image_size=8, channels=1, num_classes=10)


def fit(module, recipe=RECIPE, *, data=None, loss=cross_entropy, where=None, **options):
    return train(module, data or batches(), loss, recipe, num_classes=10, context=where or context(), **options)


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)
