"""Trainings on the CPU, and that two of them are the same."""

from tests.support import context
from tests.training.support import RECIPE, VIT, batches, fit, model, same
from vitlib.inputs.models import weights_of

LONG = RECIPE.changed(epochs=3)
FLAT = VIT.changed(depth=2)


def trained(recipe=LONG, spec=FLAT, data=None, capture=True, where=None, make=None, **options):
    module = make() if make else model(spec=spec)
    where = where or context(capture=capture)
    return module, fit(module, recipe, data=data or batches(), where=where, **options)


def assert_same(one, other):
    """Equal weights, losses and moving averages, to the bit."""
    (mine, my), (theirs, their) = one, other
    assert same(weights_of(mine), weights_of(theirs))
    assert my.history.equals(their.history)
    assert (my.ema is None) == (their.ema is None)
    if my.ema is not None:
        assert same(weights_of(my.ema), weights_of(their.ema))
