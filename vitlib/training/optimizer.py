"""What a recipe says of the optimiser and the learning rate, in timm's terms."""

from __future__ import annotations

from functools import partial

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from vitlib.recipe import Recipe

FORM = ("capturable", "fused", "foreach")  # of a group of parameters: how its steps are taken, not what they give


def make_optimizer(model: nn.Module, recipe: Recipe, *, recorded: bool = False) -> torch.optim.Optimizer:
    """timm's optimiser of the recipe's name over the parameters that are trained; biases and norms are spared weight decay.

    A model may give some of its parameters a rate of their own by `lr_scales()`: multipliers of the learning rate, at every step, by how
    the parameters' names begin.

    Args:
        recorded: in a form whose steps can be replayed from a record, and that reads its rates from tensors: see `Rates`.

    Raises:
        ValueError: layer-wise rates for a model that names no layers.
    """
    if recipe.layer_decay and not hasattr(model, "group_matcher"):
        raise ValueError(f"recipe.layer_decay={recipe.layer_decay}: {type(model).__name__} names no layers; allowed: None, or a timm model")
    options = {
        "adamw": {"fused": True, "capturable": recorded, "betas": (0.9, recipe.beta2), "layer_decay": recipe.layer_decay},
        "sgd": {"fused": True, "layer_decay": recipe.layer_decay},
        "momentum": {"fused": recorded or None, "layer_decay": recipe.layer_decay},
        "lars": {"param_group_fn": partial(_matrices_and_vectors, foreach=recorded or None)},
    }[recipe.optimizer]
    optimizer = create_optimizer_v2(
        model, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum, **options
    )  # fmt: skip
    for start, scale in getattr(model, "lr_scales", dict)().items():
        named = {id(parameter) for name, parameter in model.named_parameters() if name.startswith(start)}
        optimizer.param_groups = [part for group in optimizer.param_groups for part in _split(group, named, scale)]
    if recorded:
        _start_momenta(optimizer)
    return optimizer


def restore(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """The state of an interrupted run; how steps are taken stays a matter of the device."""
    forms = [{name: group[name] for name in FORM if name in group} for group in optimizer.param_groups]
    for group, form in zip(saved["param_groups"], forms, strict=True):
        group.update(form)  # before: it says where the counts of steps are kept
    optimizer.load_state_dict(saved)
    _start_momenta(optimizer)


class Rates:
    """The learning rates after so many updates, by timm's schedule; of steps that are recorded in tensors that a replay reads anew."""

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int, *, recorded: bool = False):
        self._optimizer, self._schedule = optimizer, make_schedule(optimizer, recipe, steps)
        groups = optimizer.param_groups
        self._tensors = [torch.zeros((), device=group["params"][0].device) for group in groups] if recorded else None
        self.lr = recipe.lr

    def set(self, updates: int) -> None:
        """Those of the next update; `lr` is the rate without the layers' shares of it."""
        self._schedule.step_update(updates)
        groups = self._optimizer.param_groups
        self.lr = groups[0]["lr"] / groups[0].get("lr_scale", 1.0)
        if self._tensors:
            for group, rate in zip(groups, self._tensors, strict=True):
                group["lr"] = rate.fill_(group["lr"])


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


def _start_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Zeros where fused SGD has no momenta yet: it takes all or none, and parameters may first have a gradient after others."""
    if isinstance(optimizer, torch.optim.SGD) and optimizer.param_groups[0]["fused"]:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _split(group: dict, named: set[int], scale: float) -> list[dict]:
    """The group without the named parameters, and these at a scale of its rate, which timm's schedules multiply by `lr_scale`."""
    rest = [parameter for parameter in group["params"] if id(parameter) not in named]
    scaled = [parameter for parameter in group["params"] if id(parameter) in named]
    parts = (group | {"params": rest}, group | {"params": scaled, "lr_scale": scale * group.get("lr_scale", 1.0)})
    return [part for part in parts if part["params"]]


def _matrices_and_vectors(model: nn.Module, foreach: bool | None) -> list[dict]:
    """LARS as in MAE's linear probe: matrices take steps in proportion to their norm, biases do not (timm's needs to be told)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices, vectors = ([parameter for parameter in trained if (parameter.ndim > 1) is matrix] for matrix in (True, False))
    return [
        {"params": matrices, "always_adapt": True, "foreach": foreach},
        {"params": vectors, "always_adapt": False, "foreach": foreach, "weight_decay": 0.0},
    ]
