"""MAE: masks by counting, pixels against loops, and what the encoder and the loss may see."""

import math

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.testing import assert_close

from vitlib.methods.self_supervised.mae import MaskedAutoencoder, mae_loss, patchify, random_mask, taken

SIDE, PATCH, CHANNELS, L = 12, 3, 2, 16


def noise(batch=5, length=L, seed=1):
    return torch.rand(batch, length, generator=torch.Generator().manual_seed(seed))


def images(batch=5, height=SIDE, width=SIDE):
    return torch.rand(batch, CHANNELS, height, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def predicted(batch=5):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, L, PATCH**2 * CHANNELS, generator=generator, dtype=torch.float64)


@pytest.fixture
def mask():
    return random_mask(noise(), 0.75)[2]


def test_patches_go_by_rows_and_within_a_patch_by_rows_columns_and_channels():
    given = images(batch=2, height=6, width=9)
    patches = patchify(given, PATCH)
    assert patches.shape == (2, 6, 18)
    for image in range(2):
        for number in range(6):
            top, left = PATCH * (number // 3), PATCH * (number % 3)
            expected = [given[image, c, top + y, left + x] for y in range(PATCH) for x in range(PATCH) for c in range(CHANNELS)]
            assert patches[image, number].tolist() == [float(value) for value in expected]


def test_a_patch_of_one_pixel_and_one_of_the_whole_image_hold_its_colours():
    given = images()
    assert torch.equal(patchify(given, 1), given.permute(0, 2, 3, 1).flatten(1, 2))
    assert torch.equal(patchify(given, SIDE)[:, 0], given.permute(0, 2, 3, 1).flatten(1))


@pytest.mark.parametrize(
    ("length", "ratio", "kept"),
    [
        (196, 0.75, 49),
        (64, 0.75, 16),
        (16, 0.75, 4),
        (10, 0.75, 2),
        (64, 0.5, 32),
        (7, 0.5, 3),
        (5, 0.25, 4),
        (10, 0.9, 1),
        (100, 0.8, 20),
        (16, 0.0, 16),
    ],
)
def test_the_number_of_patches_removed_is_the_ratios_share_rounded(length, ratio, kept):
    indices, restore, mask = random_mask(noise(length=length), ratio)
    assert indices.shape == (5, kept) and restore.shape == mask.shape == (5, length)
    assert mask.sum(dim=1).tolist() == [length - kept] * 5


def test_kept_patches_are_those_of_the_smallest_noise_and_the_mask_tells_the_others():
    drawn = noise()
    kept, _, mask = random_mask(drawn, 0.75)
    for row, indices, removed in zip(drawn.tolist(), kept.tolist(), mask.tolist(), strict=True):
        assert indices == sorted(range(L), key=lambda patch: row[patch])[:4]
        assert removed == [0.0 if patch in indices else 1.0 for patch in range(L)]


def test_restore_undoes_the_shuffle():
    drawn = noise()
    order, restore, _ = random_mask(drawn, 0.0)
    tokens = torch.randn(5, L, 3)
    shuffled = taken(tokens, order)
    assert not torch.equal(shuffled, tokens)
    assert torch.equal(taken(shuffled, restore), tokens)
    kept, same, _ = random_mask(drawn, 0.75)
    assert torch.equal(kept, order[:, :4]) and torch.equal(same, restore)


def test_tokens_are_taken_whole_and_each_image_by_its_own_indices():
    tokens, indices = torch.randn(2, 4, 3), torch.tensor([[3, 0], [1, 1]])
    assert torch.equal(taken(tokens, indices), torch.stack([tokens[0, [3, 0]], tokens[1, [1, 1]]]))


def test_every_patch_and_every_pair_of_patches_is_kept_equally_often():
    """Four of 16 kept: each with probability 1/4, each pair with 1/20; bounds of four standard errors of 20,000 draws."""
    present = 1 - random_mask(noise(batch=20_000), 0.75)[2]
    together = present.T @ present / 20_000
    alone, pairs = together.diag(), together[~torch.eye(L, dtype=torch.bool)]
    assert (alone - 1 / 4).abs().max() < 4 * math.sqrt(1 / 4 * 3 / 4 / 20_000)
    assert (pairs - 1 / 20).abs().max() < 4 * math.sqrt(1 / 20 * 19 / 20 / 20_000)
    chi_square = ((alone - 1 / 4) ** 2 / (1 / 4 * 3 / 4 / 20_000)).sum()
    assert 4 < chi_square < 35  # about L - 1 in the mean


@pytest.mark.parametrize("normalised", [False, True])
def test_loss_is_the_mean_over_removed_patches_written_out_in_loops(mask, normalised):
    patches, predictions = patchify(images(), PATCH).numpy(), predicted()
    errors = []
    for image in range(5):
        for number in range(L):
            if mask[image, number]:
                target = patches[image, number]
                if normalised:
                    target = (target - target.mean()) / math.sqrt(target.var(ddof=1) + 1e-6)
                errors.append(np.mean((predictions[image, number].numpy() - target) ** 2))
    assert len(errors) == 5 * 12
    assert float(mae_loss(images(), predictions, mask, PATCH, normalised=normalised)) == pytest.approx(np.mean(errors), rel=1e-12)


@pytest.mark.parametrize("normalised", [False, True])
def test_predictions_at_kept_patches_count_nothing_and_have_no_gradient(mask, normalised):
    predictions = predicted().requires_grad_()
    loss = mae_loss(images(), predictions, mask, PATCH, normalised=normalised)
    loss.backward()
    removed = mask.bool()
    assert not predictions.grad[~removed].any()
    assert predictions.grad[removed].all()
    other = torch.where(removed[:, :, None], predictions.detach(), 1e3)
    assert mae_loss(images(), other, mask, PATCH, normalised=normalised) == loss
    assert mae_loss(images(), other, 1 - mask, PATCH, normalised=normalised) > 1e5


def test_normalised_targets_have_mean_zero_and_unbiased_variance_one(mask):
    """The gradient at a prediction of zero is the target, but for a factor."""
    predictions = torch.zeros_like(predicted()).requires_grad_()
    given = 3 + 2 * images()
    mae_loss(given, predictions, torch.ones_like(mask), PATCH).backward()
    targets = -predictions.grad * predictions.numel() / 2
    assert_close(targets.mean(dim=2), torch.zeros(5, L, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(targets.var(dim=2, unbiased=True), torch.ones(5, L, dtype=torch.float64), rtol=0, atol=1e-4)
    correlation = (targets * patchify(given, PATCH)).sum(dim=2) / 17 / patchify(given, PATCH).std(dim=2)
    assert_close(correlation, torch.ones_like(correlation), rtol=0, atol=1e-4)


def test_normalised_loss_sees_neither_brightness_nor_contrast_of_a_patch(mask):
    scale = torch.tensor([1.0, 2.0, 5.0, 3.0], dtype=torch.float64).repeat_interleave(PATCH)
    changed = images() * scale + 0.1 * scale[:, None]
    loss = mae_loss(images(), predicted(), mask, PATCH)
    assert_close(mae_loss(changed, predicted(), mask, PATCH), loss, rtol=1e-4, atol=0)
    assert mae_loss(changed, predicted(), mask, PATCH, normalised=False) > 2 * loss


def test_an_even_patch_has_a_target_of_zero():
    even = torch.full((5, CHANNELS, SIDE, SIDE), 0.5)
    assert mae_loss(even, torch.zeros(5, L, 18), torch.ones(5, L), PATCH) == 0


@pytest.mark.parametrize("normalised", [False, True])
def test_perfect_predictions_cost_nothing(mask, normalised):
    target = patchify(images(), PATCH)
    if normalised:
        target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
    assert float(mae_loss(images(), target, mask, PATCH, normalised=normalised)) == pytest.approx(0, abs=1e-25)
    off = mae_loss(images(), target + 0.5, mask, PATCH, normalised=normalised)
    assert float(off) == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_lifted_to_float32_before_anything_is_computed(mask, dtype):
    given, predictions = images().to(dtype), predicted().to(dtype)
    loss = mae_loss(given, predictions, mask, PATCH)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, mae_loss(given.float(), predictions.float(), mask, PATCH))


def encoder():
    torch.manual_seed(0)
    sizes = {"patch_size": PATCH, "in_chans": CHANNELS, "num_classes": 0, "embed_dim": 8, "depth": 2, "num_heads": 2}
    return VisionTransformer(img_size=SIDE, **sizes)


@pytest.fixture
def model():
    built = MaskedAutoencoder(encoder(), decoder_dim=12, decoder_depth=1, decoder_heads=3, mask_ratio=0.75)
    return built.eval()


@torch.no_grad()
def test_encoder_sees_the_kept_patches_alone(model):
    given = images().float()
    kept, _, mask = random_mask(noise(), 0.75)
    removed = mask.reshape(5, 1, 4, 4).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3).bool()
    encoded = model.encode(given, kept)
    assert encoded.shape == (5, 1 + 4, 8)
    assert torch.equal(model.encode(torch.where(removed, 1 - given, given), kept), encoded)
    others = model.encode(torch.where(removed, given, 1 - given), kept)
    assert (others != encoded).any(dim=2).all()


@torch.no_grad()
def test_encoder_of_all_patches_is_timms_forward_pass_in_the_shuffled_order(model):
    given = images().float()
    order, restore, _ = random_mask(noise(), 0.0)
    encoded = model.encode(given, order)
    expected = model.encoder.forward_features(given)
    assert_close(encoded[:, 0], expected[:, 0])
    assert_close(taken(encoded[:, 1:], restore), expected[:, 1:])
    assert not torch.allclose(encoded[:, 1:], expected[:, 1:], atol=1e-2)


@torch.no_grad()
def test_decoder_puts_each_token_in_its_place_and_the_mask_token_elsewhere(model):
    kept, restore, mask = random_mask(noise(), 0.75)
    tokens = torch.randn(5, 1 + 4, 8)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pixels = model.decode(tokens, restore)
    embedded = model.embed(tokens)
    expected = torch.empty(5, 1 + L, 12)
    for image in range(5):
        expected[image, 0] = embedded[image, 0]
        for patch in range(L):
            place = kept[image].tolist().index(patch) + 1 if not mask[image, patch] else None
            expected[image, 1 + patch] = model.mask_token[0, 0] if place is None else embedded[image, place]
    assert_close(seen[0], expected + model.positions)
    assert_close(pixels, model.pixels(model.norm(model.decoder(expected + model.positions)))[:, 1:])
    assert pixels.shape == (5, L, PATCH**2 * CHANNELS)


@torch.no_grad()
def test_loss_of_the_model_is_that_of_its_parts(model):
    given, drawn = images().float(), noise()
    kept, restore, mask = random_mask(drawn, 0.75)
    assert torch.equal(model(given, drawn), mae_loss(given, model.decode(model.encode(given, kept), restore), mask, PATCH))


def test_all_but_the_positions_learns(model):
    model.train()(images().float(), noise()).backward()
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert fixed == {"encoder.pos_embed", "positions"}
    learning = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, gradient in learning.items() if gradient is None or not gradient.any()] == []


