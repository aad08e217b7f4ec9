"""Module and file are timed in turn, with as many threads as are stated."""

import numpy as np
import pytest
import torch

from vitlib.deploy import speed
from vitlib.deploy.export import export


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(12, 3)

    def forward(self, images):
        return self.layer(images.flatten(1))


@pytest.fixture
def clock(monkeypatch):
    """A clock that only ways move, by the seconds they are given."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    return now


def test_ways_are_timed_one_after_the_other_every_second_round_in_reverse(clock):
    order = []

    def way(name, seconds):
        def once():
            order.append(name)
            clock[0] += seconds

        return once

    found = speed.in_turn({"a": way("a", 2.0), "b": way("b", 3.0)}, repeats=3, warm_up=1)
    assert {name: seconds.tolist() for name, seconds in found.items()} == {"a": [2.0] * 3, "b": [3.0] * 3}
    assert "".join(order) in ("abbaabba", "baabbaab")


def test_medians_percentiles_and_rates_follow_from_the_seconds(monkeypatch):
    seconds = {"eager": np.arange(1, 12) / 1000, "onnx": np.arange(11, 0, -1) / 500}
    monkeypatch.setattr(speed, "in_turn", lambda ways, *_, **__: seconds)
    monkeypatch.setattr(speed, "OnnxModel", lambda path, threads: type("File", (), {"once": None}))
    found = speed.speeds(Small(), "x.onnx", np.zeros((1, 3, 2, 2), np.float32))
    assert found["eager latency ms"] == pytest.approx(6) and found["onnx latency ms"] == pytest.approx(12)
    assert found["eager latency p90 ms"] == pytest.approx(10) and found["onnx latency p90 ms"] == pytest.approx(20)
    assert found["eager images/s"] == pytest.approx(64 / 0.006) and found["onnx images/s"] == pytest.approx(64 / 0.012)


def test_a_module_and_its_file_are_timed_and_torch_gets_its_threads_back(tmp_path):
    module, images = Small().eval(), np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    export(module, tmp_path / "small.onnx", images)
    before = torch.get_num_threads()
    found = speed.speeds(module, tmp_path / "small.onnx", images, repeats=2)
    assert torch.get_num_threads() == before
    assert all(type(value) is float and value >= 0 for value in found.values())
    assert (found["timed passes"], found["threads"]) == (2, 1)
