"""What a recipe says of the optimiser and the learning rate, in timm's terms."""

from __future__ import annotations

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from vitlib.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """timm's optimiser of the recipe's name over the parameters that are trained; biases and norms are spared weight decay.

    A model may give some of its parameters a rate of their own by `lr_scales()`: multipliers of the learning rate, at every step, by how
    the parameters' names begin.

    Raises:
        ValueError: layer-wise rates for a model that names no layers.
    """
    if recipe.layer_decay and not hasattr(model, "group_matcher"):
        raise ValueError(f"recipe.layer_decay={recipe.layer_decay}: {type(model).__name__} names no layers; allowed: None, or a timm model")
    options = {
        "adamw": {"fused": True, "betas": (0.9, recipe.beta2), "layer_decay": recipe.layer_decay},
        "sgd": {"fused": True, "layer_decay": recipe.layer_decay},
        "momentum": {"layer_decay": recipe.layer_decay},  # torch's fused form fails where a parameter first has a gradient after others
        "lars": {"param_group_fn": _matrices_and_vectors},
    }[recipe.optimizer]
    optimizer = create_optimizer_v2(
        model, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum, **options
    )  # fmt: skip
    for start, scale in getattr(model, "lr_scales", dict)().items():
        named = {id(parameter) for name, parameter in model.named_parameters() if name.startswith(start)}
        optimizer.param_groups = [part for group in optimizer.param_groups for part in _split(group, named, scale)]
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> CosineLRScheduler:
    """Linear warm-up, then a cosine that began with the training or begins after the warm-up, stepped per update."""
    warmup, total = round(recipe.warmup_epochs * steps), recipe.epochs * steps
    after = recipe.cosine_from == "warmup"
    return CosineLRScheduler(
        optimizer,
        t_initial=total - warmup if after else total,
        lr_min=recipe.min_lr,
        warmup_t=warmup,
        warmup_lr_init=recipe.warmup_lr,
        warmup_prefix=after,
        t_in_epochs=False,
    )


def clip_gradients(model: nn.Module, recipe: Recipe) -> None:
    """Scale gradients whose norm is above `recipe.clip_grad` down to it: all of them together, or each parameter's by itself."""
    if recipe.clip_grad is None:
        return
    groups = {"global": [model.parameters()], "parameter": model.parameters()}[recipe.clip]
    for group in groups:
        nn.utils.clip_grad_norm_(group, recipe.clip_grad)


def _split(group: dict, named: set[int], scale: float) -> list[dict]:
    """The group without the named parameters, and these at a scale of its rate, which timm's schedules multiply by `lr_scale`."""
    rest = [parameter for parameter in group["params"] if id(parameter) not in named]
    scaled = [parameter for parameter in group["params"] if id(parameter) in named]
    parts = (group | {"params": rest}, group | {"params": scaled, "lr_scale": scale * group.get("lr_scale", 1.0)})
    return [part for part in parts if part["params"]]


def _matrices_and_vectors(model: nn.Module) -> list[dict]:
    """LARS as in MAE's linear probe: matrices take steps in proportion to their norm, biases do not (timm's needs to be told)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "always_adapt": True},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "always_adapt": False, "weight_decay": 0.0},
    ]
