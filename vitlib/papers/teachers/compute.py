"""How frozen teachers are measured."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import test_batches
from vitlib.inputs.sources import class_names
from vitlib.methods.attention import attention_distances, attention_unevenness, by_block
from vitlib.papers.teachers.measure import AttentionDistances, AttentionUnevenness, Quality
from vitlib.training.evaluate import accuracy, labels_of, outputs, scores_of
from vitlib.training.probe import features_read, knn_accuracy, linear_probe_accuracy, readouts


@computes(Quality)
def measure_quality(spec: Quality, context: Context) -> Result:
    model = frozen(spec, context)
    splits = {"train": spec.bank, "test": spec.queries}
    data = spec.teacher.normalised(spec.data)
    bank, queries = (
        test_batches(data, device=context.device, data_dir=context.data_dir, split=split, count=count) for split, count in splits.items()
    )
    known, labels = labels_of(bank), labels_of(queries)
    metrics: dict[str, float] = {"images": len(labels)}
    pairs = zip(outputs(model, bank, features_read), outputs(model, queries, features_read), strict=True)
    for name, (reference, asked) in zip(readouts(model), pairs, strict=True):
        metrics[f"knn {name}"] = knn_accuracy(reference, known, asked, labels)
        metrics[f"linear {name}"] = linear_probe_accuracy(reference, known, asked, labels)
    if model.num_classes == len(class_names(data, context.data_dir)):
        metrics["top1"] = accuracy(scores_of(model, queries).argmax(dim=1).numpy(), labels)
    return Result(metrics)


@computes(AttentionDistances)
def measure_distances(spec: AttentionDistances, context: Context) -> Result:
    model = frozen(spec, context)
    data = spec.teacher.normalised(spec.data)
    batches = test_batches(data, device=context.device, data_dir=context.data_dir, batch_size=64, count=spec.images)
    distances = torch.cat([attention_distances(model, images).cpu() for images, _ in batches.epoch(0)]).numpy()
    metrics = {f"block {block + 1}": float(value) for block, value in enumerate(distances.mean(axis=(0, 2)))}
    return Result(metrics | {"images": len(distances)}, arrays={"distance": distances.astype(np.float32)})


@computes(AttentionUnevenness)
def measure_unevenness(spec: AttentionUnevenness, context: Context) -> Result:
    model, data = frozen(spec, context), spec.teacher.normalised(spec.data)
    batches = test_batches(data, device=context.device, data_dir=context.data_dir, batch_size=64, count=spec.images)
    prefix = model.num_prefix_tokens
    found = (by_block(model, images, lambda maps: attention_unevenness(maps, prefix)) for images, _ in batches.epoch(0))
    unevenness = torch.cat([torch.stack(blocks, dim=1).cpu() for blocks in found]).numpy()
    return Result({"images": len(unevenness)}, arrays={"unevenness": unevenness.astype(np.float32)})


def frozen(spec: Quality | AttentionDistances | AttentionUnevenness, context: Context) -> nn.Module:
    """The teacher at the data's size, in eval mode, without gradients."""
    return spec.teacher.module(context, image_size=spec.data.image_size).eval().requires_grad_(False)
