"""Runs at an equal step: the first gradient is as long as that of cross-entropy."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.papers.multi_distillation.support import (
    DIGITS,
    NETWORK,
    NOTHING,
    ONE_STEP,
    SPEC,
    TEACHER,
    TRANSFORMER,
    WEIGHTS,
    computed,
    taught_by,
)
from tests.support import assert_same_arrays, assert_same_result
from vitlib.inputs.data import training_batches
from vitlib.inputs.models import build, weights_of
from vitlib.papers.multi_distillation.specs import Objective
from vitlib.papers.multi_distillation.training import networks as compute
from vitlib.papers.multi_distillation.training.curriculum import Losses
from vitlib.papers.multi_distillation.training.step import at_equal_step


def length(loss, network):
    """Of a gradient over all parameters, by autograd's own accumulation."""
    network.zero_grad()
    loss.backward()
    return float(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).double().norm())


EQUAL = {
    "all terms": {},
    "without exits": {"objective": Objective(weights=WEIGHTS.changed(c=0.0))},
    "scaled before": {"objective": Objective(weights=WEIGHTS, scale=7.0)},
    "transformers": {"model": TRANSFORMER},
    "a teacher": {"teacher": TEACHER},
    "smoothed": {"recipe": ONE_STEP.changed(batch_size=10, label_smoothing=0.1)},
}


@pytest.mark.parametrize("kind", EQUAL)
def test_at_an_equal_step_the_first_gradient_is_as_long_as_that_of_cross_entropy(where, kind):
    """Both by a backward pass of what is trained on, on copies of the networks that training starts from."""
    spec = SPEC.changed(equal_step=1.7, **EQUAL[kind])
    context = where(parent=taught_by(build(NETWORK, image_size=8, channels=1, num_classes=10)))
    batches = training_batches(DIGITS, spec.recipe, seed=0, device="cpu", data_dir=Path())
    scaled = at_equal_step(spec, compute.pair(spec, context), batches)
    assert scaled.equal_step is None and scaled.changed(objective=spec.objective, equal_step=1.7) == spec
    images, labels = next(iter(batches.epoch(0)))
    smoothing = spec.recipe.label_smoothing
    targets = (1 - smoothing) * F.one_hot(labels, 10) + smoothing / 10
    model = compute.pair(spec, context).train()
    trained_on = length(Losses(scaled, batches)(model, images, targets), model.networks[0].backbone)
    alone = build(spec.model, image_size=8, channels=1, num_classes=10).train()
    alone.load_state_dict(model.networks[0].backbone.state_dict())
    labels_alone = length(1.7 * F.cross_entropy(alone(images), targets), alone)
    assert labels_alone > 0.01 and trained_on == pytest.approx(labels_alone, rel=1e-5)


@pytest.mark.parametrize("model", [NETWORK, TRANSFORMER], ids=["resnet", "vit"])
def test_measuring_the_first_gradient_leaves_the_networks_as_they_were(where, model):
    spec = SPEC.changed(equal_step=2.0, model=model)
    networks = compute.pair(spec, where())
    before = weights_of(networks)
    at_equal_step(spec, networks, training_batches(DIGITS, ONE_STEP, seed=0, device="cpu", data_dir=Path()))
    assert_same_arrays(weights_of(networks), before)
    assert all(parameter.grad is None for parameter in networks.parameters()) and networks.training


def test_a_run_at_an_equal_step_is_the_run_of_its_scale(where):
    scaled = computed(SPEC.changed(equal_step=2.0), where())
    again = computed(SPEC.changed(objective=Objective(weights=WEIGHTS, scale=scaled.metrics["scale"])), where())
    assert scaled.metrics["scale"] != 1 and scaled.metrics["label weight"] == pytest.approx(
        scaled.metrics["scale"] * (WEIGHTS.a + WEIGHTS.c)
    )
    assert_same_result(scaled, again)


def test_cross_entropy_alone_has_its_label_weight_at_an_equal_step(where):
    """As KD whose only term are the labels: its scale is the label weight."""
    objective = Objective(weights=NOTHING.changed(a=0.5), kd="ce")
    assert computed(SPEC.changed(objective=objective, equal_step=2.0), where()).metrics["label weight"] == pytest.approx(2, rel=1e-5)
