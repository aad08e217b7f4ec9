"""Two self-supervised teachers: the invariants 1-12 of its method sheet, by number, its traps, its runs, and what its tables hold."""

import copy
import csv
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.numpy import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.testing import assert_close

from tests.support import assert_same_arrays, assert_same_result
from vitlib import load_study
from vitlib.inputs.data import test_batches as batches_of
from vitlib.inputs.data import training_batches
from vitlib.inputs.models import Timm, Vit, build, parameter_count, weights_of
from vitlib.inputs.sources import Data, load
from vitlib.methods.attention import AttentionTap, attention_confidence, attention_distance, attention_maps, patch_distances
from vitlib.methods.distillation.losses import attention_divergence, two_teacher_loss
from vitlib.papers import dual_ssl_kd
from vitlib.papers.dual_ssl_kd import compute, tables
from vitlib.papers.dual_ssl_kd.ends import CUTS
from vitlib.papers.dual_ssl_kd.joint import Outputs, TwoTeachers, loss_terms, surest_head, surest_heads
from vitlib.papers.dual_ssl_kd.specs import (
    ABLATIONS,
    AttentionTerm,
    Joint,
    Readouts,
    Taught,
    Tuned,
    run_ablation,
    run_downstream,
    run_student,
    run_tuned,
)
from vitlib.recipe import Augment, Recipe
from vitlib.runs.execute import one_thread
from vitlib.spec import Context, SpecError
from vitlib.teachers.task import with_fresh_head
from vitlib.teachers.teacher import Checkpoint, Teacher
from vitlib.training import remembered
from vitlib.training.evaluate import scores_of

DIGITS = Data(source="digits", image_size=8, per_class=1, mean=(0.3,), std=(0.4,))
MICRO = Vit(embed_dim=16, depth=12, num_heads=4, patch_size=4)
STUDENT = Vit(embed_dim=12, depth=2, num_heads=3, patch_size=4)
ONE_STEP = Recipe(epochs=1, batch_size=10, lr=1e-3)
TERMS = ("ce_student", "ce_cl", "ce_mim", "output", "attention")
PUBLISHED = Path(dual_ssl_kd.__file__).with_name("published.csv")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the weights of two teachers of twelve blocks, all drawn at random, whose heads attend unevenly."""
    folder = tmp_path_factory.mktemp("dual")
    torch.manual_seed(0)
    for name in ("cl", "mim"):
        module = drawn(build(MICRO, image_size=8, channels=1, num_classes=0))
        save_file(weights_of(module), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def spec(files):
    """The document's joint training, of one step."""
    common = {"model": MICRO, "image_size": 8, "mean": (0.3,), "std": (0.4,)}
    cl, mim = (Teacher(origin=Checkpoint(file=f"{name}.safetensors", **common).pinned(files)) for name in ("cl", "mim"))
    return Joint(student=STUDENT, cl=cl, mim=mim, data=DIGITS, recipe=ONE_STEP, seed=0, lambda_1=0.5, lambda_2=0.0)


@pytest.fixture
def where(files):
    """Makes a context in the teachers' folder."""
    return lambda **fields: Context("cpu", files, **{"scratch": None, "parent": lambda run: None, **fields})


@pytest.fixture
def model(spec, where):
    """The three networks as the joint training starts from them, but with a student whose heads attend unevenly."""
    cl, mim = (with_fresh_head(teacher, spec.data, spec.seed, where()) for teacher in (spec.cl, spec.mim))
    for teacher in (cl, mim):
        compute.adapt(teacher, "partial1")
    return TwoTeachers(drawn(compute.scratch(spec, where())), cl, mim)


@pytest.fixture
def watched(monkeypatch):
    """The weights before and after each training that a run does, and what it trained."""
    seen, train = [], compute.train

    def watch(model, batches, loss, recipe, **options):
        before = weights_of(model)
        trained = train(model, batches, loss, recipe, **options)
        seen.append(SimpleNamespace(model=model, before=before, after=weights_of(model), steps=batches.steps * recipe.epochs))
        return trained

    monkeypatch.setattr(compute, "train", watch)
    return seen


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load_study("dual_ssl_kd", "smoke", results_dir=str(tmp_path_factory.mktemp("dual")), device="cpu")


@pytest.fixture(scope="module")
def results(study):
    return study.execute()


@pytest.fixture(scope="module")
def printed():
    with PUBLISHED.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def drawn(module):
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter += (0.4 if "qkv" in name else 0.1) * torch.randn_like(parameter)
    return module


def images(count=6):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def mixed(count=6, classes=10):
    """Dense targets as mixup makes them."""
    return torch.rand(count, classes, generator=torch.Generator().manual_seed(6)).softmax(dim=-1)


def raw(batch=3, classes=5, tokens=6):
    """Logits and attention scores of three networks, in double precision, as leaves."""
    shapes = {name: (batch, classes) for name in ("student", "cl", "mim")}
    shapes |= {"student_map": (batch, 2, tokens, tokens), "cl_map": (batch, 4, tokens, tokens), "mim_map": (batch, 4, tokens, tokens)}
    return {name: (2 * torch.randn(shape, dtype=torch.float64)).requires_grad_() for name, shape in shapes.items()}


def outputs_of(leaves):
    maps = {f"{name}s": {1: leaf.log_softmax(dim=-1)} for name, leaf in leaves.items() if name.endswith("_map")}
    return Outputs(**{name: leaves[name] for name in ("student", "cl", "mim")}, **maps)


def divergence(teacher, student):
    """KL(teacher || student) of two distributions given as lists of probabilities."""
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def mean_divergence(teacher, student):
    """Mean over all rows of KL between softmaxes."""
    rows = zip(teacher.softmax(-1).flatten(0, -2).tolist(), student.softmax(-1).flatten(0, -2).tolist(), strict=True)
    return np.mean([divergence(p, q) for p, q in rows])


def soft_cross_entropy(logits, targets):
    rows = zip(logits.softmax(-1).tolist(), targets.tolist(), strict=True)
    return np.mean([-sum(t * math.log(p) for p, t in zip(row, target, strict=True)) for row, target in rows])


def confidence(maps):
    """Equation 2 in loops over heads, images and queries."""
    return [np.mean([max(row) for image in maps[:, head].tolist() for row in image]) for head in range(maps.shape[1])]


def changed_between(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if (before[name] != after[name]).any()}


# ------------------------------------------------------------------------------------------------ invariants


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


@pytest.fixture(params=[False, True], ids=["plain", "qk_norm"])
def network(request):
    sizes = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 5, "embed_dim": 12, "depth": 3, "num_heads": 3}
    return drawn(VisionTransformer(**sizes, qk_norm=request.param)).eval()


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
    result = tuned.compute(where())
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
    spec.changed(recipe=ONE_STEP.changed(lr=lr)).compute(where())
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


# ------------------------------------------------------------------------------------------------ traps


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
    spec.changed(recipe=ONE_STEP.changed(drop_path=0.3)).compute(where())
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


# ------------------------------------------------------------------------------------------------ frozen teachers


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_taught_student_gets_cross_entropy_and_the_mean_divergence_from_its_teachers(count):
    student, *teachers = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(count + 1))
    value = compute.taught_loss(student, images(), theirs(teachers, images()), mixed())
    divergences = [mean_divergence(teacher(images()), student(images())) for teacher in teachers]
    expected = soft_cross_entropy(student(images()), mixed()) + (np.mean(divergences) if teachers else 0)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert all(parameter.grad.any() for parameter in student.parameters())
    assert all(parameter.grad is None for teacher in teachers for parameter in teacher.parameters())


def theirs(teachers, pictures):
    with torch.no_grad():
        return compute.logits_of(teachers)(pictures)


