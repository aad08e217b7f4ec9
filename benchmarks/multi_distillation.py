"""What pays in training two peers on all three losses: channels_last, bf16, compilation? Images/s and share of the matrix rate.

Random images in CIFAR-10's shape. On a GPU ResNet18 at batch 128 (the document's protocol), on a CPU the narrow one of `quick`.
Forward and backward passes are counted by torch; an image counts once, though both peers see it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitlib.grid.entries import merged, read_entry
from vitlib.inputs.models import ResNet, build
from vitlib.methods.distillation.exits import with_exits
from vitlib.papers.multi_distillation.search.settings import Settings
from vitlib.papers.multi_distillation.training.networks import Peers
from vitlib.papers.multi_distillation.training.objective import loss_terms
from vitlib.papers.multi_distillation.training.reading import Objective
from vitlib.runs.provenance import device_name
from vitlib.runs.workers.one import one_thread
from vitlib.training.cost import matrix_rate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = {"cuda": (ResNet(width=64, blocks=(2, 2, 2, 2)), 128), "cpu": (ResNet(width=8, blocks=(1, 1, 1, 1)), 32)}
VARIANTS = {  # precision, channels_last, compiled
    "fp32": ("fp32", False, False),
    "fp32, channels_last": ("fp32", True, False),
    "bf16": ("bf16", False, False),
    "bf16, channels_last": ("bf16", True, False),
    "bf16, channels_last, compiled": ("bf16", True, True),
}
WARM, ROUNDS, STEPS = 5, 5, 10


def main() -> None:
    entry = read_entry("multi_distillation")
    settings = Settings.parse(merged(entry["base"], entry["profile"]["tiny"]))
    names = list(VARIANTS) if DEVICE == "cuda" else ["fp32", "fp32, channels_last", "bf16"]
    with one_thread(DEVICE):
        rows = [{"variant": name} | measured(settings.objective(settings.prior), *VARIANTS[name]) for name in names]
    network, batch = SIZE[DEVICE]
    found = {"device": device_name(DEVICE), "torch": torch.__version__, "network": network.model_dump(), "batch": batch, "rows": rows}
    print(json.dumps(found, indent=1))
    Path(__file__).with_suffix(f".{DEVICE}.json").write_text(json.dumps(found, indent=1) + "\n")


def measured(objective: Objective, precision: str, channels_last: bool, compiled: bool) -> dict[str, float | list[float]]:
    """Images/s (median of rounds, with the range) and the share of the matrix rate."""
    network, batch = SIZE[DEVICE]
    torch.manual_seed(0)
    peers = Peers([with_exits(build(network, image_size=32, channels=3, num_classes=10)) for _ in range(2)]).to(DEVICE)
    images, targets = torch.randn(batch, 3, 32, 32, device=DEVICE), torch.eye(10, device=DEVICE)[torch.arange(batch) % 10]
    if channels_last:
        peers, images = (each.to(memory_format=torch.channels_last) for each in (peers, images))
    forward = torch.compile(peers) if compiled else peers
    optimizer = torch.optim.SGD(peers.parameters(), lr=1e-3, momentum=0.9)

    def steps(count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            step(forward, optimizer, images, targets, objective, precision)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    steps(WARM)
    speeds = sorted(STEPS * batch / steps(STEPS) for _ in range(ROUNDS))
    with FlopCounterMode(display=False) as counter:
        step(peers, optimizer, images, targets, objective, precision)
    rate, speed = matrix_rate(precision, DEVICE), statistics.median(speeds)
    return {
        "images/s": round(speed, 1),
        "range": [round(value, 1) for value in (speeds[0], speeds[-1])],
        "GFLOP an image": round(counter.get_total_flops() / batch / 1e9, 4),
        "share of the matrix rate": round(speed * counter.get_total_flops() / batch / rate, 4),
    }


def step(
    forward: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor, objective: Objective, precision: str
) -> None:
    optimizer.zero_grad()
    with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
        loss = sum(term for own, taught in forward(images) for term in loss_terms(own, taught, targets, objective).values())
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    sys.exit(main())
