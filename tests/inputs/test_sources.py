"""Sources: the split of the digits, few-shot subsets, image folders, fingerprints, shifted images."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tests.support import make_images
from vitlib import load_study
from vitlib.inputs.pictures import DataError, Shift, open_image, shifted
from vitlib.inputs.sets import digits, fingerprints
from vitlib.inputs.sources import (
    Data,
    class_names,
    fingerprint,
    listing,
    load,
    subset,
)

GREY = {"mean": (0.5,), "std": (0.5,)}
DIGITS = Data(source="digits", image_size=8, **GREY)
FOLDER = Data(source="folder/pets", image_size=8, **GREY)
NOWHERE = Path()


# ------------------------------------------------------------------------------------------------ digits


def test_digits_in_three_channels_hold_the_grey_value_three_times():
    grey, labels = load(DIGITS, "test", NOWHERE)
    coloured, same = load(DIGITS.changed(mean=(0.5,) * 3, std=(0.5,) * 3), "test", NOWHERE)
    np.testing.assert_array_equal(coloured, grey.repeat(3, axis=1))
    np.testing.assert_array_equal(labels, same)


def test_the_digits_split_is_scikit_learns_stratified_one():
    labels = load_digits().target
    train, rest = train_test_split(np.arange(len(labels)), train_size=0.5, stratify=labels, random_state=0)
    validation, test = train_test_split(rest, train_size=0.2, stratify=labels[rest], random_state=0)
    table = pd.read_csv(digits.SPLIT)
    for name, rows in {"train": train, "validation": validation, "test": test}.items():
        assert set(table.loc[table["split"] == name, "index"]) == set(rows)


def test_the_digits_split_is_disjoint_complete_and_stratified():
    table = pd.read_csv(digits.SPLIT)
    assert sorted(table["index"]) == list(range(1797))
    labels = load_digits().target
    for name, share in {"train": 0.5, "validation": 0.1, "test": 0.4}.items():
        counts = np.bincount(labels[table.loc[table["split"] == name, "index"]])
        assert np.abs(counts - share * np.bincount(labels)).max() <= 1


def test_digits_are_scikit_learns_images_in_sixteen_grey_levels():
    table = pd.read_csv(digits.SPLIT)
    rows = table.loc[table["split"] == "test", "index"]
    images, labels = load(DIGITS, "test", NOWHERE)
    assert images.dtype == np.uint8 and images.shape == (len(rows), 1, 8, 8)
    np.testing.assert_array_equal(np.round(images[:, 0] / 255 * 16), load_digits().images[rows])
    np.testing.assert_array_equal(labels, load_digits().target[rows])
    assert images.max() == 255 and images.min() == 0


def test_another_file_of_digits_is_refused(monkeypatch):
    monkeypatch.setattr(digits, "SHA256", "0" * 64)
    with pytest.raises(DataError, match=r"digits.csv.gz of scikit-learn has sha256 09f66e6d.*reinstall"):
        DIGITS.pinned(NOWHERE)


# ------------------------------------------------------------------------------------------------ few-shot subsets

LABELS = np.repeat([0, 1, 2], [10, 20, 31])[np.random.default_rng(0).permutation(61)]


@pytest.mark.parametrize("per_class", [1, 3, 10])
def test_so_many_images_of_every_class_are_kept(per_class):
    kept = subset(LABELS, DIGITS.changed(per_class=per_class))
    assert np.bincount(LABELS[kept]).tolist() == [per_class] * 3
    assert (np.diff(kept) > 0).all()  # each once, in the order of the data


@pytest.mark.parametrize(("fraction", "counts"), [(0.1, [1, 2, 3]), (0.25, [2, 5, 7]), (0.01, [1, 1, 1]), (1.0, [10, 20, 31])])
def test_a_fraction_is_kept_of_every_class_and_at_least_one(fraction, counts):
    kept = subset(LABELS, DIGITS.changed(fraction=fraction))
    assert np.bincount(LABELS[kept]).tolist() == counts
    assert (np.diff(kept) > 0).all()


def test_a_subset_follows_from_its_seed():
    def drawn(seed):
        return subset(LABELS, DIGITS.changed(per_class=5, subset_seed=seed)).tolist()

    assert drawn(0) == drawn(0)
    assert len({tuple(drawn(seed)) for seed in range(10)}) == 10


def test_over_many_seeds_every_image_is_drawn_equally_often():
    drawn = np.zeros(len(LABELS))
    for seed in range(2000):
        drawn[subset(LABELS, DIGITS.changed(per_class=5, subset_seed=seed))] += 1
    expected = 2000 * 5 / np.bincount(LABELS)[LABELS]
    assert np.abs(drawn / expected - 1).max() < 0.25  # five standard deviations of the rarest, 2000 x 5/31


def test_a_subset_applies_to_training_images_alone():
    few = DIGITS.changed(per_class=2)
    assert len(load(few, "train", NOWHERE)[1]) == 20
    assert len(load(few, "test", NOWHERE)[1]) == len(load(DIGITS, "test", NOWHERE)[1])


# ------------------------------------------------------------------------------------------------ image folders


@pytest.mark.parametrize("third", ["val", "validation"])
def test_a_folder_gives_its_images_and_the_position_of_their_class(tmp_path, third):
    root = make_images(tmp_path / "pets", classes=("dog", "ant", "cat"), splits=("train", third, "test"))
    assert class_names(FOLDER, tmp_path) == ["ant", "cat", "dog"]
    for split, folder in {"train": "train", "validation": third, "test": "test"}.items():
        images, labels = load(FOLDER, split, tmp_path)
        paths = [root / folder / name / f"{number}.png" for name in ("ant", "cat", "dog") for number in range(3)]
        assert listing(FOLDER, split, tmp_path)[0] == paths
        assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        for image, path in zip(images, paths, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(path))[None])


def test_without_a_test_folder_validation_is_the_test_set(tmp_path):
    make_images(tmp_path / "pets", splits=("train", "val"))
    assert {path.parts[-3] for path in listing(FOLDER, "test", tmp_path)[0]} == {"val"}


def test_folders_numbered_from_zero_are_the_class_numbers(tmp_path):
    """ImageNet-V2: in the order of names, 10 would come before 2."""
    make_images(tmp_path / "pets", classes=[str(number) for number in range(12)], images=1)
    paths, labels = listing(FOLDER, "train", tmp_path)
    assert [int(path.parent.name) for path in paths] == labels.tolist()
    assert sorted(labels) == list(range(12))


@pytest.mark.parametrize("names", [("1", "2", "10"), ("2012", "2013", "2014"), ("7", "cat")])
def test_other_numbers_are_names(tmp_path, names):
    """Labels stay below the number of classes."""
    make_images(tmp_path / "pets", classes=names, images=1)
    paths, labels = listing(FOLDER, "train", tmp_path)
    assert [path.parent.name for path in paths] == sorted(names)
    assert labels.tolist() == list(range(len(names)))


def test_images_are_resized_by_their_shorter_side_and_cropped_at_the_centre(tmp_path):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    folder = make_images(tmp_path / "pets", images=1) / "test" / "cat"
    Image.fromarray(wide).save(folder / "0.png")
    (image, _), _ = load(FOLDER, "test", tmp_path)
    np.testing.assert_array_equal(image, np.full((1, 8, 8), 200))


@pytest.mark.parametrize(("channels", "shape"), [(1, (1, 8, 8)), (3, (3, 8, 8))])
def test_channels_follow_the_constants_of_normalisation(tmp_path, channels, shape):
    make_images(tmp_path / "pets")
    images, _ = load(FOLDER.changed(mean=(0.5,) * channels, std=(0.5,) * channels), "train", tmp_path)
    assert images.shape[1:] == shape


def test_a_damaged_image_is_named_whatever_is_wrong_with_it(tmp_path):
    """Pillow raises ValueError and SyntaxError too."""
    generator, path = np.random.default_rng(0), tmp_path / "0.png"
    Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    whole, refusals = path.read_bytes(), 0
    for _ in range(300):
        content = bytearray(whole)
        for position in generator.integers(8, 60, 3):  # the header and the first chunks
            content[position] = generator.integers(256)
        path.write_bytes(content)
        try:
            open_image(path, 3)
        except DataError as error:
            assert str(path) in str(error)
            refusals += 1
    assert refusals > 200


# ------------------------------------------------------------------------------------------------ fingerprints


def fingerprint_of(data_dir):
    fingerprint.cache_clear()
    return FOLDER.pinned(data_dir).fingerprint


def flip(root):
    path = root / "train" / "cat" / "1.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def rename(root):
    (root / "train" / "cat" / "1.png").rename(root / "train" / "cat" / "9.png")


def move(root):
    (root / "train" / "cat" / "1.png").rename(root / "train" / "dog" / "1a.png")


def lengthen(root):
    with (root / "train" / "cat" / "1.png").open("ab") as stream:
        stream.write(b"\0")


def add(root):
    shutil.copy(root / "train" / "cat" / "1.png", root / "train" / "cat" / "9.png")


def remove(root):
    (root / "train" / "cat" / "1.png").unlink()


@pytest.mark.parametrize("change", [flip, rename, move, lengthen, add, remove])
def test_a_fingerprint_changes_with_any_file(tmp_path, change):
    root = make_images(tmp_path / "pets")
    before = fingerprint_of(tmp_path)
    change(root)
    assert fingerprint_of(tmp_path) != before


def test_in_a_large_set_every_file_counts_by_its_name_and_size(tmp_path, monkeypatch):
    """Of files that take more than a stated number of bytes 256 are read."""
    monkeypatch.setattr(fingerprints, "WHOLE", 2**20)
    folder = tmp_path / "pets" / "train" / "cat"
    folder.mkdir(parents=True)
    for number in range(600):
        (folder / f"{number:03}.png").write_bytes(b"12345")
    seen = {fingerprint_of(tmp_path)}
    for number in range(0, 600, 30):
        (folder / f"{number + number % 7:03}.png").write_bytes(b"123456")
        seen.add(fingerprint_of(tmp_path))
    (folder / "001.png").rename(folder / "001a.png")
    assert len(seen | {fingerprint_of(tmp_path)}) == 1 + 20 + 1


def test_a_fingerprint_is_that_of_the_files_wherever_they_lie_and_whatever_lies_beside(tmp_path):
    root = make_images(tmp_path / "here" / "pets")
    before = fingerprint_of(tmp_path / "here")
    shutil.copytree(root, tmp_path / "there" / "pets")
    (tmp_path / "there" / "pets" / "pets.tar").write_bytes(b"the archive they came in")
    (tmp_path / "there" / "pets.txt").write_text("a note")
    os.utime(tmp_path / "there" / "pets" / "train" / "cat" / "1.png", (0, 0))
    assert fingerprint_of(tmp_path / "there") == before


def test_one_set_in_two_layouts_has_two_fingerprints_that_do_not_know_of_each_other(tmp_path):
    (tmp_path / "pets" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "train" / "cat" / "1.jpg").write_bytes(b"one")
    folder = fingerprint("folder/pets", tmp_path)
    (tmp_path / "pets" / "oxford-iiit-pet").mkdir()
    (tmp_path / "pets" / "oxford-iiit-pet" / "list.txt").write_bytes(b"two")
    fingerprint.cache_clear()
    assert fingerprint("folder/pets", tmp_path) == folder
    named = fingerprint("torchvision/pets", tmp_path)
    (tmp_path / "pets" / "train" / "cat" / "2.jpg").write_bytes(b"three")
    fingerprint.cache_clear()
    assert fingerprint("torchvision/pets", tmp_path) == named
    assert fingerprint("folder/pets", tmp_path) != folder


def test_a_set_of_timm_that_reads_split_folders_has_them_in_its_fingerprint(tmp_path):
    """Beside a file of its own, as ImageNet's meta.bin, and opens its pictures as those of a folder are."""
    root = make_images(tmp_path / "raw" / "image_folder")
    (root / "meta.bin").write_bytes(b"classes")
    Image.fromarray(np.full((8, 8), 8000, np.uint16)).save(root / "test" / "cat" / "0.png")
    data = Data(source="torch/raw/image_folder", image_size=8, **GREY)
    (first, *_), labels = load(data, "test", tmp_path)
    assert {*first.ravel().tolist()} == {31} and labels.tolist() == [0, 0, 0, 1, 1, 1]
    before = fingerprint(data.source, tmp_path)
    flip(root)
    fingerprint.cache_clear()
    assert fingerprint(data.source, tmp_path) != before


