"""How much faster is ViT-B/16 with 2:4-pruned weights on a GPU's sparse matrix units? Half precision, 224 px; needs a CUDA device."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from vitlib.inputs.models import Vit, build
from vitlib.methods.pruning.masks import apply_masks, prunable, semi_structured, two_of_four
from vitlib.methods.pruning.saliency import magnitude
from vitlib.runs.provenance import device_name
from vitlib.training.cost import speed

BATCHES = (16, 64, 256)
VIT_B = Vit(embed_dim=768, depth=12, num_heads=12, patch_size=16)


def main() -> str | None:
    if not torch.cuda.is_available():
        return print("no CUDA device: nothing to measure")
    rows = [measured(batch) for batch in BATCHES]
    found = {"device": device_name("cuda"), "torch": torch.__version__, "rows": rows}
    print(json.dumps(found, indent=1))
    Path(__file__).with_suffix(".cuda.json").write_text(json.dumps(found, indent=1) + "\n")


def measured(batch: int) -> dict[str, float]:
    """Images/s of the masked model, dense and compressed."""
    model = build(VIT_B, image_size=224, channels=3, num_classes=1000).cuda().half().eval()
    masks = two_of_four(magnitude(prunable(model)))
    apply_masks(model, masks)
    options = {"batch_size": batch, "device": "cuda"}
    dense = speed(model, 224, 3, **options).images_per_second
    semi_structured(model, masks)
    compressed = speed(model, 224, 3, **options).images_per_second
    return {"batch": batch, "dense images/s": dense, "compressed images/s": compressed, "speed-up": compressed / dense}


if __name__ == "__main__":
    sys.exit(main())
