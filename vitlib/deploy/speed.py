"""How fast a module and its ONNX file are on the CPU, timed in turn, so that what else the machine does falls on both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitlib.deploy.session import BATCH, OnnxModel

if TYPE_CHECKING:
    from torch import nn

REPEATS, BATCHES, WARM_UP = 40, 5, 3


def speeds(
    module: nn.Module, file: Path | str, images: np.ndarray, *, threads: int = 1, repeats: int = REPEATS, batches: int = BATCHES
) -> dict[str, float]:
    """Of `eager` and of `onnx`: `latency ms` and `latency p90 ms` of one image over `repeats` passes, `images/s` at batch 64 (median).

    The module is in eval mode, on the CPU. `timed passes`, `timed batches` and `threads` say how it was timed.
    """
    with torch_threads(threads):
        ways = {"eager": eager(module), "onnx": OnnxModel(file, threads).once}
        single = in_turn({name: lambda way=way: way(images[:1]) for name, way in ways.items()}, repeats)
        many = np.ascontiguousarray(np.resize(images, (BATCH, *images.shape[1:])))
        whole = in_turn({name: lambda way=way: way(many) for name, way in ways.items()}, batches, warm_up=1)
    found = {"timed passes": float(repeats), "timed batches": float(batches), "threads": float(threads)}
    for name in ways:
        found[f"{name} latency ms"] = 1000 * float(np.median(single[name]))
        found[f"{name} latency p90 ms"] = 1000 * float(np.quantile(single[name], 0.9))
        found[f"{name} images/s"] = BATCH / float(np.median(whole[name]))
    return found


def in_turn(ways: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = WARM_UP) -> dict[str, np.ndarray]:
    """Seconds of `repeats` passes of each way, after warm-up; one pass of each after the other, every second round in reverse."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + repeats):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(timed[warm_up:]) for name, timed in seconds.items()}


def eager(module: nn.Module) -> Callable[[np.ndarray], object]:
    """The module's forward pass from array to array, as the file's is."""
    import torch

    @torch.inference_mode()
    def once(images: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(images)).numpy()

    return once


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """So many threads of torch's, and as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
