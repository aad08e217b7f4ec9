"""The rate that a share of the peak is a share of."""

import time

import torch


def matrix_rate(precision: str, device: str) -> float:
    """FLOP/s of a product of two large square matrices: best of ten."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 4096 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(10):
        begun = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds)
