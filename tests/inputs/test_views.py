"""Views of a batch: boxes read off a ramp of coordinates, colours against rotations and hand counts."""

import math

import pytest
import torch
from torch.testing import assert_close

from vitlib.inputs.views import colour_jitter, grey, greyscale, resized_crop, solarised, turned_hue

WHOLE = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
RANDOM = {
    "crop": lambda images: resized_crop(images, 8, (0.2, 0.8)),
    "jitter": lambda images: colour_jitter(images, 1.0),
    "grey": lambda images: greyscale(images, 0.5),
    "solarised": lambda images: solarised(images, 0.5),
}
SOMETIMES = {"jitter": colour_jitter, "grey": greyscale, "solarised": solarised}


def images(batch=16, channels=3, size=8):
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(1))


def copies(batch, channels=3, size=8):
    return images(1, channels, size).repeat(batch, 1, 1, 1)


def ramps(batch, size=64):
    """Two channels that hold each pixel's own place, from left to right and from top to bottom, 0 and 1 at the edges."""
    places = (torch.arange(size) + 0.5) / size
    return torch.stack([places.expand(size, size), places[:, None].expand(size, size)]).repeat(batch, 1, 1, 1)


def boxes(batch, size=8, **ranges):
    """Of each crop of a ramp: centre and side along x and y, and whether it is flipped; crops lie half a pixel inside."""
    crops = resized_crop(ramps(batch), size, **ranges)
    lines = [crops[:, 0, 0], crops[:, 1, :, 0]]
    sides = [size * (line[:, -1] - line[:, 0]) / (size - 1) for line in lines]
    centres = [line.mean(dim=1) for line in lines]
    assert_close(crops[:, 0], lines[0][:, None].expand(-1, size, -1), rtol=0, atol=1e-5)
    assert_close(crops[:, 1], lines[1][:, :, None].expand(-1, -1, size), rtol=0, atol=1e-5)
    return centres[0], centres[1], sides[0].abs(), sides[1], sides[0] < 0


def test_boxes_lie_inside_the_image_and_reach_all_of_its_edges():
    x, y, width, height, _ = boxes(4000, scale=(0.2, 0.5))
    for centre, side in ((x, width), (y, height)):
        assert (centre - side / 2).min() == pytest.approx(0, abs=5e-3) and (centre - side / 2).min() > -1e-5
        assert (centre + side / 2).max() == pytest.approx(1, abs=5e-3) and (centre + side / 2).max() < 1 + 1e-5


def test_boxes_cover_the_share_of_the_area_and_have_the_ratio_that_was_asked_for():
    _, _, width, height, _ = boxes(4000, scale=(0.2, 0.5))
    area, ratio = width * height, (width / height).log()
    assert [float(area.min()), float(area.max()), float(area.mean())] == pytest.approx([0.2, 0.5, 0.35], abs=5e-3)
    assert [float(ratio.min()), float(ratio.max()), float(ratio.mean())] == pytest.approx([-math.log(4 / 3), math.log(4 / 3), 0], abs=0.02)


def test_place_and_shape_and_flip_of_a_box_are_drawn_apart():
    x, y, width, height, flipped = boxes(4000, scale=(0.2, 0.5))
    places = [(x - 0.5) / (1 - width), (y - 0.5) / (1 - height)]
    drawn = torch.stack([*places, width * height, width / height, flipped.float()])
    assert (drawn.corrcoef() - torch.eye(5)).abs().max() < 0.06  # four standard errors of 1 / sqrt(4000)
    assert float(flipped.float().mean()) == pytest.approx(0.5, abs=0.035)


