"""torchvision's sets in their real layouts, made small: labels, splits and classes against what was written."""

import numpy as np
import pytest
from PIL import ExifTags, Image
from scipy.io import savemat

from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.catalogue import CATALOGUE, named_split, stratified
from vitlib.inputs.sources import Data, check, class_names, load
from vitlib.spec import SpecError

CLASSES = ["abbey", "barn", "cave"]


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (value, 0, 0)).save(path, quality=100)


def lines(path, *content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in content))


def caltech101(root, images=40):
    for label, name in enumerate(CLASSES):
        for number in range(images):
            picture(root / "caltech101" / "101_ObjectCategories" / name / f"image_{number + 1:04d}.jpg", 40 * label)
    picture(root / "caltech101" / "101_ObjectCategories" / "BACKGROUND_Google" / "image_0001.jpg", 200)
    (root / "caltech101" / "Annotations").mkdir()


def eurosat(root, images=10):
    for label, name in enumerate(CLASSES):
        for number in range(images):
            picture(root / "eurosat" / "2750" / name / f"{number}.jpg", 40 * label)


def sun397(root, images=4):
    lines(root / "SUN397" / "ClassName.txt", *(f"/{name[0]}/{name}" for name in CLASSES))
    for label, name in enumerate(CLASSES):
        for number in range(images):
            picture(root / "SUN397" / name[0] / name / f"sun_{number}.jpg", 40 * label)
    for split, numbers in (("Training", (3, 0)), ("Testing", (1, 2))):
        lines(root / f"{split}_01.txt", *(f"/{name[0]}/{name}/sun_{number}.jpg" for name in CLASSES for number in numbers))


def dtd(root):
    for label, name in enumerate(CLASSES):
        for number in range(3):
            picture(root / "dtd" / "dtd" / "images" / name / f"{name}_{number}.jpg", 40 * label)
    for number, split in enumerate(("train", "val", "test")):
        lines(root / "dtd" / "dtd" / "labels" / f"{split}1.txt", *(f"{name}/{name}_{number}.jpg" for name in CLASSES))


def aircraft(root):
    folder = root / "fgvc-aircraft-2013b" / "data"
    lines(folder / "variants.txt", *CLASSES)
    for split, first in (("trainval", 0), ("test", 10)):
        lines(folder / f"images_variant_{split}.txt", *(f"{first + label} {name}" for label, name in enumerate(CLASSES)))
        for label in range(3):
            picture(folder / "images" / f"{first + label}.jpg", 40 * label)


def pets(root):
    folder = root / "oxford-iiit-pet"
    for split, number in (("trainval", 0), ("test", 1)):
        lines(folder / "annotations" / f"{split}.txt", *(f"{name}_{number} {label + 1} 1 1" for label, name in enumerate(CLASSES)))
        for label, name in enumerate(CLASSES):
            picture(folder / "images" / f"{name}_{number}.jpg", 40 * label)


def cars(root):
    folder = root / "stanford_cars"
    for split, file in (("train", folder / "devkit" / "cars_train_annos.mat"), ("test", folder / "cars_test_annos_withlabels.mat")):
        for label in range(3):
            picture(folder / f"cars_{split}" / f"{label}.jpg", 40 * label)
        rows = [(np.array([label + 1]), np.array([f"{label}.jpg"])) for label in range(3)]
        file.parent.mkdir(parents=True, exist_ok=True)
        savemat(file, {"annotations": np.array(rows, dtype=[("class", object), ("fname", object)])})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(CLASSES, dtype=object)})


MAKE = {f.__name__: f for f in (caltech101, eurosat, sun397, dtd, aircraft, pets, cars)}
COUNTS = {"caltech101": (90, 30), "eurosat": (24, 6), "sun397": (6, 6), "dtd": (3, 3), "aircraft": (3, 3), "pets": (3, 3), "cars": (3, 3)}


def test_every_set_of_the_catalogue_is_tried_here():
    assert MAKE.keys() == CATALOGUE.keys() == COUNTS.keys()


