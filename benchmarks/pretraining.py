"""How fast are the pretraining recipes, and what share of the device's matrix rate do they reach?

Digits resized to 32 px stand in for CIFAR-10 (speed does not depend on the pixels). Floating-point operations are counted by
torch over one epoch of a run, attention unfused so that all of it is seen; the matrix rate is measured on a product of two large
square matrices in the recipe's precision.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import torch
from timm.layers import set_fused_attn
from torch.utils.flop_counter import FlopCounterMode

from vitlib.computing import Context, result_of
from vitlib.grid.entries import merged, read_entry
from vitlib.inputs.sources import Data
from vitlib.papers.teachers.specs import Settings, run_pretraining
from vitlib.paths import data_dir
from vitlib.runs.provenance import device_name
from vitlib.runs.workers.one import one_thread
from vitlib.teachers.pretrain import Pretrained, SupervisedTeacher
from vitlib.training.cost import matrix_rate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROFILES = {"cpu": ["micro_cpu"], "cuda": ["micro", "tiny"]}[DEVICE]
DATA = Data(source="digits", image_size=32, mean=(0.3, 0.3, 0.3), std=(0.4, 0.4, 0.4))
REPEATS = 3


def main() -> None:
    rows = []
    with one_thread(DEVICE):
        for profile in PROFILES:
            entry = read_entry("teachers")
            settings = Settings.parse(merged(entry["base"], entry["profile"][profile])).changed(data=DATA)
            for method, model in points(settings):
                rows.append(
                    {"profile": profile, "method": method, "model": model}
                    | measured(run_pretraining(settings, method=method, model=model, seed=0))
                )
                print(rows[-1], flush=True)
    found = {"device": device_name(DEVICE), "threads": 1 if DEVICE == "cpu" else None, "torch": torch.__version__, "rows": rows}
    Path(__file__).with_suffix(f".{DEVICE}.json").write_text(json.dumps(found, indent=1) + "\n")


def points(settings: Settings) -> list[tuple[str, str]]:
    transformers = [(method, model) for model in settings.transformers for method in ("supervised", "dino", "mae")]
    return transformers + [("convnet", model) for model in settings.convnets]


def measured(spec: Pretrained) -> dict[str, float | str]:
    """Images/s (median of runs, with the range), FLOP an image, and the share of the matrix rate."""
    context = Context(DEVICE, data_dir(), None, parent=lambda run: None)
    recipe = spec.recipe if isinstance(spec, SupervisedTeacher) else spec.method.recipe
    epochs = 2 if DEVICE == "cpu" else 20  # the first of the GPU's holds the compilation
    speeds = sorted(result_of(shortened(spec, epochs), context).measured["images_per_second"] for _ in range(REPEATS))
    flops, rate = flops_per_image(spec, context), matrix_rate(recipe.precision, DEVICE)
    speed = statistics.median(speeds)
    return {
        "precision": recipe.precision,
        "images/s": round(speed, 1),
        "range": [round(value, 1) for value in (speeds[0], speeds[-1])],
        "GFLOP an image": round(flops / 1e9, 3),
        "matrix rate, TFLOP/s": round(rate / 1e12, 3),
        "share of the matrix rate": round(speed * flops / rate, 4),
    }


def shortened(spec: Pretrained, epochs: int, **changes) -> Pretrained:
    changes |= {"epochs": epochs, "warmup_epochs": 0, "eval_every": epochs}
    if isinstance(spec, SupervisedTeacher):
        return spec.changed(recipe=spec.recipe.changed(**changes))
    few = spec.method.tracking.changed(bank=1, queries=1)
    return spec.changed(method=spec.method.changed(recipe=spec.method.recipe.changed(**changes), tracking=few))


def flops_per_image(spec: Pretrained, context: Context) -> float:
    """Forward and backward passes of all networks that a step runs."""
    set_fused_attn(False)
    batch = 64
    with FlopCounterMode(display=False) as counter:
        result_of(shortened(spec, 1, compile=False, batch_size=batch).changed(data=spec.data.changed(per_class=13)), context)
    set_fused_attn(True)
    evaluated = 720 if isinstance(spec, SupervisedTeacher) else 0  # the test split, a third of a training step each
    return counter.get_total_flops() / (2 * batch + evaluated / 3)


if __name__ == "__main__":
    sys.exit(main())
