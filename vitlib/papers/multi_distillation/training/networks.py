"""Multi-distillation: how networks are trained alone, as peers, or with a frozen teacher."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from vitlib.computing import Context, Result
from vitlib.inputs.data import Batches, seed_everything, test_batches, training_batches
from vitlib.inputs.models import build, load_weights, weights_of
from vitlib.inputs.sets.catalogue import stratified
from vitlib.inputs.sources import class_names
from vitlib.methods.distillation.exits import DeepestEnd, Outputs, with_exits
from vitlib.papers.multi_distillation.specs import Alone, Combined
from vitlib.papers.multi_distillation.training.curriculum import Losses
from vitlib.papers.multi_distillation.training.objective import Knowledge, deepest, loss_terms
from vitlib.papers.multi_distillation.training.step import at_equal_step
from vitlib.training.evaluate import accuracy, judged, labels_of, outputs, scores_of
from vitlib.training.loop import cross_entropy, target_maker, train
from vitlib.training.step.update import mean_over_images

FOLLOWED = 64  # held-out images on which the terms of the loss are followed


def train_alone(spec: Alone, context: Context) -> Result:
    network = untrained(spec, spec.seed, context)

    @mean_over_images
    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return spec.label_weight * cross_entropy(model, images, targets)

    trained = train(network, _training(spec, context), loss, spec.recipe, num_classes=network.num_classes, context=context)
    measured = _measured(spec, context)
    metrics, by_image = judged(scores_of(network, measured), labels_of(measured))
    return Result(metrics, trained.history, by_image, weights_of(network), trained.measured)


def train_combined(spec: Combined, context: Context) -> Result:
    model, batches = pair(spec, context), _training(spec, context)
    spec = at_equal_step(spec, model, batches)
    losses, measured = Losses(spec, batches), _measured(spec, context)
    classes = model.networks[0].backbone.num_classes
    trained = train(
        model, losses.batches, losses, spec.recipe, num_classes=classes, context=context,
        evaluate=_follow(spec, context), around_step=losses.around_step,
    )  # fmt: skip
    metrics, by_image = accuracies(model, measured)
    metrics |= exit_accuracies(model.networks[0], measured) if spec.objective.weights.c else {}
    metrics |= spec.objective.weights.model_dump() | {"label weight": spec.objective.label_weight, "scale": spec.objective.scale}
    kept = weights_of(model.networks[0].backbone) if spec.keep_weights else None
    return Result(metrics, trained.history, by_image, kept, trained.measured)


def untrained(spec: Alone | Combined, seed: int, context: Context) -> nn.Module:
    """A network without exits, drawn from `seed`."""
    seed_everything(seed, context.device)
    classes = len(class_names(spec.data, context.data_dir))
    return build(spec.model, image_size=spec.data.image_size, channels=spec.data.channels, num_classes=classes).to(context.device)


def pair(spec: Combined, context: Context) -> Peers | Taught:
    """Two peers, each drawn from its own seed, or the first with its frozen teacher."""
    if spec.teacher:
        teacher = untrained(spec.teacher, spec.teacher.seed, context)
        load_weights(teacher, context.weights(spec.teacher))
        return Taught(_learner(spec, spec.peers[0], None, context), teacher)
    starts = spec.warm_start or (None, None)
    return Peers([_learner(spec, seed, start, context) for seed, start in zip(spec.peers, starts, strict=True)])


class Peers(nn.Module):
    """Networks on one batch: for each its outputs, and what the other's deepest end says."""

    def __init__(self, networks: list[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> list[tuple[Outputs, Knowledge]]:
        first, second = (network(images) for network in self.networks)
        return [(first, deepest(second)), (second, deepest(first))]


class Taught(nn.Module):
    """A network and its frozen teacher, which stays in eval mode."""

    def __init__(self, student: nn.Module, teacher: nn.Module):
        super().__init__()
        self.networks, self.teacher = nn.ModuleList([student]), DeepestEnd(teacher).requires_grad_(False)

    def forward(self, images: Tensor) -> list[tuple[Outputs, Knowledge]]:
        with torch.no_grad():
            taught = deepest(self.teacher(images))
        return [(self.networks[0](images), taught)]

    def train(self, mode: bool = True) -> Taught:
        super().train(mode)
        self.teacher.eval()
        return self


def accuracies(model: Peers | Taught, measured: Batches) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Top-1 of the first peer's deepest classifier ('top1') and of the second peer's ('top1 peer 2'), and both by image."""
    labels, metrics, by_image = labels_of(measured), {}, {}
    for network, name in zip(model.networks, ("top1", "top1 peer 2"), strict=False):
        top1, right = judged(scores_of(network.backbone, measured), labels, name)
        metrics, by_image = metrics | top1, by_image | right
    return metrics, by_image


def exit_accuracies(network: nn.Module, measured: Batches) -> dict[str, float]:
    """Top-1 of a network's exits ('top1 exit 1' and so on), shallow first."""
    labels, scores = labels_of(measured), outputs(network, measured, lambda module, images: tuple(module(images).logits[:-1]))
    return {f"top1 exit {place}": accuracy(found.argmax(dim=1).numpy(), labels) for place, found in enumerate(scores, start=1)}


def _follow(spec: Combined, context: Context) -> Callable[[nn.Module], dict[str, float]]:
    """Measures, in eval mode, accuracies on the held-out images and the weighted terms of the first network's loss on the first of them."""
    held_out = _held_out(spec, context)
    images, labels = next(iter(held_out.epoch(0)))

    @torch.no_grad()
    def follow(model: nn.Module) -> dict[str, float]:
        own, taught = model(images[:FOLLOWED])[0]
        _, targets = target_maker(spec.recipe.changed(mixup=0.0, cutmix=0.0), own.logits[-1].shape[1])(images, labels[:FOLLOWED])
        terms = loss_terms(own, taught, targets, spec.objective)
        top1, _ = accuracies(model, held_out)
        return {f"term {name}": float(value) for name, value in terms.items()} | {f"held-out {name}": top1[name] for name in top1}

    return follow


def _learner(spec: Combined, seed: int, start: Alone | None, context: Context) -> nn.Module:
    """A network, with exits if skd_loss trains them."""
    backbone = untrained(spec, seed, context)
    network = (with_exits if spec.objective.weights.c else DeepestEnd)(backbone).to(context.device)
    if start:
        load_weights(backbone, context.weights(start))
    return network


def _training(spec: Alone | Combined, context: Context) -> Batches:
    def kept(labels: np.ndarray) -> np.ndarray:
        return np.flatnonzero(~stratified(labels, spec.held_out))

    return training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir, chosen=kept)


def _measured(spec: Alone | Combined, context: Context) -> Batches:
    """The images that the result is measured on."""
    if spec.measured_on == "held-out":
        return _held_out(spec, context)
    return test_batches(spec.data, device=context.device, data_dir=context.data_dir)


def _held_out(spec: Alone | Combined, context: Context) -> Batches:
    """The images of the training split that are not trained on."""

    def held_out(labels: np.ndarray) -> np.ndarray:
        return np.flatnonzero(stratified(labels, spec.held_out))

    return test_batches(spec.data, device=context.device, data_dir=context.data_dir, split="train", chosen=held_out)
