"""Intervals of a mean over seeds and test images, both drawn from larger populations and crossed: every seed met every image.

With the difference d(s, i) of seed s on image i, n seeds and m images: a_s and b_i are its means over images and seeds, r its
residuals, and V = s²(a)/n + s²(b)/m - s²(r)/(n m) estimates the variance of the grand mean (two crossed random effects).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitlib.report.evidence.paired import Paired

LEVEL = 0.05
PRIOR = 1.0  # g of the sequential interval: effects are thought of as large as a seed's standard deviation
SMALLEST_LEVEL = 1e-30
Numbers = Any  # a float, or an array of them for as many means at once


@dataclass(frozen=True)
class Spread:
    """Variances (ddof 1) of what a mean is taken over; every field may be an array.

    Attributes:
        seeds: s²(a), of the seeds' means; 0 for one seed.
        images: s²(b), of the images' means; 0 without values by image.
        residual: s²(r), of what neither explains, over (n - 1)(m - 1).
        n, m: seeds and images.
        judged: images judged right or wrong in percent, 0 for other values (see `Paired`).
    """

    seeds: Numbers
    images: Numbers
    residual: Numbers
    n: Numbers
    m: Numbers
    judged: Numbers = 0.0

    def with_seeds(self, n: Numbers) -> Spread:
        """What n seeds would have, if seeds and images varied as these do."""
        own = np.maximum(self.images - self.residual / self.n, 0.0)
        return replace(self, n=n, images=own + self.residual / n)

    def with_seeds_and_images(self, n: Numbers, m: Numbers) -> Spread:
        """What n seeds on m images would have, if seeds and images varied as these do."""
        own = np.maximum(self.seeds - self.residual / self.m, 0.0)
        return replace(self.with_seeds(n), m=m, seeds=own + self.residual / m, judged=self.judged * m / self.m)


@dataclass(frozen=True)
class Interval:
    """A mean and its interval at any level; without anything that varies both ends are NaN."""

    mean: float
    spread: Spread
    sequential: bool = False

    @property
    def over(self) -> str:
        """What it counts: "seeds and images", "seeds", "images" or "nothing"."""
        return " and ".join(["seeds"] * (self.spread.n > 1) + ["images"] * (self.spread.m > 1)) or "nothing"

    @property
    def low(self) -> float:
        return self.mean - self.half_width()

    @property
    def high(self) -> float:
        return self.mean + self.half_width()

    def half_width(self, level: float = LEVEL) -> float:
        return float((sequential if self.sequential else fixed)(self.spread, level))

    def level_of(self, distance: float) -> float:
        """The smallest level at which half the interval is narrower than `distance`, its p-value; 1 where none is, NaN without interval."""
        from scipy.optimize import brentq  # slow to import

        if np.isnan(self.half_width()):
            return float("nan")
        if not self.half_width(1.0) < distance:
            return 1.0
        if self.half_width(SMALLEST_LEVEL) < distance:
            return SMALLEST_LEVEL
        return float(np.exp(brentq(lambda log: min(self.half_width(np.exp(log)), 1e9) - distance, np.log(SMALLEST_LEVEL), 0.0)))


def interval_of(differences: Paired, is_sequential: bool = False) -> Interval:
    """The interval of paired differences: over seeds and images where values by image are there, else over seeds."""
    values = differences.by_seed.to_numpy(float)
    known = differences.by_image is not None
    spread = crossed(differences.by_image, differences.judged) if known else Spread(_variance(values), 0.0, 0.0, len(values), 0)
    return Interval(float(values.mean()) if len(values) else float("nan"), spread, is_sequential)


def crossed(by_image: np.ndarray, judged: float = 0.0) -> Spread:
    """Spread of values (..., n seeds, m images)."""
    n, m = by_image.shape[-2:]
    seeds, images = by_image.mean(axis=-1), by_image.mean(axis=-2)
    rest = by_image - seeds[..., :, None] - images[..., None, :] + by_image.mean(axis=(-2, -1), keepdims=True)
    residual = (rest**2).sum(axis=(-2, -1)) / max((n - 1) * (m - 1), 1)
    return Spread(_variance(seeds), _variance(images), residual, n, m, judged)


def fixed(spread: Spread, level: Numbers = LEVEL) -> Numbers:
    """Half the width for a number of seeds that was fixed beforehand.

    t √V with Satterthwaite's degrees of freedom (each term of V squared over its own), never below t √(s²(a)/n) with n - 1 degrees or
    t √(s²(b)/m) with m - 1.
    """
    seeds, images, residual = _of_the_mean(spread)
    variance = np.maximum(seeds + images - residual, np.maximum(seeds, images))
    of_seeds, of_images = np.maximum(spread.n - 1, 1), np.maximum(spread.m - 1, 1)
    uncertain = seeds**2 / of_seeds + images**2 / of_images + residual**2 / (of_seeds * of_images)
    varies = variance > 0
    degrees = np.where(varies, variance**2 / np.where(varies, uncertain, 1.0), 1.0)
    both = _quantile(degrees, level) * np.sqrt(variance)
    parts = np.maximum(_quantile(of_seeds, level) * np.sqrt(seeds), _quantile(of_images, level) * np.sqrt(images))
    return np.fmax(np.where(varies, np.maximum(both, parts), np.nan), _unseen(spread, level))


def sequential(spread: Spread, level: Numbers = LEVEL) -> Numbers:
    """Half the width for seeds that are added until one likes what one sees: valid at every look. Infinite at 95 % below five seeds.

    Seeds: the scale-invariant Gaussian mixture of t (Wang and Ramdas, arXiv 2310.03722), nu = n - 1, A = ((1 + n g) / level²)^(1/n),
    half width √(s²(a)/n) √(nu (A - 1) / (1 - A / (1 + n g))). Images are as many at every look: their own part,
    t √(s²(b)/m - s²(r)/(n m)), is added in quadrature, at half the level: at the level itself, looks at 3 to 30 seeds err in up to 6 %
    where images weigh most (simulated). Without images 1 / level, at the level where it decides, is the mixture's e-value; with them it
    is the inverse of a p-value that holds at every look.
    """
    seeds, images, residual = _of_the_mean(spread)
    n = np.maximum(spread.n, 1)
    room_for = 1.0 + n * PRIOR
    growth = np.exp((np.log(room_for) - 2.0 * np.log(level)) / n)
    room = 1.0 - growth / room_for
    mixture = np.where(room > 0, seeds * (n - 1) * (growth - 1) / np.where(room > 0, room, 1.0), np.inf)
    quantile = _quantile(np.maximum(spread.m - 1, 1), level / 2)
    both = np.sqrt(mixture + quantile**2 * np.maximum(images - residual, 0.0))
    width = np.where(seeds + images > 0, np.maximum(both, quantile * np.sqrt(images)), np.nan)
    return np.fmax(width, _unseen(spread, level))


def _of_the_mean(spread: Spread) -> tuple[Numbers, Numbers, Numbers]:
    """s²(a)/n, s²(b)/m and s²(r)/(n m); a part that was not looked at is 0."""
    n, m = np.maximum(spread.n, 1), np.maximum(spread.m, 1)
    return spread.seeds / n, spread.images / m, spread.residual / (n * m)


def _unseen(spread: Spread, level: Numbers) -> Numbers:
    """Percent of images that may disagree where none of `judged` does: (1 - x)^judged = level / 2. NaN for other values."""
    judged = np.where(np.asarray(spread.judged) > 0, spread.judged, np.nan)
    return 100.0 * (1.0 - (np.asarray(level) / 2) ** (1.0 / judged))


def _quantile(degrees: Numbers, level: Numbers) -> Numbers:
    from scipy.special import stdtrit  # slow to import

    return -stdtrit(degrees, np.asarray(level) / 2)


def _variance(values: np.ndarray) -> Numbers:
    """Over the last axis, ddof 1; 0 for a single value and for values equal up to rounding."""
    if values.shape[-1] < 2:
        return np.zeros(values.shape[:-1])[()]
    equal = np.ptp(values, axis=-1) <= 1e-9 * np.abs(values).max(axis=-1)
    return np.where(equal, 0.0, values.var(axis=-1, ddof=1))[()]
