"""Folders of pictures as people have them: what is read is what torchvision's ImageFolder reads, hidden files aside, or one clear error.

The layouts' fingerprints and what is done with a folder that changes are in test_fingerprints.py.
"""

import os
import sys
import time
import unicodedata

import pytest
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from tests.inputs.sets.support import ACUTE, PETS
from tests.support import files_below, make_images, make_picture
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.folders import SUFFIXES
from vitlib.inputs.sources import Data, check, class_names, files, fingerprint, left_out, listing, load


def plain(root):
    make_images(root)


def elsewhere(root):
    """The same pictures outside the data folder, for links to point to."""
    return make_images(root.parent.parent / "elsewhere")


def linked_set(root):
    root.symlink_to(elsewhere(root))


def linked_splits(root):
    target = elsewhere(root)
    root.mkdir()
    for split in ("train", "test"):
        (root / split).symlink_to(target / split)


def linked_classes(root):
    target = elsewhere(root)
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (root / split / name).symlink_to(target / split / name)


def linked_files(root):
    target = elsewhere(root)
    for path in sorted(target.rglob("*.png")):
        link = root / path.relative_to(target)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(path, link.parent))


def one_folder_linked_twice(root):
    """A link beside what it points to is no circle."""
    make_images(root)
    for split in ("train", "test"):
        (root / split / "wolf").symlink_to("dog")


def nested(root):
    make_images(root)
    for number, name in enumerate(("persian/1.png", "persian/old/0.png", "persian b/2.png", "persian.png/3.png", "A/4.png")):
        make_picture(root / "train" / "cat" / name, number)
    make_picture(root / "train" / "dog" / "only" / "below.png")


def only_nested(root):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            make_picture(root / split / name / "a" / "b" / "1.png")


def every_suffix(root):
    make_images(root)
    for number, suffix in enumerate((".bmp", ".JPG", ".jpeg", ".Jpeg", ".PNG", ".ppm", ".pgm", ".tif", ".TIFF", ".webp")):
        make_picture(root / "train" / "cat" / f"a{number}{suffix}", number)


def other_files(root):
    make_images(root)
    for name in ("a.gif", "b.jfif", "c.heic", "d.txt", "more.zip", "more.tar.gz", "README", "e.png.part", "png"):
        (root / "train" / "cat" / name).write_bytes(b"not read")
    make_picture(root / "train" / "outside.png")
    make_picture(root / "outside.png")
    (root / "pets.tar").write_bytes(b"the archive they came in")


def unicode_names(form):
    def make(root):
        make_images(root, classes=(unicodedata.normalize(form, ACUTE), "猫", "кот", "e"))

    return make


def odd_names(root):
    make_images(root, classes=("big cats", " leading", "trailing ", "a,b", "<script>", "it's", "line\nbreak", "-rf", "100%", "cat.png"))


def validation_for_test(root):
    make_images(root, splits=("train", "val"))


def splits_of_all_names(root):
    make_images(root, splits=("train", "validation", "val", "test"))


def one_image_a_class(root):
    make_images(root, images=1)


def one_class(root):
    make_images(root, classes=("cat",))


def upper_and_lower_case(root):
    make_images(root, classes=("Dog", "dog", "CAT"))


def years(root):
    make_images(root, classes=("2012", "2013", "30"))


def many_classes(root):
    make_images(root, classes=[f"n{number:03}" for number in range(40)], images=1)


