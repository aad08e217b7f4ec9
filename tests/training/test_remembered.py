"""Frozen outputs beside a training: looked up they are those computed anew, of the images that the loss sees."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from vitlib.inputs.data import ResidentBatches, Training
from vitlib.inputs.sources import Data
from vitlib.recipe import Augment, Recipe
from vitlib.training import remembered
from vitlib.training.remembered import examples, lessons

DIGITS = Data(source="digits", image_size=8, mean=(0.3,), std=(0.4,))
RECIPE = Recipe(epochs=1, batch_size=6, lr=1e-3)
COUNT, CLASSES = 20, 5
VARYING = [{"augment": Augment(crop=2)}, {"augment": Augment(flip=0.5)}, {"mixup": 0.8}, {"cutmix": 1.0}]
LABELS = torch.arange(COUNT) % CLASSES


def batches(recipe=RECIPE, training=True):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (COUNT, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ResidentBatches(pictures, LABELS, DIGITS, recipe.batch_size, Training(recipe.augment, seed=0) if training else None)


class Counted(nn.Module):
    """Two frozen outputs of an image in double precision; counts the images that it sees."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(64, 7).double(), 0

    def forward(self, images):
        self.seen += len(images)
        hidden = self.layer(images.double().flatten(1))
        return hidden.tanh(), hidden.square()


@pytest.fixture
def anew(monkeypatch):
    monkeypatch.setattr(remembered, "MOST_BYTES", 0)


def test_looked_up_outputs_give_the_loss_and_gradients_of_those_computed_anew(monkeypatch):
    frozen, student = Counted(), nn.Linear(64, 7).double()

    def beside(model, images, given, targets):
        logits = model(images.double().flatten(1))
        return (logits - given[0]).square().mean() + (logits * given[1]).mean() + F.cross_entropy(logits[:, :CLASSES], targets.double())

    def found():
        taught = lessons(frozen, batches(), RECIPE, CLASSES, object())
        loss = taught.loss(beside)
        values = [loss(student, images, marks) for epoch in (0, 1) for images, marks in taught.batches.epoch(epoch)]
        return values, [torch.autograd.grad(value, list(student.parameters())) for value in values]

    looked_up = found()
    monkeypatch.setattr(remembered, "MOST_BYTES", 0)
    assert len(looked_up[0]) == 6
    assert_close(looked_up, found(), rtol=1e-12, atol=1e-12)


def test_frozen_networks_see_every_image_once_and_no_more():
    frozen = Counted()
    taught = lessons(frozen, batches(), RECIPE, CLASSES, object())
    assert frozen.seen == 1 + COUNT  # one to know how much there is to keep
    for epoch in range(3):
        assert len(list(taught.epoch(epoch))) == 3
    assert frozen.seen == 1 + COUNT


def test_runs_of_one_source_share_what_others_of_it_computed_and_nothing_else(monkeypatch):
    frozen, seen = [Counted() for _ in range(5)], 1 + COUNT
    bf16 = RECIPE.changed(precision="bf16")
    given = [list(lessons(each, batches(), RECIPE, CLASSES, "one").epoch(0)) for each in frozen[:2]]
    assert_close(given[0], given[1], rtol=0, atol=0)
    list(lessons(frozen[2], batches(), RECIPE, CLASSES, "two").epoch(0))
    list(lessons(frozen[3], batches(), bf16, CLASSES, "one").epoch(0))
    list(examples(frozen[4], batches(training=False), "one").epoch(0))
    assert [each.seen for each in frozen] == [seen, 1, seen, seen, seen]
    monkeypatch.setattr(remembered, "KEPT_BYTES", 2 * COUNT * 2 * 7 * 8)
    for source, expected in (("three", seen), ("four", seen), ("three", 1), ("five", seen), ("four", seen)):
        again = Counted()
        list(lessons(again, batches(), RECIPE, CLASSES, source).epoch(0))
        assert again.seen == expected, source


@pytest.mark.parametrize("fields", VARYING, ids=str)
def test_images_that_vary_are_seen_each_time_as_the_loss_sees_them(fields):
    frozen, recipe = Counted(), RECIPE.changed(**fields)
    taught = lessons(frozen, batches(recipe), recipe, CLASSES, object())
    assert frozen.seen == 0
    for images, given, targets in taught.epoch(0):
        assert_close(given, frozen(images))
        assert targets.shape == (6, CLASSES)
    assert frozen.seen == 2 * 18


def test_more_than_may_be_kept_is_computed_anew(monkeypatch):
    size = COUNT * 2 * 7 * 8
    for most, seen in ((size, 1 + COUNT), (size - 1, 1 + 18)):
        monkeypatch.setattr(remembered, "MOST_BYTES", most)
        frozen = Counted()
        list(lessons(frozen, batches(), RECIPE, CLASSES, object()).epoch(0))
        assert frozen.seen == seen


def test_images_streamed_from_disk_are_computed_anew():
    class Streamed:
        images, steps, labels = COUNT, 3, batches().labels

        def epoch(self, epoch, start=0):
            return batches().epoch(epoch, start)

    frozen = Counted()
    for images, given, _ in lessons(frozen, Streamed(), RECIPE, CLASSES, object()).epoch(0):
        assert_close(given, frozen(images))
    assert frozen.seen == 2 * 18


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_targets_are_those_of_the_images_labels(smoothing):
    recipe = RECIPE.changed(label_smoothing=smoothing)
    for (_, labels), (_, _, targets) in zip(
        batches().epoch(1), lessons(Counted(), batches(), recipe, CLASSES, object()).epoch(1), strict=True
    ):
        expected = torch.full((6, CLASSES), smoothing / CLASSES)
        expected[torch.arange(6), labels] += 1 - smoothing
        assert_close(targets, expected)


def test_nothing_frozen_gives_nothing():
    assert all(given == () for _, given, _ in lessons(lambda images: (), batches(), RECIPE, CLASSES, object()).epoch(0))


@pytest.mark.parametrize("most", [0, 2**20])
def test_examples_are_the_split_in_order_with_its_labels(monkeypatch, most):
    monkeypatch.setattr(remembered, "MOST_BYTES", most)
    frozen = Counted()
    images, given, labels = (column for column in zip(*examples(frozen, batches(training=False), object()).epoch(0), strict=True))
    assert torch.equal(torch.cat(images), batches().plain()) and torch.equal(torch.cat(labels), LABELS)
    assert_close(tuple(torch.cat(column) for column in zip(*given, strict=True)), frozen(batches().plain()))


def test_what_is_given_holds_no_gradient(anew):
    for _, given, _ in lessons(Counted(), batches(), RECIPE, CLASSES, object()).epoch(0):
        assert not any(values.requires_grad for values in given)


def test_half_precision_is_that_of_the_training():
    layer = nn.Linear(64, 7)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        recipe = RECIPE.changed(precision=precision)
        _, (values,), _ = next(lessons(lambda images: (layer(images.flatten(1)),), batches(), recipe, CLASSES, object()).epoch(0))
        assert values.dtype == dtype and not values.requires_grad


@pytest.mark.parametrize("fields", VARYING, ids=str)
def test_a_recipe_knows_whether_images_vary(fields):
    assert RECIPE.plain_images and RECIPE.changed(label_smoothing=0.1, repeats=2, drop_path=0.2).plain_images
    assert not RECIPE.changed(**fields).plain_images
