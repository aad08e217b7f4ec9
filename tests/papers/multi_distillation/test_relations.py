"""The losses of multi-distillation: invariants 1-8, 10, 11 and 14 of its method sheet, by number, the traps of relations, the total."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vitlib.inputs.models import ResNet, Vit, build
from vitlib.methods.distillation.exits import Outputs, with_exits
from vitlib.methods.distillation.relations import angle_cosines, angle_relation_loss, distance_relation_loss, normalised_distances
from vitlib.methods.distillation.self_distillation import hint_loss, soft_target_loss
from vitlib.papers.multi_distillation.search.space import Weights
from vitlib.papers.multi_distillation.specs import Objective
from vitlib.papers.multi_distillation.training.objective import GROUPS, Knowledge, deepest, loss_terms

LOSSES = [distance_relation_loss, angle_relation_loss]
LINE = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]
CORNER = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]


def points(count=7, width=5, seed=1, dtype=torch.float64):
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def smooth(difference, threshold):
    size = abs(difference)
    return size**2 / (2 * threshold) if size < threshold else size - threshold / 2


def distances_by_hand(rows):
    """All pairwise distances in loops, divided by the mean over pairs that are apart."""
    found = np.array([[math.dist(one, other) for other in rows] for one in rows])
    return found / found[found > 0].mean()


def cosines_by_hand(rows):
    """Cosine of the angle j-i-k for every triple, in loops; zero where j or k is i."""
    rows, count = np.array(rows), len(rows)
    found = np.zeros((count, count, count))
    for i, j, k in itertools.product(range(count), repeat=3):
        if j != i != k:
            to_j, to_k = rows[j] - rows[i], rows[k] - rows[i]
            found[i, j, k] = to_j @ to_k / (np.linalg.norm(to_j) * np.linalg.norm(to_k))
    return found


BY_HAND = {distance_relation_loss: distances_by_hand, angle_relation_loss: cosines_by_hand}


def loss_by_hand(loss, student, teacher, threshold):
    own, wanted = (BY_HAND[loss](rows.tolist()) for rows in (student, teacher))
    return np.mean([smooth(difference, threshold) for difference in (own - wanted).flat])


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


# ------------------------------------------------------------------------------------------------ exits taught by the deepest end


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_invariant_8_soft_targets_are_the_divergence_plus_the_entropy_of_the_deepest(temperature):
    exit_logits, deepest = (2 * points(6, 4, seed=seed) for seed in (1, 2))
    p, q = (logits.div(temperature).softmax(-1).tolist() for logits in (deepest, exit_logits))
    crossed = [-sum(a * math.log(b) for a, b in zip(*rows, strict=True)) for rows in zip(p, q, strict=True)]
    found = float(soft_target_loss(exit_logits, deepest, temperature))
    assert found == pytest.approx(temperature**2 * np.mean(crossed), rel=1e-12)
    entropy = np.mean([-sum(a * math.log(a) for a in row) for row in p])
    divergence = F.kl_div(exit_logits.div(temperature).log_softmax(-1), deepest.div(temperature).softmax(-1), reduction="batchmean")
    assert found / temperature**2 - float(divergence) == pytest.approx(entropy, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_invariant_8_the_gradient_is_that_of_the_divergence(temperature):
    """T (softmax(z / T) - p^T) / B by image and class, and none for the deepest."""
    exit_logits, deepest = (points(6, 4, seed=seed).requires_grad_() for seed in (1, 2))
    soft_target_loss(exit_logits, deepest, temperature).backward()
    q, p = (logits.detach().div(temperature).softmax(-1) for logits in (exit_logits, deepest))
    assert_close(exit_logits.grad, temperature * (q - p) / 6, rtol=1e-12, atol=1e-15)
    assert deepest.grad is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_invariant_7_hints_leave_out_what_is_positive_on_neither_side(reduction):
    features, deepest = points(6, 5), points(6, 5, seed=2)
    pairs = list(zip(features.flatten().tolist(), deepest.flatten().tolist(), strict=True))
    kept = [(f - g) ** 2 for f, g in pairs if f > 0 or g > 0]
    assert 0 < len(kept) < len(pairs)
    expected = sum(kept) / (1 if reduction == "sum" else len(pairs))
    assert float(hint_loss(features, deepest, reduction)) == pytest.approx(expected, rel=1e-12)
    assert float(hint_loss(features, features, reduction)) == 0
    assert float(hint_loss(-features.abs(), -deepest.abs(), reduction)) == 0


def test_invariant_7_the_sum_is_128_x_512_times_the_mean_of_a_batch_of_128():
    features, deepest = points(128, 512).relu(), points(128, 512, seed=2).relu()
    ratio = float(hint_loss(features, deepest, "sum") / hint_loss(features, deepest, "mean"))
    assert ratio == pytest.approx(128 * 512, rel=1e-12)
    assert round(1e-6 * ratio, 3) == 0.066  # the prior-work row's i


def test_invariant_7_hints_move_the_exit_alone():
    features, deepest = points(6, 5).requires_grad_(), points(6, 5, seed=2).requires_grad_()
    hint_loss(features, deepest, "sum").backward()
    masked = (features <= 0) & (deepest <= 0)
    assert deepest.grad is None and not features.grad[masked].any() and features.grad[~masked].all()


def test_hints_of_half_precision_are_summed_in_single():
    """Their squares, up to 1e8 here, are beyond float16."""
    features, deepest = 3000 * points(64, 64, dtype=torch.float16), points(64, 64, seed=2, dtype=torch.float16)
    found = hint_loss(features, deepest, "sum")
    assert found.dtype == torch.float32 and torch.equal(found, hint_loss(features.float(), deepest.float(), "sum"))
    assert torch.isfinite(found)


# ------------------------------------------------------------------------------------------------ networks with exits


@pytest.fixture(scope="module")
def byot():
    """BYOT's widths, one block a stage."""
    return with_exits(build(ResNet(width=64, blocks=(1, 1, 1, 1)), image_size=32, channels=3, num_classes=10))


