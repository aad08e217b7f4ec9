"""Several processes on one run: equal parts of every batch, averaged gradients, the numbers of one process."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.processes import entered, forked, launched
from tests.support import Number, assert_same_result, computed, make_images
from vitlib import distributed
from vitlib.inputs.data import ResidentBatches, training_batches
from vitlib.inputs.data import test_batches as evaluated_batches
from vitlib.inputs.models import ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Augment, Recipe
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.spec import SpecError
from vitlib.teachers.pretrain import SupervisedTeacher
from vitlib.training.evaluate import scores_of

DIGITS = Data(source="digits", image_size=8, per_class=6, mean=(0.304,), std=(0.375,))
RECIPE = Recipe(epochs=2, batch_size=12, lr=0.1, optimizer="sgd", clip_grad=0.5, ema_decay=0.9)  # Adam would blow up rounding
STUDENT = Student(data=DIGITS, model=Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2, init="xavier"), recipe=RECIPE, seed=0)


def launched_on(rank: int, size: int, port: int, specs, place) -> None:
    entered(rank, size, port)
    results = execute(specs, place)
    assert results.keys() == {spec.id for spec in specs}  # a follower reads what the leader stored


def together(forking, specs, place: Place, size: int = 2) -> list[int]:
    """Exit codes of processes launched on these runs."""
    return launched(forking, launched_on, size, specs, place)


@pytest.mark.parametrize("fields", [{}, {"accumulate": 3}, {"precision": "bf16"}], ids=str)
def test_two_processes_train_what_one_does(forking, tmp_path, fields):
    spec = STUDENT.changed(recipe=RECIPE.changed(**fields))
    alone, divided = (Place(tmp_path / name, tmp_path, device="cpu") for name in ("alone", "divided"))
    expected = execute([spec], alone)[spec.id]
    assert together(forking, [spec], divided) == [0, 0]
    found = Store(divided.results_dir).read(spec.id)
    tolerance = 2e-2 if "precision" in fields else 1e-4
    assert found.history["loss"].tolist() == pytest.approx(expected.history["loss"].tolist(), rel=tolerance)
    for name, weight in expected.weights.items():
        np.testing.assert_allclose(found.weights[name], weight, rtol=tolerance, atol=tolerance)
    moved = max(np.abs(weight - found.weights[name]).max() for name, weight in initial(spec).items())
    assert moved > 0.02  # they are not equal for standing still


@pytest.mark.parametrize("size", [2, 4])
def test_twenty_steps_have_the_loss_of_one_process(forking, tmp_path, size):
    """One step an epoch, in float32: no loss is 1e-5 off."""
    spec = STUDENT.changed(recipe=Recipe(epochs=20, batch_size=60, lr=0.05, optimizer="sgd"))
    alone, divided = (Place(tmp_path / name, tmp_path, device="cpu") for name in ("alone", "divided"))
    expected = execute([spec], alone)[spec.id].history["loss"]
    assert together(forking, [spec], divided, size) == [0] * size
    found = Store(divided.results_dir).read(spec.id).history["loss"]
    assert len(found) == 20 and expected.iloc[0] - expected.iloc[-1] > 0.1
    assert np.abs(found - expected).max() < 1e-5


def test_synchronised_batch_norm_trains_what_one_process_does(forking, tmp_path):
    """Of each process's own part, the statistics make another network."""
    recipe = Recipe(epochs=3, batch_size=60, lr=0.02, optimizer="sgd", sync_batchnorm=True)
    spec = SupervisedTeacher(data=DIGITS, model=ResNet(width=4, blocks=(1, 1, 1, 1)), recipe=recipe, seed=0)
    other = spec.changed(recipe=recipe.changed(sync_batchnorm=False))
    alone, divided = (Place(tmp_path / name, tmp_path, device="cpu") for name in ("alone", "divided"))
    expected = execute([spec, other], alone)
    assert_same_result(expected[spec.id], expected[other.id])  # in one process it says nothing
    assert together(forking, [spec, other], divided) == [0, 0]
    found, own = (Store(divided.results_dir).read(run.id) for run in (spec, other))
    for name, weight in expected[spec.id].weights.items():
        np.testing.assert_allclose(found.weights[name], weight, rtol=1e-4, atol=1e-5)
    assert max(np.abs(own.weights[name] - weight).max() for name, weight in expected[spec.id].weights.items()) > 1e-3


