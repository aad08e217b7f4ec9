"""Which function computes which run; trials whose weights were chosen by trials before them."""

from __future__ import annotations

from vitlib.computing import Context, Result, computes
from vitlib.papers.multi_distillation.search.proposals import best_weights, propose, weights_at
from vitlib.papers.multi_distillation.search.space import Weights
from vitlib.papers.multi_distillation.specs import Alone, Best, Combined, Guided, NetworkCost, Proposals
from vitlib.papers.multi_distillation.training.cost import count_cost
from vitlib.papers.multi_distillation.training.networks import train_alone, train_combined

computes(Alone)(train_alone)
computes(Combined)(train_combined)
computes(Proposals)(propose)
computes(NetworkCost)(count_cost)


@computes(Guided)
def train_proposed(spec: Guided, context: Context) -> Result:
    return _with_weights(spec.proposals.base, weights_at(context.parent(spec.proposals), spec.position), context)


@computes(Best)
def train_best(spec: Best, context: Context) -> Result:
    return _with_weights(spec.base, best_weights([context.parent(trial) for trial in spec.trials]), context)


def _with_weights(base: Combined, weights: Weights, context: Context) -> Result:
    return train_combined(base.changed(objective=base.objective.weighted(weights)), context)
