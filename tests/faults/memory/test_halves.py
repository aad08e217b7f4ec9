"""Trainings on a device that is too small for their batch: they go on in halves to the same numbers, or say why not."""

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.faults.counted import count
from tests.faults.memory.small_device import WAYS, SmallDevice, in_double, of_cuda, of_torch_on_the_cpu
from tests.support import Killed, context, killing
from tests.training.support import DIGITS, RECIPE, STEPS, VIT, fit, model, same
from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import weights_of
from vitlib.recipe import Augment
from vitlib.training.evaluate import scores_of
from vitlib.training.loop import cross_entropy
from vitlib.training.step.memory import NoMemoryError, fitted
from vitlib.training.step.update import mean_over_images, ran_out

SIMULATED = "out of memory on a device, simulated"
UPDATES = 3 * STEPS
EXACT = {"rtol": 0, "atol": 1e-6}
RECIPES = {
    "adamw": {},
    "mixing": {"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1},
    "sgd with clipping": {"optimizer": "sgd", "clip_grad": 0.5},
    "clipping by parameter": {"clip_grad": 0.1, "clip": "parameter"},
    "lars": {"optimizer": "lars", "lr": 0.1},
    "moving average and layers": {"ema_decay": 0.9, "layer_decay": 0.7},
    "parts already": {"accumulate": 2, "optimizer": "momentum"},
}


def double(seed=0):
    return model(seed).double()


def on(device, recipe=RECIPE, loss=in_double, module=None, **options):
    """A training on the device, and its model."""
    module = module or double()
    return module, fit(module, recipe, loss=device.holds(loss), around_step=device.around_step, **options)


def batches_of(size, augment=Augment()):  # noqa: B008  (frozen)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size * STEPS, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (size * STEPS,), generator=generator)
    return ResidentBatches(images, labels, DIGITS, batch_size=size, training=Training(augment, seed=0))


def assert_close(one, other):
    """Equal weights, losses and moving averages, within 1e-6."""
    (mine, my), (theirs, their) = one, other
    pairs = [(mine, theirs)] + ([(my.ema, their.ema)] if their.ema else [])
    for found, expected in pairs:
        for name, weight in expected.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], weight, **EXACT)
    np.testing.assert_allclose(my.history["loss"], their.history["loss"], **EXACT)
    assert my.history["lr"].tolist() == their.history["lr"].tolist()


# ------------------------------------------------------------------------------------------------ halves


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("fields", RECIPES.values(), ids=RECIPES)
def test_a_training_that_ran_out_of_memory_ends_in_the_numbers_of_one_that_did_not(fields, backward):
    recipe = RECIPE.changed(**fields)
    room = 4 // recipe.accumulate
    device = SmallDevice(room, since=7, backward=backward)
    expected, found = on(SmallDevice(8), recipe), on(device, recipe)
    assert_close(found, expected)
    assert device.broken == [2 * room] and len(device.seen) == UPDATES
    assert device.seen[7:] == [[room] * (8 // room)] * (UPDATES - 7)
    assert found[1].measured["halved"].startswith("from update 7 on, out of memory: OutOfMemoryError: CUDA out of memory")
    assert "halved" not in expected[1].measured
    count(SIMULATED)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_of_saying_that_memory_ran_out_is_understood(way):
    device = SmallDevice(4, since=2, way=way)
    assert_close(on(device), on(SmallDevice(8)))
    assert device.broken == [8]
    count(SIMULATED)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("memory"), KeyError("out of memory"), OSError(12, "")])
def test_other_errors_are_not_taken_for_it(error):
    assert not ran_out(error)


def test_a_batch_that_has_no_equal_halves_is_weighted_by_images():
    recipe, data = RECIPE.changed(batch_size=7), batches_of(7)
    device = SmallDevice(4, since=3)
    assert_close(on(device, recipe, data=data), on(SmallDevice(7), recipe, data=data))
    assert device.seen[3:] == [[4, 3]] * (UPDATES - 3)
    count(SIMULATED)


