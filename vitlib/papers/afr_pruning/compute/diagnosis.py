"""AFR pruning: what the criteria have in common, and where each of them prunes."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.stats import rankdata, skew, spearmanr

from vitlib.computing import Context, Result, computes
from vitlib.methods.pruning.masks import densities
from vitlib.methods.pruning.saliency import Scores
from vitlib.papers.afr_pruning.compute.pruning import balanced_images, chosen, scored
from vitlib.papers.afr_pruning.specs import CRITERIA, Diagnosis
from vitlib.teachers.task import with_fresh_head

DRAWN = 1500  # weights whose ranks are kept for a scatter plot


@computes(Diagnosis)
def diagnose(spec: Diagnosis, context: Context) -> Result:
    model = with_fresh_head(spec.teacher, spec.data, spec.seed, context)
    samples = balanced_images(spec, context)
    scores = {criterion: scored(criterion, spec, model, samples) for criterion in CRITERIA}
    flat = {criterion: np.concatenate([part.numpy().ravel() for part in parts.values()]) for criterion, parts in scores.items()}
    metrics = {f"skewness {criterion}": float(skew(values)) for criterion, values in flat.items()}
    for one, other in itertools.combinations(CRITERIA[:4], 2):
        metrics[f"spearman {one} {other}"] = float(spearmanr(flat[one], flat[other]).statistic)
    arrays = {
        "densities": np.stack([_by_sparsity(scores[criterion], spec) for criterion in CRITERIA]),
        "sparsities": np.array(spec.sparsities),
        "correlation by matrix": _correlations(scores["snip"], scores["refer"]),
        "percentiles": _percentiles(flat["snip"], flat["refer"]),
    }
    return Result(metrics, arrays=arrays)


def _by_sparsity(scores: Scores, spec: Diagnosis) -> np.ndarray:
    """Densities (sparsities, matrices)."""
    masks = (chosen(scores, sparsity, spec.pruning) for sparsity in spec.sparsities)
    return np.array([list(densities(mask).values()) for mask in masks])


def _correlations(one: Scores, other: Scores) -> np.ndarray:
    return np.array([spearmanr(one[name].numpy().ravel(), other[name].numpy().ravel()).statistic for name in one])


def _percentiles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Ranks in percent of some evenly spaced weights by both criteria; (2, weights)."""
    some = np.linspace(0, len(one) - 1, min(DRAWN, len(one))).astype(int)
    return np.stack([100 * rankdata(values)[some] / len(values) for values in (one, other)])
