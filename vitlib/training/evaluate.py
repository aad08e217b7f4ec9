"""Predictions of a model and their accuracy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vitlib import distributed
from vitlib.computing import Context
from vitlib.inputs.data import Batches, test_batches
from vitlib.inputs.models import in_eval_mode
from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, listing
from vitlib.training.loop import DivergedError
from vitlib.training.step.memory import fitted


@torch.inference_mode()
def outputs(model: nn.Module, batches: Batches, forward: Callable[[nn.Module, Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
    """`forward(model, images)` over all batches in eval mode: each of its tensors as float32 (N, ...), on the CPU.

    Processes that share a run take whole batches in turns: each has all values, to the bit those of one process. A batch that does not fit
    into the device's memory is taken in halves, down to one image: the same values but for rounding.

    Raises:
        DivergedError: if some of them are not finite: no prediction can be read from them.
    """

    def to_cpu(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.float().cpu() for tensor in forward(model, images))

    distributed.same_as_the_leader(model.buffers())
    with in_eval_mode(model):
        own = [fitted(to_cpu, images) for images, _ in batches.epoch(0, *distributed.turn())]
    return [finite(torch.cat(column)) for column in zip(*distributed.in_turn(own), strict=True)]


def finite(values: Tensor) -> Tensor:
    """The values, if no prediction is read from a NaN or an infinity.

    Raises:
        DivergedError: otherwise.
    """
    if not bool(values.isfinite().all()):
        raise DivergedError("model: it gives values that are not finite; lower recipe.lr, or set recipe.clip_grad")
    return values


def scores_of(model: nn.Module, batches: Batches) -> Tensor:
    """The model's output for every image, float32 (N, C), on the CPU."""
    return outputs(model, batches, lambda model, images: (model(images),))[0]


def labels_of(batches: Batches) -> np.ndarray:
    """True labels (N,) of the images in order, without reading them."""
    return batches.labels.cpu().numpy()


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of predictions (N,) that equal the true labels (N,), in percent."""
    return 100.0 * float(np.mean(predictions == labels))


def judged(scores: Tensor, labels: np.ndarray, name: str = "top1") -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Top-1 accuracy (percent) of scores (N, C) as the metric `name`, and as the array `name by image` which of the images are right."""
    right = scores.argmax(dim=1).numpy() == labels
    return {name: 100.0 * float(right.mean())}, {f"{name} by image": right}


def validated(model: nn.Module, data: Data, context: Context) -> dict[str, float]:
    """`validation top1` (percent), by which rates and budgets are chosen, where the source has validation images; otherwise nothing."""
    if watched_split(data, context.data_dir) == "test":
        return {}
    batches = test_batches(data, split="validation", device=context.device, data_dir=context.data_dir)
    return judged(scores_of(model, batches), labels_of(batches), "validation top1")[0]


def top_k_accuracy(scores: Tensor, labels: np.ndarray, k: int) -> float:
    """Share of rows of scores (N, C) with the true label among the k largest, in percent."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices.numpy()
    return 100.0 * float(np.mean((best == labels[:, None]).any(axis=1)))


def real_label_accuracy(scores: Tensor, data: Data, data_dir: Path) -> float:
    """Top-1 (percent) against ImageNet-Real's reassessed labels; images without any are skipped (timm's label file)."""
    from timm.data import RealLabelsImagenet

    paths, _ = listing(data, "test", data_dir)
    real = RealLabelsImagenet([path.name for path in paths])
    real.add_result(scores)
    return float(real.get_accuracy(k=1))