def test_teachers_of_a_taught_student_are_the_tuned_ones_frozen_and_in_eval_mode(spec, where, monkeypatch):
    tuned = tuple(Tuned(teacher=t, data=DIGITS, recipe=ONE_STEP, seed=0, protocol="finetune") for t in (spec.cl, spec.mim))
    stored = {run.id: run.compute(where()) for run in tuned}
    seen, logits_of = [], compute.logits_of
    monkeypatch.setattr(compute, "logits_of", lambda teachers: logits_of(seen.append(teachers) or teachers))
    taught = Taught(student=STUDENT, data=DIGITS, recipe=ONE_STEP, seed=0, teachers=tuned)
    taught.compute(where(parent=lambda run: stored[run.id]))
    for teacher, run in zip(*seen, tuned, strict=True):
        assert_same_arrays(weights_of(teacher), stored[run.id].weights)
        assert not any(module.training for module in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())


@torch.no_grad()
@pytest.mark.parametrize("protocol", list(CUTS))
def test_a_teacher_in_two_parts_is_the_teacher(spec, where, protocol):
    teacher, cut = drawn(with_fresh_head(spec.cl, DIGITS, 0, where())).eval(), CUTS[protocol]
    assert_close(cut.end(teacher, cut.front(teacher, images())), teacher(images()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("protocol", list(CUTS))
def test_what_is_trained_lies_in_the_end_of_a_cut_alone(spec, where, protocol):
    teacher, cut = with_fresh_head(spec.cl, DIGITS, 0, where()), CUTS[protocol]
    compute.adapt(teacher, protocol)
    front = cut.front(teacher, images())
    assert not front.requires_grad
    trained = [parameter for parameter in teacher.parameters() if parameter.requires_grad]
    assert all(gradient is not None for gradient in torch.autograd.grad(cut.end(teacher, front).square().sum(), trained))


def test_known_tokens_give_the_joint_loss_and_gradients_of_the_images_alone(spec, model):
    model.double()
    pictures, trained = images().double(), [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        known = tuple(torch.cat(parts) for parts in zip(*(model.frozen(half) for half in pictures.split(3)), strict=True))
    found = [loss_terms(outputs, mixed().double(), spec).total for outputs in (model(pictures, known), model(pictures))]
    assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)
    assert_close(*(torch.autograd.grad(value, trained) for value in found), rtol=1e-6, atol=1e-6)


def kinds(spec):
    tuned = Tuned(teacher=spec.cl, data=spec.data, recipe=spec.recipe, seed=0, protocol="finetune")
    return {
        "joint": spec,
        "taught": Taught(student=STUDENT, data=spec.data, recipe=spec.recipe, seed=0, teachers=(tuned,)),
        "linear": tuned.changed(protocol="linear"),
        "partial1": tuned.changed(protocol="partial1"),
    }


@pytest.mark.parametrize("kind", ["joint", "taught", "linear", "partial1"])
def test_a_run_that_remembers_frozen_outputs_trains_as_one_that_computes_them_anew(spec, where, watched, monkeypatch, kind):
    spec = spec.changed(recipe=ONE_STEP.changed(epochs=3), data=DIGITS.changed(per_class=2), lambda_2=0.5)
    run = kinds(spec)[kind]
    at = where(parent=lambda parent: parent.compute(where()))
    losses = []
    for most in (remembered.MOST_BYTES, 0):
        monkeypatch.setattr(remembered, "MOST_BYTES", most)
        losses.append(run.compute(at).history["loss"].to_numpy())
    looked_up, anew = (watched[index].after for index in (len(watched) // 2 - 1, -1))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name in anew:
        assert looked_up[name] == pytest.approx(anew[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("protocol", ["linear", "partial1"])
def test_dropping_paths_of_frozen_blocks_is_refused(spec, protocol):
    tuned = Tuned(teacher=spec.cl, data=DIGITS, recipe=ONE_STEP.changed(drop_path=0.1), seed=0, protocol="finetune")
    with pytest.raises(ValueError, match=r"recipe.drop_path=0.1; allowed: 0.0, frozen blocks run whole"):
        tuned.changed(protocol=protocol)


def test_rates_by_layer_are_refused_where_three_networks_train(spec):
    with pytest.raises(ValueError, match=r"recipe.layer_decay=0.65; allowed: None, each of the three networks has one rate"):
        spec.changed(recipe=ONE_STEP.changed(layer_decay=0.65))


def test_the_classifier_is_drawn_from_the_seed_and_the_rest_is_the_teachers(spec, where):
    one, again, other = (with_fresh_head(spec.cl, DIGITS, seed, where()) for seed in (0, 0, 1))
    assert torch.equal(one.head.weight, again.head.weight) and not torch.equal(one.head.weight, other.head.weight)
    assert one.head.weight.shape == (10, 16) and not one.head.bias.any() and one.head.weight.any()
    origin = weights_of(spec.cl.module(where(), image_size=8))
    assert_same_arrays({name: array for name, array in weights_of(one).items() if not name.startswith("head")}, origin)


def test_a_joint_run_killed_in_the_middle_ends_as_one_that_was_not(spec, where, tmp_path):
    recipe = ONE_STEP.changed(epochs=3, drop_path=0.2, mixup=0.8)
    spec = spec.changed(recipe=recipe, data=DIGITS.changed(per_class=2), lambda_2=0.5)
    steps = []

    def tick(*_):
        steps.append(0)
        if len(steps) == 4:
            raise KeyboardInterrupt

    with one_thread("cpu"):
        whole = spec.compute(where())
        with pytest.raises(KeyboardInterrupt):
            spec.compute(where(scratch=tmp_path, checkpoint_every=0.0, tick=tick))
        resumed = spec.compute(where(scratch=tmp_path, tick=lambda *_: steps.append(0)))
    assert len(steps) == 4 + 3 and len(whole.history) == 3
    assert_same_result(resumed, whole)


def test_what_a_joint_run_records_is_about_its_final_networks(spec, where, watched):
    result = spec.compute(where())
    model = watched[0].model.eval()
    last, named = result.history.iloc[-1], {"student": "top1", "cl": "top1 cl", "mim": "top1 mim"}
    for split in ("validation", "test"):
        batches = batches_of(DIGITS, split=split, device="cpu", data_dir=where().data_dir)
        for network, name in named.items():
            right = scores_of(getattr(model, network), batches).argmax(dim=1) == batches.labels
            found = last[f"validation {name}"] if split == "validation" else result.metrics[name]
            assert found == 100 * float(right.double().mean())
    assert set(result.metrics) == {*named.values(), "validation top1"}
    assert result.arrays["confidence student"].shape == (2, 3)
    for name in ("cl", "mim"):
        found = result.arrays[f"confidence {name}"]
        assert found.shape == (12, 4) and found[-1].argmax() == last[f"{name}_head"]
        assert ((found > 1 / 5) & (found < 1)).all()


# ------------------------------------------------------------------------------------------------ options


DEEP = AttentionTerm(blocks=(1, 2))


@torch.no_grad()
def by_hand(network, pictures):
    """Double precision with plain matrix products: attention (B, heads, tokens, tokens) of each block, and the tokens after the norm."""
    network = copy.deepcopy(network).double()
    tokens, maps = network._pos_embed(network.patch_embed(pictures.double())), []
    for block in network.blocks:
        shape = (*tokens.shape[:2], 3, block.attn.num_heads, -1)
        query, key, value = nn.functional.linear(block.norm1(tokens), block.attn.qkv.weight, block.attn.qkv.bias).view(shape).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
        maps.append(scores.exp() / scores.exp().sum(dim=-1, keepdim=True))
        tokens = tokens + block.attn.proj(torch.einsum("bhqk,bkhd->bqhd", maps[-1], value).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return maps, network.norm(tokens)


def over_patches(maps):
    """Without the class token, rows normalised again."""
    return maps[..., 1:, 1:] / maps[..., 1:, 1:].sum(dim=-1, keepdim=True)


def rows_divergence(teacher, student):
    """Mean over all rows of KL between distributions."""
    rows = zip(teacher.flatten(0, -2).tolist(), student.flatten(0, -2).tolist(), strict=True)
    return np.mean([divergence(p, q) for p, q in rows])


@pytest.fixture
def networks(spec, where):
    """Makes the three networks of a spec, with a student whose heads attend unevenly."""

    def make(**changes):
        made = compute.three_networks(spec.changed(**changes), where())
        drawn(made.student)
        return made

    return make


@torch.no_grad()
@pytest.mark.parametrize("prefix_tokens", [1, 2])
def test_tapped_attention_without_first_tokens_is_that_of_the_rest_normalised_again(network, prefix_tokens):
    kept = attention_maps(network, images())[:, -1, :, prefix_tokens:, prefix_tokens:]
    tap = AttentionTap(network.blocks[-1].attn)
    network(images())
    expected = kept / kept.sum(dim=-1, keepdim=True)
    assert_close(tap.log_map(prefix_tokens=prefix_tokens).exp(), expected, rtol=1e-5, atol=1e-6)
    assert_close(tap.log_map([2], prefix_tokens).exp(), expected[:, [2]], rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("blocks", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize(("tokens", "taken"), [("all", lambda maps: maps), ("patches", over_patches)])
def test_the_attention_term_is_the_mean_over_blocks_paired_from_the_end_in_loops(networks, spec, blocks, tokens, taken):
    model = networks(attention=AttentionTerm(blocks=blocks, tokens=tokens)).eval()
    terms = loss_terms(model(images()), mixed(), spec.changed(lambda_2=0.3))
    student, cl, mim = ([taken(maps) for maps in by_hand(net, images())[0]] for net in (model.student, model.cl, model.mim))
    surest = {name: {block: int(np.argmax(confidence(maps[-block]))) for block in blocks} for name, maps in (("cl", cl), ("mim", mim))}
    pulls = [
        0.3 * rows_divergence(cl[-block][:, surest["cl"][block]], student[-block][:, 0])
        + 0.7 * rows_divergence(mim[-block][:, surest["mim"][block]], student[-block][:, 1])
        for block in blocks
    ]
    assert float(terms.attention) == pytest.approx(np.mean(pulls), rel=1e-4)
    assert terms.heads == surest
    suffixes = {1: "", 2: " 2"}
    named = {f"{name}_head{suffixes[block]}": head for name, chosen in surest.items() for block, head in chosen.items()}
    assert {name: value for name, value in terms.history.items() if "head" in name} == named


def test_attention_of_a_block_before_the_last_teaches_the_students_block_in_its_place(networks, spec):
    model = networks(attention=AttentionTerm(blocks=(2,)))
    loss_terms(model(images()), mixed(), spec).attention.backward()
    gradient = model.student.blocks[-2].attn.qkv.weight.grad.unflatten(0, (3, 3, 4))
    assert [(part, head) for part in range(3) for head in range(3) if gradient[part, head].any()] == [(0, 1), (1, 1)]
    assert all(parameter.grad is None for parameter in model.student.blocks[-1].parameters())
    assert all(p.grad is None for teacher in (model.cl, model.mim) for p in teacher.parameters())


def test_frozen_blocks_keep_no_graph_where_their_attention_is_taught(networks, spec):
    model, seen = networks(attention=AttentionTerm(blocks=(1, 2), tokens="patches")), []
    model.cl.blocks[-2].register_forward_hook(lambda _, __, output: seen.append(output.requires_grad))
    loss_terms(model(images()), mixed(), spec.changed(lambda_2=0.5)).total.backward()
    assert seen == [False]
    assert all(parameter.grad is None for parameter in model.cl.blocks[-2].parameters())
    assert all(parameter.grad is not None for parameter in model.cl.blocks[-1].parameters())


@torch.no_grad()
def test_known_tokens_reach_as_far_back_as_the_attention_that_is_taught(networks, spec):
    for blocks, last in (((1,), 11), ((1, 2), 10), ((2,), 10)):
        model, entered = networks(attention=AttentionTerm(blocks=blocks)).eval(), []
        model.mim.blocks[last].register_forward_pre_hook(lambda _, given, entered=entered: entered.append(given[0]))
        known = model.frozen(images())
        assert not entered
        found = [loss_terms(outputs, mixed(), spec).history for outputs in (model(images(), known), model(images()))]
        assert torch.equal(entered[0], known[1]) and found[0] == pytest.approx(found[1], rel=1e-6)


def test_frozen_outputs_of_other_blocks_are_not_shared_between_runs(spec, where, monkeypatch):
    deep, history = spec.changed(attention=DEEP, lambda_2=0.5), []
    for most in (remembered.MOST_BYTES, 0):
        monkeypatch.setattr(remembered, "MOST_BYTES", most)
        spec.compute(where())
        history.append(deep.compute(where()).history)
    assert "cl_head 2" in history[0]
    assert history[0].iloc[-1].to_dict() == pytest.approx(history[1].iloc[-1].to_dict(), rel=1e-4)


@pytest.fixture
def steps(monkeypatch):
    """Heads and share of the output term with which each loss was taken, of training steps and evaluations."""
    seen, terms_of = SimpleNamespace(training=[], evaluations=[]), compute.loss_terms

    def watch(outputs, targets, spec, heads=None, output_share=1.0):
        terms = terms_of(outputs, targets, spec, heads, output_share)
        kind = seen.training if torch.is_grad_enabled() else seen.evaluations
        kind.append(SimpleNamespace(heads=terms.heads, surest=surest_heads(outputs), share=output_share))
        return terms

    monkeypatch.setattr(compute, "loss_terms", watch)
    return seen


def test_fixed_heads_are_the_surest_on_the_calibration_images_before_training_and_stay_so(spec, where, steps):
    attention = AttentionTerm(blocks=(1, 3), heads="fixed", calibration_images=5, tokens="patches")
    recipe = ONE_STEP.changed(epochs=8, lr=0.05, weight_decay=0.0)
    fixed = spec.changed(attention=attention, recipe=recipe, student=STUDENT.changed(depth=3))
    result = fixed.compute(where())
    pictures, _ = load(DIGITS, "train", where().data_dir)
    chosen = (torch.from_numpy(pictures[[0, 2, 4, 7, 9]]) / 255 - 0.3) / 0.4  # 5 of 10, evenly spaced
    expected = {}
    for name in ("cl", "mim"):
        maps, _ = by_hand(with_fresh_head(getattr(spec, name), DIGITS, 0, where()), chosen)
        expected[name] = {block: int(np.argmax(confidence(over_patches(maps[-block])))) for block in (1, 3)}
    assert len(steps.training) == len(steps.evaluations) == 8
    assert all(step.heads == expected for step in steps.training + steps.evaluations)
    assert any(step.surest != expected for step in steps.training + steps.evaluations)
    assert set(result.history["mim_head"]) == {expected["mim"][1]} and set(result.history["cl_head 3"]) == {expected["cl"][3]}


def test_every_calibration_image_counts_once_in_batches_of_unequal_size(spec, where, monkeypatch):
    of_batch = {3: [0.6, 0.4], 1: [0.0, 1.0]}  # by images: 6 of 0.6 against 6 of 0.4 and 1 of 1.0; by batches head 1 would be ahead
    monkeypatch.setattr(compute, "by_block", lambda model, pictures, measure: 12 * [torch.tensor(of_batch[len(pictures)])])
    monkeypatch.setattr(compute, "FOLLOWED", 3)
    fixed = spec.changed(attention=AttentionTerm(heads="fixed", calibration_images=7))
    found = compute.calibrated_heads(compute.three_networks(fixed, where()), fixed, where())
    assert found == {"cl": {1: 0}, "mim": {1: 0}}


@pytest.mark.parametrize("epochs", [0.0, 1.5, 2.0, 4.0])
def test_the_output_term_grows_linearly_over_the_first_epochs(spec, where, steps, epochs):
    ramped = spec.changed(recipe=ONE_STEP.changed(epochs=4), data=DIGITS.changed(per_class=2), output_ramp_epochs=epochs)
    ramped.compute(where())
    of_two = [1.0 if update >= 2 * epochs else update / (2 * epochs) for update in range(8)]  # 20 images in batches of 10
    assert [step.share for step in steps.training] == pytest.approx(of_two, abs=1e-12)
    assert {step.share for step in steps.evaluations} == {1.0}


@torch.no_grad()
def test_a_share_of_the_output_term_is_a_share_of_its_weight(spec):
    outputs = outputs_of(raw())
    of = {share: loss_terms(outputs, mixed(3, 5), spec.changed(output_weight=0.6), None, share) for share in (0.0, 0.25, 1.0)}
    assert float(of[0.25].output) == float(of[1.0].output) > 0.1
    rest = float(of[1.0].total - 0.6 * of[1.0].output)
    assert [float(of[share].total) for share in of] == pytest.approx([rest + 0.6 * share * float(of[1.0].output) for share in of], rel=1e-9)


@pytest.mark.parametrize(("optimizer", "lr"), [("momentum", 1e-2), ("adamw", 1e-2), ("lars", 1.0)])
def test_a_scale_of_the_teachers_rate_scales_their_step_and_not_the_students(spec, where, watched, optimizer, lr):
    for scale in (1.0, 3.0):
        spec.changed(recipe=ONE_STEP.changed(optimizer=optimizer, lr=lr), teacher_lr_scale=scale).compute(where())
    plain, scaled = ({name: run.after[name].astype(float) - run.before[name] for name in run.before} for run in watched)
    for name, step in plain.items():
        assert scaled[name] == pytest.approx((1.0 if name.startswith("student") else 3.0) * step, rel=1e-3, abs=5e-7), name
    for teacher in ("cl", "mim"):
        assert min(abs(plain[f"{teacher}.{name}"]).max() for name in ("blocks.11.mlp.fc2.weight", "head.weight")) > 1e-5


def test_a_scale_of_the_teachers_rate_holds_at_every_step_for_each_of_their_parameters_once(spec, where, watched):
    rates = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: rates.append({id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]})
    )
    recipe = ONE_STEP.changed(epochs=6, warmup_epochs=2.0, weight_decay=0.1)
    result = spec.changed(recipe=recipe, teacher_lr_scale=0.1).compute(where())
    hook.remove()
    names = {id(parameter): name for name, parameter in watched[0].model.named_parameters() if parameter.requires_grad}
    assert len(rates) == 6 and all(step.keys() == names.keys() for step in rates)
    base = [next(rate for key, rate in step.items() if names[key].startswith("student")) for step in rates]
    for step, lr in zip(rates, base, strict=True):
        assert [step[key] / lr for key in names] == pytest.approx([1.0 if names[key].startswith("student") else 0.1 for key in names])
    assert len(set(base)) == 6 and result.history["lr"].tolist()[:-1] == pytest.approx(base[1:])


@torch.no_grad()
@pytest.mark.parametrize(
    ("readout", "pooled"), [("class", lambda tokens: tokens[:, 0]), ("mean", lambda tokens: tokens[:, 1:].mean(dim=1))]
)
@pytest.mark.parametrize("protocol", list(CUTS))
def test_a_classifier_reads_the_class_token_or_the_mean_of_the_patch_tokens(spec, where, protocol, readout, pooled):
    tuned = Tuned(teacher=spec.cl, data=DIGITS, recipe=ONE_STEP, seed=0, protocol=protocol, readout=readout)
    teacher, cut = compute.ready(spec.cl, readout, tuned, where()).eval(), CUTS[protocol]
    _, tokens = by_hand(teacher, images())
    expected = pooled(tokens) @ teacher.head.weight.double().T + teacher.head.bias
    assert_close(cut.end(teacher, cut.front(teacher, images())).double(), expected, rtol=1e-4, atol=1e-6)
    assert compute.adapt(teacher, "linear") == 10 * (16 + 1)


@torch.no_grad()
def test_each_teacher_has_its_own_readout_in_joint_training(spec, where):
    model = compute.three_networks(spec.changed(readout=Readouts(mim="mean")), where()).eval()
    outputs = model(images())
    for name, pooled in (("cl", lambda tokens: tokens[:, 0]), ("mim", lambda tokens: tokens[:, 1:].mean(dim=1))):
        teacher = getattr(model, name)
        expected = pooled(by_hand(teacher, images())[1]) @ teacher.head.weight.double().T
        assert_close(getattr(outputs, name).double(), expected, rtol=1e-4, atol=1e-6)


def test_a_run_of_another_readout_neither_shares_features_nor_is_taught_with_the_first(spec, where, monkeypatch):
    tuned = Tuned(teacher=spec.mim, data=DIGITS, recipe=ONE_STEP, seed=0, protocol="linear")
    mean, losses = tuned.changed(readout="mean"), []
    for most in (remembered.MOST_BYTES, 0):
        monkeypatch.setattr(remembered, "MOST_BYTES", most)
        losses.append([run.compute(where()).history["loss"].item() for run in (tuned, mean)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0][0] != pytest.approx(losses[0][1], rel=1e-5)
    frozen = compute._frozen(mean.changed(protocol="finetune"), where(parent=lambda run: run.compute(where())))
    _, tokens = by_hand(frozen, images())
    expected = tokens[:, 1:].mean(dim=1) @ frozen.head.weight.double().T + frozen.head.bias
    assert_close(frozen(images()).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": {"blocks": []}}, r"attention\.blocks"),
        ({"attention": {"blocks": [0]}}, r"attention\.blocks"),
        ({"attention": {"blocks": [1, 1]}}, r"attention: blocks=\[1, 1\]; allowed: increasing numbers, each block once"),
        ({"attention": {"blocks": [2, 1]}}, r"attention: blocks=\[2, 1\]; allowed: increasing"),
        ({"attention": {"blocks": [1, 3]}}, r"attention\.blocks=\[1, 3\]; allowed: at most 2, the depth of student"),
        ({"attention": {"blocks": [13]}, "student": {"depth": 14}}, r"blocks=\[13\]; allowed: at most 12, the depth of cl"),
        ({"attention": {"heads": "surest"}}, r"attention\.heads: got 'surest'"),
        ({"attention": {"calibration_images": 64}}, r"calibration_images=64 with heads='batch', which needs none; allowed: 256"),
        ({"attention": {"tokens": "class"}}, r"attention\.tokens: got 'class'"),
        ({"readout": {"mim": "token"}}, r"readout\.mim: got 'token'"),
        ({"output_ramp_epochs": 2.5}, r"output_ramp_epochs=2\.5; allowed: at most recipe\.epochs=2"),
        ({"output_ramp_epochs": -1.0}, r"output_ramp_epochs: got -1\.0"),
        ({"teacher_lr_scale": 0.0}, r"teacher_lr_scale: got 0\.0"),
    ],
)
def test_an_option_out_of_its_range_or_without_effect_is_refused(fields, message):
    with pytest.raises(SpecError, match=message):
        load_study("dual_ssl_kd", "smoke", overrides=fields)


def test_a_ramp_of_a_term_without_weight_is_refused(spec):
    with pytest.raises(ValueError, match=r"output_ramp_epochs=1\.0 with output_weight=0\.0, so that nothing grows; allowed: 0\.0"):
        spec.changed(output_weight=0.0, output_ramp_epochs=1.0)


def test_overrides_reach_the_runs_that_have_the_option_and_every_ablation_can_be_built():
    options = {
        "attention": {"blocks": [1, 2], "heads": "fixed", "calibration_images": 16, "tokens": "patches"},
        "readout": {"mim": "mean"},
        "output_ramp_epochs": 1.0,
        "teacher_lr_scale": 0.5,
    }
    settings = load_study("dual_ssl_kd", "smoke", overrides=options).settings
    changed = load_study("dual_ssl_kd", "smoke").settings
    ours = run_student(settings, method="ours", seed=0)
    assert ours.attention == AttentionTerm(blocks=(1, 2), heads="fixed", calibration_images=16, tokens="patches")
    assert (ours.readout, ours.output_ramp_epochs, ours.teacher_lr_scale) == (Readouts(mim="mean"), 1.0, 0.5)
    assert {variant: run_ablation(settings, variant=variant, seed=0).output_ramp_epochs for variant in ABLATIONS} == {
        variant: float(variant != "no output term") for variant in ABLATIONS
    }
    for method, same in {"baseline": True, "kd-cl": True, "kd-mim": False, "two-frozen": False, "ours": False}.items():
        assert (run_student(settings, method=method, seed=0).id == run_student(changed, method=method, seed=0).id) is same
    readouts = [run_tuned(settings, protocol="linear", teacher=name, seed=0).readout for name in ("cl", "mim")]
    assert readouts == ["own", "mean"]


@pytest.mark.parametrize("profile", ["smoke", "quick", "cifar", "paper"])
def test_linear_evaluation_is_plain_momentum_on_a_cosine_to_zero(spec, where, watched, profile, tmp_path):
    """DINO's eval_linear.py: torch's SGD of momentum 0.9 without Nesterov's form and without decay, CosineAnnealingLR to 0."""
    short = {"epochs": 3, "batch_size": 10, "lr": 0.3, "precision": "fp32", "augment": Augment(), "eval_every": 1}
    recipe = without_runs(profile, tmp_path).study.settings.linear.changed(**short)
    data = DIGITS.changed(per_class=2)
    Tuned(teacher=spec.cl, data=data, recipe=recipe, seed=0, protocol="linear").compute(where())
    teacher = with_fresh_head(spec.cl, data, 0, where()).eval()
    optimizer = torch.optim.SGD(teacher.head.parameters(), lr=0.3, momentum=0.9)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6, eta_min=0)
    batches = training_batches(data, recipe, seed=0, device="cpu", data_dir=where().data_dir)
    for pictures, labels in (batch for epoch in range(3) for batch in batches.epoch(epoch)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(teacher(pictures), labels).backward()
        optimizer.step()
        cosine.step()
    assert_close(torch.from_numpy(watched[0].after["head.weight"]), teacher.head.weight.detach(), rtol=1e-4, atol=1e-6)


def test_the_histogram_of_heads_counts_those_of_every_taught_block():
    history = pd.DataFrame(
        {"method": "ours", "epoch": [1, 2], "ce_student": 1.0}
        | {name: heads for name, heads in (("cl_head", [0, 0]), ("cl_head 2", [3, 0]), ("mim_head", [1, 2]), ("mim_head 2", [1, 1]))}
    )
    settings = SimpleNamespace(attention=DEEP)
    results = SimpleNamespace(runs=lambda table: [], history=lambda table: history, study=SimpleNamespace(settings=settings))
    _, right = dual_ssl_kd.figure_confidence(results).axes
    heights = [{round(bar.get_x() + bar.get_width() / 2 - 1): bar.get_height() for bar in bars} for bars in right.containers]
    assert heights == [{0: 3, 3: 1}, {1: 3, 2: 1}]
    assert right.get_xlabel() == "head of each of the blocks 1, 2 from the end"


def test_the_explorer_of_weights_shows_the_head_that_the_settings_choose():
    """Head 1 is the surest over all tokens of the last block, head 2 over its patches, head 1 again in the block before."""
    one_patch, even = torch.eye(5)[[1] * 5], torch.full((5, 5), 0.2)
    to_class, leaning = 0.9 * torch.eye(5)[[0] * 5] + 0.1 * even, 0.6 * one_patch + 0.4 * even
    maps = torch.stack([torch.stack([one_patch, even]), torch.stack([to_class, leaning])])[None]
    run = SimpleNamespace(arrays={"attention": maps.numpy()}, metrics={"prefix": 1})
    shares, heads = {"lambda_1": 0.5, "lambda_2": 0.5, "image": 1}, {}
    cases = {"last": AttentionTerm(), "patches": AttentionTerm(tokens="patches"), "before": AttentionTerm(blocks=(2,))}
    for name, attention in cases.items():
        title = dual_ssl_kd.draw_targets(run, run, **shares, attention=attention).axes[1].get_title()
        heads[name] = title.partition("\n")[0]
    assert heads == {"last": "MIM (MAE), head 1", "patches": "MIM (MAE), head 2", "before": "MIM (MAE), head 1"}


# ------------------------------------------------------------------------------------------------ specs


@pytest.mark.parametrize(("method", "names"), [("baseline", []), ("kd-cl", ["cl"]), ("kd-mim", ["mim"]), ("two-frozen", ["cl", "mim"])])
@pytest.mark.parametrize("dataset", [None, "few"])
def test_a_taught_students_parents_are_its_fine_tuned_teachers(study, method, names, dataset):
    settings = study.settings
    run = run_downstream(settings, method=method, dataset=dataset, seed=3) if dataset else run_student(settings, method=method, seed=3)
    assert isinstance(run, Taught)
    assert [parent.teacher for parent in run.parents()] == [settings.teachers[name] for name in names]
    assert all(p.protocol == "finetune" and p.seed == 3 and p.data.per_class == run.data.per_class for p in run.parents())
    if not dataset:
        assert [p.id for p in run.parents()] == [run_tuned(settings, protocol="finetune", teacher=n, seed=3).id for n in names]


def test_the_documents_method_has_no_parents_and_its_weights(study, printed):
    run = run_student(study.settings, method="ours", seed=0)
    assert isinstance(run, Joint) and run.parents() == []
    known = {row["method"] if row["method"] != "all" else row["metric"]: float(row["value"]) for row in printed if row["table"] == "prose"}
    assert (run.lambda_1, run.lambda_2) == (known["lambda_1"], known["lambda_2"]) == (0.5, 0.0)
    assert run.output_weight == run.attention_weight == 1


def test_all_students_share_their_data_recipe_and_network(study):
    runs = [run_student(study.settings, method=name, seed=0) for name in tables.METHODS]
    assert len({run.id for run in runs}) == 5
    assert all((run.student, run.data, run.recipe) == (runs[0].student, runs[0].data, runs[0].recipe) for run in runs)


def test_teachers_of_different_normalisation_are_refused_since_one_batch_serves_both(study):
    other = Teacher(origin=study.settings.mim.untrained().origin.changed(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    with pytest.raises(SpecError, match=r"mim: pretrained with .*0\.5.* one batch serves all networks, so allowed: the same, or a mean"):
        study.settings.changed(mim=other)


@pytest.mark.parametrize("name", ["cl", "mim", "untrained"])
def test_a_reference_under_the_name_of_another_model_of_figure_1_is_refused(study, name):
    with pytest.raises(SpecError, match=rf"references: {name}; allowed: other names"):
        study.settings.changed(references={name: study.settings.mim})


@pytest.mark.parametrize("name", ["recipe", "finetune", "linear", "partial1"])
def test_a_moving_average_that_no_run_would_use_is_refused(name):
    with pytest.raises(SpecError, match=r"recipe\.ema_decay=0\.9; allowed: None"):
        load_study("dual_ssl_kd", "smoke", overrides={name: {"ema_decay": 0.9}})


@pytest.mark.parametrize("protocol", ["finetune", "linear", "partial1"])
def test_each_protocol_has_a_recipe_of_its_own(study, protocol):
    run = run_tuned(study.settings, protocol=protocol, teacher="mim", seed=0)
    assert (run.protocol, run.teacher, run.recipe) == (protocol, study.settings.mim, getattr(study.settings, protocol))


@pytest.mark.parametrize("variant", ABLATIONS)
def test_an_ablation_changes_what_its_name_says_and_nothing_else(study, variant):
    ours, other = run_student(study.settings, method="ours", seed=0), run_ablation(study.settings, variant=variant, seed=0)
    field, _, value = variant.partition(" = ")
    if variant.startswith("no "):
        field, value = f"{variant.split()[1]}_weight", 0
    assert {name for name in Joint.model_fields if getattr(ours, name) != getattr(other, name)} == {field}
    assert getattr(other, field) == float(value)


def test_names_of_downstream_sets_that_do_not_match_are_refused():
    for fields in ({"stands_for": {"other": "VOC2007"}}, {"downstream": {"other": DIGITS.model_dump(mode="json")}}):
        with pytest.raises(SpecError, match="stands_for: other; allowed"):
            load_study("dual_ssl_kd", "smoke", overrides=fields)


@torch.no_grad()
@pytest.mark.parametrize("term", ["output", "attention"])
def test_a_term_switched_off_is_followed_but_not_in_the_sum(study, term):
    leaves = raw()
    terms = loss_terms(outputs_of(leaves), mixed(3, 5), run_ablation(study.settings, variant=f"no {term} term", seed=0))
    assert terms.history[term] > 0
    rest = sum(terms.history[name] for name in TERMS if name != term)
    assert float(terms.total) == pytest.approx(rest, rel=1e-6)


# ------------------------------------------------------------------------------------------------ smoke study, tables


def test_every_run_of_the_smoke_study_is_stored(study, results):
    assert set(study.status()["state"]) == {"stored"} and len(results.stored) == len(study.specs)
    for table in ("adapted", "students", "ablation", "downstream"):
        assert results.frame(table)["top1"].between(0, 100).all()


def test_table_1_holds_every_published_row(results, printed):
    table = dual_ssl_kd.table_1(results)
    rows = {
        (r["method"], r["setting"].removeprefix("teacher=")): float(r["value"]) for r in printed if r["table"] == "table1" and r["setting"]
    }
    assert len(rows) == 6 and table.set_index(["method", "teacher"])["published"].to_dict() == rows
    millions = {r["method"]: float(r["value"]) for r in printed if r["metric"] == "trainable_params"}
    assert len(millions) == 3 and dict(zip(table["method"], table["published, M"], strict=True)) == millions
    assert list(table["difference"]) == list(table["measured"] - table["published"])


def test_table_1_counts_what_is_trained(results):
    width, hidden = 64, 256
    block = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width + 2 * 2 * width
    head = 10 * (width + 1)
    table = dual_ssl_kd.table_1(results).groupby("method")["trainable parameters"].unique()
    assert table["linear evaluation"] == [head] and table["Partial-1"] == [block + 2 * width + head]
    around = 2 * width + head + width + (64 + 1) * width + (3 * 16 + 1) * width
    patches = results.study.settings.data.image_size // 4
    assert table["fine-tuning"] == [12 * block + around - (64 - patches**2) * width]


def test_table_2_holds_every_published_row_and_the_constant_is_that_of_the_file(results, printed):
    keys = {"teacher=none;": "baseline", "teacher=DINO (fine": "kd-cl", "teacher=MAE (fine": "kd-mim", "teacher=DINO+MAE": "ours"}
    rows = [row for row in printed if row["table"] == "table2"]
    known = {method: float(row["value"]) for row in rows for start, method in keys.items() if row["setting"].startswith(start)}
    assert len(known) == len(rows) == 4 and known == tables.PUBLISHED
    table = dual_ssl_kd.table_2(results).set_index("method")
    assert table["published"].dropna().to_dict() == {tables.METHODS[name]: value for name, value in known.items()}
    assert list(table.index) == list(tables.METHODS.values())
    gains = {row["method"]: float(row["value"]) for row in printed if row["metric"] == "top1_gain"}
    assert known["ours"] - known["baseline"] == pytest.approx(gains["Ours_minus_Baseline"])
    assert known["ours"] - (known["kd-cl"] + known["kd-mim"]) / 2 == pytest.approx(gains["Ours_minus_KD"])


def test_an_ablations_change_is_its_difference_from_ours_of_the_same_seed(results):
    table = dual_ssl_kd.table_ablation(results).set_index("variant")
    ours = results.run("students", method="ours").metrics["top1"]
    assert list(table.index) == ["ours", *ABLATIONS] and table.loc["ours", "measured"] == ours
    for variant in ABLATIONS:
        assert table.loc[variant, "change"] == results.run("ablation", variant=variant).metrics["top1"] - ours
    assert math.isnan(table.loc["ours", "change"])


def test_table_of_downstream_sets_names_the_documents_set(results):
    table = dual_ssl_kd.table_downstream(results)
    assert list(table["method"]) == [tables.METHODS[name] for name in ("kd-cl", "kd-mim", "ours")]
    assert set(table["dataset"]) == {"few"} and set(table["document's set"]) == {"DTD"}


def test_single_teacher_distillation_is_the_mean_of_both_by_seed():
    rows = [("kd-cl", 0, 50.0), ("kd-mim", 0, 60.0), ("kd-cl", 1, 70.0), ("kd-mim", 1, 72.0), ("ours", 0, 80.0), ("ours", 1, 90.0)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "top1"])
    found = dual_ssl_kd.frame_best_kd(SimpleNamespace(frame=lambda table: frame))
    assert found.query("method == 'kd'").set_index("seed")["top1"].to_dict() == {0: 55.0, 1: 71.0}
    assert len(found) == len(rows) + 2


def of_depth(depth):
    """Results with a distance for each image, block and head: block b (from 1), with heads that cancel out and images 100 apart."""
    values = np.arange(1, depth + 1)[None, :, None] + np.array([-0.5, 0.5]) + 100.0 * np.arange(3)[:, None, None]
    return SimpleNamespace(runs=lambda table: [({"model": "cl"}, SimpleNamespace(arrays={"distance": values}))])


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [
        (12, [9, 10, 11, 12]),
        (6, [5, 6]),
        (3, [3]),
        (7, [6, 7]),
        (2, [2]),
    ],
)
def test_deep_distances_take_the_last_third_of_the_blocks(depth, blocks):
    ((point, found),) = dual_ssl_kd.deep_distances(of_depth(depth))
    assert point == {"model": "cl"} and found.tolist() == [np.mean(blocks) + 100 * image for image in range(3)]
    (row,) = dual_ssl_kd.frame_deep(of_depth(depth)).to_dict("records")
    assert row["model"] == "cl" and row["distance by image"].tolist() == found.tolist() and row["distance"] == found.mean()


def test_the_table_of_distances_is_that_of_the_stored_maps(study, results):
    table = dual_ssl_kd.table_distance(results).set_index("model")
    names = {"cl": "CL (DINO)", "mim": "MIM (MAE)", "supervised": "supervised", "untrained": "untrained"}
    assert list(table.index) == list(names.values()) and list(study.settings.models) == list(names)
    assert set(table["images"]) == {study.settings.looked_at} == {8} and set(table["image size, px"]) == {16}
    for point, run in results.runs("distances"):
        assert table.loc[names[point["model"]], "distance, px"] == pytest.approx(run.arrays["distance"][:, 8:].mean(), rel=1e-5)


def test_single_teacher_distillation_lacks_a_seed_that_lacks_one_of_the_two():
    rows = [("kd-cl", 0, 50.0), ("kd-mim", 0, math.nan), ("kd-cl", 1, 70.0), ("kd-mim", 1, 72.0)]
    frame = pd.DataFrame(rows, columns=["method", "seed", "top1"])
    found = dual_ssl_kd.frame_best_kd(SimpleNamespace(frame=lambda table: frame)).query("method == 'kd'").set_index("seed")["top1"]
    assert math.isnan(found[0]) and found[1] == 71.0


# ------------------------------------------------------------------------------------------------ cost by formula


@pytest.mark.parametrize(("protocol", "trained"), [("finetune", 86_567_656), ("linear", 769_000), ("partial1", 7_858_408)])
def test_the_formula_gives_the_parameters_of_vit_b_that_the_document_rounds(protocol, trained):
    sizes = {"image_size": 224, "channels": 3, "classes": 1000}
    assert tables._trained(Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16), protocol, **sizes) == trained


@pytest.mark.parametrize("protocol", ["finetune", "linear", "partial1"])
def test_the_formula_counts_what_a_module_of_another_width_and_ratio_trains(protocol):
    vit = Vit(embed_dim=24, depth=3, num_heads=3, patch_size=2, mlp_ratio=3.0)
    module = build(vit, image_size=8, channels=1, num_classes=7)
    assert tables._trained(vit, protocol, image_size=8, channels=1, classes=7) == compute.adapt(module, protocol)


def test_trained_parameters_are_counted_as_the_formula_says(results):
    table = dual_ssl_kd.table_cost(results)
    assert list(table["method"].unique()) == list(tables.PROTOCOLS.values()) and len(table) == 6
    assert table["trained"].tolist() == table["trained, by formula"].tolist()


def test_the_formula_is_a_dash_where_the_classes_are_not_known(tmp_path):
    table = dual_ssl_kd.table_cost(without_runs("paper", tmp_path))
    assert len(table) == 6 and table["trained, by formula"].isna().all()


# ------------------------------------------------------------------------------------------------ figures


def colours_of(axes):
    return {line.get_label(): line.get_color() for line in axes.get_lines()}


def test_a_network_has_one_colour_on_both_sides_of_the_terms(results):
    terms, accuracies = (colours_of(axes) for axes in dual_ssl_kd.figure_terms(results).axes)
    assert list(terms) == ["CE, student", "CE, CL", "CE, MIM", "KL, output", "KL, attention"]
    pairs = {"CE, student": "student", "CE, CL": "CL (DINO)", "CE, MIM": "MIM (MAE)"}
    assert {name: terms[name] for name in pairs} == {name: accuracies[other] for name, other in pairs.items()}
    assert len(set(terms.values())) == 5


def test_the_terms_drawn_are_those_of_the_history(results):
    rows = results.history("students").query("method == 'ours'").dropna(subset="ce_student")
    left, _ = dual_ssl_kd.figure_terms(results).axes
    drawn_terms = {line.get_label(): list(line.get_ydata()) for line in left.get_lines()}
    for label, column in {"CE, CL": "ce_cl", "CE, MIM": "ce_mim", "KL, output": "output", "KL, attention": "attention"}.items():
        assert drawn_terms[label] == rows[column].tolist()


def test_figure_1_names_its_own_images(results):
    (axes,) = dual_ssl_kd.figure_distance(results).axes
    assert axes.get_title() == "8 test images of 16 px, one training each"


# ------------------------------------------------------------------------------------------------ findings


def without_runs(profile, tmp_path):
    return load_study("dual_ssl_kd", profile, results_dir=str(tmp_path), data_dir=str(tmp_path)).execute(mode="read-only")


def distances(**models):
    """Results with a distance for each of four images, block and head: the model's, give or take a pixel from image to image."""
    steps = np.array([-1.0, 0.0, 0.0, 1.0])[:, None, None] * np.ones((4, 3, 2))
    runs = [({"model": name}, SimpleNamespace(arrays={"distance": value + slope * steps})) for name, (value, slope) in models.items()]
    settings = SimpleNamespace(distance_data=SimpleNamespace(image_size=8), cl=SimpleNamespace(model=MICRO, channels=1))
    maps = [({"model": "cl"}, SimpleNamespace(metrics={"patch": 4}))]
    return SimpleNamespace(runs=lambda table: maps if table == "maps" else runs, study=SimpleNamespace(settings=settings))


def test_the_finding_of_figure_1_says_who_attends_farther_with_its_images():
    found = dual_ssl_kd.finding_distance(distances(cl=(9.0, 2.0), mim=(6.0, 1.0), untrained=(9.0, 1.0)))
    # differences from MIM are 2, 3, 3, 4: 3 ± t(0.975, 3 degrees of freedom) * sqrt(2 / 3) / 2 = 3 ± 3.182 * 0.408
    assert "CL (DINO) attends farther than MIM (MAE) (+3.00 px, 95 % interval +1.70 to +4.30, n = 4 images of one training)" in found
    assert "CL (DINO) and the untrained network are not told apart (+0.00 px" in found
    # four places 4 px apart: from each two neighbours, one across, and itself
    assert f"spread evenly over the image would have {(4 + 4 + math.sqrt(32)) / 4:.1f} px" in found
    assert "Test images of 8 px, one training of each network" in found


def test_the_finding_of_figure_1_speaks_against_the_document_where_the_numbers_do():
    found = dual_ssl_kd.finding_distance(distances(cl=(4.0, 1.0), mim=(6.0, 1.5)))
    assert "CL (DINO) attends nearer than MIM (MAE) (-2.00 px" in found and "untrained" not in found


def by_seed(**top1):
    """Name, seed and top-1: three seeds about a point apart, so that differences of two names vary by 0.1 for each place between them."""
    return [(name, seed, value + seed + 0.1 * place * (seed - 1)) for place, (name, value) in enumerate(top1.items()) for seed in range(3)]


def adapted(**top1):
    """Rows of Table 1; the names are PROTOCOL_TEACHER."""
    return [{**dict(zip(("protocol", "teacher"), name.split("_"), strict=True)), "seed": s, "top1": v} for name, s, v in by_seed(**top1)]


def students(cl, mim, **top1):
    """Rows of Table 2; the teachers of ours reach about `cl` and `mim` at seed 0."""
    joint = {"ours": lambda seed: {"top1 cl": cl + 1.1 * seed - 0.1, "top1 mim": mim + seed}}
    return [
        {"method": name.replace("_", "-"), "seed": seed, "top1": value, **joint.get(name, lambda seed: {})(seed)}
        for name, seed, value in by_seed(**top1)
    ]


def shown(**frames):
    return SimpleNamespace(
        frame=lambda table: pd.DataFrame(frames[table]), study=SimpleNamespace(settings=SimpleNamespace(stands_for={"few": "DTD"}))
    )


TABLE_1 = {"finetune_cl": 70.0, "linear_cl": 80.0, "partial1_cl": 75.0, "finetune_mim": 85.0, "linear_mim": 60.0, "partial1_mim": 85.0}


def test_the_finding_of_table_1_says_whom_partial_1_rescues():
    found = dual_ssl_kd.finding_adapted(shown(adapted=adapted(**TABLE_1)))
    cl, mim = found.split(" MIM (MAE): ")
    assert "linear evaluation is above fine-tuning (+10.0 points" in cl and "Partial-1 is below linear evaluation (-5.0 points" in cl
    assert "linear evaluation is below fine-tuning (-25.0 points" in mim and "Partial-1 is above linear evaluation (+25.0 points" in mim


def test_the_finding_of_the_teachers_blames_them_for_the_gap_where_those_of_ours_are_better():
    frames = {"adapted": adapted(**TABLE_1), "students": students(78.0, 84.0, ours=70.0)}
    found = dual_ssl_kd.finding_teachers(shown(**frames))
    assert "CL (DINO): fine-tuned for KD 71.0 %, trained with the student in ours 79.0 % (+8.0 points" in found
    assert "the fine-tuned one is below its linear evaluation (-10.0 points" in found
    assert found.endswith("More accurate in ours on average: CL (DINO). The gap between ours and KD partly measures the teachers.")


def test_the_finding_of_the_teachers_is_careful_where_their_difference_is_not_clear():
    frames = {"adapted": adapted(**TABLE_1), "students": students(70.0, 84.0, ours=70.0)}
    frames["students"][1]["top1 cl"] += 3
    found = dual_ssl_kd.finding_teachers(shown(**frames))
    assert "+1.0 points, 95 % interval -3.3 to +5.3" in found  # -0.1, 3, 0.1: 1 ± 4.303 * 1.735 / sqrt(3)
    assert found.endswith("More accurate in ours on average: CL (DINO). The gap between ours and KD may partly measure the teachers.")


def test_the_finding_of_the_teachers_clears_them_where_none_is_better_in_ours():
    frames = {"adapted": adapted(**TABLE_1), "students": students(60.0, 84.0, ours=70.0)}
    found = dual_ssl_kd.finding_teachers(shown(**frames))
    assert found.endswith("No teacher is stronger in ours than in KD, so that a gap in favour of ours is not the teachers'.")


@pytest.mark.parametrize(("ours", "side"), [(70.0, "above"), (50.0, "below")])
def test_the_finding_of_table_2_compares_ours_with_the_mean_of_both_distillations(ours, side):
    frame = students(0.0, 0.0, baseline=60.0, kd_cl=58.0, kd_mim=64.0, two_frozen=62.0, ours=ours)
    found = dual_ssl_kd.finding_students(shown(students=frame))
    assert f"ours is {side} KD from one teacher (mean of both) ({ours - 61:+.1f} points" in found
    assert f"ours is {side} KD from both, frozen ({ours - 62:+.1f} points" in found
    assert f"ours is {side} the baseline ({ours - 60:+.1f} points" in found


@pytest.mark.parametrize(("ours", "side"), [(70.0, "above"), (50.0, "below")])
def test_the_finding_of_figure_3_names_the_documents_set(ours, side):
    frame = [row | {"dataset": "few"} for row in students(0.0, 0.0, kd_cl=58.0, kd_mim=64.0, ours=ours)]
    found = dual_ssl_kd.finding_downstream(shown(downstream=frame))
    assert f"few (for DTD): ours is {side} KD from one teacher (mean of both) ({ours - 61:+.1f} points" in found


FINDINGS = ("finding_distance", "finding_adapted", "finding_students", "finding_teachers", "finding_downstream")


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_without_runs_says_so_and_one_with_runs_does_not(name, results, tmp_path):
    assert getattr(dual_ssl_kd, name)(without_runs("smoke", tmp_path)) == "Not measured yet."
    assert "easured yet" not in getattr(dual_ssl_kd, name)(results)


def test_every_set_of_paper_is_read_in_a_way_that_its_recipe_honours(tmp_path):
    """RandAugment works on streamed images, and only folders are streamed."""
    settings = without_runs("paper", tmp_path).study.settings
    for data in (settings.data, *settings.downstream.values()):
        assert settings.recipe.augment.randaugment and not data.resident and data.source.startswith("folder/")


def test_attention_to_the_class_token_alone_counts_as_even_in_a_confidence_without_it():
    maps = torch.zeros(1, 1, 5, 5)
    maps[..., 0] = 1
    assert float(attention_confidence(maps)) == 1
    assert float(attention_confidence(maps, prefix_tokens=1)) == pytest.approx(1 / 4)


# ------------------------------------------------------------------------------------------------ explorers


def test_stored_maps_are_distributions_of_the_shown_images(study, results):
    for _, run in results.runs("maps"):
        maps = run.arrays["attention"].astype(float)
        assert maps.shape == (study.settings.shown, 12, maps.shape[2], 17, 17) and len(run.arrays["images"]) == study.settings.shown
        assert np.allclose(maps.sum(axis=-1), 1, atol=0.01)


def test_the_explorer_of_attention_draws_every_model_and_head_at_the_edges_of_its_controls(results):
    explorer = dual_ssl_kd.explore_attention(results)
    edges = {name: (control.min, control.max) for name, control in explorer.controls.items() if name != "model"}
    runs = {point["model"]: run for point, run in results.runs("maps")}
    assert set(explorer.controls["model"].options) == set(runs) == {"cl", "mim", "supervised", "untrained"}
    assert edges == {"image": (1, 2), "patch": (1, 16), "block": (1, 12), "head": (1, runs["cl"].arrays["attention"].shape[2])}
    for name, run in runs.items():
        for head in edges["head"]:
            for end in (0, 1):
                image, patch, block = (edges[control][end] for control in ("image", "patch", "block"))
                figure = dual_ssl_kd.draw_attention(run, name, image=image, patch=patch, block=block, head=head)
                assert isinstance(figure, Figure)
                row = run.arrays["attention"][image - 1, block - 1, head - 1, patch, 1:].astype(float)
                drawn_row = np.asarray(figure.axes[1].get_images()[0].get_array()).ravel()
                assert np.allclose(drawn_row, row / row.sum())
                ways = [4 * math.dist(divmod(patch - 1, 4), divmod(key, 4)) for key in range(16)]
                assert figure.axes[1].get_title().endswith(f"head {head}: {float(row @ ways / row.sum()):.1f} px")


def test_the_explorer_of_weights_draws_both_targets_at_the_edges_of_its_controls(study, results):
    explorer = dual_ssl_kd.explore_weights(results)
    assert explorer.controls["lambda_1"].value == 0.5 and explorer.controls["lambda_2"].value == 0
    cl, mim = (results.run("maps", model=name) for name in ("cl", "mim"))
    for image in (explorer.controls["image"].min, explorer.controls["image"].max):
        for lambda_1, lambda_2 in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5)):
            figure = dual_ssl_kd.draw_targets(cl, mim, lambda_1=lambda_1, lambda_2=lambda_2, image=image)
            assert isinstance(figure, Figure)
            widths = [bar.get_width() for bar in figure.axes[2].patches]
            assert widths == [lambda_1, 1 - lambda_1, lambda_2, 1 - lambda_2]
            assert figure.axes[1].get_title().startswith("MIM (MAE), head ") and figure.axes[1].get_title().endswith("student head 2")


def test_there_is_nothing_to_explore_before_the_runs_are_stored(study, tmp_path):
    empty = SimpleNamespace(runs=lambda table: [], study=study)
    assert type(dual_ssl_kd.explore_attention(empty)).__name__ == type(dual_ssl_kd.explore_weights(empty)).__name__ == "NothingToExplore"
