"""Augmentation of a batch against brute force: what moves, how often, how far, and that every image has a draw of its own."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from vitlib.inputs.views import augmented, cropped, cut_out, erased, flipped
from vitlib.recipe import Augment


@pytest.fixture
def numbered():
    """64 equal images of 2 x 7 x 6 distinct pixels, none of them zero."""
    torch.manual_seed(0)
    return torch.arange(1.0, 85.0).view(1, 2, 7, 6).repeat(64, 1, 1, 1)


def test_flips_mirror_some_images_left_to_right_and_leave_the_others(numbered):
    mirrored = torch.tensor([[[row[::-1] for row in plane] for plane in numbered[0].tolist()]])[0]
    result = flipped(numbered, 0.5)
    kinds = [(torch.equal(image, numbered[0]), torch.equal(image, mirrored)) for image in result]
    assert set(kinds) == {(True, False), (False, True)}


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flips_have_their_probability(probability):
    images = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).repeat(20_000, 1, 1, 1)
    assert flipped(images, probability)[:, 0, 0, 0].mean() == pytest.approx(probability, abs=0.02)


def test_crops_are_shifts_by_at_most_the_padding_with_zeros_moving_in(numbered):
    def shift(image, down, right):
        result = torch.zeros_like(image)
        for y in range(7):
            for x in range(6):
                if 0 <= y + down < 7 and 0 <= x + right < 6:
                    result[:, y, x] = image[:, y + down, x + right]
        return result

    shifts = {(down, right): shift(numbered[0], down, right) for down in range(-2, 3) for right in range(-2, 3)}
    found = [[at for at, image in shifts.items() if torch.equal(image, result)] for result in cropped(numbered, 2)]
    assert all(len(matches) == 1 for matches in found)
    assert len({at for (at,) in found}) > 15
    downs, rights = zip(*(at for (at,) in found), strict=True)
    assert set(downs) == set(rights) == set(range(-2, 3))


def test_resized_crops_keep_at_least_their_share_of_the_area_and_the_size_and_are_not_mirrored():
    places = (torch.arange(32) + 0.5) / 32
    ramps = torch.stack([places.expand(32, 32), places[:, None].expand(32, 32)]).repeat(3000, 1, 1, 1)
    crops = augmented(ramps, Augment(crop_area=0.25))
    assert crops.shape == ramps.shape
    width, height = (32 / 31 * (line[:, -1] - line[:, 0]) for line in (crops[:, 0, 0], crops[:, 1, :, 0]))
    area = width * height
    assert width.min() > 0 and height.min() > 0
    assert 0.24 < area.min() < 0.26 and 0.95 < area.max() < 1.01


def test_every_shift_of_a_crop_is_equally_likely():
    images = torch.zeros(25_000, 1, 5, 5)
    images[:, :, 2, 2] = 1
    assert_close(cropped(images, 2).mean(dim=(0, 1)), torch.full((5, 5), 1 / 25), rtol=0.15, atol=0)


@pytest.mark.parametrize("side", [3, 4])
def test_cutout_is_a_square_about_any_pixel_clipped_at_the_border(numbered, side):
    allowed = {}
    for y in range(7):
        for x in range(6):
            image = numbered[0].clone()
            for row in range(y - side // 2, y - side // 2 + side):
                for column in range(x - side // 2, x - side // 2 + side):
                    if 0 <= row < 7 and 0 <= column < 6:
                        image[:, row, column] = 0
            allowed[y, x] = image
    results = cut_out(numbered.repeat(8, 1, 1, 1), side)
    found = [[at for at, image in allowed.items() if torch.equal(image, result)] for result in results]
    assert all(found)
    assert {at for matches in found for at in matches} == set(allowed)


def erased_shares(images, probability=1.0):
    """Share of the area, height, width and mask of each erased rectangle; a pixel of noise is never 7."""
    masks = (erased(images, probability) != 7).any(dim=1)
    heights, widths = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)
    assert torch.equal(heights * widths, masks.sum(dim=(1, 2)))  # filled rectangles
    return masks.float().mean(dim=(1, 2)), heights, widths, masks


def test_erasing_replaces_rectangles_of_2_to_33_percent_of_the_area():
    torch.manual_seed(0)
    shares, heights, widths, _ = erased_shares(torch.full((4000, 1, 64, 64), 7.0))
    rounding = (heights + widths) / 2 / 64**2  # half a pixel on each side
    assert (shares >= 0.02 - rounding).all() and (shares <= 1 / 3 + rounding).all()
    assert shares.min() < 0.025 and shares.max() > 0.32
    assert shares.mean() == pytest.approx((0.02 + 1 / 3) / 2, rel=0.03)


def test_erased_rectangles_have_aspect_ratios_of_three_tenths_to_ten_thirds_evenly_in_the_logarithm():
    torch.manual_seed(0)
    _, heights, widths, _ = erased_shares(torch.full((4000, 1, 64, 64), 7.0))
    small = (heights < 60) & (widths < 60) & (heights > 10) & (widths > 10)  # neither clipped nor mostly rounding
    ratios = (heights / widths)[small].log()
    assert ratios.abs().max() < np.log(10 / 3) + 0.1
    assert ratios.mean() == pytest.approx(0, abs=0.05)


def test_erasing_reaches_every_pixel_in_both_directions_alike():
    torch.manual_seed(0)
    _, _, _, masks = erased_shares(torch.full((8000, 1, 16, 16), 7.0))
    often = masks.float().mean(dim=0)
    assert often.min() > 0
    assert_close(often, often.flip(0), rtol=0, atol=0.03)
    assert_close(often, often.flip(1), rtol=0, atol=0.03)
    assert_close(often, often.T, rtol=0, atol=0.03)


def test_erasing_has_its_probability_and_fills_with_standard_normal_noise():
    torch.manual_seed(0)
    images = torch.full((4000, 1, 16, 16), 7.0)
    result = erased(images, 0.25)
    noise = result[result != 7]
    assert (result != 7).flatten(1).any(dim=1).float().mean() == pytest.approx(0.25, abs=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.02) and noise.std() == pytest.approx(1, abs=0.02)
    assert erased(images, 0.0) is images


@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(crop=2),
        Augment(crop_area=0.2),
        Augment(flip=0.5),
        Augment(cutout=3),
        Augment(erasing=0.5),
        Augment(crop=2, flip=0.5, cutout=2, erasing=0.5),
    ],
    ids=lambda augment: ",".join(sorted(augment.model_fields_set)) or "none",
)
def test_every_image_of_a_batch_gets_a_draw_of_its_own(numbered, augment):
    outcomes = {image.numpy().tobytes() for image in augmented(numbered, augment)}
    assert len(outcomes) == 1 if augment == Augment() else len(outcomes) > 1
