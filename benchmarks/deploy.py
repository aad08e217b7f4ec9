"""How fast is a model in ONNX Runtime, float and int8, beside itself in eager mode? One CPU thread, batch 1.

ViT-Ti at 32 px (patches of 4) and ViT-S at 224 px with random weights and noise. Passes are taken in turn in one process, so that what
else the machine does falls on all; n, median, p90 and extremes of a pass, and the ratio to the eager pass of the same round. int8's
speed and logits depend on the processor, above all on whether it has VNNI.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import _paired
import numpy as np
import timm
import torch

from vitlib.deploy.export import Agreement, export, logits_of
from vitlib.deploy.int8 import quantise
from vitlib.deploy.session import OnnxModel
from vitlib.deploy.speed import eager, in_turn, torch_threads

REPEATS = {"ViT-Ti, 32 px": 100, "ViT-S, 224 px": 30}
MODELS = {
    "ViT-Ti, 32 px": ("vit_tiny_patch16_224", 32, {"img_size": 32, "patch_size": 4, "num_classes": 10}),
    "ViT-S, 224 px": ("vit_small_patch16_224", 224, {}),
}
CHECKED = 16  # images that logits are compared on


def main() -> None:
    about = _paired.machine("CPU", "torch", "timm", "onnxruntime") | {"threads": 1, "int8 dot products": int8_instructions()}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    rows = {name: measured(name) for name in MODELS}
    _paired.write(__file__, {"question": __doc__.splitlines()[0], "machine": about, **rows})


def measured(name: str) -> dict:
    architecture, side, options = MODELS[name]
    torch.manual_seed(0)
    model = timm.create_model(architecture, **options).eval()
    images = np.random.default_rng(0).normal(size=(CHECKED, 3, side, side)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        files = {"ONNX Runtime": Path(folder) / "x.onnx", "ONNX Runtime int8": Path(folder) / "x.int8.onnx"}
        export(model, files["ONNX Runtime"], images)
        quantise(files["ONNX Runtime"], files["ONNX Runtime int8"])
        sessions = {way: OnnxModel(file) for way, file in files.items()}
        ways = {"eager": eager(model)} | {way: session.once for way, session in sessions.items()}
        seconds = in_turn({way: lambda once=once: once(images[:1]) for way, once in ways.items()}, REPEATS[name])
        found = {way: _spread(seconds[way], seconds["eager"]) for way in ways}
        expected = logits_of(model, images)
        for way, session in sessions.items():
            logits = Agreement(expected, session.logits(images))
            found[way] |= {"MB": files[way].stat().st_size / 1e6, "largest |dlogit|": logits.largest, "predictions changed": logits.changed}
    for way, numbers in found.items():
        print(f"{name}, {way}: " + ", ".join(f"{key} {value:.3g}" for key, value in numbers.items()))
    return found


def int8_instructions() -> bool:
    """Whether the processor says that it has VNNI."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _spread(seconds: np.ndarray, eager: np.ndarray) -> dict[str, float]:
    ms = 1000 * seconds
    return {
        "n": len(ms),
        "ms median": float(np.median(ms)),
        "ms p90": float(np.quantile(ms, 0.9)),
        "ms min": float(ms.min()),
        "ms max": float(ms.max()),
        "of eager, median": float(np.median(seconds / eager)),
    }


if __name__ == "__main__":
    main()
