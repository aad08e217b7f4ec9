"""What lies beside stored runs and was damaged: checkpoints, notes, texts of failures, rates, records of data."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults.counted import count
from tests.faults.damage.harms import HARMS
from tests.faults.damage.support import NUMBERS, SPECS, Stop, again, copied, place_in, quiet, train
from tests.support import assert_same_arrays, computed
from vitlib.__main__ import main
from vitlib.inputs.pictures import DataError
from vitlib.inputs.sets import records
from vitlib.inputs.sets.fingerprints import Files
from vitlib.runs.claims.asking import Asking
from vitlib.runs.clock.budget import IN_VAIN, REACHED, note, noted
from vitlib.runs.execute import RunsFailedError, execute
from vitlib.runs.reading.lines import read_line, write_line
from vitlib.runs.store import Store
from vitlib.studies.costs.speed import machine
from vitlib.studies.costs.speed.rates import SHIPPED

RATES = next(iter(SHIPPED.values()))

# ------------------------------------------------------------------------------------------------ checkpoints

CHECKPOINT = "a checkpoint damaged, or another run's"


@pytest.fixture(scope="module")
def trained():
    return train(None)[0]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Of a training interrupted in its seventh step, and of one with another seed: the same shapes, other numbers."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed in (0, 1):
        with pytest.raises(Stop):
            train(folder / f"run-{seed}", seed, stop_at=7)
    return folder


def resumed(checkpoints, trained, folder, kind, seed) -> None:
    path = Path(shutil.copytree(checkpoints / "run-0", folder / "run-0"), "checkpoint.pt")
    HARMS[kind](path, checkpoints / "run-1" / "checkpoint.pt", np.random.default_rng(seed))
    began = time.monotonic()
    weights, steps = train(folder / "run-0")
    wrong = sum(not np.array_equal(weights[name], trained[name]) for name in trained)
    count(CHECKPOINT, wrong=wrong, recovery=time.monotonic() - began)
    assert_same_arrays(weights, trained)
    assert steps == 10, "from the start"


@pytest.mark.parametrize("kind", [*HARMS][::2])
def test_a_damaged_checkpoint_is_as_good_as_none(checkpoints, trained, tmp_path, kind):
    resumed(checkpoints, trained, tmp_path, kind, seed=0)


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", HARMS)
def test_no_damaged_checkpoint_is_gone_on_from(checkpoints, trained, tmp_path, kind, seed):
    resumed(checkpoints, trained, tmp_path, kind, seed)


def test_a_whole_checkpoint_of_another_run_is_not_gone_on_from(checkpoints, trained, tmp_path):
    """The same shapes and the right checksum: without its run's name in it, other numbers would come of it."""
    shutil.copytree(checkpoints / "run-1", tmp_path / "run-0")
    weights, steps = train(tmp_path / "run-0")
    assert_same_arrays(weights, trained)
    assert steps == 10
    count(CHECKPOINT)


def test_a_whole_checkpoint_of_its_own_run_is(checkpoints, trained, tmp_path):
    shutil.copytree(checkpoints / "run-0", tmp_path / "run-0")
    weights, steps = train(tmp_path / "run-0")
    assert_same_arrays(weights, trained)
    assert steps == 10 - 6


# ------------------------------------------------------------------------------------------------ notes

NOTE = "a note beside a checkpoint damaged"


@pytest.mark.parametrize("kind", HARMS)
def test_a_damaged_note_says_nothing(store, tmp_path, kind):
    for name, value in ((REACHED, 0.5), (IN_VAIN, 30.0)):
        note(store, "run-0", name, value)
        note(store, "run-1", name, 2 * value)
        path = store.scratch("run-0") / name
        assert noted(store, "run-0", name) == value
        HARMS[kind](path, store.scratch("run-1") / name, np.random.default_rng(0))
        exchanged = 2 * value if "another's" in kind else 0.0  # whole, and about another run: an estimate of time
        assert noted(store, "run-0", name) == exchanged
        count(NOTE)


def test_every_flipped_bit_of_a_note_is_seen(tmp_path):
    write_line(tmp_path / "code", "0123456789abcdef")
    content = (tmp_path / "code").read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "code").write_bytes(flipped)
        assert read_line(tmp_path / "code") is None
    count(NOTE, tries=8 * len(content))


# ------------------------------------------------------------------------------------------------ failures

FAILURE = "the text of a failure, or a driver's note, damaged"


