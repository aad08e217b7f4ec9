"""How much each weight matters to held-out accuracy, by three measures, and how much it would seem to by chance (no torch).

PED-ANOVA (S. Watanabe et al., IJCAI 2023) and fANOVA (F. Hutter et al., ICML 2014) are Optuna's, shares of 1; the third is Spearman's
rank correlation. Of few trials the two shares depend more on the grids of the weights than on any accuracy: hence `by_chance`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from vitlib.papers.multi_distillation.search.proposals import finished_study
from vitlib.papers.multi_distillation.search.space import LETTERS, Space

MEASURES = ("PED-ANOVA", "fANOVA", "rank correlation")
SHUFFLES = 19  # the highest of them is exceeded by chance once in twenty times


def importance(trials: pd.DataFrame, space: Space) -> pd.DataFrame:
    """Of trials (columns a to i and top1): one row a weight, one column a measure."""
    return _importance(tuple(map(tuple, trials[[*LETTERS, "top1"]].to_numpy().tolist())), space).copy()


def by_chance(trials: pd.DataFrame, space: Space) -> pd.DataFrame:
    """The largest absolute value of each measure and weight over shuffles of the accuracies among the trials."""
    generator = np.random.default_rng(0)
    shuffled = [importance(trials.assign(top1=generator.permutation(trials["top1"])), space) for _ in range(SHUFFLES)]
    return pd.concat(shuffled).abs().groupby(level="weight", sort=False).max()


def beyond_chance(table: pd.DataFrame, measure: str) -> list[str]:
    """Weights (the index) whose measure has one sign and exceeds all shuffles in every training."""
    low, high = table[f"{measure}, lowest"], table[f"{measure}, highest"]
    smallest = np.where(low * high > 0, np.minimum(low.abs(), high.abs()), 0.0)
    return list(table.index[smallest > table[f"{measure}, by chance"]])


@lru_cache(maxsize=256)
def _importance(rows: tuple[tuple[float, ...], ...], space: Space) -> pd.DataFrame:
    """Remembered: several tables and figures show the same trials."""
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    trials = pd.DataFrame(rows, columns=[*LETTERS, "top1"])
    study = finished_study(trials, space)
    shares = [get_param_importances(study, evaluator=each) for each in (PedAnovaImportanceEvaluator(), FanovaImportanceEvaluator(seed=0))]
    measures = dict(zip(MEASURES, [*shares, trials.corr(method="spearman")["top1"]], strict=True))
    index = pd.Index(LETTERS, name="weight")
    return pd.DataFrame({name: [float(values[letter]) for letter in LETTERS] for name, values in measures.items()}, index=index)
