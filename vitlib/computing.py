"""How runs are computed: a function for each class of specs, registered by `computes` in the module `compute` beside them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitlib.spec import RunSpec, SpecError


class OutOfTimeError(RuntimeError):
    """A run was interrupted at the deadline; its checkpoint is written.

    Attributes:
        share: of its work that is done, 0 to 1.
    """

    def __init__(self, share: float):
        super().__init__(f"interrupted at the deadline, {share:.0%} done; the checkpoint is written")
        self.share = share


class NoWeightsError(SpecError):
    """A parent is stored without the weights that are asked of it.

    Attributes:
        run_id: of the parent.
    """

    def __init__(self, run_id: str):
        super().__init__(
            f"weights of {run_id}: left out of the archive it was imported from; "
            "import an archive that has them, which adds them, or mode='retry' computes that run again"
        )
        self.run_id = run_id


@dataclass
class Result:
    """What a run leaves behind.

    Args:
        metrics: scalars by name; percent where the name is an accuracy.
        history: one row an epoch, or None.
        arrays: numpy arrays by name; `METRIC by image` (N,) has what a metric is the mean of, image by image (booleans: 100 and 0 percent).
        weights: numpy arrays by parameter name; only where a child needs them.
        measured: hardware-dependent facts (seconds, images/s, bytes, how steps were taken), kept beside the provenance, no part of the
            identity.
    """

    metrics: dict[str, float | int | str]
    history: pd.DataFrame | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] | None = None
    measured: dict[str, float | str] = field(default_factory=dict)


@dataclass
class Context:
    """Where a run is computed; none of it is part of the run's identity.

    Args:
        device: torch device string.
        data_dir: folder that holds the data sets that are not embedded.
        scratch: folder for mid-run checkpoints.
        parent: stored result of a parent run.
        tick: called as `tick(epoch, epochs, images)` while a run goes on.
        checkpoint_every: seconds between mid-run checkpoints.
        deadline: on the clock `time.monotonic`; a training that can be checkpointed ends there, and goes on another time.
        capture: whether a GPU replays the steps of a training from a record of the first ones, where that is possible.
    """

    device: str
    data_dir: Path
    scratch: Path | None
    parent: Callable[[RunSpec], Any]
    tick: Callable[[int, int, int], None] = lambda epoch, epochs, images: None
    checkpoint_every: float = 120.0
    deadline: float = float("inf")
    capture: bool = True

    def weights(self, run: RunSpec) -> dict[str, np.ndarray]:
        """The stored weights of a parent.

        Raises:
            NoWeightsError: if the parent came from an archive that was exported without weights.
        """
        weights = self.parent(run).weights
        if weights is None:
            raise NoWeightsError(run.id)
        return weights


Compute = Callable[[Any, Context], Result]
_FUNCTIONS: dict[type[RunSpec], Compute] = {}


def computes(cls: type[RunSpec]) -> Callable[[Compute], Compute]:
    """Register the function that computes the runs of a class: a decorator."""

    def register(function: Compute) -> Compute:
        _FUNCTIONS[cls] = function
        return function

    return register


def result_of(spec: RunSpec, context: Context) -> Result:
    """Compute a run by the function of its class.

    Raises:
        SpecError: if no function is registered for it, naming where one was looked for.
    """
    return _function_of(type(spec))(spec, context)


def module_of(cls: type[RunSpec]) -> str:
    """The module that registers the class's function: `compute` beside the module of the class."""
    return f"{cls.__module__.rpartition('.')[0]}.compute".lstrip(".")


def _function_of(cls: type[RunSpec]) -> Compute:
    if cls not in _FUNCTIONS:
        _import(module_of(cls), cls)
    if cls not in _FUNCTIONS:
        raise SpecError(f"{cls.__name__}: no function computes it; looked for @computes({cls.__name__}) in {module_of(cls)}")
    return _FUNCTIONS[cls]


def _import(module: str, cls: type[RunSpec]) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise SpecError(f"{cls.__name__}: no function computes it; looked for the module {module}, which there is not") from None