class Bell(nn.Module):
    """Gives an image's number, and rings once for it."""

    def __init__(self, rung: Path):
        super().__init__()
        self.rung = rung

    def forward(self, images):
        numbers = (255 * images[:, 0, 0, 0]).round()
        with self.rung.open("a") as file:
            file.writelines(f"{int(number)}\n" for number in numbers)
        return numbers[:, None]


def evaluate_every_size(rank: int, size: int, folder: Path) -> None:
    plain = DIGITS.changed(mean=(0.0,), std=(1.0,))
    for count in range(1, 66):
        images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
        batches = ResidentBatches(images, torch.zeros(count), plain, batch_size=7)
        scores = scores_of(Bell(folder / f"{count} by {rank}"), batches)
        assert scores.flatten().tolist() == list(range(count))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_each_of_1_to_65_images_is_evaluated_once_and_stands_in_its_place(forking, tmp_path, size):
    assert forked(forking, evaluate_every_size, size, tmp_path) == [0] * size
    for count in range(1, 66):
        rung = [int(line) for path in tmp_path.glob(f"{count} by *") for line in path.read_text().split()]
        assert sorted(rung) == list(range(count))


@pytest.mark.parametrize("resident", [True, False])
def test_each_image_of_a_folder_is_read_once_for_an_evaluation(as_rank, tmp_path, resident):
    make_images(tmp_path / "pets", classes=("a", "b", "c"), images=5)
    data = Data(source="folder/pets", image_size=8, resident=resident, crop_share=1.0)
    batches = evaluated_batches(data, device="cpu", data_dir=tmp_path, batch_size=4)
    whole = [image.numpy().tobytes() for images, _ in batches.epoch(0) for image in images]
    seen = []
    for rank in range(3):
        with as_rank(rank, 3):
            seen += [image.numpy().tobytes() for images, _ in batches.epoch(0, *distributed.turn()) for image in images]
    assert len(whole) == 15 and sorted(seen) == sorted(whole)


def test_metrics_of_several_processes_are_those_of_one_to_the_bit(forking, tmp_path):
    """Without training: evaluated alone and by three, from the same weights."""
    spec = STUDENT.changed(recipe=Recipe(epochs=1, batch_size=60, lr=1e-12, optimizer="sgd", weight_decay=0.0))
    alone, divided = (Place(tmp_path / name, tmp_path, device="cpu") for name in ("alone", "divided"))
    expected = execute([spec], alone)[spec.id]
    assert together(forking, [spec], divided, 3) == [0, 0, 0]
    found = Store(divided.results_dir).read(spec.id)
    assert found.metrics == expected.metrics
    assert found.arrays.keys() == expected.arrays.keys() and all(np.array_equal(found.arrays[n], a) for n, a in expected.arrays.items())


def dying(rank: int, size: int, port: int, specs, place) -> None:
    """The last process is killed once the training goes on."""
    entered(rank, size, port)
    if rank == size - 1:
        average, times = distributed.average, iter(range(5))
        distributed.average = lambda tensors: average(tensors) if next(times, None) is not None else os.kill(os.getpid(), signal.SIGKILL)
    execute(specs, place)


def test_a_killed_process_ends_the_others_and_says_nothing_against_the_run(forking, tmp_path):
    """The same command goes on from the checkpoint, to the numbers of a training that nobody interrupted."""
    spec = STUDENT.changed(recipe=Recipe(epochs=12, batch_size=60, lr=0.05, optimizer="sgd"))
    killed, whole = (Place(tmp_path / name, tmp_path, device="cpu", checkpoint_every=0.0) for name in ("killed", "whole"))
    codes = launched(forking, dying, 2, [spec], killed)
    store = Store(killed.results_dir)
    assert codes == [1, -signal.SIGKILL] and store.failure(spec.id) is None
    assert (store.scratch(spec.id) / "checkpoint.pt").exists()
    assert together(forking, [spec], killed) == together(forking, [spec], whole) == [0, 0]
    assert_same_result(store.read(spec.id), Store(whole.results_dir).read(spec.id))


def test_a_lost_process_is_told_in_words(as_rank, monkeypatch):
    def refuse(*_):
        raise RuntimeError("[pair.cc:547] Connection closed by peer\nat ...")

    monkeypatch.setattr(torch.distributed, "all_reduce", refuse)
    with as_rank(0, 2), pytest.raises(distributed.LostError, match=r"has ended, .*closed by peer\).*the same command goes on from there"):
        distributed.average([torch.ones(2)])


