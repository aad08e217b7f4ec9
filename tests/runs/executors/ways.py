"""The ways in which a study is computed, each as a function of specs and place that raises what a person would see."""

import importlib.util
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess

import pytest

from vitlib.runs.clock.budget import Budget
from vitlib.runs.execute import RunsFailedError, TimeIsUpError, execute
from vitlib.runs.plan import Place
from vitlib.spec import RunSpec

DRIVERS = 3
RAY = pytest.param(
    "ray",
    marks=[
        pytest.mark.cluster,
        pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed: python -m pip install -e '.[ray]'"),
    ],
)
WAYS = ["inline", "local", "drivers", RAY]


def drive(specs: list[RunSpec], place: Place, seconds: float) -> None:
    """One of several drivers on a store; what failed or is left, the one that is asked last says."""
    with suppress(RunsFailedError, TimeIsUpError):
        execute(specs, place, budget=Budget(seconds), seconds=lambda spec: 0.01)


def started(forking, *arguments) -> BaseProcess:
    child = forking.Process(target=drive, args=arguments, daemon=True)
    child.start()
    return child


def way(name: str, forking) -> Callable:
    """`compute(specs, place, seconds=..., mode=...)`: the stored runs, within so many seconds."""

    def compute(specs, place, seconds=1e6, mode="cached"):
        drivers = [started(forking, specs, place, seconds) for _ in range(DRIVERS if name == "drivers" else 0)]
        for driver in drivers:
            driver.join()
            assert driver.exitcode == 0
        executor = "inline" if name == "drivers" else name
        budget = Budget(seconds) if seconds < 1e6 else None
        return execute(specs, place, executor=executor, mode=mode, budget=budget, seconds=lambda spec: 0.01)

    return compute
