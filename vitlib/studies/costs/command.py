"""What `python -m vitlib plan` prints."""

from __future__ import annotations

from vitlib.spec import SpecError
from vitlib.studies.costs.budget import comparisons, seconds_of, that_fit
from vitlib.studies.costs.schedule import wall
from vitlib.studies.costs.speed.rates import Rates
from vitlib.studies.costs.table import family, in_words, states, table, to_compute
from vitlib.training.work.registry import Sets


def report(study, rates: Rates, budget: str = "") -> str:
    """A document's table, and with a budget how many whole comparisons fit into it.

    Raises:
        SpecError: for a budget that is none, or a set whose size is not known.
    """
    seconds = seconds_of(budget) if budget else 0.0
    lines = [f"{study.paper}, {study.profile}; on {rates.device}, {_runs(rates.slots)} at once ({rates.basis})", _text(study, rates)]
    if seconds:
        lines.append(_fitting(study, rates, budget, seconds))
    return "\n".join(lines)


def _text(study, rates: Rates) -> str:
    if not family(study):
        raise SpecError(f"{study.paper}: the grid of profile {study.profile} is empty; allowed: at least one run")
    return table(study, rates).to_string(index=False)


def _fitting(study, rates: Rates, budget: str, seconds: float) -> str:
    missing = {*to_compute(study, states(study))}
    every, sets = comparisons(study, missing), Sets(study.place.data_dir)
    fit = that_fit(every, rates, sets, seconds)
    if len(fit) == len(every):
        return f"budget {budget}: all {len(every)} comparisons fit"
    after = every[len(fit)]
    seed = "" if after.seed is None else f" at seed {after.seed}"
    needed = in_words(wall(after.missing, rates, sets))
    return f"budget {budget}: {len(fit)} of {len(every)} comparisons fit; the next, {after.table}{seed}, takes about {needed}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
