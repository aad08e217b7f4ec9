"""Records of work on a GPU, as CUDA graphs: what was asked of the device once is asked for again at once, by a single call.

A replay runs the same kernels on the same memory: what the work reads and changes lies in tensors that outlive it, numbers of Python are
those of the recording. Random numbers are those of the generator's seed and position at each replay, as without a record: torch's
`CUDAGraph.replay` hands both to the kernels, and moves the position on by what the work draws.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Work = Callable[[], Tensor]
WAITED = "called a synchronizing"  # how torch's warning of it begins


class Record(NamedTuple):
    """Work to be done by `replay`, which leaves its result in `value`."""

    value: Tensor
    replay: Callable[[], None]


class Graphs(Protocol):
    """Records on one device, replayed one at a time."""

    def first(self, work: Work) -> Tensor:
        """Do work that is to be recorded, so that everything it needs once is there."""
        ...

    def watched(self, work: Work) -> tuple[Tensor, str]:
        """As `first`, and where it waited for the device, by file and line; empty where it did not."""
        ...

    def record(self, work: Work) -> Record:
        """Record work without doing it.

        Raises:
            RuntimeError: if it asks for what cannot be recorded; nothing was done then.
        """
        ...


def graphs_of(device: str) -> Graphs | None:
    """Those of a CUDA device; others record nothing."""
    return CudaGraphs(device) if device.startswith("cuda") else None


class CudaGraphs:
    """Recorded on a stream of their own, on which the first steps are taken too; their memory is shared, since each needs it alone."""

    def __init__(self, device: str):
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)
        self._memory = torch.cuda.graph_pool_handle()

    def first(self, work: Work) -> Tensor:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            value = work()
        current.wait_stream(self._stream)
        return value

    def watched(self, work: Work) -> tuple[Tensor, str]:
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                value = self.first(work)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        places = [f"{Path(warning.filename).name}:{warning.lineno}" for warning in seen if str(warning.message).startswith(WAITED)]
        return value, ", ".join(dict.fromkeys(places))

    def record(self, work: Work) -> Record:
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local")
        try:
            with _nothing_collected(), torch.cuda.stream(self._stream), recording:
                value = work()
        except RuntimeError:
            self._renew_generator()
            raise
        return Record(value, graph.replay)

    def _renew_generator(self) -> None:
        """With its seed and position: after a recording that was broken off, torch 2.11's waits for its end for good."""
        with torch.cuda.device(self._device):
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """What a garbage collection frees on the device cannot be freed while something is recorded."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
