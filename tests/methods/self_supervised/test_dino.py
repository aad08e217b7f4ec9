"""DINO against its equations in loops, closed forms of its averages, and what may learn and what may not."""

import math

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.testing import assert_close

from vitlib.methods.self_supervised.dino import ProjectionHead, SelfDistillation, cosine, dino_loss, follow, moved_center, warmed_up

IMAGES, VIEWS, K = 5, 4, 7


def logits(views, seed, scale=2.0):
    return scale * torch.randn(views * IMAGES, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def student():
    return logits(VIEWS, seed=1)


@pytest.fixture
def teacher():
    return logits(2, seed=2)


@pytest.fixture
def center():
    return logits(1, seed=3)[:1]


def softmax(row):
    return np.exp(row) / np.exp(row).sum()


def test_loss_is_the_cross_entropy_over_pairs_of_views_written_out_in_loops(student, teacher, center):
    z_s, z_t, c = student.numpy(), teacher.numpy(), center.numpy()[0]
    entropies = []
    for image in range(IMAGES):
        for i in range(2):
            for j in range(VIEWS):
                if i != j:
                    p = softmax((z_t[i * IMAGES + image] - c) / 0.05)
                    q = softmax(z_s[j * IMAGES + image] / 0.2)
                    entropies.append(-sum(p[k] * math.log(q[k]) for k in range(K)))
    assert len(entropies) == IMAGES * 2 * (VIEWS - 1)
    assert float(dino_loss(student, teacher, center, 0.2, 0.05)) == pytest.approx(np.mean(entropies), rel=1e-12)


def test_loss_vanishes_where_both_are_sure_of_the_same_and_is_the_margin_where_they_are_not():
    sure, other = 30 * torch.eye(K)[[2] * VIEWS * IMAGES], 30 * torch.eye(K)[[3] * VIEWS * IMAGES]
    nowhere = torch.zeros(1, K)
    assert float(dino_loss(sure, sure[: 2 * IMAGES], nowhere, 0.1, 0.1)) == pytest.approx(0, abs=1e-6)
    assert float(dino_loss(other, sure[: 2 * IMAGES], nowhere, 0.1, 0.1)) == pytest.approx(300)


def test_loss_of_even_distributions_is_the_logarithm_of_their_size():
    even = torch.full((VIEWS * IMAGES, K), 3.0)
    assert float(dino_loss(even, even[: 2 * IMAGES], torch.zeros(1, K), 0.1, 0.04)) == pytest.approx(math.log(K))


def test_a_view_is_not_compared_with_itself():
    """Two global views alone, of which each answers what the teacher says of the other, or of itself."""
    ones, twos = 50 * torch.eye(K)[[1] * IMAGES], 50 * torch.eye(K)[[2] * IMAGES]
    swapped = dino_loss(torch.cat([twos, ones]), torch.cat([ones, twos]), torch.zeros(1, K), 0.1, 0.1)
    alike = dino_loss(torch.cat([ones, twos]), torch.cat([ones, twos]), torch.zeros(1, K), 0.1, 0.1)
    assert [float(swapped), float(alike)] == pytest.approx([0, 500], abs=1e-6)


def test_loss_does_not_ask_for_the_order_of_images_or_of_local_views(student, teacher, center):
    order = [4, 0, 3, 1, 2]
    by_view = student.reshape(VIEWS, IMAGES, K)
    shuffled = by_view[[0, 1, 3, 2]][:, order].flatten(0, 1), teacher.reshape(2, IMAGES, K)[:, order].flatten(0, 1)
    loss = dino_loss(student, teacher, center, 0.1, 0.04)
    assert_close(dino_loss(*shuffled, center, 0.1, 0.04), loss)
    by_another_image = by_view[:, order].flatten(0, 1)
    assert abs(dino_loss(by_another_image, teacher, center, 0.1, 0.04) - loss) > 0.01


def test_gradient_reaches_the_student_alone_and_is_the_difference_of_probabilities(student, teacher, center):
    student.requires_grad_()
    teacher.requires_grad_()
    dino_loss(student, teacher, center, 0.2, 0.05).backward()
    assert teacher.grad is None
    q = (student.detach() / 0.2).softmax(dim=1).reshape(VIEWS, IMAGES, K)
    p = ((teacher.detach() - center) / 0.05).softmax(dim=1).reshape(2, IMAGES, K)
    teachers = [p[1:], p[:1], p, p]  # of each of the student's views
    expected = torch.stack([(q[j] - each).sum(dim=0) for j, each in enumerate(teachers)]) / 0.2 / (2 * (VIEWS - 1) * IMAGES)
    assert_close(student.grad, expected.flatten(0, 1))


def test_loss_sees_only_differences_among_logits_and_of_logits_to_the_centre(student, teacher, center):
    loss = dino_loss(student, teacher, center, 0.1, 0.04)
    assert_close(dino_loss(student + 5, teacher - 3, center, 0.1, 0.04), loss)
    along = logits(1, seed=4)[:1]
    assert_close(dino_loss(student, teacher + along, center + along, 0.1, 0.04), loss)
    assert abs(dino_loss(student, teacher + along, center, 0.1, 0.04) - loss) > 0.01


def test_loss_is_at_least_the_teachers_entropy_which_falls_with_its_temperature(teacher):
    """A student of the teacher's own distribution, over views that all look alike, reaches the entropy."""
    teacher = teacher[:IMAGES].repeat(2, 1)
    losses = [float(dino_loss(teacher.repeat(2, 1), teacher, torch.zeros(1, K), t, t)) for t in (0.2, 0.5, 1.0, 5.0)]
    entropies = [np.mean([-(p * np.log(p)).sum() for p in map(softmax, teacher.numpy() / t)]) for t in (0.2, 0.5, 1.0, 5.0)]
    assert losses == pytest.approx(entropies, rel=1e-9)
    assert losses == sorted(losses) and losses[0] < losses[-1] / 2
    assert float(dino_loss(logits(4, seed=5), teacher, torch.zeros(1, K), 0.5, 0.5)) > losses[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_logits_count_as_the_float32_they_stand_for(dtype):
    """In half precision itself a division by 0.04 would lose three digits."""
    student, teacher, center = logits(VIEWS, seed=1).to(dtype), logits(2, seed=2).to(dtype), logits(1, seed=3)[:1].float()
    assert torch.equal(dino_loss(student, teacher, center, 0.1, 0.04), dino_loss(student.float(), teacher.float(), center, 0.1, 0.04))
    assert torch.equal(moved_center(center, teacher, 0.9), moved_center(center, teacher.float(), 0.9))
    assert moved_center(center, teacher, 0.9).dtype == torch.float32


def test_centre_after_several_steps_is_a_geometric_series_of_the_means(center):
    steps = [logits(2, seed) for seed in range(10, 16)]
    moved = center
    for step in steps:
        moved = moved_center(moved, step, 0.8)
    means = [step.numpy().mean(axis=0) for step in steps]
    expected = 0.8**6 * center.numpy()[0] + 0.2 * sum(0.8 ** (5 - n) * mean for n, mean in enumerate(means))
    np.testing.assert_allclose(moved.numpy()[0], expected, rtol=1e-12)
    assert moved.shape == (1, K)


def linear(seed):
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=generator)
    return module


def test_a_teacher_that_follows_a_resting_student_nears_it_geometrically():
    teacher, pupil, start = linear(1), linear(2), linear(1)
    for _ in range(10):
        follow(teacher, pupil, 0.9)
    assert len(list(teacher.parameters())) == 4
    for moved, target, before in zip(teacher.parameters(), pupil.parameters(), start.parameters(), strict=True):
        assert_close(moved, target + 0.9**10 * (before - target))


@pytest.mark.parametrize(("momentum", "seed"), [(1.0, 1), (0.0, 2)], ids=["stays", "copies"])
def test_at_momentum_one_the_teacher_stays_and_at_zero_it_is_the_student(momentum, seed):
    teacher, pupil = linear(1), linear(2)
    follow(teacher, pupil, momentum)
    for moved, expected in zip(teacher.parameters(), linear(seed).parameters(), strict=True):
        assert torch.equal(moved, expected)
    for untouched, target in zip(pupil.parameters(), linear(2).parameters(), strict=True):
        assert torch.equal(untouched, target)


def test_following_leaves_no_graph_behind():
    teacher, pupil = linear(1), linear(2)
    follow(teacher, pupil, 0.5)
    assert all(parameter.is_leaf and parameter.grad_fn is None for parameter in (*teacher.parameters(), *pupil.parameters()))


@pytest.mark.parametrize(
    ("progress", "value"), [(0, 0.996), (1 / 4, 1 - 0.004 * (1 + math.sqrt(1 / 2)) / 2), (1 / 3, 0.997), (1 / 2, 0.998), (1, 1.0)]
)
def test_cosine_schedule_runs_along_half_a_wave(progress, value):
    assert cosine(0.996, 1.0, progress) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("progress", "value"), [(0, 0.04), (0.1, 0.05), (0.15, 0.055), (0.3, 0.07), (0.31, 0.07), (1, 0.07)])