def test_number_of_updates_and_learning_rates_are_those_of_the_recipe():
    seen = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    on(SmallDevice(8), RECIPE.changed(warmup_epochs=1.0))
    whole, seen[:] = list(seen), []
    on(SmallDevice(4, since=4, backward=True), RECIPE.changed(warmup_epochs=1.0))
    hook.remove()
    assert len(whole) == UPDATES and seen == whole


def test_a_step_is_taken_again_from_the_same_images_and_the_same_random_state():
    """Halved from the first update on, it is to the bit the training whose recipe says so, drop path and augmentation with it."""
    data, vit = batches_of(8, Augment(crop=1, erasing=0.5)), VIT.changed(depth=2)
    recipe = RECIPE.changed(drop_path=0.5, mixup=0.8)

    def network():
        module = model(spec=vit)
        for block in module.blocks:
            block.drop_path1 = block.drop_path2 = nn.Dropout(0.5)
        return module

    found, _ = on(SmallDevice(4, backward=True), recipe, cross_entropy, network(), data=data)
    expected, _ = on(SmallDevice(8), recipe.changed(accumulate=2), cross_entropy, network(), data=data)
    assert same(weights_of(found), weights_of(expected))
    count(SIMULATED)


@pytest.mark.parametrize("killed_after", [3, 6, 9])
def test_a_training_in_halves_that_was_killed_goes_on_in_halves_to_the_same_bits(tmp_path, killed_after):
    recipe = RECIPE.changed(mixup=0.8, ema_decay=0.9)
    whole, expected = on(SmallDevice(4, since=5), recipe)
    where = {"scratch": tmp_path, "checkpoint_every": 0.0}
    with pytest.raises(Killed):
        on(SmallDevice(4, since=5), recipe, where=context(**where, tick=killing([killed_after])))
    device = SmallDevice(4, since=max(1, 6 - killed_after))  # the update at which it was killed is taken again
    resumed, trained = on(device, recipe, module=double(seed=1), where=context(**where))
    assert same(weights_of(whole), weights_of(resumed)) and trained.history.equals(expected.history)
    assert trained.measured["halved"] == expected.measured["halved"]
    assert device.broken == [8] * (killed_after < 5), "what is halved is not tried whole again"
    count(SIMULATED)


def test_a_training_that_fits_is_tried_once_and_says_nothing():
    device = SmallDevice(8)
    _, trained = on(device)
    assert device.seen == [[8]] * UPDATES and "halved" not in trained.measured


# ------------------------------------------------------------------------------------------------ refusals


