"""A forest fitted to the trials: what accuracy to expect of weights that nobody has tried (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vitlib.papers.multi_distillation.search.space import LETTERS, Space

TREES = 300


@dataclass(frozen=True)
class Surrogate:
    """A random forest over the nine weights; `error` is the root mean square of its out-of-bag residuals, in points."""

    trials: pd.DataFrame
    forest: Any
    error: float
    spans: np.ndarray

    def predicted(self, weights: dict[str, float]) -> float:
        return float(self.forest.predict(_row(weights))[0])

    def nearest(self, weights: dict[str, float]) -> pd.Series:
        """The measured trial at the smallest Euclidean distance, each weight in units of its range."""
        offsets = (self.trials[list(LETTERS)].to_numpy() - _row(weights)) / self.spans
        return self.trials.iloc[int(np.square(offsets).sum(axis=1).argmin())]


def fit(trials: pd.DataFrame, space: Space) -> Surrogate:
    """From trials with columns a to i and top1; several trainings of one setting count by their mean."""
    from sklearn.ensemble import RandomForestRegressor

    means = trials.groupby(list(LETTERS), sort=False, as_index=False)["top1"].mean()
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=0).fit(means[list(LETTERS)].to_numpy(), means["top1"])
    error = float(np.sqrt(np.nanmean(np.square(means["top1"] - forest.oob_prediction_))))
    spans = np.array([getattr(space, letter).high - getattr(space, letter).low for letter in LETTERS])
    return Surrogate(means, forest, error, spans)


def _row(weights: dict[str, float]) -> np.ndarray:
    return np.array([[weights[letter] for letter in LETTERS]])