def test_warmed_up_values_rise_in_a_line_and_stay(progress, value):
    assert warmed_up(0.04, 0.07, progress, 0.3) == pytest.approx(value, rel=1e-12)


def test_without_a_warmup_the_end_is_there_at_once():
    assert warmed_up(0.04, 0.07, 0.0, 0.0) == 0.07


def head(prototypes=9):
    torch.manual_seed(0)
    return ProjectionHead(8, 16, 6, prototypes)


@torch.no_grad()
def test_logits_are_the_cosines_of_bottleneck_and_prototypes():
    projection, features = head(), 3 * torch.randn(5, 8)
    bottleneck = projection.mlp(features)
    rows = projection.last.weight
    expected = [[float(b @ row / (b.norm() * row.norm())) for row in rows] for b in bottleneck]
    given = projection(features)
    assert_close(given, torch.tensor(expected))
    assert given.abs().max() <= 1 + 1e-6 and given.abs().max() > 0.5


def test_logits_do_not_ask_for_the_norm_of_a_prototype_but_for_its_direction():
    projection, features = head(), torch.randn(5, 8)
    before = projection(features)
    with torch.no_grad():
        projection.last.weight *= torch.linspace(0.1, 10, 9)[:, None]
    assert_close(projection(features), before)
    with torch.no_grad():
        projection.last.weight[0] *= -1
    assert_close(projection(features)[:, 0], -before[:, 0])


