"""What `python -m vitlib plan` prints."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from vitlib.spec import SpecError
from vitlib.studies.costs.budget import comparisons, seconds_of, that_fit
from vitlib.studies.costs.fleet.machines import Fleet
from vitlib.studies.costs.fleet.report import assumptions, by_document, on_fleet
from vitlib.studies.costs.schedule import wall
from vitlib.studies.costs.speed.rates import Rates
from vitlib.studies.costs.table import family, in_words, states, table, to_compute
from vitlib.training.work.registry import Sets


def add_options(planning: argparse.ArgumentParser) -> None:
    planning.add_argument("--device", default="", help="auto, cpu, cuda: this machine, measured on first use; or h100, cpu-2-cores")
    planning.add_argument("--budget", default="", help="a time such as 12m: how many whole comparisons fit into it")
    planning.add_argument("--gpus", type=int, help="so many GPUs together (h100 unless --device says otherwise), and what feeds them")
    planning.add_argument("--cores-per-gpu", type=int, default=Fleet.cores, help=f"that decode for each of them; default: {Fleet.cores}")
    planning.add_argument("--storage", type=float, default=Fleet.storage / 1e9, help="GB/s that all get together; default: 10")


def device_of(options: argparse.Namespace) -> str:
    return options.device or ("h100" if options.gpus is not None else "auto")


def reports(studies: Iterable, rates: Rates, options: argparse.Namespace) -> Iterator[str]:
    """A text a document; with GPUs, what each takes on all of them, and then a table of all documents."""
    if options.gpus is None:
        yield from (report(study, rates, options.budget) for study in studies)
        return
    if options.budget:
        raise SpecError("budget: got one with --gpus; allowed: one of the two")
    fleet, studies = Fleet(options.gpus, options.cores_per_gpu, options.storage * 1e9), list(studies)
    yield assumptions(rates, fleet)
    yield from (f"{study.paper}, {study.profile}\n{on_fleet(study, rates, fleet)}" for study in studies)
    if len(studies) > 1:
        yield by_document(studies, rates, fleet).to_string(index=False)


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