def of_file_managers(root):
    make_images(root)
    for folder in (root, root / "train", root / "train" / "cat"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0\0\0\1Bud1")


def beside_torchvisions_files(root):
    make_images(root)
    for name in ("images/a.jpg", "images/loop", "annotations/list.txt"):
        (root / "oxford-iiit-pet" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "oxford-iiit-pet" / name).write_bytes(b"of another layout")


FOLDED_ON_A_MAC = pytest.param(upper_and_lower_case, marks=pytest.mark.skipif(sys.platform == "darwin", reason="Dog is dog there"))
LAYOUTS = [
    plain, linked_set, linked_splits, linked_classes, linked_files, one_folder_linked_twice, nested, only_nested, every_suffix, other_files,
    unicode_names("NFC"), unicode_names("NFD"), odd_names, validation_for_test, splits_of_all_names, one_image_a_class, one_class,
    FOLDED_ON_A_MAC, years, many_classes, of_file_managers, beside_torchvisions_files,
]  # fmt: skip


def test_the_suffixes_are_torchvisions():
    assert sorted(SUFFIXES) == sorted(IMG_EXTENSIONS)


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__qualname__.split(".")[0])
def test_a_layout_is_read_as_imagefolder_reads_it(tmp_path, make):
    root = tmp_path / "data" / "pets"
    root.parent.mkdir()
    make(root)
    before, started = files_below(tmp_path), time.perf_counter()
    check(PETS, tmp_path / "data")
    names = set()
    for split in ("train", "test"):
        folder = root / split if (root / split).is_dir() else root / "val"
        theirs = ImageFolder(str(folder))
        paths, labels = listing(PETS, split, tmp_path / "data")
        assert [str(path) for path in paths] == [path for path, _ in theirs.samples]
        assert labels.tolist() == theirs.targets
        assert class_names(PETS, tmp_path / "data") == theirs.classes
        images, same = load(PETS, split, tmp_path / "data")
        assert len(images) == len(paths) and same.tolist() == labels.tolist()
        names |= {path.relative_to(root).as_posix() for path in paths}
    fingerprinted = {*files(PETS.source, tmp_path / "data").names}
    assert {name for name in fingerprinted if not name.startswith("val")} == {name for name in names if not name.startswith("val")}
    assert names <= fingerprinted
    assert files_below(tmp_path) == before
    assert time.perf_counter() - started < 5


# ------------------------------------------------------------------------------------------------ hidden and left out


