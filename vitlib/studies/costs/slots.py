"""How many runs share a GPU: what its memory bears, a core for each, and no more than help."""

from __future__ import annotations

from collections.abc import Iterable

from vitlib import paths
from vitlib.runs.workers.slots import MOST, PROCESS, smallest_card, visible_gpus
from vitlib.spec import RunSpec
from vitlib.studies.costs.amounts import memory
from vitlib.training.work.registry import Sets


def slots_per_gpu(specs: Iterable[RunSpec], sets: Sets) -> int:
    """For runs that are computed side by side, the largest of them in every slot; 1 where no card says how large it is."""
    card, gpus = smallest_card(), len(visible_gpus())
    if not card or not gpus:
        return 1
    largest = max((memory(spec, sets) for spec in specs), default=0.0)
    return max(1, min(int(card // (largest + PROCESS)), paths.cores() // gpus, MOST))
