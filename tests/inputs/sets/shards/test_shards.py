"""ImageNet's three ways to lie on a disk, made small: a folder, parquet files of the hub, webdataset's tar files. One training."""

import gc
import io
import json
import tarfile
import warnings

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageColumn
from PIL import Image
from pydantic import ValidationError

from vitlib import distributed
from vitlib.inputs import data as data_module
from vitlib.inputs.data import training_batches
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets import fingerprints
from vitlib.inputs.sources import Data, check, class_names, files, fingerprint, load
from vitlib.papers.deit.specs import Released
from vitlib.recipe import Augment, Recipe

CLASSES = ["n01", "n02", "n03"]
SPLITS = {"train": [0] * 7 + [1] * 5 + [2] * 8, "val": [0, 0, 1, 2, 2]}
KINDS = {"folder": "folder/set", "hfds": "hfds/owner/set", "wds": "wds/set"}
RECIPE = Recipe(epochs=2, batch_size=6, lr=0.1, augment=Augment(crop_area=0.3, flip=0.5, erasing=0.5, randaugment="rand-m9-mstd0.5-inc1"))


def jpeg(split: str, number: int) -> bytes:
    noise = np.random.default_rng([len(split), number]).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((40, 30)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def tar(path, samples, beside=None) -> None:
    """Each sample's files one after the other, as webdataset wants them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for number, (content, label) in enumerate(samples):
            add(shard, f"{path.stem}/{number:05}.jpg", content)
            add(shard, f"{path.stem}/{number:05}.cls", b"%d" % label)
            add(shard, f"{path.stem}/{number:05}.json", json.dumps(beside or {}).encode())


@pytest.fixture
def sets(tmp_path):
    """The same images and labels in each of the three."""
    for split, labels in SPLITS.items():
        samples = [(jpeg(split, number), label) for number, label in enumerate(labels)]
        for number, (content, label) in enumerate(samples):
            path = tmp_path / "folder" / "set" / split / CLASSES[label] / f"{number:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        half = len(samples) // 2
        for number, part in enumerate((samples[:half], samples[half:])):
            tar(tmp_path / "wds" / "set" / f"set-{split}-{number:04}.tar", part)
        pictures = [{"bytes": content, "path": None} for content, _ in samples]
        columns = {"image": pictures, "label": labels}
        features = Features({"image": ImageColumn(), "label": ClassLabel(names=CLASSES)})
        (tmp_path / "hfds" / "set" / "data").mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "hfds" / "set" / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(data_module, "workers", lambda: 0)


def streamed(kind, **fields):
    return Data(source=KINDS[kind], image_size=16, **{"resident": False, **fields})


def drawn(sets, kind, epoch, start=0, **fields):
    """Images and labels of each step, as bytes."""
    batches = training_batches(streamed(kind, **fields), RECIPE, seed=3, device="cpu", data_dir=sets / kind)
    return [(images.numpy().tobytes(), labels.tolist()) for images, labels in batches.epoch(epoch, start)]


@pytest.mark.parametrize("kind", ["hfds", "wds"])
@pytest.mark.parametrize("fields", [{}, {"fraction": 0.7}, {"per_class": 4}], ids=str)
def test_shards_train_as_a_folder_does_to_the_bit(sets, in_this_process, kind, fields):
    for epoch in range(2):
        assert drawn(sets, kind, epoch, **fields) == drawn(sets, "folder", epoch, **fields) != []


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_differ_and_an_interrupted_one_goes_on_where_it_was(sets, in_this_process, kind):
    first, second = drawn(sets, kind, 0), drawn(sets, kind, 1)
    assert len(first) == 3 and first != second
    assert drawn(sets, kind, 1, start=2) == second[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_worker_processes_give_what_one_process_gives(sets, monkeypatch, kind):
    monkeypatch.setattr(data_module, "workers", lambda: 2)
    decoded = drawn(sets, kind, 1)
    monkeypatch.setattr(data_module, "workers", lambda: 0)
    assert decoded == drawn(sets, kind, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_process_reads_its_own_part_of_a_batch_alone(sets, in_this_process, monkeypatch, kind):
    """Without augmentation, so that an image is known by its pixels."""
    plain, opened = RECIPE.changed(augment=Augment()), []
    open_picture = data_module._Some.__call__
    monkeypatch.setattr(data_module._Some, "__call__", lambda some, place: (opened.append(int(place)), open_picture(some, place))[1])

    def step():
        batches = training_batches(streamed(kind), plain, seed=3, device="cpu", data_dir=sets / kind)
        return [image.numpy().tobytes() for image in next(batches.epoch(0))[0]]

    whole, parts = step(), []
    opened.clear()
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        with distributed._division():
            parts += step()
    assert sorted(parts) == sorted(whole) and len(opened) == len({*opened}) == 6


def test_a_file_is_a_core_s_to_decode(monkeypatch):
    monkeypatch.setattr(data_module.paths, "cores", lambda: 24)
    assert data_module.workers() == 16
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert data_module.workers() == 3


def test_tar_files_can_be_held_on_the_device_too(sets):
    for split in ("train", "test"):
        found, expected = (load(streamed(kind, resident=True), split, sets / kind) for kind in ("wds", "folder"))
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert class_names(streamed("wds"), sets / "wds") == ["0", "1", "2"]


def test_splits_may_be_listed_as_timm_lists_them(sets):
    root = sets / "wds" / "set"
    names = {"train": "a.tar", "validation": "b.tar"}
    for number, name in enumerate(names.values()):
        tar(root / name, [(jpeg("other", 9), number)])
    splits = {split: {"name": split, "filenames": [name], "shard_lengths": [1], "num_samples": 1} for split, name in names.items()}
    (root / "_info.json").write_text(json.dumps({"splits": splits}))
    assert [load(streamed("wds", resident=True), split, sets / "wds")[1].tolist() for split in ("train", "test")] == [[0], [1]]


def test_the_index_is_kept_and_read_anew_where_a_file_changed(sets):
    kept = sets / "wds" / "set" / ".cache"
    check(streamed("wds"), sets / "wds")
    first = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    check(streamed("wds"), sets / "wds")
    assert len(first) == 2 and {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == first
    tar(sets / "wds" / "set" / "set-train-0001.tar", [(jpeg("train", 0), 2)])
    assert load(streamed("wds", resident=True), "train", sets / "wds")[1].tolist() == [0] * 7 + [1] * 3 + [2]


def test_webdataset_itself_reads_the_same(sets):
    """timm's reader on it, too."""
    pytest.importorskip("webdataset", reason="webdataset is not installed, with which timm reads tar files")
    from timm.data.readers.reader_wds import ReaderWds

    root = sets / "wds" / "set"
    labels = SPLITS["train"]
    about = {"name": "train", "filenames": [f"set-train-{n:04}.tar" for n in range(2)], "shard_lengths": [10, 10], "num_samples": 20}
    (root / "_info.json").write_text(json.dumps({"splits": {"train": about}}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves files open
        read = [(np.asarray(image), label) for image, label in ReaderWds(str(root), split="train")]
        gc.collect()
    split = data_module.pictures(streamed("wds"), "train", sets / "wds")
    assert [label for _, label in read] == split[1].tolist() == labels
    for place, (image, _) in enumerate(read):
        np.testing.assert_array_equal(np.asarray(split[0](place)), image)


def test_another_image_of_equal_size_changes_the_fingerprint_of_tar_files(sets):
    path, found = sets / "wds" / "set" / "set-val-0001.tar", []
    for byte in (b"\xff", b"\xfe"):
        fingerprint.cache_clear()
        found.append(fingerprint("wds/set", sets / "wds"))
        path.write_bytes(path.read_bytes()[:700] + byte + path.read_bytes()[701:])
    fingerprint.cache_clear()
    assert len({*found, fingerprint("wds/set", sets / "wds")}) == 3


def test_of_a_large_file_three_pieces_are_read(sets, monkeypatch):
    for name, size in {"WHOLE": 0, "LARGE": 4096, "PIECE": 512}.items():
        monkeypatch.setattr(fingerprints, name, size)
    path, found = sets / "wds" / "set" / "set-train-0000.tar", []
    content = path.read_bytes()
    for place in (None, 100, len(content) // 2, len(content) - 100, 2000):
        changed = bytearray(content)
        if place is not None:
            changed[place] ^= 1
        path.write_bytes(changed)
        found.append(files("wds/set", sets / "wds").fingerprint())
    assert len({*found[:4]}) == 4 and found[4] == found[0]


def no_label(root):
    with tarfile.open(root / "set-train-0000.tar", "w") as shard:
        add(shard, "a/b.jpg", jpeg("train", 0))


def no_number(root):
    with tarfile.open(root / "set-train-0000.tar", "w") as shard:
        add(shard, "b.jpg", jpeg("train", 0))
        add(shard, "b.cls", b"cat")


REFUSED = {
    "an image without label": (no_label, r"set-train-0000.tar: image a/b has no label; allowed: a number in NAME.cls"),
    "a label that is no number": (no_number, r"set-train-0000.tar: cannot be read as webdataset's tar file"),
    "no tar file": (lambda root: (root / "set-train-0000.tar").write_bytes(b"jpg" * 999), "cannot be read as webdataset's tar file"),
    "no images": (lambda root: [tar(path, []) for path in root.glob("*train*")], "no images in the tar files of train"),
    "no split": (
        lambda root: [path.unlink() for path in root.glob("*val*")],
        r"data split 'test': no tar files named test or .* are 2;",
    ),
    "a bad list": (lambda root: (root / "_info.json").write_text("[]"), "_info.json: no splits with filenames in it"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_faulty_tar_files_are_refused_before_anything_is_computed(sets, fault):
    spoil, message = REFUSED[fault]
    spoil(sets / "wds" / "set")
    with pytest.raises(DataError, match=message):
        check(streamed("wds"), sets / "wds")


def test_a_damaged_image_is_named(sets, in_this_process):
    path = sets / "wds" / "set" / "set-train-0000.tar"
    tar(path, [(b"no picture", 1)])
    with pytest.raises(DataError, match="image 0 of train of wds/set: cannot be read"):
        load(streamed("wds", resident=True), "train", sets / "wds")


def test_absent_tar_files_say_where_they_were_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"'wds/set' was looked for in .*Put its tar files there"):
        check(streamed("wds"), tmp_path)


def test_sets_without_files_of_their_own_cannot_be_streamed():
    with pytest.raises(ValidationError, match="resident=False with source='torch/cifar10', which cannot be streamed; allowed: folder/"):
        Data(source="torch/cifar10", image_size=32, resident=False)


def test_reassessed_labels_need_the_names_of_files():
    with pytest.raises(ValidationError, match=r"real_labels=True with data.source='wds/set'; allowed: 'folder/NAME' of named files"):
        Released(model={"name": "deit_tiny_patch16_224.fb_in1k"}, data=streamed("wds"), real_labels=True)


def test_pixels_of_a_stream_are_those_of_the_file(sets, in_this_process):
    batches = data_module.test_batches(streamed("wds", mean=(0.0,) * 3, std=(1.0,) * 3), device="cpu", data_dir=sets / "wds")
    images = torch.cat([images for images, _ in batches.epoch(0)])
    expected = data_module.test_batches(streamed("folder", mean=(0.0,) * 3, std=(1.0,) * 3), device="cpu", data_dir=sets / "folder")
    assert torch.equal(images, torch.cat([images for images, _ in expected.epoch(0)]))
