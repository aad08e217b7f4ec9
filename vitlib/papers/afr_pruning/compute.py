"""AFR pruning: how a model is scored, pruned and fine-tuned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from vitlib.inputs.data import Batches, test_batches, training_batches
from vitlib.inputs.models import weights_of
from vitlib.inputs.sources import Data, balanced, class_names
from vitlib.methods.pruning.masks import MASK, Masks, apply_masks, densities, keep_masks, masked_gradients, prunable, two_of_four
from vitlib.methods.pruning.saliency import Scores, afr, block_features, chance, magnitude, refer, snip
from vitlib.papers.afr_pruning.specs import Criterion, Pruned, Pruning
from vitlib.spec import Context, Result
from vitlib.teachers.task import with_fresh_head
from vitlib.training.evaluate import accuracy, labels_of, scores_of
from vitlib.training.loop import Trained, cross_entropy, train


def prune_and_tune(spec: Pruned, context: Context) -> Result:
    model = with_fresh_head(spec.teacher, spec.data, spec.seed, context, drop_path=spec.recipe.drop_path)
    samples = pruning_samples(spec.data, spec.pruning, context)
    spectra = {"dense": spectrum(model, samples, spec.pruning)}
    scores = scored(spec.criterion, model, samples, spec.pruning, spec.seed)
    masks = {name: mask.to(context.device) for name, mask in chosen(scores, spec.sparsity, spec.pruning).items()}
    apply_masks(model, masks)
    spectra["pruned"] = spectrum(model, samples, spec.pruning)
    trained = fine_tune(spec, model, masks, context)
    tuned = trained.ema or model
    spectra["tuned"] = spectrum(tuned, samples, spec.pruning)
    test = test_batches(spec.data, device=context.device, data_dir=context.data_dir)
    density = densities(masks)
    metrics = {
        "top1": accuracy(scores_of(tuned, test).argmax(dim=1).numpy(), labels_of(test)),
        "kept": sum(int(mask.sum()) for mask in masks.values()),
        "prunable": sum(mask.numel() for mask in masks.values()),
        "lowest density": min(density.values()),
        **{f"spread {state}": float(spreads(values, samples.images).mean()) for state, values in spectra.items()},
    }
    weights = weights_of(tuned) | {MASK + name: mask.cpu().numpy() for name, mask in masks.items()} if spec.keep_weights else None
    arrays = {f"spectrum {state}": values for state, values in spectra.items()} | {"densities": np.array(list(density.values()))}
    return Result(metrics, trained.history, arrays=arrays, weights=weights, measured=trained.measured)


def fine_tune(spec: Pruned, model: nn.Module, masks: Masks, context: Context) -> Trained:
    """Train all weights but the pruned ones, which have no gradient and are set to zero again after every update."""
    batches = training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    model.requires_grad_(True)

    @contextmanager
    def around_step(progress: float) -> Iterator[None]:
        yield
        apply_masks(model, masks)

    with masked_gradients(model, masks):
        return train(
            model, batches, cross_entropy, spec.recipe, num_classes=model.num_classes, context=context, around_step=around_step
        )  # fmt: skip


def pruning_samples(data: Data, pruning: Pruning, context: Context, batch_size: int = 64) -> Batches:
    """N training images, balanced over classes, as they are evaluated."""
    count = pruning.samples(len(class_names(data, context.data_dir)))
    return test_batches(
        data,
        device=context.device,
        data_dir=context.data_dir,
        split="train",
        batch_size=batch_size,
        chosen=lambda labels: balanced(labels, count, pruning.sample_seed),
    )


def scored(criterion: Criterion, model: nn.Module, samples: Batches, pruning: Pruning, seed: int) -> Scores:
    """Scores of the prunable weights by a criterion."""
    weights = prunable(model, pruning.include_patch_embed)

    def by_snip() -> Scores:
        return snip(model, samples.epoch(0), weights)

    def by_refer() -> Scores:
        images = lambda: (images for images, _ in samples.epoch(0))  # noqa: E731
        return refer(model, images, weights, block_features(pruning.rows), center=pruning.center)

    return {
        "snip": by_snip,
        "refer": by_refer,
        "afr": lambda: afr(by_refer(), by_snip(), scope=pruning.standardised, scale=pruning.scale),
        "magnitude": lambda: magnitude(weights),
        "random": lambda: chance(weights, seed),
    }[criterion]()


def chosen(scores: Scores, sparsity: float, pruning: Pruning) -> Masks:
    """Masks by the threshold of the settings."""
    if pruning.threshold == "2:4" and sparsity:
        return two_of_four(scores)
    return keep_masks(scores, sparsity, "layer" if pruning.threshold == "layer" else "global")


@torch.no_grad()
def spectrum(model: nn.Module, samples: Batches, pruning: Pruning) -> np.ndarray:
    """Singular values of every block's features of the pruning samples, largest first; (blocks, min(N, D)), mean over images' own."""
    model.eval()
    features = block_features(pruning.rows)
    batches = zip(*(features(model, images) for images, _ in samples.epoch(0)), strict=True)
    return np.stack([_singular_values(torch.cat(layer)) for layer in batches])


def spreads(spectrum_values: np.ndarray, samples: int) -> np.ndarray:
    """(1/N) sum_i sigma_i of each block."""
    return spectrum_values.sum(axis=1) / samples


def _singular_values(features: Tensor) -> np.ndarray:
    values = torch.linalg.svdvals(features.double())
    return (values if values.ndim == 1 else values.mean(dim=0)).cpu().numpy()
