"""Many claims on one scoreboard: what share of the decided ones is wrong by chance is held at the level."""

from __future__ import annotations

import numpy as np
from scipy.stats import false_discovery_control

from vitlib.report.evidence.intervals import LEVEL


def adjusted(levels: np.ndarray, sequential: np.ndarray) -> np.ndarray:
    """Each claim's level corrected for the K of the scoreboard; it is decided where this is at most 5 %.

    Fixed claims: p-values by Benjamini and Hochberg (1995). Sequential ones: e-values 1 / level by e-BH (Wang and Ramdas 2022), the
    k largest where each is at least K / (k level). Each kind is corrected with all K claims, so that the shares of wrong ones add up
    to no more than the level. A claim without a level (NaN) counts among the K and stays undecided.

    Args:
        levels: (K,) p-values, or 1 / e for sequential claims.
        sequential: (K,) which claims are sequential.
    """
    known = np.where(np.isnan(levels), 1.0, np.minimum(levels, 1.0))
    if not len(known):
        return known
    of_kind = {kind: false_discovery_control(np.where(sequential == kind, known, 1.0)) for kind in (False, True)}
    return np.where(sequential, of_kind[True], of_kind[False])


def level_for_one(adjusted_levels: np.ndarray, sequential: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The level that decides each claim with the others as they are: k / K of `level`, k claims of its kind decided, it among them."""
    decided = adjusted_levels <= level
    count = np.where(sequential, (decided & sequential).sum(), (decided & ~sequential).sum())
    return level * (count + ~decided) / max(len(decided), 1)
