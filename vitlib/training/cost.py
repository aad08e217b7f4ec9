"""What a model costs: parameters and multiply-accumulates by formula and by count; throughput and latency."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vitlib.inputs.models import Vit
from vitlib.methods.attention import unfused_attention


@dataclass(frozen=True)
class VitCost:
    """Parameters and multiply-accumulates (MACs, one image) of a Vision Transformer by formula.

    With D the width, L the depth, m the MLP ratio, P the patch, N patches, T = N + prefix tokens, C classes, K heads:
    parameters = D (3 P^2 + 1) + K D + D T + L (4 D^2 + 2 m D^2 + (9 + m) D) + 2 D + K C (D + 1), channels for 3;
    MACs = 3 P^2 D N + L (4 T D^2 + 2 T^2 D + 2 m T D^2) + K D C.
    """

    model: Vit
    image_size: int
    channels: int
    num_classes: int

    @property
    def prefix_tokens(self) -> int:
        return 2 if self.model.distilled else 1

    @property
    def tokens(self) -> int:
        return (self.image_size // self.model.patch_size) ** 2 + self.prefix_tokens

    @property
    def parameters(self) -> int:
        width, mlp = self.model.embed_dim, self.model.mlp_ratio
        patch = self.channels * self.model.patch_size**2
        block = (4 + 2 * mlp) * width**2 + (9 + mlp) * width
        heads = self.prefix_tokens * self.num_classes * (width + 1)
        embedding = width * (patch + 1) + self.prefix_tokens * width + width * self.tokens
        return round(embedding + self.model.depth * block + 2 * width + heads)

    @property
    def macs(self) -> int:
        width, mlp, tokens = self.model.embed_dim, self.model.mlp_ratio, self.tokens
        patch = self.channels * self.model.patch_size**2
        block = (4 + 2 * mlp) * tokens * width**2 + 2 * tokens**2 * width
        heads = self.prefix_tokens * width * self.num_classes
        return round(patch * width * (tokens - self.prefix_tokens) + self.model.depth * block + heads)


@torch.inference_mode()
def counted_macs(model: nn.Module, image_size: int, channels: int) -> int:
    """Multiply-accumulates of one image, counted by torch (it counts two FLOPs for each)."""
    model.eval()
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with unfused_attention(model), counter:
        model(torch.zeros(1, channels, image_size, image_size, device=device))
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class Speed:
    """Throughput in images/s and latency in ms a batch: medians over `repeats` timed batches, after warm-up."""

    images_per_second: float
    latency_ms: float
    batch_size: int
    repeats: int


def speed(model: nn.Module, image_size: int, channels: int, *, batch_size: int, device: str, repeats: int = 20, warm_up: int = 5) -> Speed:
    """Time forward passes of random images of the model's precision in eval mode, synchronised on a GPU."""
    sizes = {"batch_size": batch_size, "device": device, "repeats": repeats, "warm_up": warm_up}
    median = statistics.median(timings(model, image_size, channels, **sizes))
    return Speed(batch_size / median, 1000 * median, batch_size, repeats)


@torch.inference_mode()
def timings(
    model: nn.Module, image_size: int, channels: int, *, batch_size: int, device: str, repeats: int = 20, warm_up: int = 5
) -> list[float]:
    """Seconds of each of `repeats` such passes, after warm-up."""
    model.eval().to(device)
    precision = next(model.parameters()).dtype
    images = torch.randn(batch_size, channels, image_size, image_size, device=device, dtype=precision)
    seconds = []
    for repeat in range(warm_up + repeats):
        _synchronise(device)
        start = time.perf_counter()
        model(images)
        _synchronise(device)
        if repeat >= warm_up:
            seconds.append(time.perf_counter() - start)
    return seconds


@cache
def matrix_rate(precision: str, device: str) -> float:
    """FLOP/s of a product of two large square matrices, best of ten, which a share of the peak is a share of.

    Measured once for a process, beside whatever else computes on the device then.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 4096 if device.startswith("cuda") else 2048
    one, other = torch.randn(2, size, size, device=device, dtype=dtype, generator=torch.Generator(device).manual_seed(0))
    seconds = []
    for _ in range(10):
        _synchronise(device)
        start = time.perf_counter()
        one @ other
        _synchronise(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def share_of_peak(flops_per_second: float, precision: str, device: str) -> dict[str, float]:
    """What is computed of `matrix_rate`, as `share_of_peak`; nothing where the device has no memory left to measure that in."""
    try:
        return {"share_of_peak": flops_per_second / matrix_rate(precision, device)}
    except torch.OutOfMemoryError:
        return {}


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
