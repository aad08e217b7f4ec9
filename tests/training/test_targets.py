"""Targets: smoothing, mixup and CutMix by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tests.training.support import RECIPE
from vitlib.training.loop import cross_entropy, target_maker


def test_smoothed_targets_share_epsilon_among_all_classes():
    _, targets = target_maker(RECIPE.changed(label_smoothing=0.1), 4)(None, torch.tensor([2, 0]))
    assert_close(targets, torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]))


def test_mixed_images_and_targets_are_the_same_mixture_of_the_batch_and_its_reverse():
    images, labels = torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 3, 4, 5])
    np.random.seed(0)
    mixed, targets = target_maker(RECIPE.changed(mixup=0.8), 10)(images.clone(), labels)
    share = float(targets[0, 0])
    assert 0.01 < share < 0.99
    assert_close(mixed, share * images + (1 - share) * images.flip(0))
    assert_close(targets, share * F.one_hot(labels, 10) + (1 - share) * F.one_hot(labels.flip(0), 10))


def test_cutmix_weighs_the_labels_by_the_area_that_is_left():
    images, labels = torch.arange(4.0).view(4, 1, 1, 1).repeat(1, 1, 12, 12), torch.tensor([0, 1, 2, 3])
    np.random.seed(2)
    mixed, targets = target_maker(RECIPE.changed(cutmix=1.0), 4)(images.clone(), labels)
    left = (mixed == images).float().mean(dim=(1, 2, 3))
    assert 0 < left[0] < 1
    assert_close(targets.diag(), left)


@pytest.mark.parametrize("fields", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}, {}], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_of_all_targets_sum_to_one(fields, smoothing):
    make = target_maker(RECIPE.changed(label_smoothing=smoothing, **fields), 7)
    for _ in range(5):
        _, targets = make(torch.randn(8, 1, 4, 4), torch.arange(8) % 7)
        assert_close(targets.sum(dim=1), torch.ones(8))
        assert (targets >= 0).all()


def test_cross_entropy_takes_dense_targets():
    logits, targets = torch.randn(5, 4), torch.rand(5, 4).softmax(dim=1)
    assert_close(cross_entropy(nn.Identity(), logits, targets), F.cross_entropy(logits, targets))
