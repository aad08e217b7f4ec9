"""DeiT (arXiv 2012.12877): the invariants 1-12 of its method sheet, by number, and the traps it warns of."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import try_to_load_from_cache
from timm.loss import SoftTargetCrossEntropy
from timm.models.deit import VisionTransformerDistilled
from torch import nn
from torch.testing import assert_close

from vitlib import load_study
from vitlib.computing import Context, result_of
from vitlib.inputs.data import seed_everything
from vitlib.inputs.models import ResNet, Timm, Vit, build, load_weights, parameter_count, weights_of
from vitlib.inputs.sources import Data
from vitlib.methods.distillation.losses import hard_distillation_loss, logit_mean, soft_distillation_loss, softmax_sum, token_logits
from vitlib.papers.deit import compute
from vitlib.papers.deit.specs import Released, Student
from vitlib.paths import data_dir
from vitlib.recipe import Augment, Recipe
from vitlib.report.statistics import disagreement
from vitlib.spec import SpecError
from vitlib.training.cost import VitCost
from vitlib.training.loop import target_maker
from vitlib.training.optimizer import make_schedule

DIGITS = Data(source="digits", image_size=8, per_class=8, mean=(0.304,), std=(0.375,))
MICRO = Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4, distilled=True)
RECIPE = Recipe(epochs=2, batch_size=16, lr=1e-3, mixup=0.8, mix_probability=0.5, augment=Augment(crop=1, erasing=0.25))
TEACHER = Student(data=DIGITS, model=ResNet(width=4, blocks=(1, 1, 1, 1)), recipe=RECIPE, seed=1)
HARD = Student(data=DIGITS, model=MICRO, recipe=RECIPE, seed=0, objective="hard", teacher=TEACHER)
DEIT = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
PARAMETERS = {  # plain, distilled
    "tiny": (5_717_416, 5_910_800),
    "small": (22_050_664, 22_436_432),
    "base": (86_567_656, 87_338_192),
}
RELEASED = {  # top-1 of the released weights as timm reads them
    "deit_tiny_patch16_224.fb_in1k": 72.202,
    "deit_small_patch16_224.fb_in1k": 79.854,
    "deit_base_patch16_224.fb_in1k": 81.846,
    "deit_tiny_distilled_patch16_224.fb_in1k": 74.476,
    "deit_small_distilled_patch16_224.fb_in1k": 81.164,
    "deit_base_distilled_patch16_224.fb_in1k": 83.372,
    "deit_base_patch16_384.fb_in1k": 82.890,
    "deit_base_distilled_patch16_384.fb_in1k": 85.224,
}


class Heads(nn.Module):
    """A student whose two heads' logits are its parameters."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.class_logits = nn.Parameter(torch.randn(6, 5, generator=generator))
        self.dist_logits = nn.Parameter(torch.randn(6, 5, generator=generator))

    def forward(self, images):
        return self.class_logits, self.dist_logits


def teacher_logits(seed=3):
    return 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))


def loss_of(model, objective, kd_weight, targets):
    spec = HARD.changed(objective=objective, kd_weight=kd_weight)
    return compute.distillation(spec, lambda images: teacher_logits())(model, None, targets)


def one_hot(labels):
    return F.one_hot(labels, 5).float()


TARGETS = one_hot(torch.tensor([0, 1, 2, 3, 4, 0]))


@pytest.fixture(scope="module")
def trained_teacher():
    """The teacher's stored result, as a run's context hands it to the student."""
    return result_of(TEACHER, context())


def context(parent=None):
    return Context("cpu", Path(), None, parent=lambda spec: SimpleNamespace(weights=parent.weights))


def test_the_reference_codes_reduction_divides_the_soft_term_alone_by_the_classes():
    equation = loss_of(Heads(), "soft", 0.3, TARGETS)
    spec = HARD.changed(objective="soft", kd_weight=0.3, soft_reduction="numel")
    code = compute.distillation(spec, lambda images: teacher_logits())(Heads(), None, TARGETS)
    base = loss_of(Heads(), "soft", 0.0, TARGETS)
    assert_close((equation - 0.7 * base) / (code - 0.7 * base), torch.tensor(5.0))


