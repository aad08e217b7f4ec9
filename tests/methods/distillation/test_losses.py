"""Distillation losses and readouts, against timm's distillation tasks, closed forms and hand counts."""

import math

import pytest
import torch
import torch.nn.functional as F
from timm.loss import SoftTargetCrossEntropy
from timm.models.deit import VisionTransformerDistilled
from timm.task import LogitDistillationTask, TokenDistillationTask
from torch import nn
from torch.testing import assert_close

from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.methods.distillation.losses import (
    hard_distillation_loss,
    logit_mean,
    readouts,
    soft_distillation_loss,
    softmax_sum,
    token_cosines,
    token_logits,
    train_logits,
    weighted,
)
from vitlib.papers.deit.compute import distillation
from vitlib.papers.deit.specs import Student
from vitlib.recipe import Recipe

IMAGES = torch.zeros(6, 3, 4, 4)


class Gives(nn.Module):
    """A network that answers with the given logits; what timm's tasks ask of a model beside that."""

    num_classes, in_chans = 5, 3
    pretrained_cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # noqa: RUF012

    def __init__(self, *logits):
        super().__init__()
        self.logits = logits

    def set_distilled_training(self, enable=True):
        pass

    def forward(self, images):
        return self.logits[0] if len(self.logits) == 1 else self.logits


def student(objective, kd_weight, temperature=3.0):
    data = Data(source="digits", image_size=8)
    model = Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4)
    recipe = Recipe(epochs=1, batch_size=2, lr=0.1)
    plain = Student(data=data, model=model, recipe=recipe, seed=0)
    return plain.changed(objective=objective, teacher=plain, kd_weight=kd_weight, temperature=temperature)


def logits(count, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(6, 5, generator=generator) for _ in range(count)]


def mixed_targets():
    return torch.rand(6, 5, generator=torch.Generator().manual_seed(9)).softmax(dim=1)


def distilled_vit(depth=2):
    torch.manual_seed(0)
    return VisionTransformerDistilled(img_size=8, patch_size=4, in_chans=1, num_classes=5, embed_dim=8, depth=depth, num_heads=2)