@torch.no_grad()
def test_invariant_14_the_branches_end_in_maps_of_four_by_four_and_512_features(byot):
    maps = []
    hooks = [branch.register_forward_hook(lambda module, given, found: maps.append((given[0].shape[2], found))) for branch in byot.branches]
    outputs = byot.eval()(torch.randn(2, 3, 32, 32))
    assert [side for side, _ in maps] == [32, 16, 8]
    assert [tuple(found.shape) for _, found in maps] == [(2, 512, 4, 4)] * 3
    for feature, (_, found) in zip(outputs.features, maps, strict=False):
        assert_close(feature, found.mean(dim=(2, 3)))
    assert [tuple(feature.shape) for feature in outputs.features] == [(2, 512)] * 4
    assert [tuple(logits.shape) for logits in outputs.logits] == [(2, 10)] * 4
    for hook in hooks:
        hook.remove()


def test_invariant_14_branches_are_those_of_byot_to_the_parameter(byot):
    """1 x 1 to 128, k x k with stride k, 1 x 1 to 512, none with a bias, each followed by batch norm; then a linear classifier."""
    for branch, classifier, k, channels in zip(byot.branches, byot.classifiers, (8, 4, 2), (64, 128, 256), strict=True):
        assert sum(p.numel() for p in branch.parameters()) == channels * 128 + 128 * 128 * k * k + 128 * 512 + 2 * (128 + 128 + 512)
        assert sum(p.numel() for p in classifier.parameters()) == 513 * 10
        assert [module.stride for module in branch if hasattr(module, "stride")] == [(1, 1), (k, k), (1, 1)]


@pytest.mark.parametrize(
    "model", [ResNet(width=4, blocks=(1, 2, 1, 1)), Vit(embed_dim=12, depth=12, num_heads=3, patch_size=4)], ids=["resnet", "vit"]
)
@torch.no_grad()
def test_invariant_14_the_deepest_logits_are_those_of_the_backbone_as_it_was(model):
    backbone = build(model, image_size=8, channels=1, num_classes=7).eval()
    images = torch.randn(5, 1, 8, 8)
    before = backbone(images)
    network = with_exits(backbone).eval()
    outputs = network(images)
    assert torch.equal(outputs.logits[-1], before) and torch.equal(network.backbone(images), before)
    assert_close(backbone.get_classifier()(outputs.features[-1]), before)
    assert len(outputs.logits) == len(outputs.features) == 4
    assert {tuple(logits.shape) for logits in outputs.logits} == {(5, 7)}
    assert {tuple(feature.shape) for feature in outputs.features} == {(5, backbone.num_features)}


