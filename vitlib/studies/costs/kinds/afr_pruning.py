"""What the runs of AFR pruning do."""

from __future__ import annotations

from collections.abc import Iterator

from vitlib.papers.afr_pruning.specs import Diagnosis, Pruned
from vitlib.training.work.declared import Work, judged, looking, network_on, training
from vitlib.training.work.layers import Chain
from vitlib.training.work.registry import Sets, does

SNIP, REFER = 3, 4  # passes over the pruning samples, a backward pass counting as two: ReFer walks through them twice


@does(Pruned)
def pruned(spec: Pruned, sets: Sets) -> Iterator[Work]:
    """Scores and six spectra on the pruning samples, and fine-tuning."""
    classes = sets.classes(spec.data)
    chain = network_on(spec.teacher.model, spec.data, classes).layers
    samples = spec.pruning.samples(classes)
    yield training(spec.data, spec.recipe, chain)
    yield from judged(spec.data, chain)
    yield looking(spec.data, "train", chain, times=3, most=samples)
    yield looking(spec.data, "test", chain, times=3, most=samples)
    yield from _scored(spec, chain, samples, {"snip": SNIP, "refer": REFER, "afr": SNIP + REFER}.get(spec.criterion, 0))


@does(Diagnosis)
def diagnosis(spec: Diagnosis, sets: Sets) -> Iterator[Work]:
    classes = sets.classes(spec.data)
    yield from _scored(spec, network_on(spec.teacher.model, spec.data, classes).layers, spec.pruning.samples(classes), SNIP + REFER)


def _scored(spec: Pruned | Diagnosis, chain: Chain, samples: int, passes: int) -> Iterator[Work]:
    """Passes forward that take as many FLOPs."""
    if passes:
        yield looking(spec.data, "train", chain, times=passes, most=samples)