@pytest.mark.parametrize("kind", HARMS)
def test_a_damaged_text_of_a_failure_stops_nobody(place, kind, capsys):
    quiet()
    for spec in NUMBERS[:2]:
        (place.data_dir / f"break-{spec.id}").touch()
    with pytest.raises(RunsFailedError):
        execute(NUMBERS, place)
    text, other = (place.results_dir / ".failed" / f"{spec.id}.txt" for spec in NUMBERS[:2])
    HARMS[kind](text, other, np.random.default_rng(0))
    assert main(["fsck", "--results-dir", str(place.results_dir)]) == 0
    assert "failed" in capsys.readouterr().out
    with pytest.raises(RunsFailedError):
        execute(NUMBERS, place)
    for spec in NUMBERS[:2]:
        (place.data_dir / f"break-{spec.id}").unlink()
    execute(NUMBERS, place, mode="retry")
    store = Store(place.results_dir)
    assert store.ids() == sorted(spec.id for spec in NUMBERS) and not [store.failure(spec.id) for spec in NUMBERS if store.failure(spec.id)]
    count(FAILURE)


@pytest.mark.parametrize("kind", ["a bit flipped", "emptied", "removed"])
def test_a_damaged_note_of_a_dead_driver_is_swept(store, kind):
    note_of = store.root / ".asked" / "driver-1-abc"
    note_of.parent.mkdir()
    note_of.write_bytes(b"run-1\xff\nrun-2")
    HARMS[kind](note_of, note_of, np.random.default_rng(0))
    assert Asking(store).now() == set() and not note_of.exists()
    count(FAILURE)


# ------------------------------------------------------------------------------------------------ rates and records


@pytest.mark.parametrize("kind", HARMS)
def test_damaged_rates_of_a_machine_are_measured_again(tmp_path, kind):
    machine._keep(machine._machine("cpu"), RATES, tmp_path)
    machine._keep(machine._machine("cuda"), RATES, tmp_path / "other")
    assert machine.known("cpu", tmp_path) == RATES
    for seed in range(5):
        path = tmp_path / str(seed) / machine.KEPT
        path.parent.mkdir()
        shutil.copy(tmp_path / machine.KEPT, path)
        HARMS[kind](path, tmp_path / "other" / machine.KEPT, np.random.default_rng(seed))
        assert machine.known("cpu", path.parent) in (None, RATES)
        count("a machine's remembered rates damaged")


def test_no_other_digit_in_a_machine_s_rates_is_taken_for_its_own(tmp_path):
    machine._keep(machine._machine("cpu"), RATES, tmp_path)
    path = tmp_path / machine.KEPT
    text = path.read_text()
    digits = [place for place, letter in enumerate(text) if letter in "123456789"][::7]
    for place in digits:
        path.write_text(f"{text[:place]}{10 - int(text[place]) if text[place] != '5' else 4}{text[place + 1 :]}")
        assert machine.known("cpu", tmp_path) is None
    count("a machine's remembered rates damaged", tries=len(digits))


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A set of files that is too large to be read whole, by the measure of this test."""
    monkeypatch.setattr("vitlib.inputs.sets.fingerprints.WHOLE", 0)
    (tmp_path / "images").mkdir()
    for number in range(4):
        (tmp_path / "images" / f"{number}.png").write_bytes(bytes([number] * 50))
    return Files.below(tmp_path / "images", [f"{number}.png" for number in range(4)])


@pytest.mark.parametrize("verified", [True, False], ids=["with digests", "without"])
@pytest.mark.parametrize("kind", HARMS)
def test_a_damaged_record_of_images_refuses_them_until_they_are_read(tmp_path, images, kind, verified):
    """Never are files that were replaced taken for those that results began with."""
    quiet()
    records.compare("set", images, "print", tmp_path / "records", verify=verified)
    records.compare("set", images, "other", tmp_path / "records", verify=verified)
    path, other = (tmp_path / "records" / f"{records._key('set', images, name)}.csv" for name in ("print", "other"))
    lines = other.read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:-1]))
    for seed in range(4):
        content = path.read_bytes()
        HARMS[kind](path, other, np.random.default_rng(seed))
        replaced = tmp_path / "images" / "2.png"
        replaced.write_bytes(b"x" * 50)
        os.utime(replaced, (1, 1))
        now = Files.below(images.root, images.names)
        if kind != "removed":  # then they are met for the first time
            with pytest.raises(DataError):
                records.compare("set", now, "print", tmp_path / "records")
        replaced.write_bytes(bytes([2] * 50))
        os.utime(replaced, ns=(int(images.times[2]),) * 2)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        count("the record of a set of images damaged")


# ------------------------------------------------------------------------------------------------ all at once


def test_a_store_all_of_whose_notes_are_damaged_is_computed_to_the_same_bits(tmp_path):
    quiet()
    whole = place_in(tmp_path / "whole")
    execute(SPECS, whole)
    place = copied(whole, tmp_path)
    store = Store(place.results_dir)
    for name in (".claims", ".asked", ".failed", ".partial", ".scratch"):
        for spec in SPECS:
            path = store.root / name / (f"{spec.id}~1-a" if name == ".partial" else f"{spec.id}.txt" if name == ".failed" else spec.id)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(64))
    (store.root / machine.KEPT).write_bytes(os.urandom(64))
    assert set(again(place, Store(whole.results_dir))) == {spec.id for spec in SPECS}, "a failure is recorded of each"
    assert len(computed(place)) == len(SPECS)