def test_a_reduction_of_the_soft_term_is_refused_where_there_is_none():
    with pytest.raises(SpecError, match="soft_reduction='numel' with objective='hard'"):
        HARD.changed(soft_reduction="numel")


@pytest.mark.parametrize(
    ("field", "methods"), [("soft_weight", {"soft"}), ("hard_weight", {"hard"}), ("token_weight", {"token", "token-long"})]
)
def test_each_row_of_table_3_has_its_own_weight(field, methods):
    study = load_study("deit", "smoke", overrides={field: 0.75})
    taught = [cell for cell in study.cells if cell.table in ("strategies", "schedules") and cell.spec.teacher]
    changed = {cell.point["method"] for cell in taught if cell.spec.kd_weight == 0.75}
    assert changed == methods & {cell.point["method"] for cell in taught} and changed


# ------------------------------------------------------------------------------------------------ invariants


@pytest.mark.parametrize("objective", ["soft", "hard"])
def test_invariant_1_weight_zero_is_the_base_loss_exactly(objective):
    model = Heads()
    assert loss_of(model, objective, 0.0, TARGETS) == SoftTargetCrossEntropy()(model.class_logits, TARGETS)


def test_invariant_1_weight_one_gives_no_gradient_to_the_class_head():
    model = Heads()
    loss_of(model, "hard", 1.0, TARGETS).backward()
    assert not model.class_logits.grad.any()
    assert model.dist_logits.grad.any()


@pytest.mark.parametrize("objective", ["soft", "hard"])
def test_invariant_1_each_head_gets_the_gradient_of_its_own_term_alone(objective):
    model, alone = Heads(), Heads()
    loss_of(model, objective, 0.3, TARGETS).backward()
    (0.7 * F.cross_entropy(alone.class_logits, TARGETS)).backward()
    if objective == "soft":
        (0.3 * soft_distillation_loss(alone.dist_logits, teacher_logits(), 3.0)).backward()
    else:
        (0.3 * F.cross_entropy(alone.dist_logits, teacher_logits().argmax(dim=1))).backward()
    assert_close(model.class_logits.grad, alone.class_logits.grad)
    assert_close(model.dist_logits.grad, alone.dist_logits.grad)


def test_invariant_2_soft_loss_of_a_student_equal_to_its_teacher_is_zero():
    assert abs(float(soft_distillation_loss(teacher_logits(), teacher_logits(), 3.0))) < 1e-6
    assert float(soft_distillation_loss(teacher_logits(4), teacher_logits(), 3.0)) > 0.1


def test_invariant_2_at_a_large_temperature_the_soft_loss_is_half_the_mean_squared_difference():
    student, teacher = teacher_logits(4).double(), teacher_logits().double()
    student, teacher = student - student.mean(dim=1, keepdim=True), teacher - teacher.mean(dim=1, keepdim=True)
    hinton = (student - teacher).square().sum(dim=1).mean() / (2 * 5)
    assert_close(soft_distillation_loss(student, teacher, 1e5), hinton, rtol=1e-3, atol=0)


def test_invariant_3_numel_version_times_classes_is_the_batchmean_version():
    student, teacher = teacher_logits(4), teacher_logits()
    numel = soft_distillation_loss(student, teacher, 3.0, reduction="numel")
    assert_close(5 * numel, soft_distillation_loss(student, teacher, 3.0))


def test_invariant_4_hard_loss_of_a_teacher_that_is_right_is_cross_entropy():
    model = Heads()
    model.dist_logits = model.class_logits
    right = one_hot(teacher_logits().argmax(dim=1))
    assert_close(loss_of(model, "hard", 0.5, right), F.cross_entropy(model.class_logits, right))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_invariant_5_smoothed_cross_entropy_of_uniform_logits_is_the_log_of_the_classes(smoothing):
    _, targets = target_maker(RECIPE.changed(mixup=0.0, label_smoothing=smoothing), 7)(None, torch.tensor([0, 3, 6]))
    assert float(SoftTargetCrossEntropy()(torch.full((3, 7), 2.5), targets)) == pytest.approx(math.log(7), rel=1e-6)


