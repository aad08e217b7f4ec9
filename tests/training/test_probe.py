"""Probes of frozen features, against loops over the neighbours and clusters whose accuracy is known."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.testing import assert_close

from vitlib.inputs.models import ResNet, Vit, build
from vitlib.training.probe import features_read, knn_accuracy, linear_probe_accuracy, readouts


def features(count, seed, width=6):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def labels(count, seed, classes=4):
    return np.random.default_rng(seed).integers(0, classes, count)


def clusters(count, seed, classes=4, noise=0.1):
    """Samples near their class's own axis."""
    truth = labels(count, seed, classes)
    return 3 * torch.eye(6)[truth] + noise * features(count, seed), truth


@pytest.mark.parametrize("k", [1, 2, 7, 40, 100])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_neighbours_vote_as_in_loops_over_all_of_them(k, temperature):
    bank, queries, bank_labels, truth = features(40, 1), features(60, 2), labels(40, 1), labels(60, 2)
    right = 0
    for query, label in zip(queries.double().numpy(), truth, strict=True):
        cosines = [float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)) for other in bank.double().numpy()]
        votes = [0.0] * 4
        for near in sorted(range(40), key=lambda index: -cosines[index])[:k]:
            votes[bank_labels[near]] += np.exp(cosines[near] / temperature)
        right += votes.index(max(votes)) == label
    accuracy = knn_accuracy(bank, bank_labels, queries, truth, k=k, temperature=temperature)
    assert accuracy == pytest.approx(100 * right / 60, rel=1e-12)
    assert 0 < accuracy < 100


