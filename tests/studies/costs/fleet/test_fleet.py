"""A plan on many GPUs: images and bytes by hand, hours by hand, and what holds the work up."""

import json

import pytest

from tests.support import ROOT
from vitlib.__main__ import main
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.papers.wecolora.specs import Downstream
from vitlib.recipe import Recipe
from vitlib.spec import SpecError
from vitlib.studies.costs.amounts import amounts_of
from vitlib.studies.costs.fleet import report
from vitlib.studies.costs.fleet.machines import DECODED, Fleet, load_of
from vitlib.studies.costs.fleet.reading import Reading, reading_of
from vitlib.studies.costs.fleet.report import by_document
from vitlib.studies.costs.speed.rates import SHIPPED
from vitlib.studies.loading import load_study
from vitlib.training.work.registry import Sets

H100 = SHIPPED["h100"]
IMAGENET = Data(source="folder/imagenet", image_size=224, resident=False)
TINY = Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16)
EPOCHS, BATCH, TRAINING, TEST = 300, 1024, 1_281_167, 50_000
STUDENT = Student(
    data=IMAGENET, model=TINY, recipe=Recipe(epochs=EPOCHS, batch_size=BATCH, lr=1e-3, precision="bf16", eval_every=10), seed=0
)


@pytest.fixture
def sets(tmp_path):
    return Sets(tmp_path)


def test_a_training_on_imagenet_reads_each_image_in_each_epoch_and_the_test_images_after_some(sets):
    """Without the last incomplete batch; no validation images are known, so that the test images are looked at once, at the end."""
    images = EPOCHS * (TRAINING // BATCH) * BATCH + TEST
    assert reading_of(STUDENT, sets) == Reading(images, images * 110_000)


def test_images_that_are_held_are_read_once(sets):
    held = STUDENT.changed(data=IMAGENET.changed(resident=True))
    assert reading_of(held, sets).images == TRAINING // BATCH * BATCH + TEST


def test_a_probe_reads_its_images_once_however_long_it_learns(sets):
    study = load_study("wecolora", "smoke", results_dir=str(sets.data_dir))
    probe = next(spec for spec in study.specs.values() if isinstance(spec, Downstream) and spec.protocol == "probe")
    assert reading_of(probe.changed(data=IMAGENET), sets).images == TRAINING + TEST


@pytest.mark.parametrize(
    ("fleet", "bottleneck"),
    [
        (Fleet(8, cores=1000, storage=1e14), "GPUs"),
        (Fleet(8, cores=2, storage=1e14), "decoding"),
        (Fleet(8, cores=1000, storage=1e6), "storage"),
    ],
)
def test_hours_are_those_of_the_bottleneck(sets, fleet, bottleneck):
    load, reading = load_of(STUDENT, H100, fleet, sets), reading_of(STUDENT, sets)
    computing, feeding = H100.seconds(amounts_of(STUDENT, sets)), reading.images / (fleet.cores * DECODED)
    seconds = {"GPUs": computing / 8, "decoding": feeding / 8, "storage": reading.bytes / fleet.storage}
    assert load.bottleneck(fleet) == bottleneck == max(seconds, key=seconds.get)
    assert load.wall(fleet) == pytest.approx(seconds[bottleneck])
    assert load.wanted == pytest.approx(reading.images / computing)


def test_the_rate_of_a_core_is_the_measured_one():
    measured = json.loads((ROOT / "benchmarks" / "decoding.json").read_text())["images/s a core"]
    assert pytest.approx(measured["decoded, random crop, flip, RandAugment"]["median"], rel=0.05) == DECODED


def test_twice_the_gpus_take_half_the_time_until_the_storage_gives_no_more(sets):
    few, many, most = (load_of(STUDENT, H100, Fleet(gpus), sets).wall(Fleet(gpus)) for gpus in (8, 16, 50_000))
    assert few == pytest.approx(2 * many)
    assert most == pytest.approx(reading_of(STUDENT, sets).bytes / Fleet.storage)


def test_runs_add_up_and_the_longest_is_remembered(sets):
    fleet = Fleet(8)
    one, longer = (
        load_of(STUDENT, H100, fleet, sets),
        load_of(STUDENT.changed(recipe=STUDENT.recipe.changed(epochs=600)), H100, fleet, sets),
    )
    both = one + longer
    assert both.runs == 2 and both.longest == longer.seconds and both.seconds == one.seconds + longer.seconds
    assert both.reading.images == one.reading.images + longer.reading.images


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gpus": 0}, "gpus: got 0; allowed: above 0"),
        ({"gpus": 8, "cores": -1}, "cores-per-gpu: got -1"),
        ({"gpus": 8, "storage": float("nan")}, "storage: got nan"),
    ],
    ids=str,
)
def test_a_machine_that_cannot_be_is_refused(fields, message):
    with pytest.raises(SpecError, match=message):
        Fleet(**fields)


def test_the_command_says_hours_bytes_rates_and_the_bottleneck(tmp_path, capsys):
    """Images that are not here count by what is published of their set."""
    where = ["--results-dir", str(tmp_path), "--data-dir", str(tmp_path)]
    assert main(["plan", "dual_ssl_kd", "--profile", "paper", "--gpus", "64", "--cores-per-gpu", "2", *where]) == 0
    said = capsys.readouterr().out
    for expected in ("on 64 x NVIDIA H100", "assumed, never measured: 40 %", "2 cores a GPU", "images/s a GPU", "PiB", "decoding"):
        assert expected in said
    assert main(["plan", "dual_ssl_kd", "--profile", "paper", "--gpus", "0", *where]) == 2
    assert main(["plan", "dual_ssl_kd", "--profile", "paper", "--gpus", "8", "--budget", "12m", *where]) == 2
    assert "budget: got one with --gpus" in capsys.readouterr().err


def test_stored_runs_are_not_planned(tmp_path, monkeypatch):
    study = load_study("deit", "smoke", results_dir=str(tmp_path))
    before = by_document([study], SHIPPED["cpu-2-cores"], Fleet(2))
    monkeypatch.setattr(report, "states", lambda study: dict.fromkeys(report.family(study), "stored"))
    after = by_document([study], SHIPPED["cpu-2-cores"], Fleet(2))
    assert before.loc[0, "runs"] == len(report.family(study)) and after.loc[0, "runs"] == 0
    assert after.loc[0, "on 2 GPUs"] == "0 s"
