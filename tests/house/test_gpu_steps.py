"""Updates replayed from a CUDA graph are those that are taken anew, to the bit, and wait for nothing. Skipped without a CUDA device."""

import io
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.training.support import DIGITS, VIT, same
from vitlib.computing import Context, result_of
from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import ResNet, build, weights_of
from vitlib.methods.pruning.masks import apply_masks, keep_masks, masked_gradients, prunable
from vitlib.recipe import Augment, Recipe
from vitlib.teachers.pretrain import DinoMethod, DinoTeacher, MaeMethod, MaeTeacher, MultiCrop
from vitlib.training.loop import cross_entropy, train
from vitlib.training.step.graphs import CudaGraphs

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEEP = VIT.changed(embed_dim=32, depth=2)
MODELS = pytest.mark.parametrize("spec", [DEEP, ResNet(width=8, blocks=(1, 1, 1, 1))], ids=["vit", "resnet"])
RECIPE = Recipe(epochs=4, batch_size=16, lr=0.01, warmup_epochs=1)
EVERYTHING = Augment(crop=1, flip=0.5, erasing=0.25)
STEPS = 5  # an epoch


@pytest.fixture(autouse=True)
def deterministic():
    """Convolutions whose gradients are summed in one order."""
    before, torch.backends.cudnn.deterministic = torch.backends.cudnn.deterministic, True
    yield
    torch.backends.cudnn.deterministic = before


def drawn(spec, drop_path=0.0):
    torch.manual_seed(0)
    return build(spec, image_size=8, channels=1, num_classes=10, drop_path=drop_path)


def fit(spec, capture, module=None, images=80, loss=cross_entropy, scratch=None, tick=lambda *_: None, around_step=None, **fields):
    """The model and how it was trained."""
    recipe, generator = RECIPE.changed(**fields), torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 1, 8, 8), generator=generator, dtype=torch.uint8).to(DEVICE)
    labels = torch.randint(10, (images,), generator=generator).to(DEVICE)
    batches = ResidentBatches(pixels, labels, DIGITS, 16, Training(EVERYTHING, seed=0))
    where = Context(DEVICE, Path(), scratch, parent=None, tick=tick, checkpoint_every=0.0, capture=capture)
    module = module or drawn(spec, recipe.drop_path)
    around = {"around_step": around_step(module)} if around_step else {}
    return module, train(module, batches, loss, recipe, num_classes=10, context=where, **around)


def assert_same(one, other):
    (mine, my), (theirs, their) = one, other
    assert same(weights_of(mine), weights_of(theirs)) and my.history.equals(their.history)
    if my.ema is not None:
        assert same(weights_of(my.ema), weights_of(their.ema))


@MODELS
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1, "drop_path": 0.3, "ema_decay": 0.9, "clip_grad": 0.5},
        {"accumulate": 2, "clip_grad": 0.05, "clip": "parameter"},
        {"precision": "bf16", "channels_last": True, "mode": "eval"},
        {"optimizer": "sgd"},
        {"optimizer": "momentum", "ema_decay": 0.9},
        {"optimizer": "lars"},
    ],
    ids=str,
)
def test_replayed_updates_are_eager_ones_to_the_bit(spec, fields):
    eager, again, captured = (fit(spec, capture, **fields) for capture in (False, False, True))
    assert captured[1].measured["step"] == "captured" and captured[1].measured["share_of_peak"] > 0
    assert_same(eager, again)  # otherwise nothing could be said of the third
    assert_same(eager, captured)


def test_a_replay_draws_from_the_seed_that_was_set_before_it():
    graphs, total = CudaGraphs(DEVICE), torch.zeros(1000, device=DEVICE)
    work = lambda: total.copy_(torch.rand(1000, device=DEVICE) + torch.empty(1000, device=DEVICE).bernoulli_(0.3))  # noqa: E731
    graphs.first(work)
    record, found = graphs.record(work), []
    for seed in (1, 2, 1):
        torch.cuda.manual_seed_all(seed)
        torch.rand(7, device=DEVICE)  # moves the generator on, as augmentation does
        record.replay()
        found.append(total.clone())
        torch.cuda.manual_seed_all(seed)
        torch.rand(7, device=DEVICE)
        assert torch.equal(work(), found[-1])
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