def test_near_neighbours_outvote_a_majority_far_away_unless_the_temperature_is_high():
    bank, bank_labels = torch.tensor([[1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), np.array([0, 1, 1])
    query, truth = torch.tensor([[1.0, 0.0]]), np.array([0])
    assert knn_accuracy(bank, bank_labels, query, truth, k=3) == 100
    assert knn_accuracy(bank, bank_labels, query, truth, k=3, temperature=10.0) == 0
    assert knn_accuracy(bank, bank_labels, query, truth, k=1, temperature=10.0) == 100


def test_twenty_neighbours_at_temperature_007_unless_said_otherwise():
    bank, queries, bank_labels, truth = features(300, 1), features(200, 2), labels(300, 1), labels(200, 2)
    given = knn_accuracy(bank, bank_labels, queries, truth)
    assert given == knn_accuracy(bank, bank_labels, queries, truth, k=20, temperature=0.07)
    assert given != knn_accuracy(bank, bank_labels, queries, truth, k=10, temperature=0.07)
    assert given != knn_accuracy(bank, bank_labels, queries, truth, k=20, temperature=0.3)


@pytest.mark.parametrize("temperature", [0.001, 0.07, 1.0])
def test_each_sample_of_the_bank_is_its_own_nearest_neighbour(temperature):
    bank, bank_labels = features(1500, 1), labels(1500, 1)  # more queries than are compared at once
    assert knn_accuracy(bank, bank_labels, bank, bank_labels, k=1, temperature=temperature) == 100
    assert knn_accuracy(bank, bank_labels, bank, (bank_labels + 1) % 4, k=1, temperature=temperature) == 0


def test_neighbours_of_random_labels_are_right_by_chance():
    accuracy = knn_accuracy(features(500, 1), labels(500, 1), features(1000, 2), labels(1000, 2))
    assert accuracy == pytest.approx(25, abs=6)  # four standard errors of 1000 queries


def test_neighbours_ask_for_the_direction_of_features_and_not_for_their_length():
    bank, queries, bank_labels, truth = features(200, 1), features(100, 2), labels(200, 1), labels(100, 2)
    given = knn_accuracy(bank, bank_labels, queries, truth)
    lengths = torch.logspace(-3, 3, 200)[:, None]
    assert knn_accuracy(lengths * bank, bank_labels, 1e-3 * queries, truth) == given
    assert knn_accuracy(-bank, bank_labels, queries, truth) != given


def test_a_linear_probe_tells_clusters_apart_that_lie_on_either_side_of_a_plane():
    bank, bank_labels = clusters(80, 1)
    queries, truth = clusters(60, 2)
    assert linear_probe_accuracy(bank, bank_labels, queries, truth) == 100
    assert linear_probe_accuracy(bank, bank_labels, queries, (truth + 1) % 4) == 0


def test_a_linear_probe_fails_where_no_plane_parts_the_classes_and_neighbours_do_not():
    """Two classes at opposite corners of a square each."""
    corners, corner_labels = torch.tensor([[1.0, 1], [-1, -1], [1, -1], [-1, 1]]), np.array([0, 0, 1, 1])
    bank, truth = corners.repeat(20, 1) + 0.1 * features(80, 1, width=2), np.tile(corner_labels, 20)
    assert linear_probe_accuracy(bank, truth, corners, corner_labels) < 100
    assert knn_accuracy(bank, truth, corners, corner_labels) == 100


def test_a_linear_probe_of_random_labels_is_right_by_chance():
    accuracy = linear_probe_accuracy(features(400, 1), labels(400, 1), features(1000, 2), labels(1000, 2))
    assert accuracy == pytest.approx(25, abs=6)


def test_a_linear_probe_sees_neither_scale_nor_origin_of_a_feature():
    """All queries near the boundary, so that a penalty on unscaled features would move them."""
    bank, bank_labels = clusters(60, 1, noise=2.0)
    queries, truth = clusters(200, 2, noise=2.0)
    scale, origin = torch.tensor([0.01, 0.1, 1, 10, 100, 3]), torch.arange(6.0)
    given = linear_probe_accuracy(bank, bank_labels, queries, truth)
    assert 25 < given < 100
    assert linear_probe_accuracy(scale * bank + origin, bank_labels, scale * queries + origin, truth) == pytest.approx(given, abs=0.6)


def test_a_stronger_penalty_draws_the_probe_to_the_larger_class():
    bank, bank_labels = clusters(80, 1, classes=2, noise=1.0)
    larger = np.bincount(bank_labels).argmax()
    queries, truth = clusters(200, 2, classes=2, noise=1.0)
    weak = linear_probe_accuracy(bank, bank_labels, queries, truth)
    assert linear_probe_accuracy(bank, bank_labels, queries, np.full(200, larger), strength=1e-6) == 100
    assert weak > 90 and linear_probe_accuracy(bank, bank_labels, queries, truth, strength=1e-6) == 100 * np.mean(truth == larger)


@pytest.mark.parametrize(("prefix", "sizes"), [(1, {}), (5, {"reg_tokens": 4})], ids=["class", "registers"])
@torch.no_grad()
def test_features_of_a_transformer_are_its_class_token_and_the_mean_of_its_patches(prefix, sizes):
    torch.manual_seed(0)
    model = VisionTransformer(img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=8, depth=2, num_heads=2, **sizes).eval()
    images = torch.randn(5, 1, 8, 8)
    normed = []
    model.norm.register_forward_hook(lambda _, __, output: normed.append(output))
    assert readouts(model) == ("class", "mean")
    cls, mean = features_read(model, images)
    (tokens,) = normed
    assert tokens.shape == (5, prefix + 4, 8)
    assert_close(cls, tokens[:, 0])
    assert_close(mean, sum(tokens[:, prefix + patch] for patch in range(4)) / 4)
    assert_close(model.head(cls), model(images))


@torch.no_grad()
def test_a_distilled_model_pools_both_tokens_and_its_mean_leaves_both_out():
    model = build(Vit(embed_dim=8, depth=1, num_heads=2, patch_size=4, distilled=True), image_size=8, channels=1, num_classes=3).eval()
    images = torch.randn(5, 1, 8, 8)
    assert readouts(model) == ("pooled", "mean")
    pooled, mean = features_read(model, images)
    tokens = model.forward_features(images)
    assert tokens.shape == (5, 2 + 4, 8)
    assert_close(pooled, (tokens[:, 0] + tokens[:, 1]) / 2)
    assert_close(mean, tokens[:, 2:].sum(dim=1) / 4)


@torch.no_grad()
def test_features_of_a_convnet_are_what_its_classifier_reads():
    model = build(ResNet(width=4, blocks=(1, 1, 1, 1)), image_size=16, channels=1, num_classes=3).eval()
    images = torch.randn(5, 1, 16, 16)
    assert readouts(model) == ("pooled",)
    (pooled,) = features_read(model, images)
    assert pooled.shape == (5, 32)
    assert_close(model.fc(pooled), model(images))
