"""AFR pruning: a pruned and fine-tuned model, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitlib.dumped import rebuild
from vitlib.grid.results import Results
from vitlib.spec import SpecError


def save_model(results: Results, path: Path | str, table: str = "generic", **point: Any) -> Path:
    """Write one pruned model with its masks; `vitlib.methods.pruning.masks.load_pruned` reads it back.

    Args:
        point: of the table, for instance sparsity=0.9, dataset="digits". Kept are the models of AFR, first seed.

    Raises:
        SpecError: if the point does not name one stored run, or its weights were not kept.
    """
    import torch

    from vitlib.methods.pruning.masks import MASK, save_pruned

    run = results.run(table, **{"criterion": "afr", "seed": results.study.settings.seeds[0]} | point)
    if run.weights is None:
        raise SpecError(f"weights of {run.id}: not kept; allowed: criterion='afr' and the first seed, computed here")
    spec = rebuild(run.spec)
    tensors = {name: torch.from_numpy(array) for name, array in run.weights.items()}
    masks = {name.removeprefix(MASK): tensors.pop(name) for name in list(tensors) if name.startswith(MASK)}
    classes = len(tensors["head.weight"])
    sizes = {"image_size": spec.data.image_size, "channels": spec.data.channels, "num_classes": classes}
    return save_pruned(path, tensors, masks, spec.teacher.model, **sizes)