@pytest.mark.parametrize(
    "hidden",
    [
        ".trashed-1-IMG.png", "._0.png", ".hidden.png", ".ipynb_checkpoints/0-checkpoint.png", "@eaDir/0.png/SYNOPHOTO_THUMB_M.png",
        "__MACOSX/cat/._0.png", ".thumbnails/0.png", ".picasaoriginals/0.png", ".git/objects/0.png", ".cache/huggingface/0.png",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["", "train", "train/cat", "train/cat/persian"])
def test_hidden_pictures_are_neither_read_nor_in_the_fingerprint(tmp_path, hidden, place):
    make_images(tmp_path / "pets")
    make_picture(tmp_path / "pets" / "train" / "cat" / "persian" / "1.png")
    before = what_is_seen(tmp_path)
    make_picture(tmp_path / "pets" / place / hidden)
    assert what_is_seen(tmp_path) == before
    assert len(load(PETS, "train", tmp_path)[0]) == 7


def what_is_seen(data_dir):
    fingerprint.cache_clear()
    paths, labels = listing(PETS, "train", data_dir)
    return [*map(str, paths)], labels.tolist(), class_names(PETS, data_dir), fingerprint(PETS.source, data_dir)


@pytest.mark.parametrize("name", [".net", ".hidden"])
def test_a_hidden_folder_of_pictures_among_the_classes_has_to_be_named(tmp_path, name):
    """It was a class before hidden folders were passed over; left out in silence it would change every label."""
    make_images(tmp_path / "pets", classes=("cat", "dog", name))
    with pytest.raises(DataError, match=rf"/{name}: hidden by the dot in its name, yet it holds pictures; rename it if it is a class"):
        check(PETS, tmp_path)


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    other_files(tmp_path / "pets")
    for name in ("a.GIF", ".ipynb_checkpoints/1.png", ".ipynb_checkpoints/2.png", "._1.png", "Thumbs.db"):
        make_picture(tmp_path / "pets" / "test" / "dog" / name) if name.endswith("png") else (tmp_path / "pets/test/dog" / name).touch()
    (tmp_path / "pets" / "train" / "gone").symlink_to("nowhere")
    (tmp_path / "pets" / "test" / "cat" / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pets" / "test" / "cat" / "pipe.png")
    (line,) = left_out([PETS.source, "digits", PETS.source], tmp_path)
    head, _, tail = line.partition("; ")
    assert head == (
        "folder/pets: left out: 2 .gif (test/dog/a.GIF, ...), 1 .gz (train/cat/more.tar.gz), 1 .heic (train/cat/c.heic), "
        "1 .jfif (train/cat/b.jfif), 1 .part (train/cat/e.png.part), 1 .txt (train/cat/d.txt), 1 .zip (train/cat/more.zip), "
        "2 hidden (test/dog/._1.png, ...), 3 neither file nor folder (test/cat/gone, ...), 1 outside class folders (train/outside.png), "
        "2 without suffix (train/cat/README, ...)"
    )
    assert tail == "read are .bmp, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp, as torchvision's ImageFolder does"


@pytest.mark.parametrize("make", [plain, linked_classes, nested, every_suffix, of_file_managers, beside_torchvisions_files])
def test_a_folder_that_is_read_wholly_is_passed_without_a_word(tmp_path, make):
    (tmp_path / "data").mkdir()
    make(tmp_path / "data" / "pets")
    assert left_out([PETS.source], tmp_path / "data") == []


# ------------------------------------------------------------------------------------------------ a source is its whole path


@pytest.mark.parametrize("given", ["folder/raw/pets", "folder/raw/pets/", "folder/raw//pets", "folder/./raw/pets///"])
def test_a_source_is_its_whole_path(tmp_path, given):
    make_images(tmp_path / "pets")
    make_images(tmp_path / "raw" / "pets", classes=("fox", "owl", "yak"))
    data = PETS.changed(source=given)
    assert data.source == "folder/raw/pets" and data.canonical() == PETS.changed(source="folder/raw/pets").canonical()
    assert class_names(data, tmp_path) == ["fox", "owl", "yak"]
    assert {path.parents[2] for path in listing(data, "train", tmp_path)[0]} == {tmp_path / "raw" / "pets"}
    assert fingerprint(data.source, tmp_path) != fingerprint("folder/pets", tmp_path)


@pytest.mark.parametrize("given", ["digits", "torchvision/pets", "torch/cifar10", "hfds/zh-plus/tiny-imagenet"])
def test_a_trailing_slash_means_nothing(given):
    assert Data(source=f"{given}/", image_size=8) == Data(source=given, image_size=8)


def test_a_path_that_is_not_there_is_named_whole(tmp_path):
    make_images(tmp_path / "pets")
    with pytest.raises(DataError, match=f"'folder/raw/pets' was looked for in {tmp_path}/raw/pets: the folder does not exist"):
        check(PETS.changed(source="folder/raw/pets"), tmp_path)


# ------------------------------------------------------------------------------------------------ other splits, other orders


def test_a_set_that_is_only_evaluated_needs_no_training_split(tmp_path):
    make_images(tmp_path / "pets", splits=("test",))
    check(PETS, tmp_path, splits=("test",))
    theirs = ImageFolder(str(tmp_path / "pets" / "test"))
    assert [str(path) for path in listing(PETS, "test", tmp_path)[0]] == [path for path, _ in theirs.samples]
    assert class_names(PETS, tmp_path) == theirs.classes


def test_classes_numbered_from_zero_are_in_the_order_of_their_numbers_and_so_are_their_names(tmp_path):
    """ImageNet-V2: ImageFolder would give class 10 the label 2."""
    make_images(tmp_path / "pets", classes=[str(number) for number in range(12)], images=1)
    assert class_names(PETS, tmp_path) == [str(number) for number in range(12)]
    paths, labels = listing(PETS, "train", tmp_path)
    assert [int(path.parent.name) for path in paths] == labels.tolist() == list(range(12))
