"""Looks that can be told apart: in print, on white, and without green cones."""

from itertools import combinations

import numpy as np
import pytest

from tests.report.drawing.deuteranopia import ciede2000, contrast, lab
from vitlib.report.drawing.palette import LOOKS, LOOKS_BY_SUBJECT, PALETTE, Look, distinct

COMPARED = ("dense", "AFR", "WeCoLoRA", "WeCoLoRA + AFR", "no distillation", "token", "DINO + MAE", "multi-distillation")
TOGETHER = {subject: LOOKS_BY_SUBJECT["compared with"] | looks for subject, looks in LOOKS_BY_SUBJECT.items()} | {
    "all methods": {name: LOOKS[name] for name in COMPARED}
}


def told_apart(one: Look, other: Look) -> bool:
    return (one.marker, one.line) != (other.marker, other.line) or ciede2000(lab(one.colour), lab(other.colour)) >= 20


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [  # of the test data of Sharma, Wu, Dalal (2005)
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_difference_of_colours_is_that_of_its_published_data(one, other, expected):
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


def test_without_green_cones_red_and_green_are_near_and_greys_are_what_they_were():
    seen, normal = (ciede2000(lab("#d00000", how), lab("#6b6b00", how)) for how in (lab.__defaults__[0], np.eye(3)))
    assert seen < 0.5 * normal
    np.testing.assert_allclose(lab("#737373"), lab("#737373", np.eye(3)), atol=0.5)


def test_contrast_is_that_of_black_and_of_the_lightest_grey_that_text_may_have():
    assert (
        contrast("black") == pytest.approx(21)
        and contrast("white") == pytest.approx(1)
        and contrast("#767676") == pytest.approx(4.54, abs=0.01)
    )


@pytest.mark.parametrize("name", LOOKS)
def test_every_colour_has_a_contrast_of_three_against_white(name):
    assert contrast(LOOKS[name].colour) >= 3


@pytest.mark.parametrize("subject", TOGETHER)
def test_looks_of_one_panel_differ_in_marker_or_line_or_in_colour_without_green_cones(subject):
    for (name, one), (other_name, other) in combinations(TOGETHER[subject].items(), 2):
        assert told_apart(one, other), (name, other_name)


def test_no_method_has_two_looks():
    assert len(LOOKS) == sum(map(len, LOOKS_BY_SUBJECT.values()))


def test_colours_of_the_palette_are_apart_without_green_cones():
    assert min(ciede2000(lab(one), lab(other)) for one, other in combinations(PALETTE, 2)) >= 20


def test_many_models_look_different():
    looks = distinct(map(str, range(200)))
    assert all(told_apart(one, other) for one, other in combinations(looks.values(), 2))