@MODELS
@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_no_step_waits_for_the_device(spec, capture):
    """Batches, augmentation, mixing, update, rates and moving average of twenty steps."""
    taken = []

    def tick(*_):
        taken.append(1)
        if len(taken) in (7, 27):
            torch.cuda.set_sync_debug_mode("error" if len(taken) == 7 else "default")

    try:
        _, trained = fit(spec, capture, images=480, tick=tick, mixup=0.8, drop_path=0.1, ema_decay=0.9, clip_grad=0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(taken) == 4 * 30 and (trained.measured["step"] == "captured") is capture


def test_a_loss_that_waits_for_the_device_stays_eager_to_the_same_bits():
    def loss(module, images, targets):
        value = cross_entropy(module, images, targets)
        return value * (2.0 if value.item() > 2 else 1.0)

    eager, fallen = fit(DEEP, False, loss=loss), fit(DEEP, True, loss=loss)
    assert fallen[1].measured["step"].startswith("eager: an update waits for the device (test_gpu_steps.py:")
    assert_same(eager, fallen)


@MODELS
def test_a_recording_that_is_broken_off_leaves_everything_as_it_was(spec):
    def loss(module, images, targets):
        value = cross_entropy(module, images, targets)
        if torch.cuda.is_current_stream_capturing():
            value.item()
        return value

    fields = {"drop_path": 0.2, "ema_decay": 0.9}
    eager, fallen = fit(spec, False, loss=loss, **fields), fit(spec, True, loss=loss, **fields)
    assert fallen[1].measured["step"].startswith("eager: an update cannot be recorded (")
    assert_same(eager, fallen)
    assert fit(spec, True, **fields)[1].measured["step"] == "captured", "the next training is none the worse for it"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "momentum"])
def test_steps_of_several_kinds_have_records_of_their_own(optimizer):
    def around_step(module):
        @contextmanager
        def around(progress):
            module.head.weight.requires_grad_(progress >= 0.5)
            yield

        return around

    assert_same(*(fit(DEEP, capture, epochs=6, optimizer=optimizer, around_step=around_step) for capture in (False, True)))


@pytest.mark.parametrize("steps", [2, STEPS, 9])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path, steps):
    left = [steps]

    def stopping(*_):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    fields = {"ema_decay": 0.9, "drop_path": 0.2}
    with pytest.raises(KeyboardInterrupt):
        fit(DEEP, True, scratch=tmp_path, tick=stopping, **fields)
    assert_same(fit(DEEP, False, **fields), fit(DEEP, True, scratch=tmp_path, **fields))


def test_a_checkpoint_says_nothing_of_the_graph(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(DEEP, True, scratch=tmp_path, tick=stopped_at_the_ninth())
    content = torch.load(io.BytesIO((tmp_path / "checkpoint.pt").read_bytes()[32:]), weights_only=True, map_location="cpu")
    assert all(state["step"].item() == 8 for state in content["optimizer"]["state"].values())


def stopped_at_the_ninth():
    taken = []

    def tick(*_):
        taken.append(1)
        if len(taken) == 9:
            raise KeyboardInterrupt

    return tick


def test_pruned_weights_stay_zero_in_replays():
    results = []
    for capture in (False, True):
        module = drawn(DEEP)
        masks = keep_masks({name: weight.detach().abs() for name, weight in prunable(module).items()}, 0.5)
        module.to(DEVICE)
        apply_masks(module, masks)
        with masked_gradients(module, masks):
            results.append(fit(DEEP, capture, module=module, clip_grad=0.1))
    assert_same(*results)
    assert all(not (module.get_parameter(name).cpu() * ~mask).any() for name, mask in masks.items() for module, _ in results)


PRETRAINED = {
    "dino": DinoTeacher(
        data=DIGITS,
        model=DEEP,
        method=DinoMethod(
            recipe=RECIPE.changed(batch_size=10),
            views=MultiCrop(global_size=8, local_size=4, local_views=2),
            hidden=32,
            bottleneck=16,
            prototypes=64,
            teacher_temp_start=0.02,
            temp_warmup=0.5,
            frozen=0.3,
        ),
        seed=0,
    ),
    "mae": MaeTeacher(data=DIGITS, model=DEEP, method=MaeMethod(recipe=RECIPE, decoder_dim=16, decoder_depth=1, decoder_heads=2), seed=0),
}


@pytest.mark.parametrize("kind", PRETRAINED)
def test_pretraining_without_labels_is_replayed(kind):
    """Where the sizes of views differ, gradients of the interpolated positions have no order of their sum."""
    eager, captured = (
        result_of(PRETRAINED[kind], Context(DEVICE, Path(), None, parent=None, capture=capture)) for capture in (False, True)
    )
    assert captured.measured["step"] == "captured"
    assert captured.history["loss"].tolist() == pytest.approx(eager.history["loss"].tolist(), rel=1e-4 if kind == "dino" else 0)