def test_invariant_6_both_fusions_of_identical_heads_choose_the_same_class():
    logits = teacher_logits()
    assert torch.equal(softmax_sum(logits, logits).argmax(dim=1), logit_mean(logits, logits).argmax(dim=1))


def test_invariant_6_the_fusions_of_the_example_choose_class_0_and_class_1():
    heads = torch.tensor([[3.0, 0.0, 4.0]]), torch.tensor([[0.0, 2.0, -8.0]])
    assert (int(logit_mean(*heads).argmax()), int(softmax_sum(*heads).argmax())) == (0, 1)


def test_invariant_7_timms_output_in_eval_mode_is_the_mean_of_the_heads():
    model, images = build(MICRO, image_size=8, channels=1, num_classes=5).eval(), torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert_close(model(images), logit_mean(*token_logits(model, images)))


@pytest.mark.parametrize("size", PARAMETERS)
def test_invariant_7_parameters_are_those_of_the_paper_by_count_and_by_formula(size):
    width, heads = DEIT[size]
    counts, formulas = [], []
    for distilled in (False, True):
        vit = Vit(embed_dim=width, depth=12, num_heads=heads, patch_size=16, distilled=distilled)
        with torch.device("meta"):
            counts.append(parameter_count(build(vit, image_size=224, channels=3, num_classes=1000)))
        formulas.append(VitCost(vit, image_size=224, channels=3, num_classes=1000).parameters)
    assert tuple(counts) == tuple(formulas) == PARAMETERS[size]
    assert counts[1] - counts[0] == width + width + 1000 * (width + 1)  # token, its position, its head


def test_invariant_8_a_distilled_student_at_224_px_has_198_tokens():
    vit = Vit(embed_dim=8, depth=1, num_heads=1, patch_size=16, distilled=True)
    model = build(vit, image_size=224, channels=3, num_classes=2)
    with torch.no_grad():
        assert model.forward_features(torch.zeros(1, 3, 224, 224)).shape == (1, 198, 8)
    assert VitCost(vit, image_size=224, channels=3, num_classes=2).tokens == 198


def test_invariant_8_permuting_patches_with_their_positions_leaves_both_heads_unchanged():
    model = build(MICRO.changed(depth=2, patch_size=2), image_size=8, channels=1, num_classes=5).double().eval()
    nn.init.normal_(model.pos_embed)
    images, order = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.randperm(16)
    with torch.no_grad():
        before = token_logits(model, images)
        model.patch_embed.register_forward_hook(lambda _, __, patches: patches[:, order])
        patches_alone = token_logits(model, images)
        model.pos_embed[:, 2:] = model.pos_embed[:, 2:][:, order]
        assert_close(token_logits(model, images), before)
    assert not torch.allclose(patches_alone[0], before[0])


def test_invariant_9_training_leaves_the_teacher_as_it_was_to_the_bit(monkeypatch, trained_teacher):
    teachers, modes, build_teacher = [], [], compute.frozen_teacher

    def watched(*arguments):
        teachers.append(build_teacher(*arguments))
        teachers[0].register_forward_hook(lambda module, *_: modes.append([part.training for part in module.modules()]))
        return teachers[0]

    monkeypatch.setattr(compute, "frozen_teacher", watched)
    result_of(HARD, context(trained_teacher))
    assert len(modes) == 2 * (80 // 16)  # epochs x steps
    assert not np.any(modes)
    assert all(parameter.grad is None for parameter in teachers[0].parameters())
    after = weights_of(teachers[0])
    assert any("running_var" in name for name in after)
    assert all(np.array_equal(after[name], array) for name, array in trained_teacher.weights.items())


def test_invariant_10_mixing_of_nothing_without_smoothing_is_plain_cross_entropy():
    images, labels, logits = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0]), teacher_logits()
    mixed, targets = target_maker(RECIPE.changed(mix_probability=0.0), 5)(images.clone(), labels)
    assert torch.equal(mixed, images)
    assert_close(SoftTargetCrossEntropy()(logits, targets), F.cross_entropy(logits, labels))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_invariant_10_target_rows_sum_to_one(mixup, cutmix):
    recipe = RECIPE.changed(mixup=mixup, cutmix=cutmix, mix_probability=1.0, label_smoothing=0.1)
    _, targets = target_maker(recipe, 5)(torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0]))
    assert_close(targets.sum(dim=1), torch.ones(6))


