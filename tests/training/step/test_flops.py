"""Floating-point operations that a training asks for: those of the formula, kind by kind, counted without a trace."""

from contextlib import contextmanager

import pytest
import torch
from torch.utils.flop_counter import flop_registry

from tests.training.step.support import FLAT, LONG, assert_same, trained
from tests.training.support import STEPS
from vitlib.inputs.models import ResNet
from vitlib.training import cost
from vitlib.training.cost import matrix_rate, share_of_peak
from vitlib.training.loop import cross_entropy
from vitlib.training.step import flops, steps
from vitlib.training.work.layers import backward_flops, forward_flops, network

RESNET = ResNet(width=4, blocks=(1, 1, 1, 1))
MAPS = FLAT.depth * 2 * 5**2 * FLAT.embed_dim  # of attention between five tokens: a fused backward pass computes them again


def of_an_image(spec):
    layers = network(spec, 8, 1, 10).layers
    return forward_flops(layers), backward_flops(layers)


@pytest.mark.parametrize(("spec", "more"), [(FLAT, MAPS), (RESNET, 0)], ids=["vit", "resnet"])
def test_the_operations_of_an_image_are_those_of_the_formula(graphs, spec, more):
    _, found = trained(spec=spec)
    assert found.measured["flops_per_image"] == pytest.approx(sum(of_an_image(spec)) + more, rel=1e-3)


def test_updates_of_another_kind_count_as_many_as_they_ask_for(graphs):
    """In the second half a second forward pass, which asks for no gradient."""
    halves = {"again": False}

    @contextmanager
    def around_step(progress):
        halves["again"] = progress >= 0.5
        yield halves["again"]

    def loss(module, images, targets):
        if halves["again"]:
            with torch.no_grad():
                module(images)
        return cross_entropy(module, images, targets)

    _, found = trained(LONG.changed(epochs=4), RESNET, loss=loss, around_step=around_step)
    forward, backward = of_an_image(RESNET)
    assert graphs.kinds == 2 and graphs.replays == 4 * STEPS - 2 * steps.FIRST
    assert found.measured["flops_per_image"] == pytest.approx(1.5 * forward + backward, rel=0.01)


def test_of_many_kinds_only_the_first_are_counted(graphs, monkeypatch):
    """As of a weight that grows from step to step."""
    entered = []
    counted = flops._Counted
    monkeypatch.setattr(flops, "_Counted", lambda: entered.append(1) or counted())

    @contextmanager
    def around_step(progress):
        yield progress

    _, found = trained(LONG.changed(epochs=4), RESNET, around_step=around_step)
    assert len(entered) == flops.COUNTED < 4 * STEPS and not graphs.kinds
    assert found.measured["flops_per_image"] == pytest.approx(sum(of_an_image(RESNET)), rel=1e-3)


def test_counting_changes_no_number(graphs, monkeypatch):
    counted = trained(LONG.changed(drop_path=0.2), RESNET)
    monkeypatch.setattr(steps, "Counted", lambda step: step)
    assert_same(counted, trained(LONG.changed(drop_path=0.2), RESNET))


def test_a_formula_that_fails_counts_nothing_and_ends_no_run(graphs, monkeypatch):
    def failing(*_, **__):
        raise AssertionError("shapes are none that I know")

    expected = trained(spec=FLAT)
    for operation in list(flop_registry):
        monkeypatch.setitem(flop_registry, operation, failing)
    assert_same(expected, found := trained(spec=FLAT))
    assert found[1].measured["flops_per_image"] == 0


def test_where_nothing_is_to_be_recorded_nothing_is_counted(graphs, monkeypatch):
    keys = {"flops_per_image", "share_of_peak"}
    assert not keys & trained(capture=False)[1].measured.keys()
    monkeypatch.undo()
    assert not keys & trained()[1].measured.keys()


def test_the_matrix_rate_is_measured_once_and_draws_no_number_of_a_run():
    state = torch.get_rng_state()
    rate = matrix_rate("fp32", "cpu")
    assert rate > 0 and matrix_rate("fp32", "cpu") == rate and torch.equal(torch.get_rng_state(), state)


def test_a_share_of_the_peak_is_one_of_the_matrix_rate_and_missing_where_that_finds_no_memory(monkeypatch):
    assert share_of_peak(matrix_rate("fp32", "cpu") / 4, "fp32", "cpu") == {"share_of_peak": 0.25}

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cost, "matrix_rate", full)
    assert share_of_peak(1.0, "fp32", "cpu") == {}
