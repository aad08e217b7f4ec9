"""How attention distances of a run's model are measured."""

from __future__ import annotations

import numpy as np
import torch

from vitlib.compress.own.specs import OwnDistances
from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import test_batches
from vitlib.inputs.sources import class_names
from vitlib.methods.attention import attention_distances
from vitlib.papers.comparison.left.forms import form_of, plain_weights


@computes(OwnDistances)
def measure(spec: OwnDistances, context: Context) -> Result:
    run, data = spec.model, spec.model.data
    classes = len(class_names(data, context.data_dir))
    model = form_of(run).module(plain_weights(context.weights(run)), classes).to(context.device).requires_grad_(False)
    batches = test_batches(data, device=context.device, data_dir=context.data_dir, batch_size=64, count=spec.images)
    distances = torch.cat([attention_distances(model, images).cpu() for images, _ in batches.epoch(0)]).numpy()
    return Result({"images": len(distances)}, arrays={"distance": distances.astype(np.float32)})
