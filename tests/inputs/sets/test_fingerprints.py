"""A replaced file is seen: by the fingerprint where it reads all bytes, by the record of a large set where it reads a sample."""

import json
import logging
import os
import shutil
import sys

import pytest

from tests.support import files_below, make_images, make_picture
from vitlib.__main__ import main
from vitlib.computing import Result, computes
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets import fingerprints
from vitlib.inputs.sources import Data, compare, files, fingerprint, load
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.runs.plan import Place
from vitlib.runs.preflight import verify_data
from vitlib.runs.store import Store
from vitlib.spec import RunSpec

SOURCE = "folder/pets"
PETS = Data(source=SOURCE, image_size=8, mean=(0.5,), std=(0.5,))


def fingerprint_of(data_dir):
    fingerprint.cache_clear()
    return fingerprint(SOURCE, data_dir)


def replace(path, seed=99):
    """Other noise in as many bytes, by a new file that keeps the time of the old one, as `cp -p` and `rsync -t` do."""
    before = path.stat()
    make_picture(path, seed)
    with path.open("ab") as stream:
        stream.write(bytes(max(0, before.st_size - path.stat().st_size)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return before.st_size == path.stat().st_size


# ------------------------------------------------------------------------------------------------ sets whose bytes are all read


@pytest.mark.parametrize(
    "name", ["train/cat/1.png", "train/cat/a b.TIFF", "train/cat/deep/er/1.bmp", "test/dog/猫.ppm", "val/dog/1.pgm", "validation/dog/1.pgm"]
)
def test_a_replaced_picture_changes_the_fingerprint_whatever_its_place_suffix_and_time(tmp_path, name):
    make_images(tmp_path / "pets")
    make_picture(tmp_path / "pets" / name)
    before = fingerprint_of(tmp_path)
    replace(tmp_path / "pets" / name)
    assert fingerprint_of(tmp_path) != before


@pytest.mark.parametrize("linked", ["", "train", "train/cat", "train/cat/1.png"])
def test_replacing_what_a_link_points_to_changes_the_fingerprint(tmp_path, linked):
    data_dir, aside = tmp_path / "data", tmp_path / "elsewhere.png"
    make_images(data_dir / "pets")
    before = fingerprint_of(data_dir)
    (data_dir / "pets" / linked).rename(aside)
    (data_dir / "pets" / linked).symlink_to(aside)
    assert fingerprint_of(data_dir) == before
    replace(aside / os.path.relpath("train/cat/1.png", linked or ".") if aside.is_dir() else aside)
    assert fingerprint_of(data_dir) != before


def test_one_of_a_thousand_bmps_of_equal_size_that_was_replaced_is_seen(tmp_path):
    for number in range(1040):
        make_picture(tmp_path / "pets" / "train" / "cat" / f"{number:04}.bmp", number)
    seen = {fingerprint_of(tmp_path)}
    for number in (1, 517, 1039):
        assert replace(tmp_path / "pets" / "train" / "cat" / f"{number:04}.bmp")
        seen.add(fingerprint_of(tmp_path))
    assert len(seen) == 4


def test_a_copy_has_the_same_fingerprint_whenever_it_was_made(tmp_path):
    make_images(tmp_path / "here" / "pets")
    shutil.copytree(tmp_path / "here" / "pets", tmp_path / "there" / "pets")
    for path in (tmp_path / "there").rglob("*.png"):
        os.utime(path, (0, 0))
    assert fingerprint_of(tmp_path / "here") == fingerprint_of(tmp_path / "there")


def test_a_fingerprint_is_not_that_of_pictures_read_in_another_way(tmp_path, monkeypatch):
    make_images(tmp_path / "pets")
    before = fingerprint_of(tmp_path)
    monkeypatch.setattr(fingerprints, "READING", 3)
    assert fingerprint_of(tmp_path) != before


def test_a_file_counts_at_least_a_block_of_the_disk(tmp_path, monkeypatch):
    """Many tiny files take as long to read as large ones."""
    make_images(tmp_path / "pets")  # 12 files of some 120 bytes
    for whole, limit in ((True, 12 * 4096), (False, 12 * 4096 - 1)):
        monkeypatch.setattr(fingerprints, "WHOLE", limit)
        assert files(SOURCE, tmp_path).whole is whole


def test_pictures_that_were_replaced_since_the_study_was_described_are_not_read(tmp_path):
    make_images(tmp_path / "pets")
    data = PETS.pinned(tmp_path)
    replace(tmp_path / "pets" / "test" / "cat" / "1.png")
    with pytest.raises(DataError, match=r"data\.fingerprint: folder/pets under .* describe the study again"):
        load(data, "test", tmp_path)


# ------------------------------------------------------------------------------------------------ large sets


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A data folder whose set of 12 pictures counts as large, and of which two are sampled."""
    monkeypatch.setattr(fingerprints, "WHOLE", 0)
    monkeypatch.setattr(fingerprints, "SAMPLE", 2)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                make_picture(tmp_path / "pets" / split / name / f"{number}.bmp", number)
    return tmp_path


def touch(path):
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def rewrite(path):
    replace(path)
    touch(path)


def compared(data_dir, verify=False):
    fingerprint.cache_clear()
    compare([SOURCE, "digits"], data_dir, data_dir / "records", verify=verify)


OUTSIDE = "pets/test/cat/1.bmp"  # of the sample


def test_the_sample_does_not_see_what_the_record_sees(large):
    before = fingerprint_of(large)
    rewrite(large / OUTSIDE)
    assert fingerprint_of(large) == before
    rewrite(large / "pets/test/cat/0.bmp")
    assert fingerprint_of(large) != before


@pytest.mark.parametrize("change", [touch, rewrite])
def test_a_file_written_since_is_refused_until_all_bytes_are_read(large, change, caplog):
    compared(large)
    compared(large)
    change(large / OUTSIDE)
    with pytest.raises(
        DataError, match=r"folder/pets: test/cat/1\.bmp was written since results on it began, .*--verify-data, which reads all"
    ):
        compared(large)
    assert not caplog.records
    compared(large, verify=True)
    (record,) = caplog.records
    assert record.message == "folder/pets: test/cat/1.bmp was written since results on it began; taken as found now"
    compared(large)


def test_of_verified_files_one_that_was_only_touched_is_read_and_taken(large):
    compared(large, verify=True)
    touch(large / OUTSIDE)
    compared(large)
    compared(large)


def test_of_verified_files_one_that_was_replaced_is_refused_for_good(large):
    compared(large, verify=True)
    rewrite(large / OUTSIDE)
    for verify in (False, True, False):
        with pytest.raises(DataError, match=r"folder/pets: test/cat/1\.bmp was replaced .*, by other bytes of the same size"):
            compared(large, verify=verify)


def test_verifying_sees_a_replaced_file_that_kept_its_time(large):
    compared(large, verify=True)
    replace(large / OUTSIDE)
    compared(large)
    with pytest.raises(DataError, match=r"test/cat/1\.bmp was replaced"):
        compared(large, verify=True)


def test_several_files_are_counted_and_one_is_named(large):
    compared(large)
    for number in (1, 2):
        rewrite(large / "pets" / "train" / "cat" / f"{number}.bmp")
    with pytest.raises(DataError, match=r"folder/pets: 2 files \(train/cat/1\.bmp, \.\.\.\) were written"):
        compared(large)


def test_files_of_another_size_are_other_data_with_a_record_of_their_own(large):
    compared(large)
    with (large / OUTSIDE).open("ab") as stream:
        stream.write(b"\0")
    compared(large)
    assert len(files_below(large / "records")) == 2


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes text alone for names")
def test_names_that_are_no_text_or_hold_lines_and_commas_are_recorded(large):
    for name in (b"a\xff.bmp", b'a,b\n".bmp', b" x.bmp"):
        shutil.copy(large / OUTSIDE, os.fsencode(large / "pets" / "train" / "cat") + b"/" + name)
    for _ in range(3):
        compared(large, verify=True)
    touch(large / "pets" / "train" / "cat" / os.fsdecode(b"a\xff.bmp"))
    compared(large)


def test_a_small_set_needs_no_record(tmp_path):
    make_images(tmp_path / "pets")
    compared(tmp_path, verify=True)
    assert not (tmp_path / "records").exists()


# ------------------------------------------------------------------------------------------------ studies


class Counted(RunSpec):
    """How many test images there are; once they are read, `replaces` is replaced."""

    data: Data
    replaces: str = ""


@computes(Counted)
def count(spec, context):
    images, _ = load(spec.data, "test", context.data_dir)
    if spec.replaces:
        replace(context.data_dir / spec.replaces)
    return Result({"images": len(images)})


def counted(data_dir, **fields):
    return Counted(data=PETS.pinned(data_dir), **fields)


def test_one_warning_of_a_study_counts_what_is_left_out(place, caplog):
    root = make_images(place.data_dir / "pets")
    make_picture(root / "train" / "cat" / "._1.png")
    make_picture(root / "train" / "cat" / "1.gif")
    sizes = [Counted(data=PETS.changed(image_size=size).pinned(place.data_dir)) for size in (4, 8)]
    assert [stored.metrics["images"] for stored in execute(sizes, place).values()] == [6, 6]
    assert [record.message.partition(";")[0] for record in caplog.records if record.levelno == logging.WARNING] == [
        "folder/pets: left out: 1 .gif (train/cat/1.gif), 1 hidden (train/cat/._1.png)"
    ]


def test_files_replaced_after_a_study_was_described_are_refused_before_it_starts(place):
    make_images(place.data_dir / "pets")
    spec = counted(place.data_dir)
    replace(place.data_dir / "pets" / "train" / "cat" / "1.png")
    with pytest.raises(DataError, match="describe the study again"):
        execute([spec], place)
    assert spec.id not in Store(place.results_dir)


def test_a_run_does_not_read_files_that_were_replaced_while_the_study_ran(place):
    """The first run's result stands; the second, which reads anew at another size, is told apart from it."""
    make_images(place.data_dir / "pets")
    first = counted(place.data_dir, replaces="pets/test/cat/1.png")
    second = Counted(data=first.data.changed(image_size=4))
    with pytest.raises(RunsFailedError, match=rf"{second.id}: DataError: data\.fingerprint: folder/pets"):
        execute([first, second], place)
    assert first.id in Store(place.results_dir) and second.id not in Store(place.results_dir)


def test_a_large_set_written_since_is_refused_before_a_run_starts(large, place):
    place = Place(place.results_dir, large, device="cpu")
    execute([counted(large)], place)
    rewrite(large / OUTSIDE)
    further = counted(large, replaces=OUTSIDE)
    with pytest.raises(DataError, match="was written since results on it began"):
        execute([further], place)
    verify_data([further], place)
    execute([further], place)
    assert [path.parent.name for path in place.results_dir.rglob("*.csv")] == [".data"]


def test_the_command_reads_all_bytes_and_refuses_what_was_replaced(large, capsys):
    small = {name: {"batch_size": 2} for name in ("recipe", "teacher_recipe", "finetune")}
    overrides = json.dumps({"data": {"source": SOURCE, "per_class": None}, "num_classes": 2, "second_test": None, **small})
    command = ["status", "deit", "--profile", "smoke", "--overrides", overrides, "--verify-data"]
    command += ["--data-dir", str(large), "--results-dir", str(large / "results"), "--device", "cpu"]
    assert main(command) == 0
    replace(large / OUTSIDE)
    assert main(command[:6] + command[7:]) == 0
    assert main(command) == 2
    assert "refused: data.source: folder/pets: test/cat/1.bmp was replaced" in capsys.readouterr().err
