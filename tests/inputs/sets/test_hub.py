"""Sets of the Hugging Face hub in their real layouts, made small: labels, splits and classes against what was written."""

import sys

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from datasets import Image as ImageColumn
from PIL import Image
from pydantic import ValidationError

from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets.hub import first_seen
from vitlib.inputs.sources import Data, check, class_names, fingerprint, load

CLASSES = ["n01", "n02", "n03"]
FINDINGS = ["No Finding", "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"]
TINY, ISIC, CHEST = "zh-plus/tiny-imagenet", "marmal88/skin_cancer", "chehablab/NIHChestXR"


def picture(value, mode="RGB"):
    return Image.new(mode, (12, 10), value if mode == "L" else (value, 0, 0))


def write(root, split, features, **columns):
    features = Features({"image": ImageColumn(), **features})
    (root / "data").mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns, features=features).to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")


def tiny_imagenet(root, test="valid"):
    for split, labels in (("train", [0, 1, 2, 0]), (test, [2, 1])):
        images = [picture(40 * label + 40) for label in labels]
        write(root, split, {"label": ClassLabel(names=CLASSES)}, image=images, label=labels)


def skin_cancer(root, lesions=None):
    """Rows of one image more than once, in one split and across splits; `lesions` are those of the images."""
    features = {"image_id": Value("string"), "dx": Value("string")} | ({"lesion_id": Value("string")} if lesions else {})
    rows = {"train": [("a", "nevus"), ("b", "melanoma"), ("a", "nevus")], "test": [("c", "angioma"), ("b", "melanoma"), ("c", "angioma")]}
    values = {"a": 40, "b": 80, "c": 120, "d": 160, "e": 200}
    if lesions:
        rows["train"].append(("d", "nevus"))
        rows["test"].append(("e", "nevus"))
    for split, pairs in rows.items():
        names, kinds = zip(*pairs, strict=True)
        shown = {"lesion_id": [lesions[name] for name in names]} if lesions else {}
        write(root, split, features, image=[picture(values[name]) for name in names], image_id=names, dx=kinds, **shown)


def chest(root):
    findings = {"train": [[0], [1], [1, 3], [7], [8]], "test": [[8, 4], [6], [2]]}
    for split, lists in findings.items():
        images = [picture(30 * values[0], mode="L") for values in lists]
        write(root, split, {"labels": List(ClassLabel(names=FINDINGS))}, image=images, labels=lists)


def source(repository, image_size=8, **fields):
    return Data(source=f"hfds/{repository}", image_size=image_size, **fields)


def read(tmp_path, repository, split, **fields):
    """The red level of each image, in steps of forty, and its class by name."""
    data = source(repository, **fields)
    images, labels = load(data, split, tmp_path)
    names = class_names(data, tmp_path)
    return images[:, 0, 4, 4].tolist(), [names[label] for label in labels]


def test_tiny_imagenet_is_tested_on_its_validation_images(tmp_path):
    tiny_imagenet(tmp_path / "tiny-imagenet")
    assert read(tmp_path, TINY, "train") == ([40, 80, 120, 40], ["n01", "n02", "n03", "n01"])
    assert read(tmp_path, TINY, "test") == read(tmp_path, TINY, "validation") == ([120, 80], ["n03", "n02"])


def test_a_test_split_goes_before_a_validation_split(tmp_path):
    tiny_imagenet(tmp_path / "tiny-imagenet")
    write(tmp_path / "tiny-imagenet", "test", {"label": ClassLabel(names=CLASSES)}, image=[picture(7)], label=[0])
    assert read(tmp_path, TINY, "test") == ([7], ["n01"])


def test_an_image_of_isic_is_in_one_split_and_once(tmp_path, caplog):
    """In a copy that does not name lesions, which is said."""
    skin_cancer(tmp_path / "skin_cancer")
    assert read(tmp_path, ISIC, "train") == ([40, 80], ["nevus", "melanoma"])
    assert read(tmp_path, ISIC, "test") == ([120], ["angioma"])
    assert class_names(source(ISIC), tmp_path) == ["angioma", "melanoma", "nevus"]
    assert [record.message for record in caplog.records].count(
        f"{tmp_path / 'skin_cancer'}: no column lesion_id; images are kept apart by image_id alone, and both splits may show one subject"
    ) == 1


@pytest.mark.parametrize(("lesion_of_e", "tested"), [("L4", [120, 200]), ("L1", [120]), (None, [120, 200])])
def test_a_lesion_of_isic_is_in_one_split(tmp_path, caplog, lesion_of_e, tested):
    """Training keeps both images, a and d, of lesion L1; a test image of it is left out; one of no known lesion is its own."""
    skin_cancer(tmp_path / "skin_cancer", {"a": "L1", "b": "L2", "c": "L3", "d": "L1", "e": lesion_of_e})
    assert read(tmp_path, ISIC, "train")[0] == [40, 80, 160]
    assert read(tmp_path, ISIC, "test")[0] == tested
    assert not caplog.records


