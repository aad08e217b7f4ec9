"""Standardised scores and AFR against loops over values; the method sheet's invariants 4 and 7."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vitlib.methods.pruning import saliency
from vitlib.methods.pruning.masks import keep_masks, prunable
from vitlib.methods.pruning.saliency import afr, block_features, refer, snip, standardised
from vitlib.spec import SpecError


def drawn(seed=0, dtype=torch.float32):
    """Positive scores over many orders of magnitude, with ties and zeros, of three matrices of different scales."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"one": (6, 4), "two": (3, 5), "three": (2, 3, 2)}
    scores = {name: torch.randn(shape, generator=generator, dtype=dtype).mul_(3).exp_() for name, shape in shapes.items()}
    scores["two"] *= 100
    scores["one"][:2, :2] = 0
    scores["three"][0] = 0.25
    return scores


def rescaled(values, scale):
    if scale == "rank":
        return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])
    return np.log(np.where(values > 0, values, values[values > 0].min())) if scale == "log" else values


def standard(values, scale):
    values = rescaled(values, scale)
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_standardised_scores_are_those_of_a_loop_over_values(scale, scope):
    scores = drawn()
    flat = {name: score.double().numpy().ravel() for name, score in scores.items()}
    if scope == "layer":
        expected = {name: standard(values, scale) for name, values in flat.items()}
    else:
        together = standard(np.concatenate(list(flat.values())), scale)
        parts = np.split(together, np.cumsum([len(values) for values in flat.values()])[:-1])
        expected = dict(zip(flat, parts, strict=True))
    found = standardised(scores, scope=scope, scale=scale)
    assert list(found) == list(scores)
    for name, score in scores.items():
        assert found[name].dtype == (torch.float64 if scale == "rank" else score.dtype)
        np.testing.assert_allclose(found[name].numpy(), expected[name].reshape(score.shape), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_invariant_7_standardised_scores_have_mean_zero_and_deviation_one_and_their_sum_has_mean_zero(scale, scope):
    first, second = drawn(), drawn(seed=1)
    own, both = standardised(first, scope=scope, scale=scale), afr(first, second, scope=scope, scale=scale)
    for name in [*first, None]:
        if name is None or scope == "layer":
            values, total = (torch.cat([s.flatten() for n, s in part.items() if name in (n, None)]).double() for part in (own, both))
            assert abs(float(values.mean())) < 1e-6 and abs(float(values.std(correction=0)) - 1) < 1e-6
            assert abs(float(total.mean())) < 1e-6 and float(total.std(correction=0)) > 1


def test_invariant_7_standardised_scores_of_many_heavy_tailed_values_have_mean_zero_and_deviation_one():
    scores = {str(part): torch.randn(300, 500).mul_(4).exp_().mul_(1e-9) for part in range(4)}
    for scale in ("z", "rank", "log"):
        values = torch.cat([score.flatten() for score in standardised(scores, scale=scale).values()]).double()
        assert abs(float(values.mean())) < 1e-6 and abs(float(values.std(correction=0)) - 1) < 1e-6


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
@pytest.mark.parametrize("value", [0.0, 0.1, 3.0])
def test_scores_that_are_all_equal_are_refused(value, scale, scope):
    with pytest.raises(SpecError, match="are equal; nothing to standardise"):
        standardised({"one": torch.full((2, 3), value), "two": torch.full((7,), value)}, scope=scope, scale=scale)


def test_one_matrix_of_equal_scores_is_refused_by_layer_alone():
    scores = {"one": torch.rand(2, 3), "even": torch.full((4,), 0.5)}
    with pytest.raises(SpecError, match="all 4 of even are equal"):
        standardised(scores, scope="layer")
    assert (standardised(scores)["even"] == standardised(scores)["even"][0]).all()


@pytest.mark.parametrize("factor", [1e-12, 1e12])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_afr_does_not_ask_for_the_scale_of_either_score(scale, scope, factor):
    first, second = drawn(), drawn(seed=1)
    other = {name: score * factor for name, score in first.items()}
    for one, two in [((other, second), (first, second)), ((second, other), (second, first))]:
        assert_close(afr(*one, scope=scope, scale=scale), afr(*two, scope=scope, scale=scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_afr_is_the_sum_of_both_standardised_scores_in_either_order(scale, scope):
    first, second = drawn(), drawn(seed=1)
    one, two = (standardised(scores, scope=scope, scale=scale) for scores in (first, second))
    found = afr(first, second, scope=scope, scale=scale)
    assert_close(found, {name: one[name] + two[name] for name in first})
    assert_close(afr(second, first, scope=scope, scale=scale), found)
    shuffled = dict(reversed(second.items()))
    assert_close(afr(first, shuffled, scope=scope, scale=scale), found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [0.3, 1000.0])
def test_invariant_4_the_scale_of_loss_or_features_leaves_afrs_mask(model, images, labels, monkeypatch, factor):
    weights, features = prunable(model), block_features("class")
    spreads, slopes = refer(model, lambda: [images], weights, features), snip(model, [(images, labels)], weights)
    larger = refer(model, lambda: [images], weights, lambda *given: [factor * layer for layer in features(*given)])
    assert_close(larger, {name: factor * score for name, score in spreads.items()}, rtol=1e-6, atol=1e-10)
    plain = F.cross_entropy
    monkeypatch.setattr(saliency.F, "cross_entropy", lambda *given, **options: factor * plain(*given, **options))
    steeper = snip(model, [(images, labels)], weights)
    assert_close(steeper, {name: factor * score for name, score in slopes.items()})
    for scope in ("global", "layer"):
        for sparsity in (0.5, 0.9):
            expected, found = (keep_masks(afr(*pair, scope=scope), sparsity) for pair in [(spreads, slopes), (larger, steeper)])
            assert all(torch.equal(found[name], expected[name]) for name in weights)


@pytest.mark.parametrize("scale", ["z", "rank", "log"])
def test_invariant_4_afr_of_snip_and_snip_gives_snips_mask(model, images, labels, scale):
    scores = snip(model, [(images, labels)], prunable(model))
    for sparsity in (0.2, 0.5, 0.9, 0.98):
        found, expected = keep_masks(afr(scores, scores, scale=scale), sparsity), keep_masks(scores, sparsity)
        assert all(torch.equal(found[name], expected[name]) for name in scores)


def test_afr_keeps_what_neither_criterion_alone_would(model, images, labels):
    weights = prunable(model)
    spreads, slopes = refer(model, lambda: [images], weights, block_features("class")), snip(model, [(images, labels)], weights)
    masks = [keep_masks(scores, 0.9) for scores in (spreads, slopes, afr(spreads, slopes))]
    flat = [torch.cat([mask.flatten() for mask in each.values()]) for each in masks]
    assert not any(torch.equal(one, other) for one, other in pairwise([*flat, flat[0]]))


@pytest.mark.parametrize("unit", [1e-30, 1e-22, 1.0, 1e20, 1e30])
def test_standardised_scores_do_not_depend_on_their_unit(unit):
    scores = {"w": torch.tensor([1.0, 2.0, 3.0]) * unit}
    assert_close(standardised(scores)["w"], 1.5**0.5 * torch.tensor([-1.0, 0.0, 1.0]), rtol=1e-5, atol=1e-5)
