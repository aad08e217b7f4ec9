"""The library against outputs of the original implementations (tests/oracles/README.md says how each file was made)."""

import hashlib

import numpy as np
import pytest
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import nn
from torch.testing import assert_close

from tests.support import ROOT
from vitlib.methods.attention import attention_distance
from vitlib.methods.distillation.losses import hard_distillation_loss, soft_distillation_loss, weighted
from vitlib.methods.distillation.relations import angle_relation_loss, distance_relation_loss
from vitlib.methods.distillation.self_distillation import hint_loss, soft_target_loss
from vitlib.methods.pruning.saliency import snip
from vitlib.methods.self_supervised.dino import dino_loss, moved_center
from vitlib.methods.self_supervised.mae import mae_loss, patchify
from vitlib.recipe import Recipe
from vitlib.training.loop import target_maker

ORACLES = ROOT / "tests" / "oracles"
SHA256 = {
    "attention_distance.npz": "d48e635cb4674dca89ffe1b8c7c79aac541670e63e167ff57b8d3214297b4680",
    "byot.npz": "42700a4a98ad174329e0ee4fb86f2e340a5fcc1a50a0b1bdeef6744466a84fd3",
    "deit.npz": "00daf36a2d42afce3ea6eafff6c764f6719993f455fef2bc1266c7f25d04fe14",
    "dino.npz": "10c8b2e24276a50aefc4f1d046afbc0b07ca6b68635160a2b7acc9dd5b241728",
    "mae.npz": "b853e8c78ac376cb3169f45a59b4c9457a6f9158b00e0811157d19c0e1a7653e",
    "rkd.npz": "fe8080968e5b53a6370d56633008094be4c3dbe6fe15a986f1fb67042b040f82",
    "snip.npz": "c7d2e559cca8c33d2c9ac120aa22327e38ca9146c5bc650a268e54a539450cee",
}


def oracle(name):
    arrays = np.load(ORACLES / f"{name}.npz")
    return {field: torch.from_numpy(arrays[field]) for field in arrays}


@pytest.fixture
def double():
    """Dense targets in float64, as the reference values are."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def deit(double):
    tensors = oracle("deit")
    recipe = Recipe(epochs=1, batch_size=24, lr=1.0, label_smoothing=float(tensors["label_smoothing"]))
    _, targets = target_maker(recipe, num_classes=10)(None, tensors["labels"])
    return tensors | {"base": SoftTargetCrossEntropy()(tensors["class_logits"], targets)}


def test_oracle_files_are_the_ones_that_were_handed_over():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in ORACLES.glob("*.npz")}
    assert found == SHA256


def test_base_loss_is_that_of_deit(deit):
    assert_close(deit["base"], deit["base_ce"], rtol=1e-9, atol=0)


def test_hard_distillation_is_that_of_deit(deit):
    taught = hard_distillation_loss(deit["distillation_logits"], deit["teacher_logits"])
    assert_close(weighted(deit["base"], taught, deit["hard_alpha"]), deit["hard_loss"], rtol=1e-9, atol=0)


def test_soft_distillation_in_the_numel_reduction_is_that_of_deit(deit):
    taught = soft_distillation_loss(deit["distillation_logits"], deit["teacher_logits"], float(deit["soft_tau"]), "numel")
    assert_close(weighted(deit["base"], taught, deit["soft_alpha"]), deit["soft_loss_numel_reduction"], rtol=1e-9, atol=0)


def test_loss_and_centre_of_two_steps_are_those_of_dino():
    dino = oracle("dino")
    temperatures, momentum = (float(dino["student_temp"]), float(dino["teacher_temp"])), float(dino["center_momentum"])
    center = torch.zeros(1, 32, dtype=torch.float64)
    for step, suffix in ((1, ""), (2, "_2")):
        student, teacher = dino[f"student_crops{suffix}"], dino[f"teacher_crops{suffix}"]
        assert_close(dino_loss(student, teacher, center, *temperatures), dino[f"loss_step{step}"], rtol=1e-9, atol=0)
        center = moved_center(center, teacher, momentum)
        assert_close(center, dino[f"center_after_step{step}"], rtol=1e-9, atol=0)


def test_patches_are_those_of_mae():
    mae = oracle("mae")
    assert torch.equal(patchify(mae["images"], int(mae["patch_size"])), mae["patches"])


@pytest.mark.parametrize(("normalised", "pixels"), [(True, "normalised"), (False, "raw")], ids=["normalised", "raw"])
def test_loss_is_that_of_mae(normalised, pixels):
    mae = oracle("mae")
    loss = mae_loss(mae["images"], mae["predictions"], mae["mask"], int(mae["patch_size"]), normalised=normalised)
    assert_close(loss, mae[f"loss_{pixels}_pixels"], rtol=1e-9, atol=0)


def test_attention_distance_is_that_of_cl_vs_mim():
    maps = oracle("attention_distance")
    distances = attention_distance(maps["attention_with_cls"], (8, 8), int(maps["patch_size"]))
    assert_close(distances, maps["distance_by_image_and_head"], rtol=1e-9, atol=0)


def test_snip_is_that_of_synaptic_flow():
    reference = oracle("snip")
    layers = [nn.Linear(20, 16), nn.Linear(16, 12), nn.Linear(12, 5)]
    for index, layer in enumerate(layers):
        layer.weight, layer.bias = (nn.Parameter(reference[f"{kind}{index}"]) for kind in ("weight", "bias"))
    model = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
    batches = zip(*(reference[field].split(int(reference["batch_size"])) for field in ("inputs", "labels")), strict=True)
    scores = snip(model, batches, {f"score{index}": layer.weight for index, layer in enumerate(layers)})
    total = sum(score.sum() for score in scores.values())
    for name, score in scores.items():
        assert_close(score / total, reference[name], rtol=1e-9, atol=0)


@pytest.mark.parametrize(("relation", "loss"), [("distance", distance_relation_loss), ("angle", angle_relation_loss)])
def test_relations_and_their_gradients_are_those_of_rkd(relation, loss):
    rkd = oracle("rkd")
    student = rkd["student"].requires_grad_()
    found = loss(student, rkd["teacher"])
    assert_close(found.detach(), rkd[f"{relation}_loss"], rtol=1e-9, atol=0)
    assert_close(torch.autograd.grad(found, student)[0], rkd[f"grad_{relation}"], rtol=1e-9, atol=1e-15)


def test_soft_targets_and_feature_hints_are_those_of_byot():
    byot = oracle("byot")
    soft = soft_target_loss(byot["branch_logits"], byot["deepest_logits"], float(byot["temperature"]))
    assert_close(soft, byot["soft_loss_times_t2"], rtol=1e-9, atol=0)
    hint = hint_loss(byot["branch_features"], byot["deepest_features"], "sum")
    assert_close(hint, byot["feature_loss_sum"], rtol=1e-9, atol=0)
