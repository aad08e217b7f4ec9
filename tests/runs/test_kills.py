"""Kills and deadlines: whatever is ended, whenever, running again ends in the numbers of an uninterrupted run, to the bit."""

import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support import Killed, assert_same_arrays, assert_same_result, execute_smoke, files_below
from vitlib.computing import Context, OutOfTimeError
from vitlib.inputs.data import seed_everything, training_batches
from vitlib.inputs.models import ResNet, Vit, build, weights_of
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.runs.store import Store
from vitlib.runs.workers.one import one_thread
from vitlib.training import loop

KILLS = 20

# ------------------------------------------------------------------------------------------------ a study


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """When each stored run was written, and the file that holds it."""
    found = {path.parent.name: path.stat() for path in folder.glob("[!.]*/manifest.json")}
    return {run_id: (stat.st_mtime_ns, stat.st_ino) for run_id, stat in found.items()}


def test_a_study_killed_twenty_times_ends_in_the_numbers_of_an_uninterrupted_one(smoke, forking, tmp_path):
    """Each kill comes once a further twentieth of the runs is stored, and a random part of a run later."""
    whole = Store(smoke.place.results_dir, writable=False)
    moments, killed, before = random.Random(0), 0, {}
    for kill in range(KILLS):
        child = forking.Process(target=execute_smoke, args=(tmp_path,), daemon=True)
        child.start()
        while child.is_alive() and len(written(tmp_path)) < kill * len(whole.ids()) / KILLS:
            time.sleep(0.002)
        child.join(moments.uniform(0, 0.4))
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        after = written(tmp_path)
        assert before.items() <= after.items()  # nothing that was stored is computed again
        before = after
    assert killed >= 0.75 * KILLS  # the last may come too late on a busy machine

    child = forking.Process(target=execute_smoke, args=(tmp_path,), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert before.items() <= written(tmp_path).items()
    assert [files_below(tmp_path / name) for name in (".partial", ".scratch", ".claims", ".damaged", ".failed")] == [[]] * 5
    resumed = Store(tmp_path, writable=False)
    assert resumed.ids() == whole.ids()
    for run_id in whole.ids():
        if not run_id.startswith("throughput"):  # its numbers are times
            assert_same_result(resumed.read(run_id), whole.read(run_id))


# ------------------------------------------------------------------------------------------------ inside a training

DATA = Data(source="digits", image_size=8, per_class=4, mean=(0.3,), std=(0.4,))
RECIPE = Recipe(
    epochs=3, batch_size=8, lr=0.01, warmup_epochs=1, mixup=0.8, cutmix=1.0, mix_probability=0.5, drop_path=0.3,
    label_smoothing=0.1, ema_decay=0.9, clip_grad=1.0, augment=Augment(crop=1, flip=0.5, erasing=0.5),
)  # fmt: skip
STEPS = 5  # of 8 images in an epoch of 40
MODELS = {"vit": Vit(embed_dim=8, depth=2, num_heads=2, patch_size=4), "resnet": ResNet(width=4, blocks=(1, 1, 1, 1))}


def train(name: str, scratch: Path | None, tick=lambda *_: None, seed: int = 0, checkpoint_every: float = 0.0, **more):
    """What `loop.train` gives, and the weights; a checkpoint is written after each step."""
    with one_thread("cpu"):
        seed_everything(seed)
        model = build(MODELS[name], image_size=8, channels=1, num_classes=10, drop_path=RECIPE.drop_path)
        batches = training_batches(DATA, RECIPE, seed=0, device="cpu", data_dir=Path())
        assert batches.steps == STEPS
        context = Context("cpu", Path(), scratch, parent=None, tick=tick, checkpoint_every=checkpoint_every, **more)
        trained = loop.train(model, batches, loop.cross_entropy, RECIPE, num_classes=10, context=context)
    return trained, weights_of(model)


def counting(stop_at: int, act):
    """A tick that acts once, in the place of the given step."""
    ticks = []

    def tick(*_):
        ticks.append(1)
        if len(ticks) == stop_at:
            act()

    return tick


def raise_killed(*_):
    raise Killed


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(name: str, scratch: Path, step: int) -> None:
    train(name, scratch, counting(step, kill_oneself))


@pytest.fixture(scope="module")
def uninterrupted():
    return {name: train(name, None) for name in MODELS}


def assert_same_training(one, other) -> None:
    (trained, weights), (expected, expected_weights) = one, other
    assert_same_arrays(weights, expected_weights)
    assert_same_arrays(weights_of(trained.ema), weights_of(expected.ema))
    assert trained.history.equals(expected.history)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("step", [1, 2, 4, STEPS, STEPS + 1, 2 * STEPS, 3 * STEPS - 1, 3 * STEPS])
def test_a_training_killed_at_a_step_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path, uninterrupted, name, step):
    with pytest.raises(Killed):
        train(name, tmp_path, counting(step, raise_killed))
    steps = []
    resumed = train(name, tmp_path, tick=lambda *_: steps.append(1), seed=1)  # the checkpoint decides, not the fresh model
    if step == 1:  # killed before anything was saved: as a run does, begin anew with the same seed
        resumed = train(name, tmp_path / "anew")
    else:
        assert len(steps) == 3 * STEPS - (step - 1)
    assert_same_training(resumed, uninterrupted[name])
    assert "checkpoint.pt" in files_below(tmp_path), "it stays until the result is stored"