def test_gradient_of_a_prototype_is_at_right_angles_to_it():
    projection = head()
    projection(torch.randn(5, 8)).square().sum().backward()
    weight = projection.last.weight
    assert weight.grad.norm(dim=1).min() > 1e-3
    assert ((weight * weight.grad).sum(dim=1) / (weight.norm(dim=1) * weight.grad.norm(dim=1))).abs().max() < 1e-5


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"patch_size": 4, "in_chans": 1, "num_classes": 0, "embed_dim": 8, "depth": 2, "num_heads": 2}
    backbone = VisionTransformer(img_size=8, dynamic_img_size=True, proj_drop_rate=0.5, **sizes)
    return SelfDistillation(backbone, head(), student_temp=0.1, center_momentum=0.9)


@pytest.fixture
def views():
    return torch.randn(2 * 3, 1, 8, 8), torch.randn(4 * 3, 1, 4, 4)


def test_loss_of_the_model_is_that_of_its_parts_and_the_centre_moves_after_it(model, views):
    model.eval()
    with torch.no_grad():
        model.center += torch.randn(1, 9)
        before = model.center.clone()
        taught = model.teacher(views[0])
        expected = dino_loss(torch.cat([model.student(views[0]), model.student(views[1])]), taught, before, 0.1, 0.04)
        assert_close(model(*views, 0.04), expected)
    assert_close(model.center, 0.9 * before + 0.1 * taught.mean(dim=0))
    assert "center" in model.state_dict()


def test_teacher_starts_as_a_copy_of_the_student_that_shares_nothing_with_it(model):
    pairs = list(zip(model.teacher.named_parameters(), model.student.named_parameters(), strict=True))
    assert len(pairs) > 10
    for (name, theirs), (same, ours) in pairs:
        assert name == same and torch.equal(theirs, ours) and theirs.data_ptr() != ours.data_ptr()


def test_gradient_reaches_every_parameter_of_the_student_and_none_of_the_teacher(model, views):
    model.train()(*views, 0.04).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.student.parameters())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.teacher.parameters())
    assert not model.center.requires_grad


def test_teacher_stays_in_eval_mode(model, views):
    assert model.train() is model
    assert model.student.training and not any(module.training for module in model.teacher.modules())
    assert not torch.equal(model.student(views[0]), model.student(views[0]))
    assert torch.equal(model.teacher(views[0]), model.teacher(views[0]))
    assert not any(module.training for module in model.eval().modules())


def test_a_frozen_last_layer_stays_to_the_bit_under_weight_decay_while_all_else_moves(model, views):
    last = model.student[1].last.weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    last.requires_grad_(False)
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(*views, 0.04).backward()
        optimizer.step()
    same = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert same == {"student.1.last.weight"} | {name for name in before if name.startswith("teacher.")}
    last.requires_grad_(True)
    optimizer.zero_grad()
    model(*views, 0.04).backward()
    optimizer.step()
    assert not torch.equal(last, before["student.1.last.weight"])
