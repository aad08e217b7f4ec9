"""Two self-supervised teachers: the invariants 1-12 of its method sheet, by number."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.papers.dual_ssl_kd.support import DIGITS, ONE_STEP, TERMS, confidence, images, mean_divergence, mixed, outputs_of, raw
from tests.support import assert_same_arrays
from vitlib.computing import result_of
from vitlib.inputs.models import Timm, build, parameter_count
from vitlib.methods.attention import AttentionTap, attention_confidence, attention_distance, attention_maps, patch_distances
from vitlib.methods.distillation.losses import attention_divergence, two_teacher_loss
from vitlib.papers.dual_ssl_kd import compute, tables
from vitlib.papers.dual_ssl_kd.joint import loss_terms
from vitlib.papers.dual_ssl_kd.specs import Tuned


def changed_between(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if (before[name] != after[name]).any()}


@pytest.mark.parametrize(
    ("protocol", "trainable", "millions"), [("finetune", 86_567_656, 86.57), ("linear", 769_000, 0.77), ("partial1", 7_858_408, 7.86)]
)
def test_invariant_1_trained_parameters_of_vit_b(protocol, trainable, millions, printed):
    with torch.device("meta"):
        module = build(Timm(name="vit_base_patch16_224.mae"), image_size=224, channels=3, num_classes=1000)
    assert compute.adapt(module, protocol) == trainable
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == trainable
    assert parameter_count(module) == 86_567_656 and round(trainable / 1e6, 2) == millions
    row = next(r for r in printed if r["metric"] == "trainable_params" and r["method"] == tables.PROTOCOLS[protocol])
    assert float(row["value"]) == millions


def test_invariant_2_a_student_that_agrees_with_both_teachers_has_nothing_to_learn_from_their_outputs(spec):
    leaves = raw()
    leaves["cl"] = leaves["mim"] = leaves["student"]
    assert float(loss_terms(outputs_of(leaves), mixed(3, 5), spec).output.detach()) == pytest.approx(0, abs=1e-15)


def test_invariant_2_head_2_alone_has_to_equal_the_surest_map_of_the_masked_image_teacher(spec):
    found = []
    for _ in range(3):
        leaves = raw()
        chosen = int(np.argmax(confidence(leaves["mim_map"].softmax(-1))))
        leaves["student_map"] = torch.stack([leaves["student_map"][:, 0], leaves["mim_map"][:, chosen]], dim=1)
        found.append(loss_terms(outputs_of(leaves), mixed(3, 5), spec))
    assert [float(terms.attention.detach()) for terms in found] == pytest.approx([0, 0, 0], abs=1e-14)
    swapped = leaves | {"student_map": leaves["student_map"].flip(1)}
    assert float(loss_terms(outputs_of(swapped), mixed(3, 5), spec).attention.detach()) > 0.1


@pytest.mark.parametrize(("share", "taught"), [(0.0, [1]), (0.5, [0, 1]), (1.0, [0])])
def test_invariant_3_at_lambda_2_zero_head_2_alone_gets_a_gradient_from_attention(spec, share, taught):
    leaves = raw()
    loss_terms(outputs_of(leaves), mixed(3, 5), spec.changed(lambda_2=share)).attention.backward()
    assert [head for head in (0, 1) if leaves["student_map"].grad[:, head].any()] == taught
    others = (leaves[name].grad for name in ("student", "cl", "mim", "cl_map", "mim_map"))
    assert all(gradient is None or not gradient.any() for gradient in others)


def test_invariant_3_of_the_last_block_the_query_and_key_rows_of_head_2_alone_get_a_gradient(spec, model):
    loss_terms(model(images()), mixed(), spec).attention.backward()
    gradient = model.student.blocks[-1].attn.qkv.weight.grad.unflatten(0, (3, 3, 4))
    moved = [(part, head) for part in range(3) for head in range(3) if gradient[part, head].any()]
    assert moved == [(0, 1), (1, 1)]
    assert all(p.grad is None for teacher in (model.cl, model.mim) for p in teacher.parameters())


@pytest.mark.parametrize(("share", "other"), [(1.0, "mim"), (0.0, "cl")])
def test_invariant_4_an_extreme_share_removes_the_other_teacher(share, other):
    leaves = {name: torch.randn(4, 5, dtype=torch.float64) for name in ("student", "cl", "mim")}
    before = two_teacher_loss(*leaves.values(), share)
    kept = leaves["cl" if other == "mim" else "mim"]
    assert float(before) == pytest.approx(mean_divergence(kept, leaves["student"]), rel=1e-12)
    assert torch.equal(two_teacher_loss(*(leaves | {other: torch.randn(4, 5, dtype=torch.float64)}).values(), share), before)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_invariant_4_the_same_teacher_twice_is_that_teacher_once(share):
    student, teacher, other = torch.randn(3, 4, 5, dtype=torch.float64)
    once = mean_divergence(teacher, student)
    assert float(two_teacher_loss(student, teacher, teacher, share)) == pytest.approx(once, rel=1e-12)
    both = share * once + (1 - share) * mean_divergence(other, student)
    assert float(two_teacher_loss(student, teacher, other, share)) == pytest.approx(both, rel=1e-12)


def test_invariant_5_confidence_of_even_attention_is_one_in_197_and_of_a_permutation_one():
    even = torch.full((2, 1, 197, 197), 1 / 197, dtype=torch.float64)
    permutation = torch.eye(197, dtype=torch.float64)[torch.randperm(197)].expand(2, 1, 197, 197)
    found = attention_confidence(torch.cat([even, permutation], dim=1))
    assert found.tolist() == pytest.approx([0.005076142, 1.0], abs=1e-9)


def test_invariant_5_larger_scores_are_surer():
    scores = torch.randn(2, 3, 7, 7)
    found = torch.stack([attention_confidence((scale * scores).softmax(-1)) for scale in (0.0, 0.5, 1.0, 2.0, 8.0)])
    assert (found.diff(dim=0) > 0).all() and ((found > 1 / 7 - 1e-6) & (found < 1)).all()


def test_invariant_6_divergence_from_even_attention_is_log_n_minus_the_entropy_of_the_row():
    log_teacher = torch.randn(3, 9, 9, dtype=torch.float64).log_softmax(-1)
    even = torch.full((3, 9, 9), -math.log(9), dtype=torch.float64)
    entropy = np.mean([-sum(p * math.log(p) for p in row) for row in log_teacher.exp().flatten(0, 1).tolist()])
    assert float(attention_divergence(even, log_teacher)) == pytest.approx(math.log(9) - entropy, rel=1e-12)


def test_invariant_6_a_single_key_among_197_against_even_attention_is_5_2832():
    one = (1e4 * torch.eye(197)).log_softmax(-1).expand(2, -1, -1)
    assert float(attention_divergence(torch.full((2, 197, 197), -math.log(197)), one)) == pytest.approx(5.2832, abs=5e-5)


def test_invariant_7_distances_on_fourteen_by_fourteen_patches_of_16_px():
    eye = torch.eye(197, dtype=torch.float64)
    far = eye.clone()
    far[1] = eye[196]
    maps = torch.stack([eye, torch.full_like(eye, 1 / 197), far])
    distances = attention_distance(maps, (14, 14), 16)
    assert distances.tolist() == pytest.approx([0.0, 116.4922, 294.1564 / 196], abs=5e-5)
    assert float(patch_distances((14, 14), 16)[0, 195]) == pytest.approx(16 * 13 * math.sqrt(2), rel=1e-12)
    assert_close(attention_distance(maps, (14, 14), 32), 2 * distances)


@torch.no_grad()
def test_invariant_8_tapped_attention_is_the_unfused_one_of_that_block(network):
    expected = attention_maps(network, images())
    taps = [AttentionTap(block.attn) for block in network.blocks]
    network(images())
    for depth, tap in enumerate(taps):
        assert network.blocks[depth].attn.fused_attn
        found = tap.log_map().exp()
        assert_close(found, expected[:, depth], rtol=0, atol=1e-6)
        assert_close(found.sum(-1), torch.ones(6, 3, 5))
        assert_close(tap.log_map([2, 0]).exp(), expected[:, depth][:, [2, 0]], rtol=0, atol=1e-6)
    network(images().flip(0))
    assert_close(taps[-1].log_map().exp(), expected[:, -1].flip(0), rtol=0, atol=1e-6)


def test_invariant_8_tapped_attention_has_the_gradient_of_attention_written_out(network):
    module, inputs = network.blocks[-1].attn, []
    tap = AttentionTap(module)
    module.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    network(images())
    query, key, _ = nn.functional.linear(inputs[0], module.qkv.weight, module.qkv.bias).reshape(6, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
    scores = torch.einsum("bhqd,bhkd->bhqk", module.q_norm(query), module.k_norm(key)) / math.sqrt(4)
    weights = torch.randn(6, 3, 5, 5)
    by_hand, tapped = ((maps * weights).sum() for maps in (scores - scores.logsumexp(-1, keepdim=True), tap.log_map()))
    expected, found = (torch.autograd.grad(value, module.qkv.weight)[0] for value in (by_hand, tapped))
    assert expected[:24].any() and not expected[24:].any()
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_tap_refuses_to_answer_before_a_forward_pass_and_after_it_is_taken_away(network):
    tap = AttentionTap(network.blocks[-1].attn)
    with pytest.raises(ValueError, match="no forward pass was seen; allowed: after the model was called"):
        tap.log_map()
    network(images())
    assert tap.log_map().shape == (6, 3, 5, 5)
    tap.eject()
    network(images())
    with pytest.raises(ValueError, match="no forward pass was seen"):
        tap.log_map()
    assert not any(module._forward_hooks for module in network.modules())


@torch.no_grad()
def test_tapped_attention_is_single_precision_under_autocast(network):
    tap = AttentionTap(network.blocks[-1].attn)
    with torch.autocast("cpu", torch.bfloat16):
        network(images())
        found = tap.log_map()
    assert found.dtype == torch.float32
    assert_close(found.exp().sum(-1), torch.ones(6, 3, 5))


def frozen_of(names, trained):
    return {name for name in names if not name.startswith(trained)}


def matrices(weights, start):
    return {name for name in weights if name.startswith(start) and name.endswith("weight")}


@pytest.mark.parametrize(
    ("protocol", "trained"), [("partial1", ("blocks.11.", "norm.", "head.")), ("linear", ("head.",)), ("finetune", ("",))]
)
def test_invariant_9_one_step_of_adapting_moves_the_parts_of_the_protocol_and_no_bit_else(spec, where, watched, protocol, trained):
    tuned = Tuned(teacher=spec.cl, data=DIGITS, recipe=ONE_STEP, seed=0, protocol=protocol)
    result = result_of(tuned, where())
    (run,) = watched
    moved = changed_between(run.before, run.after)
    assert run.steps == 1 and moved.isdisjoint(frozen_of(run.before, trained))
    assert moved >= {name for start in trained for name in matrices(run.before, start)}
    assert result.metrics["trainable"] == sum(array.size for name, array in run.before.items() if name.startswith(trained))
    if protocol == "finetune":
        assert_same_arrays(result.weights, run.after)
    else:
        assert {"pos_embed", "patch_embed.proj.weight", "cls_token", "blocks.10.mlp.fc2.weight"}.isdisjoint(moved)
        assert result.weights is None


@pytest.mark.parametrize("lr", [1e-3, 1e-2])
def test_invariant_9_one_joint_step_moves_the_student_and_the_ends_of_both_teachers_and_no_bit_else(spec, where, watched, lr):
    result_of(spec.changed(recipe=ONE_STEP.changed(lr=lr)), where())
    (run,) = watched
    moved = changed_between(run.before, run.after)
    trained = tuple(f"{teacher}.{part}" for teacher in ("cl", "mim") for part in ("blocks.11.", "norm.", "head."))
    assert run.steps == 1 and moved.isdisjoint(frozen_of(run.before, ("student.", *trained)))
    assert moved >= {name for start in ("student.", *trained) for name in matrices(run.before, start)}


@pytest.fixture
def gradients(spec, model):
    """Gradients of a sum of terms, by network."""
    both = spec.changed(lambda_2=0.5, output_weight=1.5, attention_weight=0.5)
    terms = loss_terms(model(images()), mixed(), both)

    def of(value, *networks):
        parameters = [p for name in networks for p in getattr(model, name).parameters() if p.requires_grad]
        return torch.autograd.grad(value(terms), parameters, retain_graph=True)

    return of


def test_invariant_10_the_student_does_not_feel_whether_teachers_learn(gradients):
    alone = gradients(lambda terms: terms.ce_student + 1.5 * terms.output + 0.5 * terms.attention, "student")
    assert any(gradient.any() for gradient in alone)
    assert_close(gradients(lambda terms: terms.total, "student"), alone, rtol=1e-5, atol=1e-8)


def test_invariant_10_teachers_do_not_feel_whether_they_are_followed(gradients):
    alone = gradients(lambda terms: terms.ce_cl + terms.ce_mim, "cl", "mim")
    assert all(gradient.any() for gradient in alone)
    assert_close(gradients(lambda terms: terms.total, "cl", "mim"), alone, rtol=1e-5, atol=1e-8)


@torch.no_grad()
def test_invariant_11_a_batch_repeated_leaves_every_term_as_it_is(spec, model):
    both = spec.changed(lambda_1=0.3, lambda_2=0.6)
    model.eval()
    once = loss_terms(model(images()), mixed(), both)
    for repeats in (2, 5):
        more = loss_terms(model(images().repeat(repeats, 1, 1, 1)), mixed().repeat(repeats, 1), both)
        assert more.history == pytest.approx(once.history, rel=1e-5) and min(once.history[name] for name in TERMS) > 0
        assert_close(more.total, once.total, rtol=1e-5, atol=0)


@pytest.mark.parametrize("prefix_tokens", [1, 2])
def test_invariant_12_confidence_without_the_class_token_changes_but_not_its_range(prefix_tokens):
    maps = (3 * torch.randn(2, 4, 8, 8, dtype=torch.float64)).softmax(-1)
    maps[:, 0, :, :prefix_tokens] = 0
    maps[:, 1, :, prefix_tokens:] = maps[:, 1, :, prefix_tokens:].mean()
    patches = maps[..., prefix_tokens:, prefix_tokens:]
    found = attention_confidence(maps, prefix_tokens)
    expected = [np.mean([max(row) / sum(row) for image in patches[:, head].tolist() for row in image]) for head in range(4)]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert float(found[1]) == pytest.approx(1 / (8 - prefix_tokens), rel=1e-12)
    assert ((found > 0) & (found <= 1)).all() and not torch.isclose(found, attention_confidence(maps)).any()