def test_chestx_holds_images_with_exactly_one_of_its_seven_findings(tmp_path):
    chest(tmp_path / "NIHChestXR")
    assert read(tmp_path, CHEST, "train") == ([30, 240], ["Atelectasis", "Pneumothorax"])
    assert read(tmp_path, CHEST, "test") == ([180, 60], ["Nodule", "Cardiomegaly"])
    assert len(class_names(source(CHEST), tmp_path)) == 7


def test_grey_and_coloured_pictures_of_one_set_have_the_same_channels(tmp_path):
    root = tmp_path / "tiny-imagenet"
    for split in ("train", "valid"):
        write(root, split, {"label": ClassLabel(names=CLASSES)}, image=[picture(40), picture(80, mode="L")], label=[0, 1])
    images, _ = load(source(TINY), "train", tmp_path)
    assert images.shape == (2, 3, 8, 8) and images[1, :, 0, 0].tolist() == [80, 80, 80]


def test_pictures_are_converted_as_those_of_a_folder_and_named_where_they_cannot_be(tmp_path):
    """Sixteen bits, transparency, and floats of no stated range."""
    root, levels = tmp_path / "tiny-imagenet", np.full((12, 10), 8000, np.uint16)
    floats = Image.fromarray(np.full((12, 10), 7.5, np.float32))
    features = {"label": ClassLabel(names=CLASSES)}
    write(root, "train", features, image=[Image.fromarray(levels), Image.new("LA", (10, 12), (40, 51))], label=[0, 1])
    write(root, "valid", features, image=[picture(1), floats], label=[0, 1])
    images, _ = load(source(TINY), "train", tmp_path)
    assert [image[0, 4, 4] for image in images] == [31, 212]  # 8000 / 257; 0.2 x 40 + 0.8 x 255
    with pytest.raises(DataError, match=r"image 1 of test of hfds/zh-plus/tiny-imagenet: cannot be read .*7\.5 to 7\.5, are not in 0\.\.1"):
        load(source(TINY), "test", tmp_path)


@pytest.mark.parametrize(("per_class", "expected"), [(1, [1, 1, 1]), (None, [2, 1, 1])])
def test_few_shot_subsets_are_drawn_from_the_training_split(tmp_path, per_class, expected):
    tiny_imagenet(tmp_path / "tiny-imagenet")
    check(source(TINY, per_class=per_class), tmp_path)
    _, labels = load(source(TINY, per_class=per_class), "train", tmp_path)
    assert np.bincount(labels).tolist() == expected


def test_reading_a_set_leaves_its_fingerprint_as_it_was(tmp_path):
    tiny_imagenet(tmp_path / "tiny-imagenet")
    before = fingerprint(f"hfds/{TINY}", tmp_path)
    load(source(TINY), "train", tmp_path)
    fingerprint.cache_clear()
    assert fingerprint(f"hfds/{TINY}", tmp_path) == before


def test_first_seen_against_a_loop():
    generator = np.random.default_rng(0)
    for _ in range(50):
        names = [str(name) for name in generator.integers(6, size=10)]
        assert first_seen(names).tolist() == [place for place, name in enumerate(names) if name not in names[:place]]


def test_an_absent_set_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"hfds/zh-plus/tiny-imagenet.*hf download zh-plus/tiny-imagenet --repo-type dataset --local-dir"):
        check(source(TINY), tmp_path)


def test_a_set_without_a_split_or_a_column_says_which_there_are(tmp_path):
    write(tmp_path / "a", "train", {"kind": ClassLabel(names=CLASSES)}, image=[picture(1)], kind=[0])
    with pytest.raises(DataError, match=r"no column label; there are image, kind"):
        check(source("x/a"), tmp_path, splits=("train",))
    write(tmp_path / "b", "train", {"label": ClassLabel(names=CLASSES)}, image=[picture(1)], label=[0])
    with pytest.raises(DataError, match=r"data split 'test': none of test, validation, valid, val .* there are train"):
        check(source("x/b"), tmp_path)


def test_without_the_package_the_error_names_it(tmp_path, monkeypatch):
    tiny_imagenet(tmp_path / "tiny-imagenet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install 'datasets>=4'"):
        check(source(TINY), tmp_path)


@pytest.mark.parametrize("name", ["tiny-imagenet", "a/b/c", "../x", "/a/b", ""])
def test_a_repository_is_named_by_owner_and_name(name):
    with pytest.raises(ValidationError, match="hfds/OWNER/NAME"):
        source(name)
