"""Cost by formula, by count and by hand."""

import pytest
import torch
from torch import nn

from vitlib.inputs.models import ResNet, Vit, build, parameter_count
from vitlib.training.cost import VitCost, counted_macs, speed

TINY = Vit(embed_dim=8, depth=2, num_heads=2, patch_size=4)


def test_formula_and_count_give_the_macs_counted_by_hand():
    """One 8 px image of 1 channel: 4 patches of 16 numbers and a class token, width 8, two blocks, 3 classes."""
    patches = 4 * 16 * 8
    qkv, scores, mixing, projection = 5 * 8 * 24, 5 * 5 * 8, 5 * 5 * 8, 5 * 8 * 8
    mlp = 5 * 8 * 32 + 5 * 32 * 8
    by_hand = patches + 2 * (qkv + scores + mixing + projection + mlp) + 8 * 3
    assert VitCost(TINY, image_size=8, channels=1, num_classes=3).macs == by_hand == 9016
    assert counted_macs(build(TINY, image_size=8, channels=1, num_classes=3), image_size=8, channels=1) == by_hand


def test_formula_gives_the_parameters_counted_by_hand():
    embedding, positions = 8 * 16 + 8, 8 + 5 * 8
    block = 2 * 16 + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8)
    by_hand = embedding + positions + 2 * block + 16 + (8 * 3 + 3)
    assert VitCost(TINY, image_size=8, channels=1, num_classes=3).parameters == by_hand


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("mlp_ratio", [2.0, 4.0, 2.5])
@pytest.mark.parametrize(("image_size", "channels"), [(8, 1), (16, 3)])
def test_formula_equals_the_count_for_every_shape(distilled, mlp_ratio, image_size, channels):
    vit = TINY.changed(distilled=distilled, mlp_ratio=mlp_ratio, embed_dim=12, num_heads=3)
    model = build(vit, image_size=image_size, channels=channels, num_classes=5)
    formula = VitCost(vit, image_size, channels, num_classes=5)
    assert formula.parameters == parameter_count(model) == sum(p.numel() for p in model.state_dict().values())
    assert formula.macs == counted_macs(model, image_size, channels)
    assert formula.tokens == model.pos_embed.shape[1]


def test_counting_covers_convolutions_and_does_not_depend_on_fused_attention():
    convolution = nn.Conv2d(2, 3, kernel_size=3, padding=1, bias=False)
    assert counted_macs(convolution, image_size=5, channels=2) == 5 * 5 * 2 * 3 * 3 * 3
    model = build(TINY, image_size=8, channels=1, num_classes=3)
    fused = counted_macs(model, 8, 1)
    for block in model.blocks:
        block.attn.fused_attn = False
    assert counted_macs(model, 8, 1) == fused


class Counting(nn.Module):
    """Counts its forward passes and what they were."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = []

    def forward(self, images):
        self.calls.append((tuple(images.shape), self.training, torch.is_grad_enabled()))
        return images * self.weight


def test_speed_warms_up_and_then_times_the_stated_repeats():
    model = Counting()
    measured = speed(model, image_size=6, channels=2, batch_size=4, device="cpu", repeats=7, warm_up=3)
    assert model.calls == [((4, 2, 6, 6), False, False)] * 10
    assert (measured.repeats, measured.batch_size) == (7, 4)


def test_speed_is_the_median_of_the_timed_batches_without_the_warm_up(monkeypatch):
    seconds = iter([100.0, 50.0, 1.0, 4.0, 2.0])  # two to warm up, three that count
    now = [0.0]

    class Slow(Counting):
        def forward(self, images):
            now[0] += next(seconds)
            return super().forward(images)

    monkeypatch.setattr("vitlib.training.cost.time.perf_counter", lambda: now[0])
    measured = speed(Slow(), image_size=6, channels=2, batch_size=4, device="cpu", repeats=3, warm_up=2)
    assert measured.latency_ms == pytest.approx(2000) and measured.images_per_second == pytest.approx(2)


def test_speed_of_a_real_model_is_positive():
    model = build(ResNet(width=4, blocks=(1, 1, 1, 1)), image_size=8, channels=1, num_classes=3)
    measured = speed(model, image_size=8, channels=1, batch_size=4, device="cpu", repeats=3, warm_up=1)
    assert measured.images_per_second > 0 and measured.latency_ms > 0
