"""Options of the attention term, the output term and the readouts: loops over blocks and heads, steps watched, what is refused."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.testing import assert_close

from tests.papers.dual_ssl_kd.support import (
    DEEP,
    DIGITS,
    ONE_STEP,
    STUDENT,
    confidence,
    divergence,
    images,
    mixed,
    outputs_of,
    raw,
    without_runs,
)
from vitlib import load_study
from vitlib.computing import result_of
from vitlib.inputs.data import training_batches
from vitlib.inputs.sources import load
from vitlib.methods.attention import AttentionTap, attention_maps
from vitlib.papers.dual_ssl_kd import compute
from vitlib.papers.dual_ssl_kd.ends import CUTS
from vitlib.papers.dual_ssl_kd.joint import loss_terms, surest_heads
from vitlib.papers.dual_ssl_kd.specs import ABLATIONS, AttentionTerm, Readouts, Tuned, run_ablation, run_student, run_tuned
from vitlib.recipe import Augment
from vitlib.spec import SpecError
from vitlib.teachers.task import with_fresh_head
from vitlib.training import remembered


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
        result_of(spec, where())
        history.append(result_of(deep, where()).history)
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
    result = result_of(fixed, where())
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
    result_of(ramped, where())
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
        result_of(spec.changed(recipe=ONE_STEP.changed(optimizer=optimizer, lr=lr), teacher_lr_scale=scale), where())
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
    result = result_of(spec.changed(recipe=recipe, teacher_lr_scale=0.1), where())
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
        losses.append([result_of(run, where()).history["loss"].item() for run in (tuned, mean)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0][0] != pytest.approx(losses[0][1], rel=1e-5)
    frozen = compute.frozen_teacher(mean.changed(protocol="finetune"), where(parent=lambda run: result_of(run, where())))
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


@pytest.mark.parametrize("profile", ["smoke", "quick", "tiny", "paper"])
def test_linear_evaluation_is_plain_momentum_on_a_cosine_to_zero(spec, where, watched, profile, tmp_path):
    """DINO's eval_linear.py: torch's SGD of momentum 0.9 without Nesterov's form and without decay, CosineAnnealingLR to 0."""
    short = {"epochs": 3, "batch_size": 10, "lr": 0.3, "precision": "fp32", "augment": Augment(), "eval_every": 1}
    recipe = without_runs(profile, tmp_path).study.settings.linear.changed(**short)
    data = DIGITS.changed(per_class=2)
    result_of(Tuned(teacher=spec.cl, data=data, recipe=recipe, seed=0, protocol="linear"), where())
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
