"""Batches: resident on the device with per-sample augmentation, or streamed from disk through timm's transforms.

A training batch depends on (seed, epoch, step) alone: a run continued in the middle of an epoch sees what an
uninterrupted one would have seen, with any number of workers. Start from `training_batches` and `test_batches`.
"""

from __future__ import annotations

import copy
import hashlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from timm.data.loader import fast_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vitlib import distributed, paths
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sources import Data, Picture, load, pictures, require_batch
from vitlib.inputs.transforms import transform_of
from vitlib.inputs.views import augmented, erased
from vitlib.recipe import Augment, Recipe

SHARED = "/dev/shm"
MOST_WORKERS = 16  # of one process; each holds two batches
Choice = Callable[[np.ndarray], np.ndarray]  # labels of a split -> indices of the images to take


def every(labels: np.ndarray) -> np.ndarray:
    return np.arange(len(labels))


class Batches(Protocol):
    """Batches of one split; `epoch` yields images (B, C, H, W) normalised float32 and labels (B,) on the device.

    `labels` (N,) are those of all images in the split's order. Of an epoch's batches, `epoch` gives every `stride`-th from `start` on.
    """

    steps: int
    images: int
    labels: Tensor

    def epoch(self, epoch: int, start: int = 0, stride: int = 1) -> Iterator[tuple[Tensor, Tensor]]: ...


def training_batches(data: Data, recipe: Recipe, *, seed: int, device: str, data_dir: Path, chosen: Choice = every) -> Batches:
    """Shuffled, augmented batches of the training split, or of those `chosen` by their labels; the last incomplete one is dropped."""
    _require_honoured(data, recipe.augment)
    distributed.require_equal_parts(recipe.batch_size, recipe.accumulate, mixing=bool(recipe.mixup or recipe.cutmix))
    source = _streamed if not data.resident else _resident
    batches = source(data, "train", recipe.batch_size, device, data_dir, Training(recipe.augment, seed, recipe.repeats), chosen)
    require_batch(recipe.batch_size, batches.images, data.source)
    return batches


def indexed_batches(data: Data, recipe: Recipe, *, seed: int, device: str, data_dir: Path) -> ResidentBatches:
    """Training batches of resident data whose labels are the images' positions in the training split, for what is kept by image."""
    batches = training_batches(data, recipe, seed=seed, device=device, data_dir=data_dir)
    if not isinstance(batches, ResidentBatches):
        raise DataError(f"data.resident: got False for {data.source}; allowed: True where features are kept by image")
    return batches.indexed()


def test_batches(
    data: Data,
    *,
    device: str,
    data_dir: Path,
    split: str = "test",
    batch_size: int = 256,
    count: int | None = None,
    chosen: Choice | None = None,
) -> Batches:
    """The images of a split in order, without augmentation: all, `count` evenly spaced ones, or those `chosen` by their labels."""
    source = _streamed if not data.resident else _resident
    return source(data, split, batch_size, device, data_dir, None, chosen or evenly_spaced(count))


def seed_for(*key: int | str) -> int:
    """A 32-bit seed that depends on every part of the key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4])


def seed_everything(seed: int, device: torch.device | str = "cpu") -> None:
    """Seed Python's, numpy's and torch's generators; 60 times faster than `torch.manual_seed`, which walks all back ends."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.device(device).type == "cuda":
        torch.cuda.manual_seed_all(seed)


@dataclass(frozen=True)
class Training:
    """What training adds to a split: augmentation, a seed for the order, repeated views."""

    augment: Augment
    seed: int
    repeats: int = 1

    def order(self, images: int, epoch: int) -> np.ndarray:
        """A permutation of the images; with repeats, each of 1/repeats of them that many times in a row."""
        permutation = np.random.default_rng([self.seed, epoch]).permutation(images)
        return permutation.repeat(self.repeats)[:images]


