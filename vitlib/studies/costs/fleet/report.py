"""What `python -m vitlib plan --gpus` prints: by kind of run, and by document."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from vitlib.spec import RunSpec, SpecError
from vitlib.studies.costs.fleet.machines import DECODED, Fleet, Load, load_of
from vitlib.studies.costs.speed.rates import Rates
from vitlib.studies.costs.table import BYTES, THERE, family, in_words, states, with_unit
from vitlib.training.work.registry import Sets

COUNTS = ((1e9, "billion"), (1e6, "million"), (1e3, "thousand"), (1, ""))


def load_of_study(study, rates: Rates, fleet: Fleet) -> tuple[dict[str, Load], int]:
    """Loads of the missing runs by their kind, and how many are left out for sets of unknown size."""
    sets, found = Sets(study.place.data_dir), states(study)
    loads: dict[str, Load] = {}
    unknown = 0
    for run_id, spec in family(study).items():
        if found[run_id] in THERE:
            continue
        load = _known(spec, rates, fleet, sets)
        if load is None:
            unknown += 1
        else:
            kind = type(spec).__name__
            loads[kind] = loads.get(kind, Load()) + load
    return loads, unknown


def on_fleet(study, rates: Rates, fleet: Fleet) -> str:
    """A document's table by kind of run, and what it says in words."""
    loads, unknown = load_of_study(study, rates, fleet)
    if not loads:
        return f"{study.paper}, {study.profile}: nothing to compute"
    whole = sum(loads.values(), Load())
    rows = [{"kind": kind, **row(load, fleet)} for kind, load in [*sorted(loads.items()), ("all", whole)]]
    return "\n".join([pd.DataFrame(rows).to_string(index=False), *_in_words(whole, fleet, unknown)])


def by_document(studies: Iterable, rates: Rates, fleet: Fleet) -> pd.DataFrame:
    """One row a document."""
    rows = []
    for study in studies:
        loads, unknown = load_of_study(study, rates, fleet)
        rows.append({"document": study.paper, **row(sum(loads.values(), Load()), fleet), "left out": unknown or "–"})
    return pd.DataFrame(rows)


def row(load: Load, fleet: Fleet) -> dict[str, str | int]:
    return {
        "runs": load.runs,
        "GPU time": in_words(load.computing),
        "images decoded": with_unit(load.reading.images, COUNTS),
        "bytes read": with_unit(load.reading.bytes, BYTES),
        "images/s a GPU": f"{load.wanted:,.0f}",
        "cores a GPU": f"{load.wanted / DECODED:,.1f}",
        f"on {fleet.gpus} GPUs": in_words(load.wall(fleet)),
        "longest run": in_words(load.longest),
        "bottleneck": load.bottleneck(fleet),
    }


def assumptions(rates: Rates, fleet: Fleet) -> str:
    return (
        f"on {fleet.gpus} x {rates.device} ({rates.basis}); {fleet.cores} cores a GPU, {DECODED:.0f} images/s a core from file to batch; "
        f"storage gives {fleet.storage / 1e9:g} GB/s"
    )


def _in_words(whole: Load, fleet: Fleet, unknown: int) -> list[str]:
    lines = [f"about {in_words(whole.wall(fleet))} on {fleet.gpus} GPUs sharing the work evenly; the bottleneck is {_why(whole, fleet)}"]
    if whole.longest > whole.wall(fleet):
        lines.append(f"the longest run takes {in_words(whole.longest)} on one GPU, longer than that: give it several by torchrun")
    if unknown:
        lines.append(f"{unknown} runs on sets that are not here and whose sizes are not known are left out")
    return lines


def _why(whole: Load, fleet: Fleet) -> str:
    return {
        "GPUs": f"the GPUs: they take {whole.wanted:,.0f} images/s each, and {fleet.cores} cores decode {fleet.cores * DECODED:,.0f}",
        "decoding": f"decoding: a GPU takes {whole.wanted:,.0f} images/s, for which {whole.wanted / DECODED:,.0f} cores a GPU would do",
        "storage": f"the storage: it would have to give {whole.reading.bytes * fleet.gpus / whole.seconds / 1e9:,.1f} GB/s",
    }[whole.bottleneck(fleet)]


def _known(spec: RunSpec, rates: Rates, fleet: Fleet, sets: Sets) -> Load | None:
    """None where a set is not here and nobody knows its size."""
    try:
        return load_of(spec, rates, fleet, sets)
    except SpecError:
        return None
