"""Relations between images: invariants 1-5 and 11 of multi-distillation's method sheet, by number, and the traps of relations."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.methods.distillation.support import BY_HAND, LOSSES, distances_by_hand, loss_by_hand, points
from vitlib.methods.distillation.relations import angle_cosines, angle_relation_loss, distance_relation_loss, normalised_distances

LINE = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
CORNER = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]


# ------------------------------------------------------------------------------------------------ relations


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0])
def test_relations_are_those_of_loops_over_pairs_and_triples(loss, threshold):
    student, teacher = points(width=4), points(seed=2, width=6)
    assert float(loss(student, teacher, threshold)) == pytest.approx(loss_by_hand(loss, student, teacher, threshold), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_invariant_1_a_scaled_rotated_and_shifted_teacher_costs_nothing(loss, scale):
    teacher = points()
    rotation = torch.linalg.qr(points(5, 5, seed=3))[0]
    assert float(loss(scale * (teacher @ rotation + points(1, seed=4)), teacher)) < 1e-28
    assert float(loss(teacher * torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0]), teacher)) > 1e-4


def test_invariant_1_the_students_mean_is_not_detached_so_its_scale_gets_no_gradient():
    student = points().requires_grad_()
    (gradient,) = torch.autograd.grad(distance_relation_loss(student, points(seed=2)), student)
    assert float((gradient * student).sum().detach()) == pytest.approx(0, abs=1e-15)
    assert float(gradient.abs().max()) > 1e-3


def test_invariant_2_three_points():
    student, teacher = torch.tensor(CORNER, dtype=torch.float64), torch.tensor(LINE, dtype=torch.float64)
    assert float(distance_relation_loss(student, teacher)) == pytest.approx(0.0716991411, abs=1e-10)
    assert float(angle_relation_loss(student, teacher)) == pytest.approx(7 / 54, rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("width", [1, 3, 40])
def test_invariant_3_widths_may_differ_and_added_zeros_change_nothing(loss, width):
    student, teacher = points(width=3), points(width=width, seed=2)
    padded = F.pad(teacher, (0, 9))
    assert float(loss(student, padded)) == pytest.approx(float(loss(student, teacher)), rel=1e-12)


def test_invariant_4_the_mean_of_the_distances_that_are_not_zero_is_one():
    found = normalised_distances(points())
    assert float(found[~torch.eye(7, dtype=torch.bool)].mean()) == pytest.approx(1, rel=1e-14)
    assert not found.diagonal().any() and torch.equal(found, found.T)


@pytest.mark.parametrize("seed", range(3))
def test_invariant_4_two_images_have_one_relation_and_nothing_to_learn(seed):
    student = points(2, seed=seed).requires_grad_()
    for loss in LOSSES:
        found = loss(student, points(2, seed=seed + 9))
        assert float(found.detach()) == pytest.approx(0, abs=1e-28)
        assert not torch.autograd.grad(found, student)[0].abs().gt(1e-12).any()


def test_invariant_4_the_mean_is_over_the_diagonal_too():
    """Without it the loss is B / (B - 1) times as large."""
    student, teacher = points(), points(seed=2)
    apart = ~torch.eye(7, dtype=torch.bool)
    own, wanted = (torch.from_numpy(distances_by_hand(rows.tolist()))[apart] for rows in (student, teacher))
    assert float(F.smooth_l1_loss(own, wanted)) == pytest.approx(7 / 6 * float(distance_relation_loss(student, teacher)), rel=1e-12)


def test_invariant_5_an_angle_with_itself_has_cosine_one_and_never_contributes():
    one, other = angle_cosines(points()), angle_cosines(points(seed=2))
    for i, j in itertools.product(range(7), repeat=2):
        assert float(one[i, j, j]) == pytest.approx(float(i != j), abs=1e-14)
        assert float((one - other)[i, j, j]) == pytest.approx(0, abs=1e-14)
        assert not one[i, i].any() and not one[i, :, i].any()


def test_invariant_5_points_on_a_line_have_cosines_of_plus_and_minus_one():
    line = torch.tensor([0.0, 1.0, 2.5, 7.0], dtype=torch.float64)[:, None] * points(1)
    found = angle_cosines(line)
    for i, j, k in itertools.product(range(4), repeat=3):
        sign = 0 if i in (j, k) else 1 if (j > i) == (k > i) else -1
        assert float(found[i, j, k]) == pytest.approx(sign, abs=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("threshold", [0.1, 0.3, 1.0])
def test_invariant_11_huber_is_threshold_times_smooth_l1(loss, threshold):
    student, teacher = points(), points(seed=2)
    own, wanted = (torch.from_numpy(BY_HAND[loss](rows.tolist())) for rows in (student, teacher))
    huber = float(F.huber_loss(own, wanted, delta=threshold))
    assert float(loss(student, teacher, threshold)) == pytest.approx(huber / threshold, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_gradient_reaches_the_teacher(loss):
    student, teacher = points().requires_grad_(), points(seed=2).requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_finite_differences(loss):
    teacher = points(5, 3, seed=2)
    assert torch.autograd.gradcheck(lambda student: loss(student, teacher, 0.3), points(5, 3).requires_grad_())


# ------------------------------------------------------------------------------------------------ traps


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("apart", [0.0, 1e-12, 1e-9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repeated_images_have_a_small_gradient(loss, apart, dtype):
    """Normalising a difference of zero by max(norm, 1e-12) gives 1e9 and more."""
    student = points(dtype=dtype)
    student[3] = student[1] + apart
    student.requires_grad_()
    found = loss(student, points(seed=2, dtype=dtype))
    found.backward()
    assert torch.isfinite(found.detach()) and torch.isfinite(student.grad).all() and 0 < float(student.grad.abs().max()) < 1


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_equal_images_and_one_of_dead_features_have_no_gradient(loss):
    for rows in (torch.zeros(4, 5), points(1, dtype=torch.float32).repeat(4, 1)):
        student = rows.clone().requires_grad_()
        found = loss(student, points(4, seed=2, dtype=torch.float32))
        found.backward()
        assert torch.isfinite(found.detach()) and not student.grad.any()
        assert torch.isfinite(loss(points(4), rows))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_repeated_image_has_no_direction_to_itself(loss):
    student = points()
    student[3] = student[1]
    with np.errstate(invalid="ignore"):  # 0 / 0
        expected = np.nan_to_num(BY_HAND[loss](student.tolist()))
    found = (normalised_distances if loss is distance_relation_loss else angle_cosines)(student)
    assert_close(found, torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single_under_autocast_too(loss, dtype):
    student, teacher = points(dtype=dtype), points(seed=2, dtype=dtype)
    expected = loss(student.float(), teacher.float())
    with torch.autocast("cpu", torch.bfloat16):
        for given in ((student, teacher), (student.float(), teacher.float()), (student.float(), teacher)):
            found = loss(*given)
            assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("offset", [1e3, -1e4])
def test_features_far_from_the_origin_lose_nothing_beyond_their_own_rounding(loss, offset):
    student, teacher = points(30, 12, dtype=torch.float32) + offset, points(30, 12, seed=2, dtype=torch.float32) + offset
    assert float(loss(student, teacher)) == pytest.approx(float(loss(student.double(), teacher.double())), rel=1e-5)
