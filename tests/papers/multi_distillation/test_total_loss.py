"""Multi-distillation's total loss: invariants 6 and 10 of its method sheet, and the sum of its terms by hand."""

import pytest
import torch
from torch.testing import assert_close

from tests.methods.distillation.support import LOSSES, byot, loss_by_hand, points
from vitlib.methods.distillation.exits import Outputs
from vitlib.papers.multi_distillation.search.space import Weights
from vitlib.papers.multi_distillation.specs import Objective
from vitlib.papers.multi_distillation.training.objective import GROUPS, Knowledge, deepest, loss_terms

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
def test_invariant_6_the_deepest_classifier_is_taught_by_labels_alone(term):
    network = byot().train()
    own = network(torch.randn(4, 3, 32, 32))
    terms = loss_terms(own, deepest(own), dense(4, 10), Objective(weights=WEIGHTS), ("skd",))
    names, parameters = zip(*network.named_parameters(), strict=True)
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
