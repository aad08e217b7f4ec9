"""What an update asks of a device beside its networks' own operations: batch, mixing, loss, clipping, optimiser, moving average."""

from __future__ import annotations

from vitlib.recipe import Augment, Recipe
from vitlib.training.work.layers import Chain

ALWAYS = 30  # choice and normalisation of the images, dense targets, loss with its gradient, mean of it, a fused optimiser
MIXED, AUGMENTED, CLIPPED, AVERAGED = 4, 20, 8, 6  # more
UNFUSED = 4  # of an optimiser whose parameters are updated each by itself


def kernels_beside(recipe: Recipe, chains: tuple[Chain, ...]) -> int:
    """Operations of an update, whatever the networks' sizes."""
    tensors = 2 * sum(layer.trains and layer.parameters > 0 for chain in chains for layer in chain)
    return (
        ALWAYS
        + MIXED * bool(recipe.mixup or recipe.cutmix)
        + AUGMENTED * (recipe.augment != Augment())
        + CLIPPED * (recipe.clip_grad is not None)
        + AVERAGED * (recipe.ema_decay is not None)
        + UNFUSED * tensors * (recipe.optimizer in ("momentum", "lars"))
    )