@pytest.mark.parametrize("name", sorted(MAKE))
def test_images_labels_and_splits_are_what_was_written(name, tmp_path):
    MAKE[name](tmp_path / name)
    data = Data(source=f"torchvision/{name}", image_size=8)
    check(data, tmp_path)
    assert [known.lower() for known in class_names(data, tmp_path)] == CLASSES
    for split, count in zip(("train", "test"), COUNTS[name], strict=True):
        images, labels = load(data, split, tmp_path)
        assert len(labels) == count and list(np.bincount(labels)) == [count // 3] * 3
        assert np.allclose(images[:, 0].mean((1, 2)), 40 * labels, atol=6)


@pytest.mark.parametrize("name", sorted(MAKE))
def test_an_absent_set_is_refused_with_where_it_was_looked_for(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match=f"'torchvision/{name}' was looked for in {tmp_path / name}.*quick need no files"):
        check(Data(source=f"torchvision/{name}", image_size=8), tmp_path)


@pytest.mark.parametrize(("name", "images"), [("caltech101", 40), ("eurosat", 10)])
def test_a_drawn_split_is_written_once_and_read_from_then_on(name, images, tmp_path):
    MAKE[name](tmp_path / name)
    first = named_split(name, "train", tmp_path / name)
    file = tmp_path / f"{name}.split.csv"
    drawn = file.read_text()
    other = named_split(name, "test", tmp_path / name)
    assert file.read_text() == drawn and len(first) + len(other) == 3 * images
    file.write_text(drawn.replace("train", "TEST").replace("test", "train").replace("TEST", "test"))
    assert len(named_split(name, "train", tmp_path / name)) == len(other)
    file.write_text("".join(drawn.splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match=f"splits {3 * images - 1} images, the set has {3 * images}"):
        named_split(name, "train", tmp_path / name)


@pytest.mark.parametrize("name", sorted(MAKE))
def test_pictures_are_upright_and_over_white_as_those_of_a_folder(name, tmp_path):
    """The upper half is red, stored on its side by a camera that says so."""
    MAKE[name](tmp_path / name)
    stored = Image.new("RGB", (16, 16), (0, 0, 200))
    stored.paste((200, 0, 0), (0, 0, 8, 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # its left side is the top
    for path in (tmp_path / name).rglob("*.jpg"):
        stored.save(path, quality=100, subsampling=0, exif=exif)
    images, _ = load(Data(source=f"torchvision/{name}", image_size=16), "test", tmp_path)
    assert np.allclose(images[:, 0, :8], 200, atol=6) and np.allclose(images[:, 2, 8:], 200, atol=6)
    for path in (tmp_path / name).rglob("*.jpg"):
        Image.new("LA", (16, 16), (40, 51)).save(path, format="PNG")
    images, _ = load(Data(source=f"torchvision/{name}", image_size=12), "test", tmp_path)
    assert np.allclose(images, 40 * 0.2 + 255 * 0.8, atol=1)


def test_hidden_pictures_that_torchvision_would_read_are_refused(tmp_path):
    eurosat(tmp_path / "eurosat")
    picture(tmp_path / "eurosat" / "eurosat" / "2750" / CLASSES[0] / "._1.jpg", 40)
    with pytest.raises(DataError, match=r"image .*/abbey/\._1\.jpg: hidden, and torchvision's EuroSAT would read it; remove it"):
        check(Data(source="torchvision/eurosat", image_size=8), tmp_path)


def test_stratified_takes_a_share_or_a_number_of_each_class():
    labels = np.repeat(np.arange(4), [10, 25, 5, 60])
    share, number = stratified(labels, share=0.8), stratified(labels, per_class=5)
    assert list(np.bincount(labels[share])) == [8, 20, 4, 48]
    assert list(np.bincount(labels[number])) == [5, 5, 5, 5]
    assert list(share) == list(stratified(labels, share=0.8)) != list(stratified(labels, share=0.8, seed=1))


def test_an_unknown_name_or_split_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"allowed: .*'torchvision/' \+ aircraft, caltech101"):
        Data.parse({"source": "torchvision/cub", "image_size": 8})
    with pytest.raises(DataError, match="'validation' of torchvision/pets; allowed: train, test"):
        named_split("pets", "validation", tmp_path)
