"""What an open claim would take, were its difference and its variances those found so far."""

from __future__ import annotations

import numpy as np

from vitlib.report.evidence.intervals import LEVEL, Interval, fixed, sequential

MOST = 1000  # seeds that are tried


def seeds_needed(interval: Interval, distance: float, level: float = LEVEL) -> float:
    """The smallest number of seeds above the present one with half an interval narrower than `distance`, declared beforehand or added as
    the interval's are.

    Infinite where more seeds do not help (the images alone are too few) or `MOST` of them do not; NaN where it cannot be told from one
    seed, or no interval is there.
    """
    if interval.spread.n < 2 or np.isnan(interval.half_width()):
        return float("nan")
    counts = np.arange(interval.spread.n + 1, MOST + 1)
    enough = counts[(sequential if interval.sequential else fixed)(interval.spread.with_seeds(counts), level) < distance]
    return float(enough[0]) if len(enough) else float("inf")


def seeds_and_images_needed(interval: Interval, distance: float, level: float = LEVEL) -> tuple[float, float]:
    """As `seeds_needed`, with more test images too, in the proportion of today's; both infinite where `MOST` seeds are not enough."""
    counts = np.arange(interval.spread.n + 1, MOST + 1)
    images = np.ceil(counts * interval.spread.m / interval.spread.n)
    widths = (sequential if interval.sequential else fixed)(interval.spread.with_seeds_and_images(counts, images), level)
    enough = np.flatnonzero(widths < distance)
    return (float(counts[enough[0]]), float(images[enough[0]])) if len(enough) else (float("inf"), float("inf"))
