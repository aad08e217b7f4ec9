"""How large a job is: by the runs that are missing, what they take, and what they hold in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vitlib.spec import RunSpec, SpecError
from vitlib.studies.costs.amounts import amounts_of, memory
from vitlib.studies.costs.slots import MOST, PROCESS
from vitlib.studies.costs.speed.rates import Rates
from vitlib.studies.slurm.limits import limit_of
from vitlib.training.work.registry import Sets

MOST_TASKS = 1000  # Slurm's own default of MaxArraySize is 1001
SHORTEST, LONGEST = 600.0, 86_400.0  # seconds of a limit that nobody asked for
PIECES = 3600.0  # seconds from which on a longer run is done in pieces, from checkpoint to checkpoint
BESIDE_GPU = 6 * 2**30  # bytes of the host's memory for a run on a GPU; assumed
MARGIN = 2.0  # estimates are of another machine


@dataclass(frozen=True)
class Size:
    """Of one job of the array: cores, GPUs, memory in MiB, limit and warning before it in seconds; `tasks` jobs for so many runs.

    Attributes:
        estimated: seconds that all runs take, one after the other.
    """

    tasks: int
    cpus: int
    gpus: int
    memory: int
    limit: int
    warning: int
    runs: int
    estimated: float


def sized(missing: list[RunSpec], sets: Sets, rates: Rates, array: int, gpus: int, limit: int | None) -> Size:
    """Not more jobs than runs; a limit that was not asked for leaves each job twice its share, at most a day, after which it goes on.

    Raises:
        SpecError: for a number of jobs or GPUs that is none, or a limit in which no run can end.
    """
    _require_between("array", array, 1, MOST_TASKS)
    _require_between("gpus", gpus, 0, 64)
    seconds = [rates.seconds(amounts_of(spec, sets)) for spec in missing]
    tasks, at_once = min(array, len(missing)), MOST * gpus or 1
    share = rates.start + max(MARGIN * max(seconds), MARGIN * sum(seconds) / tasks)
    chosen = limit or math.ceil(min(max(share, SHORTEST), LONGEST) / 600) * 600
    warning = _warning(chosen)
    _require_room(chosen, warning, rates.start + min(seconds))
    each = BESIDE_GPU if gpus else PROCESS + max(memory(spec, sets) for spec in missing)
    return Size(tasks, at_once, gpus, math.ceil(at_once * each / 2**20), chosen, warning, len(missing), sum(seconds))


def _warning(limit: int) -> int:
    """Seconds before the limit: a tenth of it, from one minute to five."""
    return int(min(max(limit / 10, 60), 300))


def _require_room(limit: int, warning: int, shortest: float) -> None:
    """Slurm may warn a minute earlier than asked."""
    needed = min(shortest, PIECES)
    if limit - warning - 60 >= needed:
        return
    enough = next(each for each in range(60, 2 * int(needed) + 600, 60) if each - _warning(each) - 60 >= needed)
    raise SpecError(
        f"time: got {limit_of(limit)}, and no run ends in it: the shortest takes about {shortest:.0f} s with its start, and the last "
        f"{warning + 60} s are for checkpoints; allowed: {limit_of(enough)} or more"
    )


def _require_between(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SpecError(f"{name}: got {value}; allowed: {least} to {most}")
