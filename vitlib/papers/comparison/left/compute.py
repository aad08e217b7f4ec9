"""How the model that a run leaves behind is measured."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from vitlib.computing import Context, Result, computes
from vitlib.deploy.export import as_written, export
from vitlib.deploy.speed import speeds
from vitlib.inputs.data import test_batches
from vitlib.inputs.models import parameter_count
from vitlib.inputs.sources import class_names
from vitlib.papers.comparison.left.forms import form_of, plain_weights
from vitlib.papers.comparison.left.measured import Exported, Latency, Measured, Written
from vitlib.spec import RunSpec
from vitlib.training.cost import counted_macs, timings
from vitlib.training.evaluate import judged, labels_of, scores_of

REPEATS = 40  # timed passes of one image


@computes(Measured)
def measure(spec: Measured, context: Context) -> Result:
    data = spec.model.data
    model, weights = _left(spec.model, context)
    model = model.to(context.device)
    packed = io.BytesIO()
    np.savez_compressed(packed, **weights)
    test = test_batches(data, device=context.device, data_dir=context.data_dir)
    top1, right = judged(scores_of(model, test), labels_of(test))
    sizes = {
        "parameters": parameter_count(model),
        "non-zero": sum(int(parameter.count_nonzero()) for parameter in model.parameters()),
        "macs": counted_macs(model, data.image_size, data.channels),
        "file bytes": len(save(weights)),
        "packed bytes": packed.getbuffer().nbytes,
    }
    return Result(top1 | sizes, arrays=right)


@computes(Latency)
def time_module(spec: Latency, context: Context) -> Result:
    data = spec.model.data
    model, _ = _left(spec.model, context)
    seconds = timings(model, data.image_size, data.channels, batch_size=1, device=context.device, repeats=REPEATS)
    return Result({"latency ms": 1000 * float(np.median(seconds)), "latency p90 ms": 1000 * float(np.quantile(seconds, 0.9))})


@computes(Written)
def write(spec: Written, context: Context) -> Result:
    """Arrays: 'onnx', the bytes of the file (uint8)."""
    model, _ = _left(spec.model, context)
    images = _images(spec, context)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        found = export(model, path, images)
        written = np.fromfile(path, np.uint8)
    said = {"onnx largest |Δlogit|": found.largest, "onnx changed": float(found.changed), "images": len(images)}
    return Result(said, arrays={"onnx": written})


@computes(Exported)
def time_file(spec: Exported, context: Context) -> Result:
    model, _ = _left(spec.model, context)
    written = context.parent(spec.written)
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(written.arrays["onnx"].tobytes())
        file.flush()
        found = speeds(as_written(model), file.name, _images(spec, context), threads=spec.threads)
    return Result(dict(written.metrics) | found)


def _images(spec: Written | Exported, context: Context) -> np.ndarray:
    test = test_batches(spec.model.data, device="cpu", data_dir=context.data_dir, count=spec.images)
    return torch.cat([images for images, _ in test.epoch(0)]).numpy()


def _left(run: RunSpec, context: Context) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """The module, on the CPU, and its weights."""
    weights = plain_weights(context.weights(run))
    return form_of(run).module(weights, len(class_names(run.data, context.data_dir))), weights