def test_invariant_11_disagreement_is_a_metric_with_the_error_rates_in_the_row_of_the_truth():
    generator = np.random.default_rng(0)
    predictions = {name: generator.integers(3, size=50) for name in ("groundtruth", "a", "b", "c")}
    matrix = disagreement(predictions)
    assert np.array_equal(matrix, matrix.T)
    assert not np.diag(matrix).any()
    assert all(matrix[i, k] <= matrix[i, j] + matrix[j, k] + 1e-12 for i in range(4) for j in range(4) for k in range(4))
    right = [np.mean([p == t for p, t in zip(row, predictions["groundtruth"], strict=True)]) for row in predictions.values()]
    np.testing.assert_allclose(matrix[0], 1 - np.array(right))


@pytest.mark.parametrize("name", RELEASED)
def test_invariant_12_released_weights_reach_their_accuracy_on_imagenet(name):
    folder = data_dir()
    if not (folder / "imagenet" / "val").is_dir():
        pytest.skip("needs ImageNet: set VITLIB_DATA to the folder that holds imagenet/train and imagenet/val")
    if not isinstance(try_to_load_from_cache(f"timm/{name}", "model.safetensors"), str):
        pytest.skip(f"needs the released weights: `hf download timm/{name}` puts them into the hub cache")
    size, share = (384, 1.0) if "384" in name else (224, 0.875)
    data = Data(source="folder/imagenet", image_size=size, crop_share=share, resident=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = result_of(Released(model=Timm(name=name, pretrained=True), data=data), Context(device, folder, None, parent=None))
    measured = result.metrics.get("top1 logit mean", result.metrics["top1"])
    assert measured == pytest.approx(RELEASED[name], abs=0.05)


# ------------------------------------------------------------------------------------------------ traps


def test_trap_a_distilled_student_is_trained_with_both_heads_apart(monkeypatch, trained_teacher):
    outputs = []

    class Watched(VisionTransformerDistilled):
        def forward(self, images):
            outputs.append(super().forward(images))
            return outputs[-1]

    monkeypatch.setattr("timm.models.deit.VisionTransformerDistilled", Watched)
    result_of(HARD, context(trained_teacher))
    assert outputs and all(isinstance(output, tuple) and len(output) == 2 for output in outputs)


def test_trap_teacher_labels_are_computed_on_each_augmented_and_mixed_batch(monkeypatch, trained_teacher):
    student_saw, teacher_saw = [], []
    build_student, build_teacher = compute._build, compute.frozen_teacher

    def student(spec, *sizes, **options):
        return watched(build_student(spec, *sizes, **options), student_saw if spec is HARD else [])

    monkeypatch.setattr(compute, "_build", student)
    monkeypatch.setattr(compute, "frozen_teacher", lambda *about: watched(build_teacher(*about), teacher_saw))
    result_of(HARD, context(trained_teacher))  # its evaluation reads the tokens and does not call the whole model
    assert len(student_saw) == len(teacher_saw) == 10
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(student_saw, teacher_saw, strict=True))
    assert len({batch.numpy().tobytes() for batch in student_saw}) == 10


def watched(module, inputs):
    """Collect a copy of every batch that a module is called with."""
    module.register_forward_pre_hook(lambda _, given: inputs.append(given[0].clone()))
    return module


def test_trap_teacher_labels_are_not_smoothed():
    model = Heads()
    smooth = HARD.recipe.changed(label_smoothing=0.3)
    loss = compute.distillation(HARD.changed(kd_weight=1.0, recipe=smooth), lambda images: teacher_logits())
    taught = loss(model, None, TARGETS)
    assert_close(taught, F.nll_loss(model.dist_logits.log_softmax(1), teacher_logits().argmax(1)))
    assert_close(taught, hard_distillation_loss(model.dist_logits, teacher_logits()))


