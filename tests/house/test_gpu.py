"""A GPU computes what the CPU computes; bf16 and torch.compile run there. Skipped without a CUDA device."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from vitlib.computing import Context, OutOfTimeError, result_of
from vitlib.deploy.two_of_four import on_sparse_units
from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.models import ResNet, Vit, build
from vitlib.inputs.sources import Data
from vitlib.inputs.views import augmented
from vitlib.methods.attention import attention_maps
from vitlib.methods.pruning.masks import apply_masks, prunable, semi_structured, two_of_four
from vitlib.methods.pruning.saliency import block_features, magnitude, refer, snip
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Augment, Recipe
from vitlib.training.cost import counted_macs, speed
from vitlib.training.loop import cross_entropy, train

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DIGITS = Data(source="digits", image_size=8, per_class=6, mean=(0.304,), std=(0.375,))
VIT = Vit(embed_dim=32, depth=2, num_heads=2, patch_size=2, distilled=True, init="xavier")
RESNET = ResNet(width=8, blocks=(1, 1, 1, 1))
RECIPE = Recipe(epochs=2, batch_size=16, lr=0.02, optimizer="sgd")
MODELS = pytest.mark.parametrize("spec", [VIT, RESNET], ids=["vit", "resnet"])


@pytest.fixture(autouse=True)
def full_precision():
    """Convolutions in float32 instead of TF32, so that they can be compared with the CPU's."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = before


def model(spec):
    torch.manual_seed(0)
    return build(spec, image_size=8, channels=1, num_classes=10)


def fit(module, device, scratch=None, deadline=math.inf, **fields):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (80, 1, 8, 8), generator=generator, dtype=torch.uint8).to(device)
    labels = torch.randint(10, (80,), generator=generator).to(device)
    batches = ResidentBatches(images, labels, DIGITS, batch_size=16, training=Training(Augment(), seed=0))
    context = Context(device, Path(), scratch, parent=None, deadline=deadline)
    return train(module, batches, cross_entropy, RECIPE.changed(**fields), num_classes=10, context=context)


@MODELS
def test_gpu_and_cpu_agree_on_a_forward_pass(spec):
    on_cpu, images = model(spec).eval(), torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    on_gpu = copy.deepcopy(on_cpu).to(DEVICE)
    with torch.no_grad():
        assert_close(on_gpu(images.to(DEVICE)).cpu(), on_cpu(images), rtol=1e-4, atol=1e-4)


@MODELS
@pytest.mark.parametrize(
    "fields", [{}, {"channels_last": True}, {"clip_grad": 0.5, "ema_decay": 0.9}, {"clip_grad": 0.5, "clip": "parameter"}], ids=str
)
def test_gpu_and_cpu_agree_on_training(spec, fields):
    on_cpu, on_gpu = model(spec), model(spec)
    expected, measured = fit(on_cpu, "cpu", **fields), fit(on_gpu, DEVICE, **fields)
    assert measured.history["loss"].tolist() == pytest.approx(expected.history["loss"].tolist(), rel=1e-3)
    for one, other in zip(on_gpu.parameters(), on_cpu.parameters(), strict=True):
        assert_close(one.cpu(), other, rtol=1e-3, atol=1e-3)
    if measured.ema:
        assert_close(next(measured.ema.parameters()).cpu(), next(expected.ema.parameters()), rtol=1e-3, atol=1e-3)


@MODELS
def test_a_training_interrupted_at_its_deadline_goes_on_to_the_same_weights(spec, tmp_path):
    whole, resumed = model(spec).to(DEVICE), model(spec).to(DEVICE)
    fit(whole, DEVICE)
    for _ in range(3):
        with pytest.raises(OutOfTimeError):
            fit(model(spec).to(DEVICE), DEVICE, tmp_path, deadline=-1.0)
    fit(resumed, DEVICE, tmp_path)
    assert_close(resumed.state_dict(), whole.state_dict())


@MODELS
def test_bf16_on_a_gpu_is_near_float32(spec):
    exact, rounded = fit(model(spec), DEVICE), fit(model(spec), DEVICE, precision="bf16")
    assert rounded.history["loss"].tolist() == pytest.approx(exact.history["loss"].tolist(), rel=0.05)


@MODELS
@pytest.mark.filterwarnings("default")  # the compiler's advice on TF32 and recompiling is no failure
def test_a_compiled_model_trains_to_the_same_loss(spec):
    plain, compiled = fit(model(spec), DEVICE), fit(model(spec), DEVICE, compile=True)
    assert compiled.history["loss"].tolist() == pytest.approx(plain.history["loss"].tolist(), rel=1e-2)


