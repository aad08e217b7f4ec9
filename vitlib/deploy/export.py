"""A module written as an ONNX file that gives its logits, or not written at all."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitlib import durable
from vitlib.deploy.needed import quiet, require
from vitlib.deploy.session import BATCH, IMAGES, LOGITS, OnnxModel
from vitlib.spec import SpecError

if TYPE_CHECKING:
    from torch import nn

LARGEST = 2**31  # bytes of a file in one piece, a limit of the format
LIMIT = 1e-3  # of the largest difference of a logit; float32 leaves some 1e-6


@dataclass(frozen=True)
class Agreement:
    """Logits (N, classes) of the same images by the module and by the file."""

    module: np.ndarray
    file: np.ndarray

    @property
    def largest(self) -> float:
        """The largest |Δlogit|; NaN if a logit is."""
        return float(np.abs(self.file - self.module).max())

    @property
    def changed(self) -> int:
        """Images that the file puts into another class."""
        return int((self.file.argmax(axis=1) != self.module.argmax(axis=1)).sum())


def export(module: nn.Module, path: Path | str, images: np.ndarray, facts: Mapping[str, str] | None = None) -> Agreement:
    """Write the module in eval mode, as float32, into one file that takes any number of images, and compare the two on the images.

    Args:
        images: (N, C, H, W) float32, as the module takes them; C, H and W are those that the file takes.
        facts: what the file's metadata say.

    Raises:
        SpecError: if the extra `deploy` is not installed, the module is too large for one file or has what torch cannot write, or the
            file's logits differ by more than 1e-3; then nothing is written.
    """
    require()
    plain = as_written(module)
    _require_one_piece(plain)
    durable.make(Path(path).parent)
    with durable.whole(Path(path)) as unfinished:
        _write(plain, unfinished, images, facts or {})
        found = Agreement(logits_of(plain, images), logits_in_file(unfinished, images))
        if not found.largest <= LIMIT:
            said = f"the file's logits differ by up to {found.largest:.2g} on {len(images)} images"
            raise SpecError(f"onnx: {said}; allowed: at most {LIMIT:g}; {Path(path).name} was not written")
    return found


def as_written(module: nn.Module) -> nn.Module:
    """A copy on the CPU, float32, in eval mode."""
    return copy.deepcopy(module).cpu().float().eval()


def agreement(module: nn.Module, file: OnnxModel, images: np.ndarray) -> Agreement:
    """What module and file say of images (N, C, H, W) float32; the module is in eval mode, on the CPU."""
    return Agreement(logits_of(module, images), file.logits(images))


def logits_of(module: nn.Module, images: np.ndarray) -> np.ndarray:
    """The module's own logits (N, classes), in eval mode, on the CPU, 64 images at a time."""
    import torch

    with torch.inference_mode():
        parts = torch.from_numpy(np.ascontiguousarray(images)).split(BATCH)
        return torch.cat([module(part) for part in parts]).numpy()


def logits_in_file(path: Path, images: np.ndarray) -> np.ndarray:
    """The file's, with as many threads as torch has."""
    import torch

    return OnnxModel(path, torch.get_num_threads()).logits(images)


def _require_one_piece(module: nn.Module) -> None:
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    if size >= LARGEST:
        raise SpecError(f"onnx: {type(module).__name__} has {size / 1e9:.1f} GB of weights; allowed: below {LARGEST / 1e9:.1f}")


def _write(module: nn.Module, path: Path, images: np.ndarray, facts: Mapping[str, str]) -> None:
    import torch

    example = torch.zeros(2, *images.shape[1:])  # a batch of one would be taken for a constant
    options = {"input_names": [IMAGES], "output_names": [LOGITS], "dynamic_shapes": ({0: torch.export.Dim("batch")},)}
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(module, (example,), dynamo=True, verbose=False, **options)
        except torch.onnx.OnnxExporterError as error:
            why = str(error.__cause__ or error).strip().partition("\n")[0]
            raise SpecError(f"onnx: torch cannot write this {type(module).__name__} ({why}); allowed: what torch.export traces") from error
        _forget(program.model)
        program.model.metadata_props.update(facts)
        program.save(path, external_data=False)


def _forget(model: Any) -> None:
    """Where on this machine each operation was traced, which the exporter writes beside it and nobody who runs the file needs."""
    model.metadata_props.clear()
    for graph in model.graphs():
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            for value in (*node.inputs, *node.outputs):
                if value is not None:
                    value.metadata_props.clear()