class Centred(nn.Module):
    """Keeps a running mean of what it sees, as DINO's centre."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.register_buffer("centre", torch.zeros(10))

    def forward(self, images):
        scores = self.layer(images.flatten(1))
        self.centre.lerp_(scores.detach().mean(dim=0), 0.1)
        return scores - self.centre


def normalised():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))


def undeclared(module, images, targets):
    return cross_entropy(module, images, targets)


REFUSALS = {
    "batch norm": (normalised, cross_entropy, "batch norm takes the statistics of the whole batch"),
    "changing buffers": (Centred, cross_entropy, "the model changes its buffers in training"),
    "loss over the batch": (model, undeclared, "the loss is not a mean over images"),
}


@pytest.mark.parametrize(("make", "loss", "why"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("since", [1, 4])
def test_what_is_not_the_same_in_halves_is_refused_with_what_to_do(make, loss, why, since):
    device = SmallDevice(4, since=since, backward=True)
    with pytest.raises(NoMemoryError) as refused:
        on(device, loss=loss, module=make())
    said = str(refused.value)
    assert said.startswith(f"recipe.batch_size=8: out of memory on cpu in update {since}; halves are not tried, for {why}")
    assert "take a smaller recipe.batch_size" in said and "CUDA out of memory" in said
    assert device.seen[-1] == [8], "nothing was tried"
    count(SIMULATED)


def test_batch_norm_in_evaluation_mode_may_be_halved():
    module = nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)))
    device = SmallDevice(4, since=3)
    on(device, RECIPE.changed(mode="eval"), cross_entropy, module)
    assert device.broken == [8]


@pytest.mark.parametrize("backward", [False, True])
def test_halves_that_do_not_fit_either_fail_and_name_what_was_tried(backward):
    device = SmallDevice(3, since=6, backward=backward)
    with pytest.raises(NoMemoryError) as refused:
        on(device)
    said = str(refused.value)
    assert said.startswith("recipe.batch_size=8: out of memory on cpu in update 6; nor in halves, 4 images at a time; ")
    assert "take a smaller recipe.batch_size, or a larger recipe.accumulate for the same batch" in said
    assert device.seen[-1] == [8, 4], "once"
    count(SIMULATED)


def test_one_image_at_a_time_is_the_least():
    with pytest.raises(NoMemoryError, match=r"in update 1 in 8 parts; one image cannot be halved"):
        on(SmallDevice(0), RECIPE.changed(accumulate=8))


def test_what_failed_left_whole_updates_and_goes_on_from_them_where_there_is_room(tmp_path):
    where = {"scratch": tmp_path, "checkpoint_every": 0.0}
    with pytest.raises(NoMemoryError):
        on(SmallDevice(2, since=6, backward=True), where=context(**where))
    state = torch.load(io.BytesIO((tmp_path / "checkpoint.pt").read_bytes()[32:]), weights_only=True)
    assert state["position"] == [1, 0]
    assert_close(on(SmallDevice(8), module=double(seed=1), where=context(**where)), on(SmallDevice(8)))
    count(SIMULATED)


def test_an_update_that_broke_off_in_the_middle_of_changing_weights_is_not_gone_on_from():
    module, calls = double(), []

    def hook(optimizer, *_):
        calls.append(1)
        if len(calls) == 4:
            of_torch_on_the_cpu()

    handle = register_optimizer_step_pre_hook(hook)
    with pytest.raises(NoMemoryError, match=r"in update 4; weights, gradients and the optimiser's state alone do not fit"):
        on(SmallDevice(8), module=module)
    handle.remove()
    assert len(calls) == 4
    count(SIMULATED)


# ------------------------------------------------------------------------------------------------ evaluation


class Narrow(nn.Module):
    """Scores images, so many at once."""

    def __init__(self, most):
        super().__init__()
        self.layer, self.most, self.seen = nn.Linear(64, 10), most, []

    def forward(self, images):
        self.seen.append(len(images))
        if len(images) > self.most:
            of_cuda()
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("most", [1, 2, 3, 7, 20])
def test_an_evaluation_that_does_not_fit_is_taken_in_ever_smaller_halves(most):
    data = batches_of(9)
    data._training = None
    torch.manual_seed(0)
    narrow = Narrow(10**9)
    expected = scores_of(narrow, data)
    narrow.most = most
    found = scores_of(narrow, data)
    torch.testing.assert_close(found, expected, **EXACT)
    assert sum(number for number in narrow.seen[STEPS:] if number <= most) == 9 * STEPS
    count(SIMULATED)


def test_an_image_that_does_not_fit_alone_is_an_error_as_it_was():
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        fitted(lambda images: (Narrow(0)(images),), torch.zeros(5, 1, 8, 8))
    with pytest.raises(KeyError):
        fitted(lambda images: {}[0], torch.zeros(5, 1, 8, 8))


# ------------------------------------------------------------------------------------------------ at length


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(200))
def test_any_update_may_run_out(seed):
    generator = np.random.default_rng(seed)
    fields = [*RECIPES.values()][generator.integers(len(RECIPES))]
    size, since = int(generator.integers(2, 9)) * 2, int(generator.integers(1, UPDATES + 1))
    recipe, data = RECIPE.changed(batch_size=size, **fields), batches_of(size)
    room, way = -(-size // recipe.accumulate // 2), WAYS[generator.integers(len(WAYS))]
    device = SmallDevice(room, since, bool(generator.integers(2)), way)
    assert_close(on(device, recipe, data=data), on(SmallDevice(size), recipe, data=data))
    assert len(device.broken) == 1
    count(SIMULATED)


@pytest.mark.parametrize("declared", [True, False])
def test_a_declaration_is_the_losss_own(declared):
    def loss(module, images, targets):
        return cross_entropy(module, images, targets)

    device = SmallDevice(4, since=2)
    if declared:
        on(device, loss=mean_over_images(loss), module=model())
    else:
        with pytest.raises(NoMemoryError):
            on(device, loss=loss, module=model())
