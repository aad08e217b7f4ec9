"""How CUDA is asked for a record, with torch's calls written down in place of a GPU; test_gpu_steps.py has a real one."""

import gc
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from vitlib.training.step.graphs import CudaGraphs, graphs_of


@pytest.fixture
def calls(monkeypatch):
    """What CUDA is asked for, in order."""
    written = []

    def call(name, result=None):
        return lambda *args, **kwargs: written.append(name) or result

    @contextmanager
    def entered(name):
        written.append(f"enter {name}")
        try:
            yield
        finally:
            written.append(f"leave {name}")

    def stream(name):
        return SimpleNamespace(name=name, wait_stream=lambda other: written.append(f"{name} waits for {other.name}"))

    def graph(recorded, pool, stream, capture_error_mode):
        assert (pool, stream.name, capture_error_mode) == ("memory", "side", "thread_local")
        return entered("recording")

    generator = SimpleNamespace(clone_state=call("clone generator"), graphsafe_set_state=call("set generator"))
    replacements = {
        "Stream": lambda device: stream("side"),
        "current_stream": lambda device: stream("main"),
        "graph_pool_handle": lambda: "memory",
        "stream": lambda stream: entered(stream.name),
        "device": lambda device: entered(str(device)),
        "CUDAGraph": lambda: SimpleNamespace(replay=call("replay")),
        "graph": graph,
        "default_generators": [generator],
        "current_device": lambda: 0,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": lambda mode: written.append(f"debug {mode}"),
    }
    for name, replacement in replacements.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    return written


def test_only_a_cuda_device_has_graphs(calls):
    assert graphs_of("cpu") is None and isinstance(graphs_of("cuda:0"), CudaGraphs)


def test_first_steps_are_taken_on_the_stream_that_is_recorded_and_the_others_wait(calls):
    assert CudaGraphs("cuda").first(lambda: calls.append("work") or 1) == 1
    assert calls == ["side waits for main", "enter side", "work", "leave side", "main waits for side"]


def test_a_watched_step_tells_where_it_waited_and_of_nothing_else(calls):
    def work():
        warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)
        warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)
        warnings.warn(
            "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations", stacklevel=1
        )
        return 1

    lines = [work.__code__.co_firstlineno + place for place in (1, 2)]
    value, waited = CudaGraphs("cuda").watched(work)
    assert value == 1 and waited == ", ".join(f"test_graphs.py:{line}" for line in lines)
    assert calls[0] == "debug warn" and calls[-1] == "debug 0"
    assert CudaGraphs("cuda").watched(lambda: 2) == (2, "")


def test_the_mode_of_watching_ends_with_the_step_even_if_it_fails(calls):
    with pytest.raises(ZeroDivisionError):
        CudaGraphs("cuda").watched(lambda: 1 / 0)
    assert calls[-1] == "debug 0"


def test_work_is_recorded_while_nothing_is_collected_and_replayed_by_one_call(calls):
    def work():
        assert not gc.isenabled()
        return "value"

    record = CudaGraphs("cuda").record(work)
    assert gc.isenabled() and record.value == "value"
    assert calls == ["enter side", "enter recording", "leave recording", "leave side"]
    record.replay()
    assert calls[-1] == "replay"


def test_a_recording_that_is_broken_off_leaves_stream_collection_and_generator_in_order(calls):
    def work():
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaGraphs("cuda").record(work)
    assert gc.isenabled()
    assert calls[:4] == ["enter side", "enter recording", "leave recording", "leave side"]
    assert calls[4:] == ["enter cuda", "leave cuda", "clone generator", "set generator"]
