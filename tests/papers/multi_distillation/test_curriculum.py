"""Experiment 2: losses taken in turn, repeated batches, a kill in the middle."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.papers.multi_distillation.support import DIGITS, ONE_STEP, SPEC, computed
from tests.support import assert_same_result
from vitlib.inputs.data import training_batches
from vitlib.papers.multi_distillation.search.settings import run_curriculum, run_prior_equal
from vitlib.papers.multi_distillation.training import curriculum
from vitlib.papers.multi_distillation.training.curriculum import Repeated, groups_at
from vitlib.recipe import Augment


@pytest.mark.parametrize("updates", [3, 9, 30, 31, 32])
def test_each_loss_gets_a_third_of_the_updates_in_its_order(updates):
    together, successive, phases = (
        [groups_at(order, update, updates) for update in range(updates)] for order in ("together", "successive", "phases")
    )
    assert together == [("kd", "rkd", "skd")] * updates
    assert successive == ([("kd",), ("rkd",), ("skd",)] * updates)[:updates]
    assert phases == sorted(phases) and set(phases) == {("kd",), ("rkd",), ("skd",)}
    assert all(abs(count - updates / 3) < 1 for count in Counter(phases).values())


@pytest.mark.parametrize("order", ["together", "successive", "phases"])
def test_a_training_takes_its_losses_in_turn(where, monkeypatch, order):
    """Three epochs of three batches: which loss each update is on, and on which images."""
    seen, loss_terms = [], curriculum.loss_terms

    def watch(own, taught, targets, objective, groups):
        seen.append((groups, targets.argmax(1).tolist()))
        return loss_terms(own, taught, targets, objective, groups)

    monkeypatch.setattr(curriculum, "loss_terms", watch)
    computed(SPEC.changed(order=order, recipe=ONE_STEP.changed(epochs=3, batch_size=10)), where())
    groups, labels = zip(*seen[::2], strict=True)
    assert seen[::2] == seen[1::2]  # both peers
    repeats = 3 if order == "successive" else 1
    assert len(groups) == 9 * repeats
    batches = [labels[first : first + repeats] for first in range(0, len(labels), repeats)]
    assert all(len(set(map(tuple, batch))) == 1 for batch in batches) and len({tuple(batch[0]) for batch in batches}) == 9
    each = [("kd",), ("rkd",), ("skd",)]
    assert (
        list(groups)
        == {"together": [("kd", "rkd", "skd")] * 9, "successive": each * 9, "phases": [g for g in each for _ in range(3)]}[order]
    )


@pytest.mark.parametrize("times", [1, 3])
def test_repeated_batches_go_on_in_the_middle(times):
    recipe = ONE_STEP.changed(batch_size=10, augment=Augment(crop=1, erasing=0.5))
    batches = training_batches(DIGITS, recipe, seed=0, device="cpu", data_dir=Path())
    repeated = Repeated(batches, times)
    assert repeated.steps == 4 * times and repeated.images == 40
    for epoch in (0, 1):
        whole = list(repeated.epoch(epoch))
        singles = list(batches.epoch(epoch))
        assert len(whole) == repeated.steps
        for step, (images, labels) in enumerate(whole):
            assert torch.equal(images, singles[step // times][0]) and torch.equal(labels, singles[step // times][1])
        for start in range(repeated.steps + 1):
            tail = list(repeated.epoch(epoch, start))
            assert len(tail) == len(whole) - start
            assert all(
                torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) for one, other in zip(tail, whole[start:], strict=True)
            )


@pytest.mark.parametrize(
    ("order", "fields", "stop"),
    [
        ("together", {"mixup": 0.8}, 4),
        ("together", {"equal_step": 2.0}, 4),
        ("phases", {"mixup": 0.8}, 4),
        ("successive", {"augment": Augment(crop=1, erasing=0.5)}, 5),
        ("successive", {"augment": Augment(crop=1, erasing=0.5)}, 12),
    ],
)
def test_a_run_killed_in_the_middle_ends_as_one_that_was_not(where, tmp_path, order, fields, stop):
    step = {"equal_step": fields.get("equal_step")}
    recipe = ONE_STEP.changed(batch_size=10, epochs=2, **{name: value for name, value in fields.items() if name not in step})
    spec, steps = SPEC.changed(order=order, recipe=recipe, **step), []

    def tick(*_):
        steps.append(0)
        if len(steps) == stop:
            raise KeyboardInterrupt

    whole = computed(spec, where())
    with pytest.raises(KeyboardInterrupt):
        computed(spec, where(scratch=tmp_path, checkpoint_every=0.0, tick=tick))
    resumed = computed(spec, where(scratch=tmp_path))
    assert_same_result(resumed, whole)


def test_experiment_2_is_the_prior_work_row_without_a_b_and_c_at_comparable_steps(study):
    prior = study.settings.prior
    runs = {order: run_curriculum(study.settings, order=order, seed=0) for order in ("sum", "successive", "phases")}
    assert [run.order for run in runs.values()] == ["together", "successive", "phases"]
    for run in runs.values():
        w = run.objective.weights
        assert (w.a, w.b, w.c) == (1, 1, 1) and all(getattr(w, letter) == getattr(prior, letter) for letter in "defghi")
        assert run.measured_on == "test"
    assert [run.objective.scale for run in runs.values()] == [1, 1, 3]
    assert runs["sum"].objective.label_weight == pytest.approx(run_prior_equal(study.settings, seed=0).equal_step)
    assert {run.equal_step for run in runs.values()} == {None}
