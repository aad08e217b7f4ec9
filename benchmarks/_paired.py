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


def ratios(ours: Callable[[], None], bare: Callable[[], None], pairs: int, warm_up: int = 2) -> dict[str, float | int]:
    """Seconds of `ours` over seconds of `bare`, pair by pair, the order reversed in every second pair."""
    seconds = []
    for pair in range(warm_up + pairs):
        timed = {way: _seconds(way) for way in ((ours, bare) if pair % 2 else (bare, ours))}
        if pair >= warm_up:
            seconds.append((timed[ours], timed[bare]))
    values = [mine / theirs for mine, theirs in seconds]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "n": pairs,
        "ratio_median": median,
        "ratio_quartile_1": first,
        "ratio_quartile_3": third,
        "ratio_min": min(values),
        "ratio_max": max(values),
        "seconds_ours_median": statistics.median(mine for mine, _ in seconds),
        "seconds_bare_median": statistics.median(theirs for _, theirs in seconds),
    }


def spread(result: dict[str, float | int]) -> str:
    return (
        f"median {result['ratio_median']:.3f}, quartiles {result['ratio_quartile_1']:.3f} .. {result['ratio_quartile_3']:.3f}, "
        f"min {result['ratio_min']:.3f}, max {result['ratio_max']:.3f}, n {result['n']} pairs"
    )


def machine(device: str, *packages: str) -> dict[str, str | int]:
    load = os.getloadavg()[0]
    return {
        "device": device,
        "cores": os.cpu_count() or 1,
        "load_at_start": round(load, 2),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def write(script: str, content: dict) -> None:
    """The numbers as JSON beside the script that measured them."""
    Path(script).with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _seconds(way: Callable[[], None]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start
