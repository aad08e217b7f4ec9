"""Streamed pictures keep their shape: a circle stays round in training as in evaluation, and random crops still vary."""

import numpy as np
import pytest
import torch
from PIL import Image

from vitlib.inputs import data as data_module
from vitlib.inputs.pictures import square
from vitlib.inputs.sources import Data
from vitlib.inputs.transforms import transform_of
from vitlib.recipe import Augment, Recipe


def disc(path, width, height):
    """A white disc in the middle of a black picture."""
    rows, columns = np.ogrid[:height, :width]
    inside = (columns - (width - 1) / 2) ** 2 + (rows - (height - 1) / 2) ** 2 < (min(width, height) / 4) ** 2
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * inside).astype(np.uint8)).save(path)


@pytest.fixture
def discs(tmp_path, monkeypatch):
    """Data of two discs in wide and high pictures, streamed in this process."""
    loader = data_module.DataLoader
    monkeypatch.setattr(data_module, "DataLoader", lambda *given, **options: loader(*given, **options | {"num_workers": 0}))
    for split in ("train", "test"):
        disc(tmp_path / "discs" / split / "high" / "0.png", 96, 144)
        disc(tmp_path / "discs" / split / "wide" / "0.png", 144, 96)
    return Data(source="folder/discs", image_size=56, resident=False, mean=(0.0,) * 3, std=(1.0,) * 3)


def trained_on(data, data_dir, **augment):
    """The two training images in their order."""
    recipe = Recipe(epochs=1, batch_size=2, lr=0.1, augment=Augment(**augment))
    ((images, labels),) = data_module.training_batches(data, recipe, seed=0, device="cpu", data_dir=data_dir).epoch(0)
    return images[labels.argsort()]


@pytest.mark.parametrize("share", [None, 1.0, 0.7])
def test_streamed_images_without_augmentation_are_those_of_the_evaluation(discs, tmp_path, share):
    data = discs.changed(crop_share=share)
    ((tested, _),) = data_module.test_batches(data, device="cpu", data_dir=tmp_path).epoch(0)
    assert torch.equal(trained_on(data, tmp_path), tested)
    for image in tested:
        width, height = ((image[0] > 0.5).any(axis).sum() for axis in (0, 1))
        assert width == height == pytest.approx(28 / (share or 0.875), abs=1)  # half of 56 px of the share that is kept


def test_a_flip_without_crops_leaves_a_circle_round(discs, tmp_path):
    for image in trained_on(discs, tmp_path, flip=1.0):
        assert (image[0] > 0.5).any(0).sum() == (image[0] > 0.5).any(1).sum() == pytest.approx(32, abs=1)


def test_random_crops_still_vary(discs, tmp_path):
    assert not torch.equal(trained_on(discs, tmp_path, crop_area=0.3), trained_on(discs, tmp_path))


def test_randaugment_may_keep_no_bit_of_a_picture():
    """Its magnitude is drawn about 9 of 10; from 10 on Pillow 13 refused what it had made black before."""
    data = Data(source="folder/discs", image_size=32, resident=False)
    transform = transform_of(data, Augment(randaugment="rand-m10-n1"))
    (randaugment,) = (step for step in transform.transforms if hasattr(step, "ops"))
    (operation,) = (op for op in randaugment.ops if "Posterize" in op.name)
    picture = Image.new("RGB", (40, 40), (200, 100, 50))
    assert operation.aug_fn(picture, 0).getextrema() == ((0, 0),) * 3
    assert operation.aug_fn(picture, 1).getextrema() == ((128, 128), (0, 0), (0, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_lie_channel_by_channel_as_convolutions_want_them(channels):
    """In the order of the file, colours side by side, torch's backward pass of a small ResNet ended the process."""
    picture = Image.fromarray(np.zeros((9, 12, 3), np.uint8)).convert("L" if channels == 1 else "RGB")
    for size in (9, 6):
        pixels = square(picture, size)
        assert pixels.shape == (channels, size, size) and np.stack([pixels, pixels]).flags.c_contiguous