@pytest.mark.parametrize("kd_weight", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_distillation_without_a_token_is_timms_logit_distillation(kd_weight, temperature):
    student_logits, teacher_logits = logits(2)
    model, teacher, targets = Gives(student_logits), Gives(teacher_logits), mixed_targets()
    task = LogitDistillationTask(
        model,
        teacher,
        criterion=SoftTargetCrossEntropy(),
        task_loss_weight=1 - kd_weight,
        temperature=temperature,
        verbose=False,
    )
    ours = distillation(student("soft", kd_weight, temperature), teacher)(model, IMAGES, targets)
    assert_close(ours, task(IMAGES, targets)["loss"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("kd_weight", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("objective", ["soft", "hard"])
def test_distillation_with_a_token_is_timms_token_distillation(objective, kd_weight):
    class_logits, dist_logits, teacher_logits = logits(3)
    model, teacher, targets = Gives(class_logits, dist_logits), Gives(teacher_logits), mixed_targets()
    task = TokenDistillationTask(
        model, teacher, criterion=SoftTargetCrossEntropy(), distill_type=objective,
        task_loss_weight=1 - kd_weight, temperature=3.0, verbose=False,
    )  # fmt: skip
    ours = distillation(student(objective, kd_weight), teacher)(model, IMAGES, targets)
    assert_close(ours, task(IMAGES, targets)["loss"], rtol=1e-6, atol=0)


def test_soft_loss_is_the_divergence_from_student_to_teacher_written_out_in_loops():
    student_logits, teacher_logits = (tensor.double() for tensor in logits(2))
    expected = 0.0
    for student_row, teacher_row in zip(student_logits.tolist(), teacher_logits.tolist(), strict=True):
        p = [math.exp(z / 3) / sum(math.exp(other / 3) for other in teacher_row) for z in teacher_row]
        q = [math.exp(z / 3) / sum(math.exp(other / 3) for other in student_row) for z in student_row]
        expected += 9 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 6
    assert float(soft_distillation_loss(student_logits, teacher_logits, 3.0)) == pytest.approx(expected, rel=1e-12)


def test_soft_loss_at_temperature_one_has_the_gradient_of_cross_entropy_with_the_teachers_probabilities():
    student_logits, teacher_logits = (tensor.double() for tensor in logits(2))
    student_logits.requires_grad_()
    soft_distillation_loss(student_logits, teacher_logits, 1.0).backward()
    assert_close(student_logits.grad, (student_logits.softmax(1) - teacher_logits.softmax(1)).detach() / 6)


def test_hard_loss_reads_nothing_but_the_teachers_argmax():
    student_logits, teacher_logits = logits(2)
    other = torch.zeros(6, 5).scatter_(1, teacher_logits.argmax(dim=1, keepdim=True), 0.01)
    assert hard_distillation_loss(student_logits, teacher_logits) == hard_distillation_loss(student_logits, other)


def test_weights_of_both_terms_sum_to_one():
    assert weighted(torch.tensor(3.0), torch.tensor(8.0), 0.25) == 0.75 * 3 + 0.25 * 8


def test_without_a_teacher_both_heads_learn_the_label():
    class_logits, dist_logits = logits(2)
    targets = mixed_targets()
    loss = distillation(student("soft", 0.5).teacher, None)
    expected = (F.cross_entropy(class_logits, targets) + F.cross_entropy(dist_logits, targets)) / 2
    assert_close(loss(Gives(class_logits, dist_logits), IMAGES, targets), expected)
    assert_close(loss(Gives(class_logits), IMAGES, targets), F.cross_entropy(class_logits, targets))


def test_soft_loss_of_half_precision_logits_is_taken_in_float32():
    class_logits, dist_logits = train_logits(Gives(*[tensor.bfloat16() for tensor in logits(2)]), IMAGES)
    assert class_logits.dtype == dist_logits.dtype == torch.float32


def test_a_model_of_one_head_gives_its_logits_twice():
    first, second = train_logits(Gives(logits(1)[0]), IMAGES)
    assert torch.equal(first, second)


def test_heads_read_their_own_tokens():
    model, images = distilled_vit().train(), torch.randn(3, 1, 8, 8)
    model.set_distilled_training(True)
    class_logits, dist_logits = train_logits(model, images)
    assert_close(token_logits(model.eval(), images), (class_logits, dist_logits))
    assert not torch.allclose(class_logits, dist_logits)
    assert [len(token_logits(plain, images)) for plain in (nn.Flatten(), model)] == [1, 2]


def test_logit_mean_and_softmax_sum_disagree_on_the_example_of_the_method_sheet():
    class_logits, dist_logits = torch.tensor([[3.0, 0.0, 4.0]]), torch.tensor([[0.0, 2.0, -8.0]])
    assert logit_mean(class_logits, dist_logits).tolist() == [[1.5, 1.0, -2.0]]
    assert logit_mean(class_logits, dist_logits).argmax() == 0
    assert softmax_sum(class_logits, dist_logits).argmax() == 1


def test_softmax_sum_adds_up_to_two():
    assert_close(softmax_sum(*logits(2)).sum(dim=1), torch.full((6,), 2.0))


def test_readouts_name_each_head_and_both_fusions():
    class_logits, dist_logits = logits(2)
    scores = readouts([class_logits, dist_logits])
    assert list(scores) == ["class", "distillation", "class+distillation", "logit mean"]
    assert scores["class"] is class_logits and scores["distillation"] is dist_logits
    assert_close(scores["class+distillation"], class_logits.softmax(1) + dist_logits.softmax(1))
    assert_close(scores["logit mean"], (class_logits + dist_logits) / 2)
    assert list(readouts([class_logits])) == ["class"]


def test_token_cosines_are_those_of_the_tokens_that_each_block_gives():
    model, images = distilled_vit(depth=3).eval(), torch.randn(4, 1, 8, 8)
    outputs = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, inputs, output: outputs.extend([inputs[0], output]))
    with torch.no_grad():
        cosines = token_cosines(model, images)
    stages = [outputs[0], outputs[1], outputs[3], outputs[5]]  # input of the first block, then outputs of all
    expected = [[_cosine(stage[i, 0], stage[i, 1]) for stage in stages] for i in range(4)]
    assert_close(cosines, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def _cosine(a, b):
    return float((a * b).sum() / (a.norm() * b.norm()))
