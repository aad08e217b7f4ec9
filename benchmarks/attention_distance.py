"""How much faster than plain loops is attention distance, and is its memory flat in the images?

The shipped DINO micro teacher (12 blocks, 4 heads, 8 x 8 patches) on handwritten digits at 32 px, in batches of 64, one thread. For each
block `pairs` loops over queries and keys, `queries` over queries alone, both over all images and heads at once; `vitlib` is its
`attention_distance`. They are timed on maps that lie in memory, and with the forward pass that makes the maps: there vitlib measures
each block while it runs (`streamed`), the others on the maps of all blocks. Seconds are those of the thread, without waiting for what
other processes take, the smallest of the rounds; memory is what a process of its own peaks at in resident size, above that after a
first batch.
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

from vitlib.computing import Context
from vitlib.inputs.data import ResidentBatches
from vitlib.inputs.sources import Data, load
from vitlib.methods.attention import attention_distance, attention_distances, attention_maps
from vitlib.paths import data_dir
from vitlib.runs.provenance import device_name
from vitlib.runs.workers.one import one_thread
from vitlib.teachers.teacher import Teacher
from vitlib.training.loop import peak_bytes

TEACHER = Teacher.parse({"origin": {"shipped": "dino"}})
DATA = TEACHER.normalised(Data(source="digits", image_size=32, mean=(0.3,) * 3, std=(0.4,) * 3))
SIDE, PATCH, PREFIX = 8, 4, 1
IMAGES, BATCH, ROUNDS = 1000, 64, 3


def pairs(maps: Tensor) -> Tensor:
    """Attention distance as the sheet's equation 2.5 is written, (B, depth, heads): a loop over queries and keys in every block."""
    distances = torch.zeros(maps.shape[:3], dtype=torch.float64)
    for block in range(maps.shape[1]):
        rows = over_patches(maps[:, block])
        for query in range(SIDE**2):
            for key in range(SIDE**2):
                distances[:, block] += rows[:, :, query, key] * apart(query, key)
    return distances / SIDE**2


def queries(maps: Tensor) -> Tensor:
    """The same with all keys of a query at once."""
    distances = torch.zeros(maps.shape[:3], dtype=torch.float64)
    for block in range(maps.shape[1]):
        rows = over_patches(maps[:, block])
        for query in range(SIDE**2):
            ways = torch.tensor([apart(query, key) for key in range(SIDE**2)], dtype=torch.float64)
            distances[:, block] += (rows[:, :, query] * ways).sum(dim=-1)
    return distances / SIDE**2


def over_patches(maps: Tensor) -> Tensor:
    """Attention among patches, each row normalised over them."""
    kept = maps[..., PREFIX:, PREFIX:] + 1e-32
    return (kept / kept.sum(dim=-1, keepdim=True)).double()


def at_once(maps: Tensor) -> Tensor:
    return attention_distance(maps, (SIDE, SIDE), PATCH, PREFIX)


def apart(one: int, other: int) -> float:
    """Pixels between the centres of two patches."""
    return PATCH * math.dist(divmod(one, SIDE), divmod(other, SIDE))


WAYS = {"vitlib": at_once, "queries": queries, "pairs": pairs}


def main() -> None:
    model, batches = prepared(IMAGES)
    with one_thread("cpu"), torch.inference_mode():
        found = {"device": device_name("cpu"), "torch": torch.__version__, "N": IMAGES, "batch": BATCH, "rounds": ROUNDS}
        found["on maps in memory"] = compared("vitlib", on_maps(model, batches))
        found["with the forward pass"] = {"forward pass alone, s": round(timed(model, images_of(batches))[0], 2)} | compared(
            "streamed", with_forward(model, batches)
        )
    found["peak MiB"] = {f"{way}, N = {count}": peak_mib(way, count) for way in ("streamed", "vitlib") for count in (250, 1000)}
    print(json.dumps(found, indent=1))
    Path(__file__).with_suffix(".cpu.json").write_text(json.dumps(found, indent=1) + "\n")


def on_maps(model: nn.Module, batches: ResidentBatches) -> dict[str, tuple[float, Tensor]]:
    maps = [attention_maps(model, images) for images in images_of(batches)]
    return {name: timed(way, maps) for name, way in WAYS.items()}


def with_forward(model: nn.Module, batches: ResidentBatches) -> dict[str, tuple[float, Tensor]]:
    return {name: timed(lambda images, way=way: way(model, images), images_of(batches)) for name, way in measures().items()}


def measures() -> dict[str, Callable[[nn.Module, Tensor], Tensor]]:
    plain = {name: lambda model, images, way=way: way(attention_maps(model, images)) for name, way in WAYS.items()}
    return {"streamed": attention_distances, **plain}


def images_of(batches: ResidentBatches) -> list[Tensor]:
    return [images for images, _ in batches.epoch(0)]


def compared(ours: str, found: dict[str, tuple[float, Tensor]]) -> dict:
    """Seconds of each way, as multiples of ours, and how far its numbers are from ours."""
    seconds, expected = found[ours]
    return {
        "s": {name: round(spent, 2) for name, (spent, _) in found.items()},
        f"multiple of {ours}": {name: round(spent / seconds, 1) for name, (spent, _) in found.items()},
        f"largest relative difference from {ours}": {name: relative(expected, other) for name, (_, other) in found.items()},
    }


def relative(ours: Tensor, other: Tensor) -> float:
    return float(((ours - other) / other).abs().max())


def timed(way: Callable[[Tensor], Tensor], inputs: list[Tensor]) -> tuple[float, Tensor]:
    """Seconds over all batches, and what was measured."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        found = torch.cat([way(each) for each in inputs])
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
        torch.cat([measures()[way](model, images) for images, _ in batches.epoch(0)])
    return round((peak_bytes("cpu") - before) / 2**20, 1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak_above_start(sys.argv[1], int(sys.argv[2])))
    else:
        main()
