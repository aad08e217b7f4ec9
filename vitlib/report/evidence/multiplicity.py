"""Many claims on one scoreboard: the share of wrong ones among the decided is held at the level."""

from __future__ import annotations

import numpy as np

from vitlib.report.evidence.intervals import LEVEL


def adjusted(levels: np.ndarray) -> np.ndarray:
    """Each claim's level corrected for the K of the scoreboard; it is decided where this is at most 5 %.

    Decided are the k claims, as many as possible, with p at most k / K of the level (Benjamini and Hochberg 1995) or, sequential ones,
    with e = 1 / p at least K / (k level), which is e-BH (Wang and Ramdas 2022) for a scoreboard of sequential claims alone. One step-up
    for both kinds, because 1 / e of a sequential claim is a p-value wherever one stops. A claim without a level (NaN) counts among the
    K and stays undecided.
    """
    from scipy.stats import false_discovery_control  # slow to import

    return false_discovery_control(np.where(np.isnan(levels), 1.0, np.minimum(levels, 1.0))) if len(levels) else np.array([])


def level_for_one(corrected: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The level that decides each claim with the others as they are: k / K of `level`, k claims decided, it among them."""
    decided = corrected <= level
    return level * (decided.sum() + ~decided) / max(len(decided), 1)