@pytest.mark.parametrize(("name", "dim"), [("encoder.pos_embed", 8), ("positions", 12)])
def test_positions_are_sines_and_cosines_of_row_and_column_and_zero_for_the_class_token(model, name, dim):
    waves = [10_000 ** (-wave / (dim // 4)) for wave in range(dim // 4)]
    expected = [[0.0] * dim]
    for row in range(4):
        for column in range(4):
            expected.append([turn(place * wave) for turn in (math.sin, math.cos) for place in (row, column) for wave in waves])
    assert_close(model.get_parameter(name), torch.tensor([expected]))


def test_positions_of_an_oblong_grid_go_by_rows_too():
    torch.manual_seed(0)
    sizes = {"patch_size": PATCH, "in_chans": CHANNELS, "num_classes": 0, "embed_dim": 8, "depth": 1, "num_heads": 2}
    model = MaskedAutoencoder(VisionTransformer(img_size=(6, 9), **sizes), decoder_dim=4, decoder_depth=1, decoder_heads=1, mask_ratio=0.5)
    rows, columns = torch.arange(2.0).repeat_interleave(3), torch.arange(3.0).repeat(2)
    assert_close(model.positions[0, 1:].detach(), torch.stack([rows.sin(), columns.sin(), rows.cos(), columns.cos()], dim=1))
    assert model(images(height=6, width=9).float(), noise(length=6)) > 0
