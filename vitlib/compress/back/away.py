"""The model of a call as an ONNX file, compared with itself on test photos."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitlib.deploy.export import Agreement, export, logits_in_file
from vitlib.deploy.int8 import quantise
from vitlib.deploy.session import IMAGES, LOGITS
from vitlib.inputs.sources import Data
from vitlib.training.evaluate import accuracy

if TYPE_CHECKING:
    from torch import nn

PHOTOS = 100
COMPARED = "compared photos"
MB = 1e6


@dataclass(frozen=True)
class Photos:
    """Test photos (N, C, H, W), normalised, and their labels (N,)."""

    images: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, data: Data, data_dir: Path) -> Photos:
        """At most 100, evenly spaced, read as the accuracy's are."""
        import torch

        from vitlib.inputs.data import test_batches

        read = list(test_batches(data, device="cpu", data_dir=data_dir, count=PHOTOS).epoch(0))
        return cls(*(torch.cat(column).numpy() for column in zip(*read, strict=True)))


def written(module: nn.Module, photos: Photos, path: Path, facts: dict[str, str]) -> dict[str, float]:
    """Write the file; the columns that a summary has for it.

    Raises:
        SpecError: as `export` does.
    """
    found = export(module, path, photos.images, facts)
    return {"ONNX MB": path.stat().st_size / MB, **_compared("ONNX", found, photos)}


def written_int8(module: nn.Module, photos: Photos, path: Path, facts: dict[str, str]) -> dict[str, float]:
    """Write the file with weights of eight bits; its columns have its own top-1, on the same photos.

    Raises:
        SpecError: as `export` does, of the file that this one is made from.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "model.onnx"
        eager = export(module, whole, photos.images, facts).module
        quantise(whole, path)
    found = Agreement(eager, logits_in_file(path, photos.images))
    top1 = accuracy(found.file.argmax(axis=1), photos.labels)
    return {"int8 MB": path.stat().st_size / MB, "int8 top-1 %": top1, **_compared("int8", found, photos)}


def loading(file: str, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """The lines that open a file with ONNX Runtime alone; images are (n, *shape)."""
    told = f"float32 (n, {', '.join(map(str, shape))}): (pixels / 255 - mean) / std with mean {tuple(mean)} and std {tuple(std)}"
    return (
        f"session = onnxruntime.InferenceSession({file!r}, providers=['CPUExecutionProvider'])\n"
        f"logits = session.run([{LOGITS!r}], {{{IMAGES!r}: images}})[0]  # images: {told}"
    )


def _compared(kind: str, found: Agreement, photos: Photos) -> dict[str, float]:
    before, after = (accuracy(logits.argmax(axis=1), photos.labels) for logits in (found.module, found.file))
    return {f"{kind} largest |Δlogit|": found.largest, f"{kind} Δtop-1 points": after - before, COMPARED: len(photos.labels)}