@pytest.mark.parametrize(("depth", "after"), [(12, (3, 6, 9)), (8, (2, 4, 6)), (4, (1, 2, 3))])
@torch.no_grad()
def test_invariant_14_exits_of_a_transformer_read_the_class_token_after_blocks_3_6_and_9_of_12(depth, after):
    backbone = build(Vit(embed_dim=12, depth=depth, num_heads=3, patch_size=4), image_size=8, channels=1, num_classes=7)
    network, tokens = with_exits(backbone).eval(), []
    for block in backbone.blocks:
        block.register_forward_hook(lambda module, given, found: tokens.append(found))
    outputs = network(torch.randn(5, 1, 8, 8))
    for place, (number, norm, classifier) in enumerate(zip(after, network.norms, network.classifiers, strict=True)):
        token = tokens[number - 1][:, 0]
        expected = (token - token.mean(1, keepdim=True)) / (token.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        assert_close(outputs.features[place], expected, rtol=1e-4, atol=1e-5)
        assert_close(outputs.logits[place], expected @ classifier.weight.T + classifier.bias, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------ the total loss

WEIGHTS = Weights(a=0.3, b=0.7, c=0.9, d=25.0, e=50.0, f=0.5, g=0.2, h=0.4, i=0.6)
READINGS = ["threshold", "multiplicative", "trade-off", "ctsl"]


def ends(seed=1, batch=6, classes=4, width=5):
    """Logits and features of four ends, as leaves."""
    logits, features = ([points(batch, size, seed=10 * seed + end).requires_grad_() for end in range(4)] for size in (classes, width))
    return Outputs(logits, features)


def dense(batch=6, classes=4):
    """Targets as mixup makes them."""
    return points(batch, classes, seed=99, dtype=torch.float32).softmax(-1)


def crossed(targets, logits, temperature=1.0):
    """-mean_b sum_c t log softmax(z / T)."""
    scaled = logits.detach().double() / temperature
    return float(-(targets.double() * (scaled - scaled.logsumexp(-1, keepdim=True))).sum(-1).mean())


def divergence(teacher, student, temperature=1.0):
    wanted = (teacher.detach().double() / temperature).softmax(-1)
    return temperature**2 * (crossed(wanted, student, temperature) + float((wanted * wanted.log()).sum(-1).mean()))


def total_by_hand(own, taught, targets, objective):
    """a kd + b rkd + c skd as in sections 2.1 to 2.4, a term at a time."""
    w, temperature = objective.weights, objective.exit_temperature
    kl = divergence(taught.logits, own.logits[-1], objective.kd_temperature)
    kd = crossed(targets, own.logits[-1]) * ("ce" in objective.kd) + kl * ("kl" in objective.kd)
    student, teacher = own.features[-1].detach(), taught.features.detach()
    distance, angle = ([loss_by_hand(loss, student, teacher, threshold) for threshold in (w.f, w.g, 1.0)] for loss in LOSSES)
    rkd = {
        "threshold": w.d * distance[0] + w.e * angle[1],
        "multiplicative": w.d * w.f * distance[2] + w.e * w.g * angle[2],
        "trade-off": w.f * (w.d * distance[2] + w.e * angle[2]),
        "ctsl": w.d * distance[2] + w.f * w.e * angle[2] + w.g * kl,
    }[objective.relation_reading]
    labels = sum(crossed(targets, logits) for logits in own.logits)
    softened = (own.logits[3].detach() / temperature).softmax(-1)
    soft = sum(temperature**2 * crossed(softened, logits, temperature) for logits in own.logits[:3])
    f_4 = own.features[3].detach()
    hints = [((f - f_4) ** 2)[(f > 0) | (f_4 > 0)].sum() for f in (features.detach() for features in own.features[:3])]
    hint = float(sum(hints)) / (1 if objective.hint_reduction == "sum" else f_4.numel())
    skd = (1 - w.h if objective.exit_form == "convex" else 1) * labels + w.h * soft + w.i * hint
    return objective.scale * (w.a * kd + w.b * rkd + w.c * skd)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        *({"relation_reading": reading} for reading in READINGS[1:]),
        {"exit_form": "convex"},
        {"hint_reduction": "sum"},
        {"kd": "ce"},
        {"kd": "kl"},
        {"kd_temperature": 4.0, "exit_temperature": 1.5, "scale": 2.5},
        {"kd_temperature": 4.0, "relation_reading": "ctsl", "exit_form": "convex", "scale": 0.1},
    ],
    ids=lambda fields: ", ".join(map(str, fields.values())) or "default",
)
def test_the_terms_add_up_to_the_documents_total(fields):
    own, taught, objective = ends(), deepest(ends(2)), Objective(weights=WEIGHTS, **fields)
    terms = loss_terms(own, taught, dense(), objective)
    assert float(sum(terms.values()).detach()) == pytest.approx(total_by_hand(own, taught, dense(), objective), rel=1e-6)
    assert len(terms) == 7 - ("kd" in fields) + (fields.get("relation_reading") == "ctsl")


