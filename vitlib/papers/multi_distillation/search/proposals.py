"""Choosing weights from finished trials: the best of them, and Optuna's proposals for the next (no torch)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vitlib.computing import Context, Result
from vitlib.papers.multi_distillation.search.space import LETTERS, Space, Weights
from vitlib.papers.multi_distillation.specs import Proposals


def propose(spec: Proposals, context: Context) -> Result:
    """The round's weights (proposals, 9) from Optuna's TPE: a function of the seeds and of the trials before."""
    study = finished_study(trials_frame([context.parent(trial) for trial in spec.trials()]), spec.space, _tpe(spec))
    asked = [study.ask(distributions(spec.space)) for _ in range(spec.size)]
    weights = np.array([[trial.params[letter] for letter in LETTERS] for trial in asked]).round(9)  # the numbers of `Range.values`
    return Result({"known": len(spec.trials())}, arrays={"weights": weights})


def weights_at(proposals: Any, position: int) -> Weights:
    """One of a stored round's proposals."""
    return Weights(**dict(zip(LETTERS, map(float, proposals.arrays["weights"][position]), strict=True)))


def trials_frame(trials: list[Any]) -> pd.DataFrame:
    """Stored trials as rows: the nine weights and top1."""
    return pd.DataFrame([trial.metrics for trial in trials])[[*LETTERS, "top1"]]


def best_weights(trials: list[Any]) -> Weights:
    """Those of the highest held-out accuracy, averaged over the training seeds of a setting; the earliest of equals."""
    means = trials_frame(trials).groupby(list(LETTERS), sort=False)["top1"].mean()
    return Weights(**dict(zip(LETTERS, map(float, means.idxmax()), strict=True)))


def finished_study(trials: pd.DataFrame, space: Space, sampler: Any = None) -> Any:
    """An Optuna study in memory that holds trials (columns a to i and top1) as completed, whatever computed them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    known = distributions(space)
    for row in trials.to_dict("records"):
        params = {letter: row[letter] for letter in LETTERS}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=known, value=row["top1"]))
    return study


def distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import FloatDistribution

    ranges = {letter: getattr(space, letter) for letter in LETTERS}
    return {letter: FloatDistribution(each.low, each.high, step=each.step) for letter, each in ranges.items()}


def _tpe(spec: Proposals) -> Any:
    """Optuna's tree-structured Parzen estimator on all known trials; each round has a seed of its own."""
    from optuna.samplers import TPESampler

    seed = int(np.random.default_rng([spec.search_seed, len(spec.trials())]).integers(2**31))
    return TPESampler(seed=seed, n_startup_trials=0)
