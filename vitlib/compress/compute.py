"""How the model of a run is measured."""

from __future__ import annotations

import io

import numpy as np
from safetensors.numpy import save

from vitlib.compress.back.taken import form_of, plain_weights
from vitlib.compress.specs import Measured
from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import test_batches
from vitlib.inputs.models import parameter_count
from vitlib.inputs.sources import class_names
from vitlib.training.cost import counted_macs, timings
from vitlib.training.evaluate import judged, labels_of, scores_of

REPEATS = 40  # timed passes of one image


@computes(Measured)
def measure(spec: Measured, context: Context) -> Result:
    run, data = spec.model, spec.model.data
    weights = plain_weights(context.weights(run))
    model = form_of(run).module(weights, len(class_names(data, context.data_dir))).to(context.device)
    packed = io.BytesIO()
    np.savez_compressed(packed, **weights)
    seconds = 1000 * np.array(timings(model, data.image_size, data.channels, batch_size=1, device=context.device, repeats=REPEATS))
    test = test_batches(data, device=context.device, data_dir=context.data_dir)
    top1, right = judged(scores_of(model, test), labels_of(test))
    sizes = {
        "parameters": parameter_count(model),
        "non-zero": sum(int(parameter.count_nonzero()) for parameter in model.parameters()),
        "macs": counted_macs(model, data.image_size, data.channels),
        "file bytes": len(save(weights)),
        "packed bytes": packed.getbuffer().nbytes,
    }
    latency = {"latency ms": float(np.median(seconds)), "latency p90 ms": float(np.quantile(seconds, 0.9))}
    return Result(top1 | sizes | latency, arrays=right)