@pytest.mark.parametrize("letter", Weights.model_fields)
@pytest.mark.parametrize("reading", READINGS)
def test_each_weight_moves_its_own_terms_alone(letter, reading):
    moved = {"a": {"CE", "KL"}, "c": {"exits CE", "exits soft", "exits hint"}, "d": {"distance"}, "e": {"angle"}}
    moved |= {"b": {"distance", "angle"} | ({"relation KL"} if reading == "ctsl" else set()), "h": {"exits soft"}, "i": {"exits hint"}}
    moved["f"] = {"threshold": {"distance"}, "multiplicative": {"distance"}, "trade-off": {"distance", "angle"}, "ctsl": {"angle"}}[reading]
    moved["g"] = {"threshold": {"angle"}, "multiplicative": {"angle"}, "trade-off": set(), "ctsl": {"relation KL"}}[reading]
    own, taught, objective = ends(), deepest(ends(2)), Objective(weights=WEIGHTS, relation_reading=reading)
    other = objective.weighted(WEIGHTS.changed(**{letter: 2 * getattr(WEIGHTS, letter)}))
    before, after = (loss_terms(own, taught, dense(), each) for each in (objective, other))
    assert {name for name in before if not torch.equal(before[name], after[name])} == moved[letter]
    for name in moved[letter]:
        if not (letter in "fg" and reading == "threshold"):
            assert_close(after[name], 2 * before[name], rtol=1e-6, atol=0)


@pytest.mark.parametrize("group", GROUPS)
def test_a_loss_of_weight_zero_is_left_out_and_a_group_is_its_part_of_the_total(group):
    own, taught, objective = ends(), deepest(ends(2)), Objective(weights=WEIGHTS)
    alone, all_terms = (loss_terms(own, taught, dense(), objective, groups) for groups in ((group,), tuple(GROUPS)))
    assert alone == {name: term for name, term in all_terms.items() if name in alone} and alone
    letter = {"kd": "a", "rkd": "b", "skd": "c"}[group]
    left = loss_terms(own, taught, dense(), objective.weighted(WEIGHTS.changed(**{letter: 0.0})))
    assert left == {name: term for name, term in all_terms.items() if name not in alone}


def test_invariant_6_without_h_and_i_skd_is_the_sum_of_four_cross_entropies():
    own, objective = ends(), Objective(weights=WEIGHTS.changed(c=1.0, h=0.0, i=0.0))
    for form in ("additive", "convex"):
        terms = loss_terms(own, deepest(ends(2)), dense(), objective.changed(exit_form=form), ("skd",))
        expected = sum(crossed(dense(), logits) for logits in own.logits)
        assert float(sum(terms.values()).detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("term", ["exits soft", "exits hint"])
def test_invariant_6_the_deepest_classifier_is_taught_by_labels_alone(byot, term):
    own = byot.train()(torch.randn(4, 3, 32, 32))
    terms = loss_terms(own, deepest(own), dense(4, 10), Objective(weights=WEIGHTS), ("skd",))
    names, parameters = zip(*byot.named_parameters(), strict=True)
    for name, deep in ((term, False), ("exits CE", True)):
        gradients = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
        moved = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None and gradient.any()}
        assert {"branches.0.0.weight", "branches.2.0.weight", "backbone.layer1.0.bn2.weight", "backbone.conv1.weight"} <= moved
        assert any(name.startswith(("backbone.layer4", "backbone.fc")) for name in moved) == deep


def test_peers_are_taught_by_detached_outputs():
    own, other = ends(), ends(2)
    sum(loss_terms(own, deepest(other), dense(), Objective(weights=WEIGHTS, relation_reading="ctsl")).values()).backward()
    assert all(leaf.grad is None for leaf in (*other.logits, *other.features))
    assert all(leaf.grad.any() for leaf in (*own.logits, *own.features))


@pytest.mark.parametrize(("reading", "equal"), [("multiplicative", True), ("threshold", False), ("ctsl", False)])
def test_invariant_10_d_and_f_are_one_factor_in_the_multiplicative_reading_alone(reading, equal):
    own, taught = ends(), deepest(ends(2))
    found = [
        loss_terms(own, taught, dense(), Objective(weights=WEIGHTS.changed(d=d, f=f), relation_reading=reading), ("rkd",))["distance"]
        for d, f in ((50.0, 0.5), (25.0, 1.0))
    ]
    assert (float(found[0].detach()) == pytest.approx(float(found[1].detach()), rel=1e-12)) == equal


def test_terms_of_half_precision_outputs_are_single():
    halves = [Outputs(*([leaf.detach().bfloat16() for leaf in part] for part in ends(seed))) for seed in (1, 2)]
    whole = [Outputs(*([leaf.float() for leaf in part] for part in half)) for half in halves]
    objective = Objective(weights=WEIGHTS, relation_reading="ctsl")
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_terms(halves[0], Knowledge(halves[1].logits[-1], halves[1].features[-1]), dense(), objective)
    for name, expected in loss_terms(whole[0], deepest(whole[1]), dense(), objective).items():
        assert found[name].dtype == torch.float32 and torch.equal(found[name], expected), name
