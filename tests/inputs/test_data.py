"""Batches: order, seeds and pixels, and the promise that a batch depends on (seed, epoch, step) alone."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitlib.inputs import data as data_module
from vitlib.inputs.data import ResidentBatches, Training, seed_everything, seed_for, training_batches
from vitlib.inputs.data import test_batches as ordered_batches
from vitlib.inputs.pictures import DataError, Shift
from vitlib.inputs.sources import Data, load
from vitlib.recipe import Augment, Recipe

DIGITS = Data(source="digits", image_size=8, per_class=5, mean=(0.304,), std=(0.375,))
ALL_AUGMENTATIONS = Augment(crop=2, flip=0.5, cutout=2, erasing=0.5)


def recipe(batch_size=8, **fields):
    return Recipe(epochs=1, batch_size=batch_size, lr=0.1, augment=ALL_AUGMENTATIONS, **fields)


def resident(seed=0, **fields):
    return training_batches(DIGITS, recipe(**fields), seed=seed, device="cpu", data_dir=Path())


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(one, other) for a, b in zip(first, second, strict=True) for one, other in zip(a, b, strict=True)
    )


@pytest.fixture
def folder(tmp_path):
    """Two classes of 7 training and 3 test images, each of one colour that names it."""
    for split, count in (("train", 7), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            place = tmp_path / "pets" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (20, 16), (100 * label, 20 * number, 30)).save(place / f"{number}.png")
    return tmp_path


def pets(**fields):
    return Data(source="folder/pets", image_size=16, **{"resident": False, **fields})


def test_augmentation_leaves_the_resident_images_as_they_were():
    batches = resident()
    first = list(batches.epoch(0))
    list(batches.epoch(1))
    assert equal(first, list(batches.epoch(0)))


# ------------------------------------------------------------------------------------------------ order and seeds


def test_an_order_is_a_permutation_that_changes_with_the_epoch_and_the_seed():
    orders = [Training(Augment(), seed).order(50, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 4


def test_repeated_augmentation_shows_a_third_of_the_images_three_times_in_a_row():
    order = Training(Augment(), seed=0, repeats=3).order(30, epoch=2)
    assert len(order) == 30
    assert [len(set(order[start : start + 3])) for start in range(0, 30, 3)] == [1] * 10
    assert len(set(order)) == 10


def test_an_epoch_shows_each_image_once_and_drops_the_incomplete_batch():
    batches = training_batches(DIGITS, recipe(batch_size=16), seed=0, device="cpu", data_dir=Path())
    labels = [labels for _, labels in batches.epoch(0)]
    assert batches.images == 50 and batches.steps == 3
    assert [len(batch) for batch in labels] == [16, 16, 16]
    plain = training_batches(DIGITS, recipe(10).changed(augment=Augment()), seed=0, device="cpu", data_dir=Path())
    shown = torch.cat([images for images, _ in plain.epoch(0)])
    stored, _ = load(DIGITS, "train", Path())
    assert sorted(shown.mul(0.375).add(0.304).mul(255).round().byte().numpy().reshape(50, -1).tolist()) == sorted(
        stored.reshape(50, -1).tolist()
    )


def test_seeds_differ_with_every_part_of_their_key():
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, "image", 0), (0, 0, "image", 1), (1, 1), (11,)]
    assert len({seed_for(*key) for key in keys}) == len(keys)
    assert all(0 <= seed_for(*key) < 2**32 for key in keys)


def test_seeding_fixes_every_generator_that_timm_draws_from():
    import random

    def draws():
        return random.random(), np.random.rand(), float(torch.rand(()))

    seed_everything(5)
    first = draws()
    seed_everything(5)
    assert draws() == first
    assert all(one != other for one, other in zip(draws(), first, strict=True))


def test_a_resident_epoch_begun_in_the_middle_continues_as_the_whole_one():
    whole = list(resident(seed=3).epoch(2))
    torch.manual_seed(99)
    np.random.seed(99)
    assert equal(list(resident(seed=3).epoch(2, start=4)), whole[4:])


def test_resident_batches_change_with_seed_epoch_and_step():
    shown = [images for seed in (0, 1) for epoch in (0, 1) for images, _ in resident(seed=seed).epoch(epoch)]
    assert len({images.numpy().tobytes() for images in shown}) == len(shown) == 24


def test_augmentation_of_equal_images_changes_with_seed_epoch_and_step():
    def shown(seed, epoch):
        images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(48, 1, 1, 1)
        batches = ResidentBatches(images, torch.zeros(48), DIGITS, 8, Training(ALL_AUGMENTATIONS, seed))
        return [images.numpy().tobytes() for images, _ in batches.epoch(epoch)]

    assert len({batch for seed in (0, 1) for epoch in (0, 1) for batch in shown(seed, epoch)}) == 24


def test_the_random_state_after_a_batch_depends_on_its_step_alone():
    """Mixing and drop path draw after the batch is made: they continue a killed run as they would have gone on."""

    def drawn_after(start):
        return [(float(torch.rand(())), np.random.rand()) for _ in resident().epoch(1, start)]

    assert drawn_after(2) == drawn_after(0)[2:]


def test_more_images_a_batch_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"batch_size: got 64, but digits has 50 training images; allowed: at most that"):
        training_batches(DIGITS, recipe(batch_size=64), seed=0, device="cpu", data_dir=Path())


def test_images_are_scaled_to_one_and_normalised_by_channel(folder):
    colours = pets(resident=True, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    stored, _ = load(colours, "test", folder)
    ((images, _),) = ordered_batches(colours, device="cpu", data_dir=folder).epoch(0)
    for channel, (mean, std) in enumerate(zip(colours.mean, colours.std, strict=True)):
        np.testing.assert_allclose(images[:, channel], (stored[:, channel] / 255 - mean) / std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_test_batches_cover_a_split_in_its_order_with_an_incomplete_batch_at_the_end(split):
    stored, truth = load(DIGITS, split, Path())
    batches = ordered_batches(DIGITS, device="cpu", data_dir=Path(), split=split, batch_size=100)
    images, labels = (torch.cat(parts) for parts in zip(*batches.epoch(0), strict=True))
    assert batches.steps == -(-len(truth) // 100) and len(truth) % 100
    assert labels.tolist() == truth.tolist()
    np.testing.assert_allclose(images * 0.375 + 0.304, stored / 255, atol=1e-6)


# ------------------------------------------------------------------------------------------------ streamed


def streamed(folder, seed=0, **fields):
    augment = Augment(crop_area=0.2, flip=0.5, erasing=0.5, randaugment="rand-m9-mstd0.5-inc1")
    made = recipe(batch_size=4, **fields).changed(augment=augment)
    return training_batches(pets(), made, seed=seed, device="cpu", data_dir=folder)


@pytest.fixture
def in_process(monkeypatch):
    """Load in this process instead of workers, which a test does not need."""
    loader = data_module.DataLoader
    monkeypatch.setattr(data_module, "DataLoader", lambda *given, **options: loader(*given, **options | {"num_workers": 0}))


@pytest.mark.usefixtures("in_process")
def test_a_streamed_epoch_begun_in_the_middle_continues_as_the_whole_one(folder):
    whole = list(streamed(folder).epoch(1))
    torch.manual_seed(99)
    np.random.seed(99)
    assert len(whole) == streamed(folder).steps == 3
    assert equal(list(streamed(folder).epoch(1, start=1)), whole[1:])


@pytest.mark.usefixtures("in_process")
def test_streamed_batches_change_with_the_seed_and_the_epoch(folder):
    shown = [images for seed in (0, 1) for epoch in (0, 1) for images, _ in streamed(folder, seed).epoch(epoch)]
    assert len({images.numpy().tobytes() for images in shown}) == len(shown) == 12


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # three workers on a machine of one core
@pytest.mark.parametrize("workers", [1, 3])
def test_streamed_batches_do_not_depend_on_the_number_of_workers(folder, monkeypatch, workers):
    loader = data_module.DataLoader
    monkeypatch.setattr(os, "cpu_count", lambda: workers)
    in_workers = list(streamed(folder).epoch(0))
    monkeypatch.setattr(data_module, "DataLoader", lambda *given, **options: loader(*given, **options | {"num_workers": 0}))
    assert equal(in_workers, list(streamed(folder).epoch(0)))


@pytest.mark.usefixtures("in_process")
def test_streamed_test_images_come_in_order_normalised_and_unaugmented(folder):
    batches = ordered_batches(pets(), device="cpu", data_dir=folder, batch_size=4)
    images, labels = (torch.cat(parts) for parts in zip(*batches.epoch(0), strict=True))
    assert batches.steps == 2 and labels.tolist() == [0, 0, 0, 1, 1, 1]
    mean, std = map(np.array, pets().normalisation)
    colours = [[100 * label, 20 * number, 30] for label in (0, 1) for number in range(3)]
    expected = (np.array(colours) / 255 - mean) / std
    np.testing.assert_allclose(images, np.broadcast_to(expected[:, :, None, None], (6, 3, 16, 16)), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("in_process")
def test_streamed_views_of_one_image_are_augmented_apart(folder):
    images, labels = next(iter(streamed(folder, repeats=4).epoch(0)))
    assert len(set(labels.tolist())) == 1
    assert len({image.numpy().tobytes() for image in images}) == 4


@pytest.mark.usefixtures("in_process")
def test_a_streamed_crop_leaves_colours_alone(tmp_path):
    for number in range(4):
        path = tmp_path / "plain" / "train" / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 12), (40, 80, 120)).save(path)
    data = Data(source="folder/plain", image_size=8, resident=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    made = recipe(batch_size=4).changed(augment=Augment(crop_area=0.2, flip=0.5))
    images, _ = next(iter(training_batches(data, made, seed=0, device="cpu", data_dir=tmp_path).epoch(0)))
    assert images.shape == (4, 3, 8, 8)
    np.testing.assert_allclose(255 * images, torch.tensor([40.0, 80.0, 120.0]).view(1, 3, 1, 1).expand(4, 3, 8, 8), atol=1.5)


# ------------------------------------------------------------------------------------------------ shifted test sets


@pytest.mark.parametrize("source", ["digits", "folder/pets"])
def test_a_shift_changes_the_test_images_and_no_others(folder, source):
    plain = DIGITS if source == "digits" else pets(resident=True)
    moved = plain.changed(shift=Shift(contrast=0.5, noise=0.0))
    (images, labels), (shifted, same_labels) = (load(data, "test", folder) for data in (plain, moved))
    np.testing.assert_array_equal(shifted, np.round(127.5 + 0.5 * (images - 127.5)))
    assert np.array_equal(labels, same_labels)
    assert np.array_equal(load(plain, "train", folder)[0], load(moved, "train", folder)[0])


def test_a_shift_of_streamed_images_is_refused():
    with pytest.raises(ValueError, match="shift is drawn on resident images; set resident=True or leave shift out"):
        pets(shift=Shift(contrast=0.5, noise=0.0))


@pytest.mark.parametrize(
    ("data", "augment"),
    [
        (Data(source="digits", image_size=8, mean=(0.3,), std=(0.4,)), Augment(randaugment="rand-m9")),
        (Data(source="folder/x", image_size=8, resident=False), Augment(crop=2)),
        (Data(source="folder/x", image_size=8, resident=False), Augment(cutout=2)),
    ],
)
def test_an_augmentation_that_the_batches_do_not_know_is_refused(data, augment, tmp_path):
    recipe = Recipe(epochs=1, batch_size=2, lr=0.1, augment=augment)
    with pytest.raises(DataError, match=r"recipe\.augment\.\w+: got .* allowed"):
        training_batches(data, recipe, seed=0, device="cpu", data_dir=tmp_path)