def test_a_training_killed_at_every_other_step_ends_in_the_same_weights(tmp_path, uninterrupted):
    for _ in range(3 * STEPS - 1):
        with pytest.raises(Killed):
            train("vit", tmp_path, counting(2, raise_killed))
    assert_same_training(train("vit", tmp_path), uninterrupted["vit"])


@pytest.mark.parametrize("step", [3, 2 * STEPS + 1])
def test_a_training_process_that_is_killed_goes_on_to_the_same_weights(tmp_path, uninterrupted, forking, step):
    child = forking.Process(target=train_until_killed, args=("vit", tmp_path, step), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert files_below(tmp_path) == ["checkpoint.pt"]
    assert_same_training(train("vit", tmp_path, seed=1), uninterrupted["vit"])


@pytest.mark.parametrize(("owner", "act", "each"), [(os, "fsync", 4), (Path, "replace", 1)], ids=["fsync", "replace"])
def test_a_training_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(tmp_path, uninterrupted, monkeypatch, owner, act, each):
    """`each` checkpoint takes so many: one of the file, and three of the folders that lead to it."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        real, calls = getattr(owner, act), []

        def dying(*arguments):
            calls.append(1)
            return real(*arguments) if len(calls) <= 6 * each else raise_killed()

        patch.setattr(owner, act, dying)
        train("vit", tmp_path)
    assert files_below(tmp_path) == ["checkpoint.partial", "checkpoint.pt"]
    steps = []
    assert_same_training(train("vit", tmp_path, lambda *_: steps.append(1), seed=1), uninterrupted["vit"])
    assert len(steps) == 3 * STEPS - 5  # the seventh write came after step 6: five steps and the end of an epoch were saved


def flip(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize(
    "harm",
    [
        flip,
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"\0" * 5000,
    ],
    ids=["flipped bit", "cut", "cut in the checksum", "emptied", "zeros"],
)
def test_a_damaged_checkpoint_is_ignored_and_the_numbers_are_the_same(tmp_path, uninterrupted, harm):
    with pytest.raises(Killed):
        train("vit", tmp_path, counting(8, raise_killed))
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(harm(checkpoint.read_bytes()))
    steps = []
    assert_same_training(train("vit", tmp_path, lambda *_: steps.append(1)), uninterrupted["vit"])
    assert len(steps) == 3 * STEPS  # from the start


def test_checkpoints_come_by_the_clock(tmp_path, monkeypatch):
    """One a minute, at ten seconds a step: after 6 and 12 of 15 steps."""
    begun, steps, saved = time.monotonic() + 5, [], []

    def now():
        return begun + 10 * len(steps)

    def save(state):
        saved.append(state.updates)
        state.saved = now()

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=now, perf_counter=time.perf_counter))
    monkeypatch.setattr(loop._State, "save", save)
    train("vit", tmp_path, lambda *_: steps.append(1), checkpoint_every=60.0)
    assert saved == [6, 12]


# ------------------------------------------------------------------------------------------------ the deadline


@pytest.fixture
def steps(monkeypatch):
    """The steps of the trainings so far; each takes a second."""
    steps = []
    clock = SimpleNamespace(monotonic=lambda: float(len(steps)), perf_counter=time.perf_counter)
    monkeypatch.setattr(loop, "time", clock)
    return steps


def train_until(deadline: float, scratch: Path | None, steps: list, **more):
    return train("vit", scratch, lambda *_: steps.append(1), checkpoint_every=1e9, deadline=deadline, **more)


@pytest.mark.parametrize("deadline", [1, 4, STEPS, STEPS + 2, 3 * STEPS - 1])
def test_a_training_ends_at_the_deadline_and_goes_on_to_the_same_weights(tmp_path, uninterrupted, steps, deadline):
    with pytest.raises(OutOfTimeError, match="interrupted at the deadline") as late:
        train_until(deadline, tmp_path, steps)
    assert len(steps) == deadline
    assert late.value.share == deadline / (3 * STEPS)
    assert_same_training(train_until(1e9, tmp_path, steps, seed=1), uninterrupted["vit"])
    assert len(steps) == 3 * STEPS  # no step was taken twice


def test_a_training_that_finds_its_deadline_passed_gets_on_by_a_step_or_the_end_of_an_epoch(tmp_path, uninterrupted, steps):
    for _ in range(3 * STEPS + 2):
        with pytest.raises(OutOfTimeError):
            train_until(-1.0, tmp_path, steps)
    assert_same_training(train_until(-1.0, tmp_path, steps), uninterrupted["vit"])  # nothing but its end was left, and that is done
    assert len(steps) == 3 * STEPS


def test_a_training_without_a_place_for_its_checkpoint_passes_the_deadline(uninterrupted, steps):
    assert_same_training(train_until(2.0, None, steps), uninterrupted["vit"])


def test_the_tests_above_would_see_another_seed(uninterrupted):
    _, weights = train("vit", None, seed=1)
    assert not all(np.array_equal(weights[name], array) for name, array in uninterrupted["vit"][1].items())
