"""The width of an interval by its equation, and the level that is left to one claim among many, by hand."""

import numpy as np
import pytest
from scipy import stats

from vitlib.report.evidence.intervals import Spread, fixed
from vitlib.report.evidence.multiplicity import adjusted, level_for_one


@pytest.mark.parametrize(("seeds", "images", "residual", "n", "m"), [(4.0, 900.0, 300.0, 5, 100), (9.0, 400.0, 350.0, 3, 720)])
def test_what_seeds_and_images_share_is_taken_off_the_variance_of_the_mean(seeds, images, residual, n, m):
    parts = seeds / n, images / m, residual / (n * m)
    degrees = n - 1, m - 1, (n - 1) * (m - 1)
    variance = parts[0] + parts[1] - parts[2]
    assert variance > max(parts)
    satterthwaite = variance**2 / sum(part**2 / of for part, of in zip(parts, degrees, strict=True))
    widths = [stats.t.ppf(0.975, of) * np.sqrt(part) for part, of in ((variance, satterthwaite), (parts[0], n - 1), (parts[1], m - 1))]
    assert fixed(Spread(seeds, images, residual, n, m)) == pytest.approx(max(widths))


@pytest.mark.parametrize("decided", [0, 3])
def test_an_open_claim_counts_among_those_that_are_decided_with_it(decided):
    p = np.array([0.001] * decided + [0.9] * (8 - decided))
    level = level_for_one(adjusted(p))[-1]
    assert level == pytest.approx((decided + 1) / 8 * 0.05)
    for factor, found in ((0.999, True), (1.001, False)):
        assert bool(adjusted(np.append(p[:-1], factor * level))[-1] <= 0.05) is found
