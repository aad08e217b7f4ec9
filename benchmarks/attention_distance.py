"""How much faster than plain loops is attention distance measured while the blocks run, and is its memory flat in the images?

The shipped DINO micro teacher (12 blocks, 4 heads, 8 x 8 patches) on handwritten digits at 32 px, in batches of 64, one thread. `streamed`
is what vitlib does. The others materialise the maps of a batch first; then for each block `pairs` loops over queries and keys, `queries`
over queries alone, both over all images and heads at once, and `stacked` calls vitlib's distance on the maps of all blocks. Seconds
are those of the thread, without waiting for what other processes take, the smallest of the rounds; memory is what a process of its own
peaks at in resident size, above that after a first batch.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vitlib.inputs.data import ResidentBatches
from vitlib.inputs.sources import Data, load
from vitlib.methods.attention import attention_distance, attention_distances, attention_maps
from vitlib.paths import data_dir
from vitlib.runs.execute import one_thread
from vitlib.runs.provenance import device_name
from vitlib.spec import Context
from vitlib.teachers.teacher import Teacher
from vitlib.training.loop import peak_bytes

TEACHER = Teacher.parse({"origin": {"shipped": "dino"}})
DATA = TEACHER.normalised(Data(source="digits", image_size=32, mean=(0.3,) * 3, std=(0.4,) * 3))
SIDE, PATCH, PREFIX = 8, 4, 1
IMAGES, BATCH, ROUNDS = 1000, 64, 3


def pairs(model: nn.Module, images: Tensor) -> Tensor:
    """Attention distance as the sheet's equation 2.5 is written, (B, depth, heads): a loop over queries and keys in every block."""
    maps = attention_maps(model, images)[..., PREFIX:, PREFIX:] + 1e-32
    distances = torch.zeros(maps.shape[:3], dtype=torch.float64)
    for block in range(maps.shape[1]):
        rows = (maps[:, block] / maps[:, block].sum(dim=-1, keepdim=True)).double()
        for query in range(SIDE**2):
            for key in range(SIDE**2):
                distances[:, block] += rows[:, :, query, key] * apart(query, key)
    return distances / SIDE**2


def queries(model: nn.Module, images: Tensor) -> Tensor:
    """The same with all keys of a query at once."""
    maps = attention_maps(model, images)[..., PREFIX:, PREFIX:] + 1e-32
    distances = torch.zeros(maps.shape[:3], dtype=torch.float64)
    for block in range(maps.shape[1]):
        rows = (maps[:, block] / maps[:, block].sum(dim=-1, keepdim=True)).double()
        for query in range(SIDE**2):
            ways = torch.tensor([apart(query, key) for key in range(SIDE**2)], dtype=torch.float64)
            distances[:, block] += (rows[:, :, query] * ways).sum(dim=-1)
    return distances / SIDE**2


def stacked(model: nn.Module, images: Tensor) -> Tensor:
    """The maps of all blocks at once."""
    return attention_distance(attention_maps(model, images), (SIDE, SIDE), PATCH, PREFIX)


def apart(one: int, other: int) -> float:
    """Pixels between the centres of two patches."""
    return PATCH * math.dist(divmod(one, SIDE), divmod(other, SIDE))


WAYS = {"streamed": attention_distances, "stacked": stacked, "queries": queries, "pairs": pairs}


def main() -> None:
    with one_thread("cpu"), torch.inference_mode():
        found = {"device": device_name("cpu"), "torch": torch.__version__, "N": IMAGES, "batch": BATCH, "rounds": ROUNDS} | times()
    found["peak MiB"] = {f"{way}, N = {count}": peak_mib(way, count) for way in ("streamed", "stacked") for count in (250, 1000)}
    print(json.dumps(found, indent=1))
    Path(__file__).with_suffix(".cpu.json").write_text(json.dumps(found, indent=1) + "\n")


def times() -> dict:
    """Seconds of each way with the forward pass, as multiples of the streamed one with and without it, and how far its numbers are off."""
    model, batches = prepared(IMAGES)
    forward = timed(lambda images: model(images), batches)[0]
    found = {name: timed(lambda images, way=way: way(model, images), batches) for name, way in WAYS.items()}
    ours, expected = found["streamed"]
    return {
        "forward pass alone, s": round(forward, 2),
        "s": {name: round(spent, 2) for name, (spent, _) in found.items()},
        "multiple of streamed": {name: round(spent / ours, 2) for name, (spent, _) in found.items()},
        "multiple of streamed, beyond the forward pass": {
            name: round((spent - forward) / (ours - forward), 1) for name, (spent, _) in found.items()
        },
        "largest relative difference from streamed": {name: relative(expected, other) for name, (_, other) in found.items()},
    }


def relative(ours: Tensor, other: Tensor) -> float:
    return float(((ours - other) / other).abs().max())


def timed(way: Callable[[Tensor], Tensor], batches: ResidentBatches) -> tuple[float, Tensor]:
    """Seconds over all batches, and what was measured."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        found = torch.cat([way(images) for images, _ in batches.epoch(0)])
        rounds.append(time.process_time() - begun)
    return min(rounds), found


def prepared(count: int) -> tuple[nn.Module, ResidentBatches]:
    context = Context("cpu", data_dir(), None, parent=lambda run: None)
    pictures, labels = (
        np.concatenate(both)[:count] for both in zip(*(load(DATA, s, context.data_dir) for s in ("test", "train")), strict=True)
    )
    batches = ResidentBatches(torch.from_numpy(pictures), torch.from_numpy(labels), DATA, BATCH)
    return TEACHER.module(context, image_size=DATA.image_size).eval(), batches


def peak_mib(way: str, count: int) -> float:
    ran = subprocess.run([sys.executable, __file__, way, str(count)], check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


def peak_above_start(way: str, count: int) -> float:
    """Peak resident memory in MiB over that after one batch, which every N has."""
    with one_thread("cpu"), torch.inference_mode():
        model, batches = prepared(count)
        model(next(batches.epoch(0))[0])
        Path("/proc/self/clear_refs").write_text("5")
        before = peak_bytes("cpu")
        torch.cat([WAYS[way](model, images) for images, _ in batches.epoch(0)])
    return round((peak_bytes("cpu") - before) / 2**20, 1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak_above_start(sys.argv[1], int(sys.argv[2])))
    else:
        main()