def test_loading_a_study_again_sees_files_that_changed_meanwhile(tmp_path):
    (tmp_path / "pets" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "pets" / "train" / "cat" / "1.jpg").write_bytes(b"one")
    before = fingerprint("folder/pets", tmp_path)
    (tmp_path / "pets" / "train" / "cat" / "1.jpg").write_bytes(b"two")
    load_study("deit", "smoke")
    assert fingerprint("folder/pets", tmp_path) != before


@pytest.mark.parametrize(("share", "side"), [(1.0, 8), (0.5, 4)])
def test_resident_pictures_keep_the_share_of_the_side_that_was_asked_for(tmp_path, share, side):
    """An 8 px picture whose inner 4 x 4 pixels are white: half the side is white alone."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[2:6, 2:6] = 255
    for split in ("train", "test"):
        (tmp_path / "pets" / split / "cat").mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / "pets" / split / "cat" / "1.png")
    images, _ = load(Data(source="folder/pets", image_size=4, crop_share=share), "test", tmp_path)
    assert images.shape == (1, 3, 4, 4)
    assert (images.min() == 255) == (side == 4)


def test_a_fingerprint_becomes_part_of_the_identity(tmp_path):
    make_images(tmp_path / "pets")
    pinned = FOLDER.pinned(tmp_path)
    assert len(pinned.fingerprint) == 64
    assert pinned.canonical() != FOLDER.canonical()


# ------------------------------------------------------------------------------------------------ shifted images


def test_less_contrast_draws_every_level_towards_the_middle_one():
    levels = np.array([0, 1, 127, 128, 200, 255], dtype=np.uint8)
    # 127.5 + (x - 127.5) / 2 = 63.75, 64.25, 127.25, 127.75, 163.75, 191.25
    assert shifted(levels, Shift(contrast=0.5, noise=0.0)).tolist() == [64, 64, 127, 128, 164, 191]
    assert shifted(levels, Shift(contrast=1.0, noise=0.0)).tolist() == levels.tolist()


def test_noise_has_the_standard_deviation_that_was_asked_and_follows_its_seed():
    grey = np.full((100_000,), 128, np.uint8)
    noisy = shifted(grey, Shift(contrast=1.0, noise=0.1)).astype(float)
    assert abs(noisy.std() - 25.5) < 0.3  # a standard error of 25.5 / sqrt(2 x 100000) is 0.06
    assert abs(noisy.mean() - 128) < 0.5
    assert (noisy == shifted(grey, Shift(contrast=1.0, noise=0.1))).all()
    assert (noisy != shifted(grey, Shift(contrast=1.0, noise=0.1, seed=1))).any()


def test_noise_stops_at_black_and_white():
    extremes = np.repeat(np.array([0, 255], np.uint8), 1000)
    noisy = shifted(extremes, Shift(contrast=1.0, noise=0.2))
    assert noisy[:1000].max() < 255 and noisy[1000:].min() > 0  # nothing wrapped around
    assert (noisy[:1000] == 0).mean() > 0.4 and (noisy[1000:] == 255).mean() > 0.4


def test_a_shift_applies_to_test_images_alone():
    shift = Shift(contrast=0.5, noise=0.0)
    moved = DIGITS.changed(shift=shift)
    for split, expected in {
        "train": load(DIGITS, "train", NOWHERE)[0],
        "test": shifted(load(DIGITS, "test", NOWHERE)[0], shift),
    }.items():
        np.testing.assert_array_equal(load(moved, split, NOWHERE)[0], expected)
