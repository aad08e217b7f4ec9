"""Several processes on one run: equal parts of every batch, averaged gradients, the numbers of one process."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import Number, computed, make_images
from vitlib import distributed
from vitlib.inputs.data import training_batches
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Augment, Recipe
from vitlib.runs.execute import execute
from vitlib.runs.plan import Place
from vitlib.runs.store import Store
from vitlib.spec import SpecError

DIGITS = Data(source="digits", image_size=8, per_class=6, mean=(0.304,), std=(0.375,))
RECIPE = Recipe(epochs=2, batch_size=12, lr=0.1, optimizer="sgd", clip_grad=0.5, ema_decay=0.9)  # Adam would blow up rounding
STUDENT = Student(data=DIGITS, model=Vit(embed_dim=16, depth=2, num_heads=2, patch_size=2, init="xavier"), recipe=RECIPE, seed=0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launched(rank: int, size: int, port: int, specs, place) -> None:
    """What torchrun does to each of its processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    results = execute(specs, place)
    assert results.keys() == {spec.id for spec in specs}  # a follower reads what the leader stored


def together(forking, specs, place: Place, size: int = 2) -> list[int]:
    """Exit codes of processes launched on these runs; where the leader fails, the others are ended as by torchrun."""
    port = free_port()
    processes = [forking.Process(target=launched, args=(rank, size, port, specs, place), daemon=True) for rank in range(size)]
    for process in processes:
        process.start()
    processes[0].join()
    for process in processes[1:]:
        if processes[0].exitcode:
            process.terminate()
        process.join()
    return [process.exitcode for process in processes]


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