def test_trap_the_teacher_sees_the_resolution_of_the_student():
    native = Student(data=DIGITS, model=MICRO.changed(distilled=False), recipe=RECIPE, seed=1)
    fine_tuned = HARD.changed(data=DIGITS.changed(image_size=12), teacher=native)
    teacher = compute.frozen_teacher(fine_tuned, 10, context(result_of(native, context())))
    assert teacher.patch_embed.img_size == (12, 12)
    assert teacher(torch.zeros(1, 1, 12, 12)).shape == (1, 10)


def test_fine_tuning_at_384_px_keeps_the_codes_rate_after_its_warm_up():
    """README_deit.md gives --lr and --min-lr of 5e-6; main.py warms up for 5 of 30 epochs from 1e-6."""
    recipe = load_study("deit", "paper", results_dir="/nowhere", data_dir="/nowhere").settings.finetune
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    schedule, rates = make_schedule(optimizer, recipe, steps=10), []
    for update in range(10 * recipe.epochs):
        schedule.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:50] == pytest.approx(np.linspace(1e-6, 5e-6, 51)[:50])
    assert rates[50:] == pytest.approx([5e-6] * 250)


def test_a_student_fine_tuned_in_eval_mode_learns_by_both_heads_as_in_train_mode_without_drop_path(trained_teacher):
    """Its layers have nothing else that tells the modes apart."""
    found = {
        mode: result_of(HARD.changed(recipe=RECIPE.changed(mode=mode)), context(trained_teacher)).weights for mode in ("train", "eval")
    }
    seed_everything(HARD.seed)
    start = weights_of(build(MICRO, image_size=8, channels=1, num_classes=10))
    for name, array in found["eval"].items():
        np.testing.assert_array_equal(array, found["train"][name])
    for name in ("head.weight", "head_dist.weight", "dist_token", "blocks.0.mlp.fc1.weight"):
        assert not np.array_equal(found["eval"][name], start[name])


@pytest.mark.parametrize("distilled", [False, True])
def test_trap_fine_tuning_resamples_only_the_grid_of_the_position_embeddings(distilled):
    model = MICRO.changed(distilled=distilled)
    small, large = (build(model, image_size=size, channels=1, num_classes=5) for size in (12, 16))
    nn.init.normal_(small.pos_embed)
    load_weights(large, weights_of(small))
    prefix = 2 if distilled else 1
    assert torch.equal(large.pos_embed[:, :prefix], small.pos_embed[:, :prefix])
    grid = small.pos_embed[:, prefix:].reshape(1, 3, 3, 8).permute(0, 3, 1, 2)
    bicubic = F.interpolate(grid, size=(4, 4), mode="bicubic", antialias=True)
    assert_close(large.pos_embed[:, prefix:], bicubic.permute(0, 2, 3, 1).reshape(1, 16, 8))
    assert all(torch.equal(large.state_dict()[name], tensor) for name, tensor in small.state_dict().items() if name != "pos_embed")


def test_trap_top1_counts_true_labels_and_fuses_by_softmax_sum(trained_teacher):
    result = result_of(HARD, context(trained_teacher))
    fused, truth = result.arrays["predictions class+distillation"], result.arrays["labels"]
    assert result.metrics["top1"] == pytest.approx(100 * np.mean([p == t for p, t in zip(fused, truth, strict=True)]))
    assert {name for name in result.metrics if name.startswith("top1 ")} == {
        f"top1 {readout}" for readout in ("class", "distillation", "class+distillation", "logit mean")
    }


def test_trap_an_odd_batch_is_refused_before_mixing():
    with pytest.raises(ValueError, match=r"batch_size=15 is odd; mixup and cutmix pair the images"):
        Recipe(epochs=1, batch_size=15, lr=0.1, mixup=0.8)


def test_a_parent_imported_without_its_weights_is_named():
    context = Context("cpu", Path("."), None, parent=lambda run: SimpleNamespace(weights=None))
    with pytest.raises(SpecError, match="weights of student-1: left out of the archive"):
        context.weights(SimpleNamespace(id="student-1"))
