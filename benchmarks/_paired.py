"""Two ways of doing the same thing, timed in turn in one process, so that what else the machine does falls on both."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}  # cpu: without waiting for what other processes take


def ratios(ours: Callable[[], None], bare: Callable[[], None], pairs: int, warm_up: int = 2) -> dict:
    """Seconds of `ours` over those of `bare`, pair by pair, by both clocks; every second pair in reverse order."""
    timed = []
    for pair in range(warm_up + pairs):
        seconds = {way: _seconds(way) for way in ((ours, bare) if pair % 2 else (bare, ours))}
        if pair >= warm_up:
            timed.append((seconds[ours], seconds[bare]))
    return {"n": pairs} | {clock: _spread([(mine[clock], theirs[clock]) for mine, theirs in timed]) for clock in CLOCKS}


def described(result: dict, clock: str) -> str:
    names = ("median", "quartile_1", "quartile_3", "min", "max")
    median, first, third, low, high = (f"{result[clock][f'ratio_{name}']:.3f}" for name in names)
    return f"median {median}, quartiles {first} .. {third}, min {low}, max {high}, n {result['n']} pairs, {clock} time"


def machine(device: str, *packages: str) -> dict[str, str | float]:
    return {
        "device": device,
        "cores": os.cpu_count() or 1,
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def write(script: str, content: dict) -> None:
    """The numbers as JSON beside the script that measured them."""
    Path(script).with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _spread(seconds: list[tuple[float, float]]) -> dict[str, float]:
    values = [mine / theirs for mine, theirs in seconds]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "ratio_median": median,
        "ratio_quartile_1": first,
        "ratio_quartile_3": third,
        "ratio_min": min(values),
        "ratio_max": max(values),
        "seconds_ours_median": statistics.median(mine for mine, _ in seconds),
        "seconds_bare_median": statistics.median(theirs for _, theirs in seconds),
    }


def _seconds(way: Callable[[], None]) -> dict[str, float]:
    start = {name: clock() for name, clock in CLOCKS.items()}
    way()
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}
