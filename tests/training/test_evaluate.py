"""Predictions and accuracies, against loops over the samples."""

import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vitlib.inputs.sources import Data
from vitlib.training import evaluate
from vitlib.training.evaluate import accuracy, labels_of, outputs, real_label_accuracy, top_k_accuracy


class Batches:
    """Seven samples in batches of three."""

    steps, images = 3, 7

    def __init__(self):
        self.samples = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
        self.labels = torch.tensor([2, 0, 1, 1, 2, 0, 2])

    def epoch(self, epoch, start=0, stride=1):
        for step in range(start, 3, stride):
            here = slice(3 * step, 3 * step + 3)
            yield self.samples[here], self.labels[here]


def test_outputs_are_those_of_eval_mode_for_all_samples_in_order():
    model, batches = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), Batches()
    (scores,) = outputs(model, batches, lambda module, images: (module(images),))
    assert_close(scores, model[1](batches.samples).detach())


@pytest.mark.parametrize("training", [True, False])
def test_outputs_leave_the_mode_as_it_was(training):
    model = nn.Linear(4, 3).train(training)
    outputs(model, Batches(), lambda module, images: (module(images),))
    assert model.training is training


def test_outputs_keep_each_tensor_apart_and_in_float32():
    halves, doubles = outputs(nn.Identity(), Batches(), lambda _, images: (images.half(), images.double() * 2))
    assert halves.dtype == doubles.dtype == torch.float32
    assert_close(doubles, 2 * Batches().samples)
    assert halves.shape == (7, 4) and not halves.requires_grad


def test_labels_come_in_the_order_of_the_batches():
    assert labels_of(Batches()).tolist() == [2, 0, 1, 1, 2, 0, 2]


def test_accuracy_is_the_percentage_of_right_predictions():
    assert accuracy(np.array([1, 2, 3, 4]), np.array([1, 0, 3, 0])) == 50.0


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy_counts_the_labels_among_the_k_largest_scores(k):
    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=(40, 6)), generator.integers(6, size=40)
    hits = [label in sorted(range(6), key=lambda c: -row[c])[:k] for row, label in zip(scores, labels, strict=True)]
    assert top_k_accuracy(torch.from_numpy(scores), labels, k) == pytest.approx(100 * sum(hits) / 40)


def test_top_5_of_three_classes_is_always_right():
    assert top_k_accuracy(torch.randn(8, 3), np.arange(8) % 3, k=5) == 100.0


def test_real_label_accuracy_accepts_any_reassessed_label_and_skips_images_without_one(monkeypatch):
    truth = json.loads(pkgutil.get_data("timm.data.real_labels", "_info/imagenet_real_labels.json"))
    numbers = np.random.default_rng(0).permutation(50_000)  # a folder's order is not that of the numbers
    files = [Path("val", f"ILSVRC2012_val_{number + 1:08d}.JPEG") for number in numbers]
    monkeypatch.setattr(evaluate, "listing", lambda *_: (files, None))
    scores, hits = torch.zeros(400, 1000), []
    for row, number in enumerate(numbers[:400]):
        real = truth[number]
        guess = real[-1] if real and row % 4 else 999
        scores[row, guess] = 1.0
        hits += [guess in real] if real else []
    assert len(hits) < 400 and any(len(truth[number]) > 1 for number in numbers[:400])
    measured = real_label_accuracy(scores, Data(source="folder/imagenet", image_size=224), Path())
    assert measured == pytest.approx(100 * sum(hits) / len(hits))
