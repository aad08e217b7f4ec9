"""Low-rank adapters on timm blocks: attach, SVD initialisation from dropped blocks, merge, undo.

Six matrices of a block are adapted: q, k and v (cut out of the fused qkv), proj, fc1 and fc2. With W (out, in) frozen,
y = W x + b + s B (A x), A (rank, in), B (out, rank), s = 1.
Sources: WeCoLoRA (arXiv 2404.09326), reference code lora_layers.py; the document's equations 2 and 3 for the SVD.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Start = Literal["zero_b", "random", "svd", "svd_shift"]
ADAPTED = {"attn.qkv": 3, "attn.proj": 1, "mlp.fc1": 1, "mlp.fc2": 1}  # layer of a block: matrices stacked in its rows


class LoraLinear(nn.Module):
    """A frozen linear layer, its rows cut into `parts` equal matrices with an adapter each.

    Attributes:
        a: (parts, rank, in); b: (parts, out / parts, rank). Only these train.
    """

    def __init__(self, base: nn.Linear, parts: int, rank: int, scale: float = 1.0):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), scale
        self.a = nn.Parameter(base.weight.new_zeros(parts, rank, base.in_features))
        self.b = nn.Parameter(base.weight.new_zeros(parts, base.out_features // parts, rank))
        self.original: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        inner, b = F.linear(inputs, self.a.flatten(0, 1)), self.scale * self.b
        if len(b) == 1:  # einsum would give the same, slower
            return self.base(inputs) + F.linear(inner, b[0])
        return self.base(inputs) + torch.einsum("...pr,por->...po", inner.unflatten(-1, self.a.shape[:2]), b).flatten(-2)

    @property
    def product(self) -> Tensor:
        """s B A of all parts; (out, in)."""
        return self.scale * (self.b @ self.a).flatten(0, 1)

    @property
    def weight(self) -> Tensor:
        """What the layer multiplies by: W + s B A; (out, in)."""
        return self.base.weight + self.product

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    @torch.no_grad()
    def start(self, kind: Start, dropped: list[Tensor]) -> None:
        """Set the factors.

        'zero_b' is WeCoLoRA's: A Kaiming-uniform, B zero; 'random' draws B so too. 'svd' takes the factors of the group's `dropped`
        matrices (out, in), summed; 'svd_shift' the same, and takes their product from W, so that the layer starts as W.
        """
        if kind in ("zero_b", "random"):
            _kaiming_uniform(self.a)
            _kaiming_uniform(self.b) if kind == "random" else nn.init.zeros_(self.b)
            return
        total = torch.stack(dropped).sum(dim=0) if dropped else torch.zeros_like(self.base.weight)
        for part, matrix in enumerate(total.chunk(len(self.a))):
            self.a[part], self.b[part] = svd_factors(matrix, self.a.shape[1])
        if kind == "svd_shift":
            self.original = self.base.weight.clone()
            self.base.weight -= self.product


def _kaiming_uniform(factor: Tensor) -> None:
    """Uniform in +-1 / sqrt(fan-in), which is Kaiming's with a = sqrt(5), as torch draws linear layers."""
    bound = 1 / math.sqrt(factor.shape[-1])
    nn.init.uniform_(factor, -bound, bound)


def svd_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A = diag(sqrt(sigma)) V^T and B = U diag(sqrt(sigma)) of the `rank` largest singular values (equations 2 and 3), in float64.

    B A is the best approximation of the matrix (out, in) of that rank; factors beyond its own rank are zero.
    """
    u, sigma, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    root = sigma[:rank].sqrt()
    a, b = matrix.new_zeros(rank, matrix.shape[1]), matrix.new_zeros(matrix.shape[0], rank)
    a[: len(root)], b[:, : len(root)] = (root[:, None] * vt[:rank]).to(a), (u[:, :rank] * root).to(b)
    return a, b


def energy(matrix: Tensor) -> Tensor:
    """Share of the squared Frobenius norm that the k largest singular values hold, for k = 1, 2, ...; float64."""
    squares = torch.linalg.svdvals(matrix.double()).square()
    return squares.cumsum(0) / squares.sum()


def attach(block: nn.Module, rank: int, kind: Start, dropped: list[nn.Module], scale: float = 1.0) -> None:
    """Put adapters into a timm block, started from the dropped blocks of its group."""
    for name, parts in ADAPTED.items():
        layer = LoraLinear(block.get_submodule(name), parts, rank, scale)
        layer.start(kind, [other.get_submodule(name).weight for other in dropped])
        block.set_submodule(name, layer)


def adapters(module: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Name and layer of every adapter inside."""
    return ((name, layer) for name, layer in module.named_modules() if isinstance(layer, LoraLinear))


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """W <- W + s B A, and plain linear layers again: the same function at the cost of a model without adapters."""
    for name, layer in list(adapters(module)):
        layer.base.weight += layer.product
        module.set_submodule(name, layer.base)


@torch.no_grad()
def undo(module: nn.Module) -> None:
    """Take the adapters away and leave the weights that they were attached to, to the bit."""
    for name, layer in list(adapters(module)):
        if layer.original is not None:
            layer.base.weight.copy_(layer.original)
        module.set_submodule(name, layer.base)