def test_checkpoints_of_two_folders_are_refused(as_rank, monkeypatch):
    monkeypatch.setattr(distributed, "_gathered", lambda value: [value, 3])
    with as_rank(0, 2), pytest.raises(SpecError, match=r"results_dir: .* after \[7, 3\] updates; allowed: one folder that all hosts share"):
        distributed.start_alike(nn.Linear(1, 1), updates=7)


def initial(spec: Student) -> dict[str, np.ndarray]:
    from vitlib.inputs.data import seed_everything
    from vitlib.inputs.models import build, weights_of

    seed_everything(spec.seed)
    return weights_of(build(spec.model, image_size=8, channels=1, num_classes=10))


def test_the_leader_alone_computes_what_cannot_be_divided(forking, place):
    assert together(forking, [Number(value=1), Number(value=2)], place, size=3) == [0, 0, 0]
    assert computed(place) == [Number(value=1).id, Number(value=2).id]


def test_a_failure_ends_the_leader_and_is_recorded(forking, place):
    hopeless = STUDENT.changed(recipe=RECIPE.changed(lr=1e30, clip_grad=None, ema_decay=None))
    assert together(forking, [hopeless], place)[0] == 1
    assert "lower recipe.lr" in Store(place.results_dir).failure(hopeless.id)


def test_workers_are_refused_beside_torchrun(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SpecError, match="executor: got 'local' in processes that torchrun started; allowed: inline"):
        execute([Number(value=1)], place, executor="local")


@pytest.fixture
def as_rank(monkeypatch):
    def enter(rank: int, size: int):
        monkeypatch.setenv("WORLD_SIZE", str(size))
        monkeypatch.setenv("RANK", str(rank))
        return distributed._division()

    return enter


@pytest.mark.parametrize("resident", [True, False])
def test_parts_are_equal_disjoint_and_together_the_batch(as_rank, tmp_path, resident):
    make_images(tmp_path / "pets", classes=("a", "b", "c"), images=8)
    data = Data(source="folder/pets", image_size=8, resident=resident)
    recipe = Recipe(epochs=1, batch_size=12, lr=0.1)

    def images(epoch, start):
        batches = training_batches(data, recipe, seed=0, device="cpu", data_dir=Path(tmp_path))
        return [[image.numpy().tobytes() for image in images] for images, _ in batches.epoch(epoch, start)]

    whole = images(epoch=1, start=1)
    parts = []
    for rank in range(3):
        with as_rank(rank, 3):
            parts.append(images(epoch=1, start=1))
    assert len(whole) == 1 and {len(part[0]) for part in parts} == {4}
    assert sorted(image for part in parts for image in part[0]) == sorted(whole[0])


@pytest.mark.parametrize(
    ("fields", "least"), [({"batch_size": 14}, 4), ({"batch_size": 12, "mixup": 0.8}, 8), ({"batch_size": 12, "accumulate": 2}, 8)], ids=str
)
def test_a_batch_that_cannot_be_shared_equally_is_refused(as_rank, fields, least):
    recipe = Recipe(epochs=1, lr=0.1, **fields)
    with (
        as_rank(0, 4),
        pytest.raises(SpecError, match=rf"recipe.batch_size={recipe.batch_size} in 4 processes; allowed: a multiple of {least}"),
    ):
        training_batches(DIGITS, recipe, seed=0, device="cpu", data_dir=Path())


def test_each_process_draws_augmentation_of_its_own(as_rank):
    drawn = []
    for rank in range(2):
        with as_rank(rank, 2):
            recipe = Recipe(epochs=1, batch_size=12, lr=0.1, augment=Augment(erasing=1.0))
            next(training_batches(DIGITS, recipe, seed=0, device="cpu", data_dir=Path()).epoch(0))
            drawn.append(torch.rand(1).item())
    assert drawn[0] != drawn[1]


OWN = [("auto", 0, "cpu"), ("cpu", 4, "cpu"), ("auto", 4, "cuda:1"), ("cuda", 2, "cuda:1"), ("cuda:0", 2, "cuda:1")]


@pytest.mark.parametrize(("wanted", "count", "found"), OWN)
def test_each_process_has_a_gpu_of_its_own(monkeypatch, wanted, count, found):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.device(wanted, count) == found


@pytest.mark.parametrize(("wanted", "count"), [("auto", 1), ("cuda", 0)])
def test_fewer_gpus_than_processes_are_refused(monkeypatch, wanted, count):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SpecError, match=f"device: got '{wanted}' in 2 processes .* sees {count} GPUs here; allowed: cpu"):
        distributed.device(wanted, count)
