"""What frozen features are worth: k nearest neighbours and a linear probe.

Features are what the model's own classifier would read, and the mean of the patch tokens after the final norm.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlib.computing import Context
from vitlib.inputs.data import seed_everything, seed_for
from vitlib.inputs.models import classifiers
from vitlib.inputs.sources import require_batch
from vitlib.recipe import Recipe
from vitlib.training.evaluate import accuracy, finite
from vitlib.training.loop import Trained, cross_entropy, train


def readouts(model: nn.Module) -> tuple[str, ...]:
    """Names of what `features_read` gives: 'class' if the model's classifier reads the class token alone, or 'pooled'; and 'mean'."""
    own = "class" if getattr(model, "global_pool", None) == "token" and len(classifiers(model)) == 1 else "pooled"
    return (own, "mean") if hasattr(model, "num_prefix_tokens") and hasattr(model, "blocks") else (own,)


def features_read(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """What the model's own classifier reads, and of a transformer the mean of its patch tokens after the final norm; each (B, D)."""
    features = model.forward_features(images)
    own = model.forward_head(features, pre_logits=True)
    return (own, features[:, model.num_prefix_tokens :].mean(dim=1)) if len(readouts(model)) == 2 else (own,)


def knn_accuracy(
    bank: Tensor, bank_labels: np.ndarray, queries: Tensor, labels: np.ndarray, *, k: int = 20, temperature: float = 0.07
) -> float:
    """Percent of queries (M, D) that their k nearest of the bank (N, D) vote right: cosine s, votes exp(s / temperature).

    Source: Z. Wu et al. 2018, as in DINO's evaluation (k = 20, temperature 0.07).
    """
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    one_hot = F.one_hot(torch.from_numpy(bank_labels)).to(bank)
    predictions = [_voted(chunk @ bank.T, one_hot, min(k, len(bank)), temperature) for chunk in queries.split(1024)]
    return accuracy(torch.cat(predictions).numpy(), labels)


def linear_probe_accuracy(bank: Tensor, bank_labels: np.ndarray, queries: Tensor, labels: np.ndarray, *, strength: float = 1.0) -> float:
    """Percent right of a logistic regression fitted to the bank's standardised features; `strength` is 1 / l2 penalty."""
    from sklearn.linear_model import LogisticRegression  # 1 s to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    probe.fit(bank.numpy(), bank_labels)
    return accuracy(probe.predict(queries.numpy()), labels)


def linear_probe(
    bank: Tensor, bank_labels: np.ndarray, queries: Tensor, recipe: Recipe, *, seed: int, context: Context
) -> tuple[Tensor, Trained]:
    """MAE's linear probe on stored features: BatchNorm without affine part, then a linear layer, trained by `recipe`.

    `seed` orders the batches; the layer's first weights come from the global generator.

    Source: K. He et al. 2021, main_linprobe.py (there LARS, base rate 0.1 x batch / 256, no augmentation).

    Args:
        bank: (N, D), queries: (M, D).

    Returns:
        Scores of the queries (M, C) on the CPU, and how training went.
    """
    classes = int(bank_labels.max()) + 1
    layer = nn.Linear(bank.shape[1], classes)
    nn.init.trunc_normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    probe = nn.Sequential(nn.BatchNorm1d(bank.shape[1], affine=False, eps=1e-6), layer)
    batches = FeatureBatches(bank, torch.from_numpy(bank_labels), recipe.batch_size, seed, context.device)
    trained = train(probe, batches, cross_entropy, recipe, num_classes=classes, context=context)
    with torch.inference_mode():
        return finite(probe.eval()(queries.to(context.device)).float().cpu()), trained


class FeatureBatches:
    """Shuffled batches of stored features (N, D); the last incomplete one of an epoch is dropped."""

    def __init__(self, features: Tensor, labels: Tensor, batch_size: int, seed: int, device: str):
        require_batch(batch_size, len(features), "the bank of features")
        self.images, self._batch_size, self._seed = len(features), batch_size, seed
        self.steps = self.images // self._batch_size
        self._features, self._labels = features.to(device), labels.to(device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.from_numpy(np.random.default_rng([self._seed, epoch]).permutation(self.images)).to(self._labels.device)
        for step in range(start, self.steps):
            index = order[step * self._batch_size : (step + 1) * self._batch_size]
            seed_everything(seed_for(self._seed, epoch, step), self._labels.device)
            yield self._features[index], self._labels[index]


def _voted(similarity: Tensor, one_hot: Tensor, k: int, temperature: float) -> Tensor:
    nearest, index = similarity.topk(k, dim=1)
    weights = torch.exp((nearest - nearest[:, :1]) / temperature)  # divided by the largest: the same winner, no overflow
    return torch.einsum("mk,mkc->mc", weights, one_hot[index]).argmax(dim=1)
