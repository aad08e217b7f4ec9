"""A model with 2:4 weights on a GPU whose sparse matrix units multiply by them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from vitlib.methods.pruning.masks import most_of_four, prunable, semi_structured
from vitlib.spec import SpecError

if TYPE_CHECKING:
    from torch import nn

CAPABILITY = (8, 0)  # of the first GPUs with such units (Ampere)


def on_sparse_units(module: nn.Module, device: str = "cuda") -> nn.Module:
    """A copy in half precision on the GPU, the blocks' weights in the compressed form; inference only.

    Half of the multiplications are left out; whether that is faster depends on the GPU and on the batch, and for single images it is not.

    Raises:
        SpecError: if more than two of some four neighbours are not zero, or the GPU has no such units, or none for these sizes.
    """
    kept = {name: weight != 0 for name, weight in prunable(module).items()}
    for name, mask in kept.items():
        if (most := most_of_four(mask)) > 2:
            raise SpecError(f"{name}: {most} of four neighbours are not zero; allowed: two, as prune(..., threshold='2:4') leaves")
    _require_units(device)
    ready = copy.deepcopy(module).to(device).half().eval()
    try:
        semi_structured(ready, kept)
    except RuntimeError as error:
        raise SpecError(f"model: {str(error).splitlines()[0]}; allowed: layers of sizes that the GPU's kernels take") from error
    return ready


def _require_units(device: str) -> None:
    import torch

    found = torch.cuda.get_device_capability(device) if torch.cuda.is_available() else None
    if found is None or found < CAPABILITY:
        what = "no CUDA device" if found is None else f"compute capability {found[0]}.{found[1]}"
        raise SpecError(f"device: {what}; allowed: a CUDA device of compute capability {CAPABILITY[0]}.{CAPABILITY[1]} or more")