class ResidentBatches:
    """All images on the device as uint8; flips, crops and erasing are drawn for each sample there. `labels` (N,) are in order."""

    def __init__(self, images: Tensor, labels: Tensor, data: Data, batch_size: int, training: Training | None = None):
        self._images, self.labels = images, labels
        self._mean, self._std = channel_constants(data, images.device)
        self._batch_size, self._training = batch_size, training
        self.images = len(images)
        self.steps = _step_count(self.images, batch_size, training)

    def epoch(self, epoch: int, start: int = 0, stride: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order(epoch)
        for step in range(start, self.steps, stride):
            index = _own(order[step * self._batch_size : (step + 1) * self._batch_size], self._training)
            images = (self._images[index].float().div_(255) - self._mean) / self._std
            if self._training:
                seed_everything(seed_for(self._training.seed, epoch, step, *distributed.share()), images.device)
                images = augmented(images, self._training.augment)
            yield images, self.labels[index]

    def indexed(self) -> ResidentBatches:
        """The same batches, each image labelled by its position."""
        positions = torch.arange(self.images, device=self._images.device)
        changed = copy.copy(self)
        changed.labels = positions
        return changed

    def plain(self) -> Tensor:
        """All images normalised and not augmented, in order; (N, C, H, W)."""
        return (self._images.float().div_(255) - self._mean) / self._std

    def _order(self, epoch: int) -> Tensor:
        order = self._training.order(self.images, epoch) if self._training else np.arange(self.images)
        return torch.from_numpy(order).to(self._images.device)


class StreamedBatches:
    """Images read from disk by worker processes through timm's transforms; for sets too large to hold."""

    def __init__(self, picture: Picture, labels: np.ndarray, data: Data, batch_size: int, device: str, training: Training | None):
        self._split = _Split(picture, labels, data, training)
        self._mean, self._std = channel_constants(data, torch.device(device))
        self._batch_size, self._device, self._training = batch_size, device, training
        self.labels = torch.from_numpy(labels)
        self.images = len(labels)
        self.steps = _step_count(self.images, batch_size, training)

    def epoch(self, epoch: int, start: int = 0, stride: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._training.order(self.images, epoch) if self._training else np.arange(self.images)
        steps = range(start, self.steps, stride)
        firsts = [step * self._batch_size for step in steps]
        loader = DataLoader(
            _EpochView(self._split, order, epoch),
            batch_sampler=[_own(range(first, min(first + self._batch_size, self.images)), self._training) for first in firsts],
            num_workers=workers(),
            collate_fn=fast_collate,
            pin_memory=self._device.startswith("cuda"),
        )
        for step, (images, labels) in zip(steps, loader, strict=True):
            images = images.to(self._device, non_blocking=True).float().div_(255)
            images = (images - self._mean) / self._std
            if self._training:
                seed_everything(seed_for(self._training.seed, epoch, step, *distributed.share()), images.device)
                images = erased(images, self._training.augment.erasing)
            yield images, labels.to(self._device, non_blocking=True)


def workers() -> int:
    """Processes that read and decode for this one: a core each, of those that it need not share with others of its run.

    None where the system has no memory that processes share, by which they hand over what they read: images are the same.
    """
    if sys.platform == "linux" and not os.access(SHARED, os.W_OK):
        return 0
    return max(1, min(MOST_WORKERS, paths.cores() // distributed.on_this_host()))


class _Split:
    def __init__(self, picture: Picture, labels: np.ndarray, data: Data, training: Training | None):
        self.picture, self.labels, self.training = picture, labels, training
        self.transform = transform_of(data, training.augment if training else None)


@dataclass(frozen=True)
class _Some:
    """Some of the pictures of a split."""

    picture: Picture
    kept: np.ndarray

    def __call__(self, place: int) -> Image.Image:
        return self.picture(self.kept[place])


class _EpochView(Dataset):
    def __init__(self, split: _Split, order: np.ndarray, epoch: int):
        self.split, self.order, self.epoch = split, order, epoch

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int):
        index = self.order[position]
        if self.split.training:
            seed_everything(seed_for(self.split.training.seed, self.epoch, "image", position))
        return self.split.transform(self.split.picture(index)), self.split.labels[index]


def _require_honoured(data: Data, augment: Augment) -> None:
    """Refuse an augmentation that the kind of batches does not know, instead of leaving it out without a word."""
    unknown = ("randaugment",) if data.resident else ("crop", "cutout")
    for name in unknown:
        if (value := getattr(augment, name)) != getattr(Augment(), name):
            kind = "resident" if data.resident else "streamed"
            allowed = "crop, crop_area, flip, cutout, erasing" if data.resident else "crop_area, flip, erasing, randaugment"
            raise DataError(f"recipe.augment.{name}: got {value!r}, which {kind} images of {data.source} do not know; allowed: {allowed}")


def _resident(
    data: Data, split: str, batch_size: int, device: str, data_dir: Path, training: Training | None, chosen: Choice = every
) -> ResidentBatches:
    images, labels = load(data, split, data_dir)
    keep = chosen(labels)
    images, labels = images[keep], labels[keep]
    return ResidentBatches(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device), data, batch_size, training)


def _streamed(
    data: Data, split: str, batch_size: int, device: str, data_dir: Path, training: Training | None, chosen: Choice = every
) -> StreamedBatches:
    picture, labels = pictures(data, split, data_dir)
    keep = chosen(labels)
    return StreamedBatches(_Some(picture, keep), labels[keep], data, batch_size, device, training)


def evenly_spaced(count: int | None) -> Choice:
    """At most `count` images of a split, evenly spaced; None takes all."""
    if count is None:
        return every
    return lambda labels: np.unique(np.linspace(0, len(labels) - 1, min(count, len(labels))).round().astype(int))


def _own(positions: Tensor | range, training: Training | None) -> Tensor | range:
    """Of a training batch this process's part; whoever evaluates takes all."""
    return distributed.part(positions) if training else positions


def _step_count(images: int, batch_size: int, training: Training | None) -> int:
    return images // batch_size if training else -(-images // batch_size)


def pictures_of(images: Tensor, data: Data) -> np.ndarray:
    """Normalised images (N, C, H, W) as they were taken in, uint8."""
    mean, std = channel_constants(data, images.device)
    return (255 * (images * std + mean)).round().clamp(0, 255).byte().cpu().numpy()


def renormalised(model: nn.Module, seen: Data, own: Data) -> nn.Module:
    """The model for images that are normalised as `seen`: a layer before it normalises them as its own were, where these differ."""
    if seen.normalisation == own.normalisation:
        return model
    device = next(model.parameters()).device
    (mean, std), (own_mean, own_std) = channel_constants(seen, device), channel_constants(own, device)
    layer = nn.Conv2d(seen.channels, seen.channels, 1, groups=seen.channels, device=device)
    layer.weight.data.copy_((std / own_std).view_as(layer.weight))
    layer.bias.data.copy_(((mean - own_mean) / own_std).flatten())
    return nn.Sequential(layer, model)


def channel_constants(data: Data, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the data, each (1, C, 1, 1)."""
    return tuple(torch.tensor(values, device=device).view(1, -1, 1, 1) for values in data.normalisation)
