"""What does scoring cost, beside a forward and backward pass of the same images, and does its memory grow with their number?

ViT-B/16 at 224 px with random weights and images, in batches of 16; seconds of one round after a warm-up. Memory is that of
ViT-Ti/16, whose two-pass ReFer is also held against a single batch. `python benchmarks/afr_cost.py N` takes N images instead of 128.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlib.inputs.models import Vit, build
from vitlib.methods.pruning import saliency
from vitlib.methods.pruning.masks import prunable
from vitlib.methods.pruning.saliency import afr, block_features, refer, snip
from vitlib.runs.provenance import device_name
from vitlib.runs.workers.one import one_thread
from vitlib.training.loop import peak_bytes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH, CLASSES = 16, 100
VIT_B = Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16)
VIT_TI = Vit(embed_dim=192, depth=12, num_heads=3, patch_size=16)
ROWS = block_features("class")


def main(count: int = 128) -> None:
    with one_thread(DEVICE):
        found = {"device": device_name(DEVICE), "torch": torch.__version__} | costs(count) | memory()
    print(json.dumps(found, indent=1))
    Path(__file__).with_suffix(f".{DEVICE}.json").write_text(json.dumps(found, indent=1) + "\n")


def costs(count: int) -> dict[str, float]:
    model = network(VIT_B)
    weights, labels = prunable(model), torch.arange(count, device=DEVICE) % CLASSES
    plain = seconds(lambda: forward_and_backward(model, images(count), labels))
    by_snip, spent_snip = timed(lambda: snip(model, zip(images(count), labels.split(BATCH), strict=True), weights))
    with Stopwatch("polar_factor") as svd:
        by_refer, spent_refer = timed(lambda: refer(model, lambda: images(count), weights, ROWS))
    _, spent_sum = timed(lambda: afr(by_refer, by_snip))
    scoring = spent_snip + spent_refer + spent_sum
    return {
        "N": count,
        "forward and backward, s": round(plain, 2),
        "SNIP, s": round(spent_snip, 2),
        "ReFer, s": round(spent_refer, 2),
        "of which singular vectors, s": round(svd.spent, 3),
        "standardised sum, s": round(spent_sum, 2),
        "AFR as a multiple of forward and backward": round(scoring / plain, 3),
        "singular vectors, share of ReFer": round(svd.spent / spent_refer, 4),
        "peak GiB": round(peak_bytes(DEVICE) / 2**30, 2),
    }


def memory() -> dict[str, float]:
    """Peak of ReFer over 128 and over 768 images, and the relative difference of two passes from one batch of 64."""
    model = network(VIT_TI)
    weights, found = prunable(model), {}
    for count in (128, 768):
        forget_peak()
        refer(model, lambda count=count: images(count), weights, ROWS)
        found[f"peak GiB, ViT-Ti, N = {count}"] = round(peak_bytes(DEVICE) / 2**30, 3)
    whole = torch.cat(list(images(64)))
    one, two = refer(model, lambda: [whole], weights, ROWS), refer(model, lambda: images(64), weights, ROWS)
    difference = max(float((one[name] - two[name]).norm() / one[name].norm()) for name in one)
    return found | {"two passes against one batch of 64, relative": difference}


def network(spec: Vit) -> nn.Module:
    torch.manual_seed(0)
    model = build(spec, image_size=224, channels=3, num_classes=CLASSES).to(DEVICE)
    nn.init.trunc_normal_(model.head.weight, std=0.02)
    return model


def images(count: int) -> Iterable[Tensor]:
    """The same noise each time, drawn batch by batch."""
    for start in range(0, count, BATCH):
        generator = torch.Generator(DEVICE).manual_seed(start)
        yield torch.randn(min(BATCH, count - start), 3, 224, 224, generator=generator, device=DEVICE)


def forward_and_backward(model: nn.Module, batches: Iterable[Tensor], labels: Tensor) -> None:
    for batch, own in zip(batches, labels.split(BATCH), strict=True):
        F.cross_entropy(model(batch), own).backward()
    model.zero_grad()


def timed(work: Callable) -> tuple[object, float]:
    begun = clock()
    result = work()
    return result, clock() - begun


def seconds(work: Callable) -> float:
    forward_and_backward(network(VIT_TI), images(BATCH), torch.zeros(BATCH, dtype=torch.long, device=DEVICE))
    return timed(work)[1]


def clock() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def forget_peak() -> None:
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


class Stopwatch:
    """Time spent in a function of `saliency` while the context lasts."""

    def __init__(self, name: str):
        self.name, self.original, self.spent = name, getattr(saliency, name), 0.0

    def __enter__(self) -> Stopwatch:
        setattr(saliency, self.name, self._timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(saliency, self.name, self.original)

    def _timed(self, *arguments: object) -> object:
        result, spent = timed(lambda: self.original(*arguments))
        self.spent += spent
        return result


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