def test_a_box_too_wide_for_the_image_is_as_wide_as_the_image():
    crops = resized_crop(ramps(64), 8, scale=(0.9, 0.9), ratio=(4.0, 4.0))
    ends = crops[:, 0, 0][:, [0, -1]].sort(dim=1).values
    assert_close(ends, torch.tensor([[1 / 16, 15 / 16]]).expand(64, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [(0.05, 0.3), (0.5, 1.0), (1.0, 1.0)])
def test_crops_of_a_ramp_rise_in_one_direction_and_stay_in_its_range(scale):
    crops = resized_crop(ramps(200, size=16), 16, scale)
    assert crops.min() >= 1 / 32 - 1e-6 and crops.max() <= 31 / 32 + 1e-6
    across, down = crops[:, 0].diff(dim=2), crops[:, 1].diff(dim=1)
    rising, falling = (across > -1e-6).all(dim=(1, 2)), (across < 1e-6).all(dim=(1, 2))
    assert (rising ^ falling).all() and rising.any() and falling.any()
    assert (down > -1e-6).all()


def test_the_box_of_the_whole_image_gives_the_image_or_its_mirror():
    given = images()
    crops = resized_crop(given, 8, **WHOLE)
    same, mirrored = ((crops - other).abs().amax(dim=(1, 2, 3)) < 1e-5 for other in (given, given.flip(3)))
    assert (same ^ mirrored).all() and same.any() and mirrored.any()


@pytest.mark.parametrize(("flip", "mirrored"), [(0.0, 0), (1.0, 16)])
def test_mirroring_is_as_probable_as_asked_for(flip, mirrored):
    given = images()
    crops = resized_crop(given, 8, **WHOLE, flip=flip)
    assert int(((crops - given.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5).sum()) == mirrored


def test_half_the_size_of_the_whole_image_is_the_mean_of_two_by_two_pixels():
    given = images()
    means = given.reshape(16, 3, 4, 2, 4, 2).mean(dim=(3, 5))
    crops = resized_crop(given, 4, **WHOLE)
    off = torch.minimum((crops - means).abs().amax(dim=(1, 2, 3)), (crops - means.flip(3)).abs().amax(dim=(1, 2, 3)))
    assert off.max() < 1e-5


@pytest.mark.parametrize("size", [4, 8, 12])
def test_a_constant_image_stays_constant_in_any_size(size):
    colours = images(size=1).expand(-1, -1, 8, 8)
    assert_close(resized_crop(colours, size, (0.05, 1.0)), colours[:, :, :1, :1].expand(-1, -1, size, size))


@pytest.mark.parametrize("name", RANDOM)
def test_each_sample_of_a_batch_is_drawn_for_itself(name):
    views = RANDOM[name](copies(32))
    different = {tuple(view.flatten().tolist()) for view in views}
    assert len(different) == (32 if name in ("crop", "jitter") else 2)


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_seed_gives_the_same_views_and_the_next_draw_others(name):
    given = images(32)
    torch.manual_seed(5)
    first, following = RANDOM[name](given), RANDOM[name](given)
    torch.manual_seed(5)
    assert torch.equal(RANDOM[name](given), first)
    assert not torch.equal(first, following)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", RANDOM)
def test_views_keep_the_channels_the_range_and_the_images_they_are_made_of(name, channels):
    given = images(200, channels).round()  # black and white at the ends of the range
    before = given.clone()
    view = RANDOM[name](given)
    assert view.shape == given.shape and view.dtype == given.dtype
    assert view.min() >= 0 and view.max() <= 1
    assert torch.equal(given, before)


@pytest.mark.parametrize("name", SOMETIMES)
def test_probability_zero_changes_no_image_and_one_changes_all(name):
    given = images(200)
    assert torch.equal(SOMETIMES[name](given, 0.0), given)
    changed = SOMETIMES[name](given, 1.0) != given
    assert changed.any(dim=(1, 2, 3)).all()


@pytest.mark.parametrize("name", SOMETIMES)
def test_probability_is_the_share_of_images_changed_as_a_whole(name):
    given = images(4000, size=2)
    share = (SOMETIMES[name](given, 0.2) != given).any(dim=(1, 2, 3)).float().mean()
    assert float(share) == pytest.approx(0.2, abs=0.025)  # four standard errors


def test_jitter_of_no_strength_is_none():
    given = images()
    assert_close(colour_jitter(given, 1.0, strength=0.0), given, rtol=0, atol=1e-6)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_jitter_of_an_even_grey_is_its_brightness_alone_by_up_to_forty_percent(strength):
    levels = colour_jitter(torch.full((4000, 3, 2, 2), 0.5), 1.0, strength).flatten(1)
    assert_close(levels, levels[:, :1].expand(-1, 12))
    ends = [0.5 * (1 - 0.4 * strength), 0.5 * (1 + 0.4 * strength), 0.5]
    assert [float(levels.min()), float(levels.max()), float(levels.mean())] == pytest.approx(ends, abs=0.01)


def test_jitter_changes_the_contrast_about_the_mean_by_up_to_forty_percent():
    given = torch.full((4000, 1, 2, 2), 0.5)
    given[:, :, 0] = 0.4  # too near to be clamped: at most 0.5 * 1.4 * 1.4
    changed = colour_jitter(given, 1.0)
    contrast = (changed[:, 0, 1, 0] - changed[:, 0, 0, 0]) / changed.mean(dim=(1, 2, 3)) * 0.45 / 0.1
    assert [float(contrast.min()), float(contrast.max()), float(contrast.mean())] == pytest.approx([0.6, 1.4, 1.0], abs=0.02)


def test_brightness_ends_at_white_before_the_contrast_is_changed():
    """0.5 and 1 at most become 0.7 and 1, of mean 0.85, and with the least contrast 0.76 and 0.94."""
    given = torch.full((4000, 1, 2, 2), 0.5)
    given[:, :, 0] = 1
    changed = colour_jitter(given, 1.0)[:, 0]
    assert [float(changed[:, 1].max()), float(changed[:, 0].max())] == pytest.approx([0.76, 1.0], abs=0.01)


def test_jitter_turns_the_hue_by_up_to_a_tenth_of_a_turn_and_saturation_scales_it():
    colour = torch.tensor([0.45, 0.40, 0.35])
    changed = colour_jitter(colour[None, :, None, None].expand(4000, 3, 2, 2), 1.0)[:, :, 0, 0].double()
    before, after = chroma(colour[None].double()), chroma(changed)
    turns = (after / before).angle() / (2 * math.pi)
    scale = (after / before).abs()
    assert [float(turns.min()), float(turns.max()), float(turns.mean())] == pytest.approx([-0.1, 0.1, 0], abs=0.005)
    assert 0.6 * 0.6 * 0.8 < scale.min() < 0.6 * 0.6 < 1.4 * 1.4 < scale.max() < 1.4 * 1.4 * 1.2


def chroma(colours):
    """Colours (N, 3) seen along the grey axis, as complex numbers."""
    red, green, blue = colours.unbind(dim=1)
    return torch.complex(red - (green + blue) / 2, (green - blue) * math.sqrt(3) / 2)


def test_jitter_of_a_grey_image_in_three_channels_is_that_of_its_one_channel():
    given = images(channels=1)
    torch.manual_seed(5)
    single = colour_jitter(given, 0.5)
    torch.manual_seed(5)
    assert_close(colour_jitter(given.expand(-1, 3, -1, -1), 0.5), single.expand(-1, 3, -1, -1), rtol=0, atol=1e-6)


def test_grey_weighs_red_green_and_blue_by_their_luma():
    primaries = torch.eye(3)[:, :, None, None]
    assert_close(grey(primaries).flatten(), torch.tensor([0.299, 0.587, 0.114]))
    assert grey(images()).shape == (16, 1, 8, 8)


def test_greyscale_gives_all_channels_the_luma_and_a_second_time_nothing_new():
    given = images()
    once = greyscale(given, 1.0)
    luma = 0.299 * given[:, 0] + 0.587 * given[:, 1] + 0.114 * given[:, 2]
    assert_close(once, luma[:, None].expand(-1, 3, -1, -1))
    assert_close(greyscale(once, 1.0), once)


def test_hue_and_grey_of_one_channel_are_that_channel():
    given = images(channels=1)
    assert torch.equal(turned_hue(given, turns(0.3)), given)
    assert torch.equal(grey(given), given)
    assert torch.equal(greyscale(given, 1.0), given)


def turns(value):
    return torch.full((16, 1, 1, 1), value)


@pytest.mark.parametrize("whole", [0.0, 1.0, -2.0])
def test_whole_turns_of_the_hue_change_nothing(whole):
    assert_close(turned_hue(images(), turns(whole)), images(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("thirds", "places"), [(1, [2, 0, 1]), (2, [1, 2, 0]), (-1, [1, 2, 0])])
def test_a_third_of_a_turn_makes_red_green_green_blue_and_blue_red(thirds, places):
    assert_close(turned_hue(images(), turns(thirds / 3)), images()[:, places], rtol=0, atol=1e-5)


def test_half_a_turn_mirrors_colours_at_the_grey_axis():
    given = images()
    assert_close(turned_hue(given, turns(0.5)), 2 * given.mean(dim=1, keepdim=True) - given, rtol=0, atol=1e-5)


def test_turns_of_the_hue_add_up_and_keep_sum_and_length():
    given, angles = images(), torch.rand(2, 16, 1, 1, 1)
    turned = turned_hue(given, angles[0])
    assert (turned - given).abs().amax(dim=(1, 2, 3)).min() > 0.01
    assert_close(turned.sum(dim=1), given.sum(dim=1))
    assert_close(turned.norm(dim=1), given.norm(dim=1))
    assert_close(turned_hue(turned, angles[1]), turned_hue(given, angles.sum(dim=0)), rtol=0, atol=1e-5)


def test_solarised_values_are_inverted_from_the_threshold_on():
    given = torch.tensor([0.0, 0.25, 0.49, 0.5, 0.75, 1.0]).reshape(1, 1, 2, 3)
    assert_close(solarised(given, 1.0).flatten(), torch.tensor([0.0, 0.25, 0.49, 0.5, 0.25, 0.0]))
    assert_close(solarised(given, 1.0, threshold=0.25).flatten(), torch.tensor([0.0, 0.75, 0.51, 0.5, 0.25, 0.0]))


def test_solarised_at_the_middle_stays_so_and_at_zero_is_its_own_inverse():
    given = images()
    once = solarised(given, 1.0)
    assert torch.equal(solarised(once, 1.0), once)
    assert_close(solarised(given, 1.0, threshold=0.0), 1 - given)
    assert_close(solarised(solarised(given, 1.0, threshold=0.0), 1.0, threshold=0.0), given)
