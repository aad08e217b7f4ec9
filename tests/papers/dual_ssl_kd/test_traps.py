"""Training with two teachers: the traps that its method sheet warns of, by loops and by what a training leaves behind."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.papers.dual_ssl_kd.support import (
    ONE_STEP,
    TERMS,
    confidence,
    images,
    mean_divergence,
    mixed,
    outputs_of,
    raw,
    soft_cross_entropy,
)
from vitlib.computing import result_of
from vitlib.methods.attention import attention_confidence, attention_maps
from vitlib.methods.distillation.losses import attention_divergence
from vitlib.papers.dual_ssl_kd import compute
from vitlib.papers.dual_ssl_kd.joint import loss_terms, surest_head


@pytest.mark.parametrize("mode", [True, False])
def test_trap_teachers_stay_in_eval_mode_whatever_the_student_does(model, mode):
    assert model.train(mode) is model
    assert {module.training for module in model.student.modules()} == {mode}
    assert not any(module.training for teacher in (model.cl, model.mim) for module in teacher.modules())


def test_trap_drop_path_is_the_students_alone_and_teachers_train_in_eval_mode(spec, where, monkeypatch):
    seen, train = [], compute.train

    def watch(model, *arguments, **options):
        for name in ("student", "cl", "mim"):
            block = getattr(model, name).blocks[-1]
            block.register_forward_hook(lambda module, _, output, name=name: seen.append((name, module.training, output.requires_grad)))
        rates = {name: type(getattr(model, name).blocks[-1].drop_path1) for name in ("student", "cl", "mim")}
        assert rates["student"] is not nn.Identity and rates["cl"] is rates["mim"] is nn.Identity
        return train(model, *arguments, **options)

    monkeypatch.setattr(compute, "train", watch)
    result_of(spec.changed(recipe=ONE_STEP.changed(drop_path=0.3)), where())
    assert seen[:3] == [("student", True, True), ("cl", False, True), ("mim", False, True)]
    assert all(not training and not graph for _, training, graph in seen[3:])


def test_trap_frozen_blocks_have_no_gradient_and_keep_no_graph(spec, model):
    seen = {}
    for name in ("cl", "mim"):
        for depth, block in enumerate(getattr(model, name).blocks):
            block.register_forward_hook(lambda _, __, output, key=(name, depth): seen.update({key: output.requires_grad}))
    model.train()
    loss_terms(model(images()), mixed(), spec).total.backward()
    assert seen == {(name, depth): depth == 11 for name in ("cl", "mim") for depth in range(12)}
    for teacher in (model.cl, model.mim):
        graded = {name for name, parameter in teacher.named_parameters() if parameter.grad is not None}
        assert graded == {name for name, _ in teacher.named_parameters() if name.startswith(("blocks.11.", "norm.", "head."))}
    assert all(parameter.grad is not None for parameter in model.student.parameters())


@pytest.mark.parametrize("tokens", [2, 5])
def test_trap_attention_divergence_is_a_mean_over_images_and_queries(tokens):
    teacher, student = torch.randn(2, 3, tokens, tokens, dtype=torch.float64)
    found = attention_divergence(student.log_softmax(-1), teacher.log_softmax(-1))
    assert float(found) == pytest.approx(mean_divergence(teacher, student), rel=1e-12)
    batchmean = nn.functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
    assert float(batchmean) == pytest.approx(tokens * float(found), rel=1e-12)


@pytest.mark.parametrize("best", [0, 2, 3])
def test_trap_the_surest_head_is_the_argmax_of_equation_2_and_holds_no_graph(best):
    scores = torch.randn(3, 4, 5, 5)
    scores[:, best] *= 4
    leaf = scores.requires_grad_()
    found = surest_head(leaf.log_softmax(-1))
    assert not found.requires_grad and int(found) == best == int(np.argmax(confidence(leaf.softmax(-1))))
    assert leaf.grad is None
    assert attention_confidence(leaf.softmax(-1)).tolist() == pytest.approx(confidence(leaf.softmax(-1)), rel=1e-5)


@torch.no_grad()
def test_trap_the_surest_head_is_chosen_batch_by_batch_and_for_each_teacher(spec):
    leaves = raw()
    leaves["cl_map"][:, 3] *= 6
    leaves["mim_map"][:, 1] *= 6
    terms = loss_terms(outputs_of(leaves), mixed(3, 5), spec)
    assert terms.heads == {"cl": {1: 3}, "mim": {1: 1}} and (terms.history["cl_head"], terms.history["mim_head"]) == (3, 1)
    leaves["mim_map"][:, 0] *= 60
    assert loss_terms(outputs_of(leaves), mixed(3, 5), spec).heads == {"cl": {1: 3}, "mim": {1: 0}}


def test_trap_attention_below_the_range_of_half_precision_gives_finite_losses_and_gradients(spec):
    leaves = {name: (300 * leaf.detach().float()).requires_grad_() for name, leaf in raw().items()}
    outputs = outputs_of(leaves)
    assert float(outputs.mim_maps[1].detach().exp().min()) == 0
    total = loss_terms(outputs, mixed(3, 5), spec.changed(lambda_2=0.5)).total
    total.backward()
    assert total.isfinite() and all(leaf.grad.isfinite().all() for leaf in leaves.values() if leaf.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize(("lambda_1", "lambda_2", "w", "v"), [(0.5, 0.0, 1.0, 1.0), (0.2, 0.7, 1.0, 1.0), (0.9, 0.4, 0.3, 2.5)])
def test_every_term_is_that_of_loops_with_mixed_labels_for_all_three(spec, lambda_1, lambda_2, w, v):
    leaves, targets = raw(), mixed(3, 5).double()
    changed = spec.changed(lambda_1=lambda_1, lambda_2=lambda_2, output_weight=w, attention_weight=v)
    terms = loss_terms(outputs_of(leaves), targets, changed)
    crosses = [soft_cross_entropy(leaves[name], targets) for name in ("student", "cl", "mim")]
    cl, mim = (mean_divergence(leaves[name], leaves["student"]) for name in ("cl", "mim"))
    output = lambda_1 * cl + (1 - lambda_1) * mim
    heads = [int(np.argmax(confidence(leaves[name].softmax(-1)))) for name in ("cl_map", "mim_map")]
    pulls = [
        mean_divergence(leaves[name][:, head], leaves["student_map"][:, index])
        for index, (name, head) in enumerate(zip(("cl_map", "mim_map"), heads, strict=True))
    ]
    attention = lambda_2 * pulls[0] + (1 - lambda_2) * pulls[1]
    assert [terms.history[name] for name in TERMS] == pytest.approx([*crosses, output, attention], rel=1e-6)
    assert float(terms.total) == pytest.approx(sum(crosses) + w * output + v * attention, rel=1e-6)


@torch.no_grad()
def test_the_three_networks_give_what_each_gives_alone(model):
    model.eval()
    found = model(images())
    for name in ("student", "cl", "mim"):
        network = getattr(model, name)
        assert_close(getattr(found, name), network(images()))
        expected = attention_maps(network, images())[:, -1]
        assert_close(getattr(found, f"{name}_maps")[1].exp(), expected[:, :2] if name == "student" else expected, rtol=1e-5, atol=1e-6)
