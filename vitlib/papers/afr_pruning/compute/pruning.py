"""AFR pruning: how a model is scored, pruned and fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import Batches, seed_for, test_batches, training_batches
from vitlib.inputs.models import weights_of
from vitlib.inputs.sets.catalogue import balanced
from vitlib.inputs.sources import class_names
from vitlib.methods.pruning.masks import (
    MASK,
    Masks,
    apply_masks,
    densities,
    keep_masks,
    left_out,
    masked_gradients,
    prunable,
    set_to_zero,
    two_of_four,
)
from vitlib.methods.pruning.saliency import Rows, Scores, afr, block_features, chance, linear_features, magnitude, refer, snip
from vitlib.papers.afr_pruning.specs import Criterion, Diagnosis, Pruned, Pruning
from vitlib.teachers.task import with_fresh_head
from vitlib.training.evaluate import judged, labels_of, scores_of, validated
from vitlib.training.loop import Trained, cross_entropy, train
from vitlib.training.remembered import shared

FEATURES = {"blocks": block_features, "linears": linear_features}
MEASURED_ON = {"": "train", "held-out ": "test"}  # how a spread is named, and the split that its images are drawn from


class Spectrum(NamedTuple):
    """Singular values of each block's features, largest first (blocks, min(rows, D)), and how many rows these have (blocks,)."""

    sigma: Tensor
    rows: Tensor


@computes(Pruned)
def prune_and_tune(spec: Pruned, context: Context) -> Result:
    model = with_fresh_head(spec.teacher, spec.data, spec.seed, context, drop_path=spec.recipe.drop_path)
    images = {kind: balanced_images(spec, context, split) for kind, split in MEASURED_ON.items()}
    spectra = {"dense": {kind: dense_spectrum(spec, model, some, kind) for kind, some in images.items()}}
    scores = scored(spec.criterion, spec, model, images[""])
    masks = {name: mask.to(context.device) for name, mask in chosen(scores, spec.sparsity, spec.pruning).items()}
    apply_masks(model, masks)
    spectra["pruned"] = {kind: spectrum(model, some, spec.pruning.rows) for kind, some in images.items()}
    trained = fine_tune(spec, model, masks, context)
    tuned = trained.ema or model
    spectra["tuned"] = {kind: spectrum(tuned, some, spec.pruning.rows) for kind, some in images.items()}
    test = test_batches(spec.data, device=context.device, data_dir=context.data_dir)
    density = densities(masks)
    accuracy, right = judged(scores_of(tuned, test), labels_of(test))
    metrics = {
        **accuracy,
        **validated(tuned, spec.data, context),
        "kept": sum(int(mask.sum()) for mask in masks.values()),
        "prunable": sum(mask.numel() for mask in masks.values()),
        "lowest density": min(density.values()),
        **{f"{kind}spread {state}": spread(found) for state, kinds in spectra.items() for kind, found in kinds.items()},
    }
    weights = weights_of(tuned) | {MASK + name: mask.cpu().numpy() for name, mask in masks.items()} if spec.keep_weights else None
    arrays = right | {f"spectrum {state}": kinds[""].sigma.numpy() for state, kinds in spectra.items()}
    arrays["densities"] = np.array(list(density.values()))
    return Result(metrics, trained.history, arrays=arrays, weights=weights, measured=trained.measured)


def fine_tune(spec: Pruned, model: nn.Module, masks: Masks, context: Context) -> Trained:
    """Train all weights but the pruned ones, which have no gradient and are set to zero again after every update."""
    batches = training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    model.requires_grad_(True)
    pruned = left_out(model, masks)

    @contextmanager
    def around_step(progress: float) -> Iterator[None]:
        yield
        set_to_zero(pruned)

    with masked_gradients(model, masks):
        return train(
            model, batches, cross_entropy, spec.recipe, num_classes=model.num_classes, context=context, around_step=around_step
        )  # fmt: skip


def balanced_images(spec: Pruned | Diagnosis, context: Context, split: str = "train", batch_size: int = 64) -> Batches:
    """N images of a split, balanced over classes, as they are evaluated: the pruning samples, or as many test images."""
    count = spec.pruning.samples(len(class_names(spec.data, context.data_dir)))
    seed = seed_for("pruning samples", spec.pruning.sample_seed, spec.seed)
    return test_batches(
        spec.data,
        device=context.device,
        data_dir=context.data_dir,
        split=split,
        batch_size=batch_size,
        chosen=lambda labels: balanced(labels, count, seed),
    )


def scored(criterion: Criterion, spec: Pruned | Diagnosis, model: nn.Module, samples: Batches) -> Scores:
    """Scores of the prunable weights by a criterion, of the model as it starts."""
    pruning = spec.pruning
    weights = prunable(model, pruning.include_patch_embed)

    def once(name: str, compute: Callable[[], Scores]) -> Scores:
        return dict(zip(weights, _once(name, spec, model, lambda: tuple(compute().values())), strict=True))

    def by_snip() -> Scores:
        return once("snip", lambda: snip(model, samples.epoch(0), weights))

    def by_refer() -> Scores:
        images = lambda: (images for images, _ in samples.epoch(0))  # noqa: E731
        features = FEATURES[pruning.layers](pruning.rows)
        return once("refer", lambda: refer(model, images, weights, features, center=pruning.center))

    return {
        "snip": by_snip,
        "refer": by_refer,
        "afr": lambda: afr(by_refer(), by_snip(), scope=pruning.standardised, scale=pruning.scale),
        "magnitude": lambda: magnitude(weights),
        "random": lambda: chance(weights, spec.seed),
    }[criterion]()


def chosen(scores: Scores, sparsity: float, pruning: Pruning) -> Masks:
    """Masks by the threshold of the settings."""
    if pruning.threshold == "2:4" and sparsity:
        return two_of_four(scores)
    return keep_masks(scores, sparsity, "layer" if pruning.threshold == "layer" else "global")


@torch.no_grad()
def spectrum(model: nn.Module, samples: Batches, rows: Rows) -> Spectrum:
    """Of the blocks' outputs for some images, not centred; of matrices that are images' own, the mean over images."""
    model.eval()
    features = block_features(rows)
    batches = zip(*(features(model, images) for images, _ in samples.epoch(0)), strict=True)
    found = [(_singular_values(layer), layer.shape[-2]) for layer in map(torch.cat, batches)]
    sigma, lengths = zip(*found, strict=True)
    return Spectrum(torch.stack(sigma), torch.tensor(lengths))


def dense_spectrum(spec: Pruned, model: nn.Module, images: Batches, kind: str) -> Spectrum:
    """Of the model as it starts."""
    return Spectrum(*_once(f"{kind}spectrum", spec, model, lambda: spectrum(model, images, spec.pruning.rows)))


def spread(found: Spectrum) -> float:
    """(1/rows) sum_i sigma_i, mean over blocks."""
    return float((found.sigma.numpy().sum(axis=1) / found.rows.numpy()).mean())


def _singular_values(features: Tensor) -> Tensor:
    values = torch.linalg.svdvals(features.double()).cpu()
    return values if values.ndim == 1 else values.mean(dim=0)


def _once(name: str, spec: Pruned | Diagnosis, model: nn.Module, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What follows from the model and the images that a seed starts with: from an earlier run of this process, or computed."""
    return shared((name, spec.teacher, spec.data, spec.pruning, spec.seed, str(next(model.parameters()).device)), compute)