@pytest.mark.filterwarnings("default")  # as above
def test_a_distilled_student_trains_compiled_in_bf16_and_predicts():
    teacher_recipe = RECIPE.changed(lr=0.05, precision="bf16")
    teacher = Student(data=DIGITS, model=RESNET, recipe=teacher_recipe, seed=0)
    context = Context(DEVICE, Path(), None, parent=None)
    stored = result_of(teacher, context)
    recipe = RECIPE.changed(precision="bf16", compile=True, mixup=0.8, augment=Augment(crop=1, flip=0.5, erasing=0.25))
    student = Student(data=DIGITS, model=VIT, recipe=recipe, seed=0, objective="hard", teacher=teacher)
    result = result_of(student, Context(DEVICE, Path(), None, parent=lambda spec: stored))
    assert all(math.isfinite(loss) for loss in result.history["loss"])
    assert result.measured["peak_bytes"] > 0
    assert len(result.arrays["predictions class+distillation"]) == len(result.arrays["labels"])


@pytest.mark.parametrize("augment", [Augment(crop=2), Augment(flip=0.5), Augment(cutout=3), Augment(erasing=0.5)], ids=str)
def test_augmentation_stays_on_the_gpu_is_seeded_there_and_draws_for_each_image(augment):
    images = torch.arange(1.0, 65.0, device=DEVICE).view(1, 1, 8, 8).repeat(64, 1, 1, 1)
    torch.manual_seed(0)
    first = augmented(images, augment)
    torch.manual_seed(0)
    assert torch.equal(augmented(images, augment), first)
    assert first.device == images.device and first.shape == images.shape
    assert len({image.numpy().tobytes() for image in first.cpu()}) > 1


def test_batches_on_a_gpu_hold_the_images_of_the_cpu():
    def epoch(device):
        images = torch.arange(20 * 64, device=device).remainder(256).to(torch.uint8).view(20, 1, 8, 8)
        batches = ResidentBatches(images, torch.arange(20, device=device), DIGITS, 4, Training(Augment(), seed=3))
        return [(images.cpu(), labels.cpu()) for images, labels in batches.epoch(1)]

    for (images, labels), (expected, truth) in zip(epoch(DEVICE), epoch("cpu"), strict=True):
        assert torch.equal(labels, truth)
        assert_close(images, expected)


def test_attention_maps_and_macs_on_a_gpu_are_those_of_the_cpu():
    on_cpu, images = model(VIT), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected, macs = attention_maps(on_cpu, images), counted_macs(on_cpu, 8, 1)
    on_gpu = on_cpu.to(DEVICE)
    assert_close(attention_maps(on_gpu, images.to(DEVICE)).cpu(), expected, rtol=1e-3, atol=1e-4)
    assert counted_macs(on_gpu, 8, 1) == macs


def test_speed_on_a_gpu_is_positive():
    measured = speed(model(VIT), 8, 1, batch_size=8, device=DEVICE, repeats=3, warm_up=2)
    assert measured.images_per_second > 0


@pytest.mark.parametrize("rows", ["class", "tokens"])
def test_scores_on_a_gpu_are_those_of_the_cpu(rows):
    on_cpu, images = model(VIT), torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    on_gpu, labels, scores = copy.deepcopy(on_cpu).to(DEVICE), torch.arange(12) % 10, []
    for module, device in ((on_cpu, "cpu"), (on_gpu, DEVICE)):
        weights, batches = prunable(module), images.to(device).split(5)
        scores.append(refer(module, lambda batches=batches: batches, weights, block_features(rows)))
        scores.append(snip(module, zip(batches, labels.to(device).split(5), strict=True), weights))
    for cpu, gpu in zip(scores[:2], scores[2:], strict=True):
        for name in cpu:
            assert_close(gpu[name], cpu[name], rtol=1e-2, atol=1e-4 * float(cpu[name].max()))


def test_semi_structured_weights_compute_what_the_masked_ones_do():
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs sparse matrix units")
    wide = build(Vit(embed_dim=128, depth=2, num_heads=2, patch_size=2), image_size=8, channels=1, num_classes=10).to(DEVICE).half().eval()
    masks = two_of_four(magnitude(prunable(wide)))
    apply_masks(wide, masks)
    images = torch.randn(16, 1, 8, 8, device=DEVICE).half()
    with torch.inference_mode():
        expected = wide(images)
        deployed = on_sparse_units(wide.cpu().float())
        assert_close(deployed(images), expected, rtol=2e-2, atol=2e-2)
        assert_close(deployed(images[:1]), expected[:1], rtol=2e-2, atol=2e-2)
        semi_structured(wide.to(DEVICE).half(), masks)
        assert_close(wide(images), expected, rtol=2e-2, atol=2e-2)
