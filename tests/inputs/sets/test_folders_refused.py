"""Folders of pictures that cannot be read: one line that names what is wrong and what to do, and nothing written."""

import time
import unicodedata

import pytest

from tests.inputs.sets.support import ACUTE, PETS
from tests.support import files_below, make_images, make_picture
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sources import check


def circle_in_a_class(root):
    make_images(root)
    (root / "train" / "cat" / "again").symlink_to(root / "train" / "cat")


def circle_by_the_set(root):
    make_images(root)
    (root / "test" / "dog" / "all").symlink_to(root)


def circle_by_the_split(root):
    make_images(root)
    (root / "train" / "cat" / "deep").mkdir()
    (root / "train" / "cat" / "deep" / "up").symlink_to("../../../train")


def circle_from_above_the_set(root):
    """The link is what has to go, and not the set that is met again below it."""
    make_images(root)
    (root / "train" / "cat" / "data").symlink_to(root.parent)


def class_that_is_the_set(root):
    make_images(root)
    (root / "train" / "wolf").symlink_to(root)


def link_to_itself(root):
    make_images(root)
    (root / "train" / "cat" / "self").symlink_to("self")


def two_links_to_each_other(root):
    make_images(root)
    (root / "train" / "one").symlink_to("two")
    (root / "train" / "two").symlink_to("one")


def dangling_picture(root):
    make_images(root)
    (root / "train" / "cat" / "9.png").symlink_to("/nowhere/9.png")


def dangling_class(root):
    make_images(root)
    (root / "train" / "wolf").symlink_to("/nowhere")
    make_images(root / "more", classes=("wolf",))
    (root / "more" / "test" / "wolf").rename(root / "test" / "wolf")


def class_in_one_split(root):
    make_images(root)
    make_picture(root / "test" / "wolf" / "0.png")


def composed_and_decomposed(root):
    make_images(root, classes=(ACUTE, "dog"))
    (root / "test" / ACUTE).rename(root / "test" / unicodedata.normalize("NFD", ACUTE))


def empty_class(root):
    make_images(root)
    (root / "train" / "wolf").mkdir()
    make_picture(root / "test" / "wolf" / "0.png")


def class_of_hidden_pictures(root):
    make_images(root)
    for split in ("train", "test"):
        make_picture(root / split / "wolf" / "._0.png")


def class_of_gifs(root):
    make_images(root)
    for split in ("train", "test"):
        make_picture(root / split / "wolf" / "0.gif")


def without_classes(root):
    for split in ("train", "test"):
        make_picture(root / split / "0.png")


def without_splits(root):
    make_images(root.parent / "aside")
    (root.parent / "aside" / "train").rename(root)


def only_tested(root):
    make_images(root, splits=("test",))


def truncated(root):
    make_images(root)
    path = root / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:50])


def heic_called_jpg(root):
    make_images(root)
    (root / "train" / "cat" / "1.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))


def without_bytes(root):
    make_images(root)
    (root / "train" / "cat" / "1.png").write_bytes(b"")


def unreadable_by_name(root):
    make_images(root)
    (root / "train" / "cat" / "1.png").unlink()
    (root / "train" / "cat" / "1.png").mkdir()
    make_picture(root / "train" / "cat" / "1.png" / "2.png")
    (root / "train" / "cat" / "1.png" / "2.png").write_bytes(b"GIF89a")


REFUSED = [
    (circle_in_a_class, r"data link .*train/cat/again: leads back to .*train/cat, which it lies in; remove the link"),
    (circle_by_the_set, r"data link .*test/dog/all: leads back to .*pets, which it lies in; remove the link"),
    (circle_by_the_split, r"data link .*train/cat/deep/up: leads back to .*train, which it lies in; remove the link"),
    (circle_from_above_the_set, r"data link .*train/cat/data: leads back to .*pets, which it lies in; remove the link"),
    (class_that_is_the_set, r"data link .*train/wolf: leads back to .*pets, which it lies in; remove the link"),
    (link_to_itself, r"data link .*train/cat/self: leads back to itself; remove the link"),
    (two_links_to_each_other, r"data link .*train/one: leads back to itself; remove the link"),
    (dangling_picture, r"data link .*train/cat/9\.png: leads nowhere; bring back /nowhere/9\.png or remove the link"),
    (dangling_class, r"classes differ between train and test: wolf"),
    (class_in_one_split, r"classes differ between train and test: wolf"),
    (composed_and_decomposed, r"classes differ between train and test: caf"),
    (empty_class, r"class folder .*train/wolf: no images in it; allowed suffixes: \.bmp, .*\.tif"),
    (class_of_hidden_pictures, r"class folder .*/wolf: no images in it"),
    (class_of_gifs, r"class folder .*/wolf: no images in it"),
    (without_classes, r"(no class folders in it|it holds no files)"),
    (without_splits, r"'folder/pets' was looked for in .*: it holds no files\. Put train\|val\|test/CLASS"),
    (only_tested, r"data split 'train': none of train in .*; allowed layout: train\|val\|test/CLASS/\*"),
    (truncated, r"image .*train/cat/1\.png: cannot be read"),
    (heic_called_jpg, r"image .*train/cat/1\.jpg: cannot be read"),
    (without_bytes, r"image .*train/cat/1\.png: cannot be read"),
    (unreadable_by_name, r"image .*train/cat/1\.png/2\.png: cannot be read"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_layout_that_cannot_be_read_is_refused_in_one_line(tmp_path, make, message):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data" / "pets")
    before, started = files_below(tmp_path), time.perf_counter()
    with pytest.raises(DataError, match=message) as refusal:
        check(PETS, tmp_path / "data")
    assert "\n" not in str(refusal.value)
    assert files_below(tmp_path) == before
    assert time.perf_counter() - started < 5
