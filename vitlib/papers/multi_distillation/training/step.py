"""An equal effective step: the total loss, scaled until its first gradient is as long as that of cross-entropy alone.

Counts every term, not the labels' weight alone: exits and relations move the network too, and by how much no weight tells.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vitlib.inputs.data import Batches
from vitlib.papers.multi_distillation.specs import Combined
from vitlib.papers.multi_distillation.training.objective import label_loss, loss_terms
from vitlib.training.loop import set_mode, target_maker
from vitlib.training.step.update import autocast


def at_equal_step(spec: Combined, model: nn.Module, batches: Batches) -> Combined:
    """The run with its `equal_step` turned into a scale of its objective, measured on untrained networks and the first batch.

    With g(L) the gradient of L by the first network's parameters, its exits' left out since cross-entropy alone has none:
    scale = equal_step |g(CE)| / |g(total)|. The model stays as it is, batch statistics included.
    """
    if spec.equal_step is None:
        return spec
    total, labels = first_gradients(spec, copy.deepcopy(model), batches)
    return spec.changed(objective=spec.objective.changed(scale=spec.objective.scale * spec.equal_step * labels / total), equal_step=None)


def first_gradients(spec: Combined, model: nn.Module, batches: Batches) -> tuple[float, float]:
    """Lengths of the first network's gradients on the first training batch: of all terms together, and of cross-entropy alone."""
    images, labels = next(iter(batches.epoch(0)))
    network = model.networks[0].backbone
    images, targets = target_maker(spec.recipe, network.num_classes)(images, labels)
    set_mode(model, spec.recipe)
    with autocast(spec.recipe, images.device):
        own, taught = model(images)[0]
        total = sum(loss_terms(own, taught, targets, spec.objective).values())
        alone = label_loss(own.logits[-1].float(), targets)
    return length_of_gradient(total, network), length_of_gradient(alone, network)


def length_of_gradient(loss: Tensor, network: nn.Module) -> float:
    """Euclidean, over all parameters; the graph is kept."""
    gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    return float(torch.stack([gradient.norm() for gradient in gradients if gradient is not None]).norm())
