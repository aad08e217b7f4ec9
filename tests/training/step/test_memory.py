"""Halves of a batch as a GPU takes them, and that the documents' losses are what they are declared to be."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from tests.faults.memory.small_device import SmallDevice
from tests.support import context
from tests.training.step.support import LONG, assert_same, trained
from tests.training.support import STEPS
from vitlib.computing import result_of
from vitlib.grid.entries import documents
from vitlib.runs.store import Store
from vitlib.spec import families
from vitlib.training.loop import cross_entropy
from vitlib.training.step import steps
from vitlib.training.step.memory import Halving
from vitlib.training.step.update import is_mean_over_images

DRAWING = {"MaeTeacher"}  # masks for each batch anew


def halved(since, **options):
    device = SmallDevice(4, since)
    return trained(loss=device.holds(cross_entropy), around_step=device.around_step, **options)


@pytest.mark.parametrize("since", [1, 2, 3])
def test_halves_are_recorded_anew_and_replayed_to_the_same_bits(graphs, since):
    found = halved(since)
    assert graphs.kinds == 1 and graphs.replays == LONG.epochs * STEPS - (since - 1) - steps.FIRST
    assert found[1].measured["step"] == "captured" and found[1].measured["halved"].startswith(f"from update {since} on")
    assert_same(found, halved(since, capture=False))


class FoundError(Exception):
    """The first update of a training is reached."""


def first_update(spec, parents, place, monkeypatch):
    """What would be updated, and by which batch; None for a run that trains nothing."""

    def stop(halving, images, targets, number, kind):
        raise FoundError(halving._update, images, targets)

    monkeypatch.setattr(Halving, "__call__", stop)
    try:
        result_of(spec, context(place.data_dir, parent=lambda parent: parents.open(parent.id, parent)))
    except FoundError as found:
        return found.args


def recipe_of(spec):
    return getattr(spec, "recipe", None) or getattr(getattr(spec, "method", None), "recipe", None)


def may_be_divided(spec):
    """Whether the class lets recipes divide a batch."""
    owner = spec if hasattr(spec, "recipe") else spec.method
    try:
        owner.changed(recipe=owner.recipe.changed(accumulate=2))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("paper", [*documents(), "teachers"])
def test_a_loss_is_declared_a_mean_over_images_where_recipes_may_divide_batches_and_is_one(finished, monkeypatch, paper):
    study, seen = finished(paper), set()
    parents = Store(study.place.results_dir, writable=False)
    for spec in families([cell.spec for cell in study.cells]).values():
        if type(spec) in seen or recipe_of(spec) is None or (found := first_update(spec, parents, study.place, monkeypatch)) is None:
            continue
        seen.add(type(spec))
        update, images, targets = found
        assert is_mean_over_images(update.loss) == may_be_divided(spec), type(spec)
        norms = any(isinstance(module, _BatchNorm) and module.training for module in update.model.modules())
        if is_mean_over_images(update.loss) and not norms and type(spec).__name__ not in DRAWING:
            whole = update.loss(update.model, images, targets)
            halves = [update.loss(update.model, *half) for half in zip(images.chunk(2), targets.chunk(2), strict=True)]
            torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-5, atol=1e-6)
    assert seen
