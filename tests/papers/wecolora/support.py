"""Settings of one step, and students made for tests of WeCoLoRA."""

from types import SimpleNamespace

import numpy as np
import torch

from vitlib.inputs.data import indexed_batches
from vitlib.inputs.models import Vit
from vitlib.inputs.sources import Data
from vitlib.methods.adapters.lora import attach
from vitlib.methods.adapters.weight_copy import groups, weight_copy
from vitlib.papers.wecolora.compute import students as compute
from vitlib.recipe import Recipe

DIGITS = Data(source="digits", image_size=8, per_class=1, mean=(0.304,), std=(0.375,))
MICRO = Vit(embed_dim=8, depth=12, num_heads=2, patch_size=4, init="xavier")
RECIPE = Recipe(epochs=15, batch_size=5, lr=4e-3, beta2=0.95, warmup_epochs=2, warmup_lr=0.0, min_lr=0.0, eval_every=15)
STEPS = 2
STILL = RECIPE.changed(lr=1e-12, weight_decay=0.0)


def images(count=4):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def adapted(teacher, reduction, kind, rank=3):
    student = weight_copy(teacher, reduction)
    for block, group in zip(student.blocks, groups(len(teacher.blocks), reduction), strict=True):
        attach(block, rank, kind, [teacher.blocks[index] for index in group.dropped])
    return student


def trained(spec, context):
    """A student and its teacher after training, without the evaluations of a whole run."""
    student, teacher, group_list = compute.adapted_student(spec, context)
    outcome, schedule = compute.train_adapters(spec, student, teacher, group_list, context)
    return SimpleNamespace(student=student, teacher=teacher, history=outcome.history, schedule=schedule)


def distance(run, spec, context, pairs):
    """Mean |T - S| over the training images by a plain loop over the blocks, of untrained models; mean over the pairs."""
    batches = indexed_batches(spec.data, spec.recipe, seed=0, device="cpu", data_dir=context.data_dir)
    streams = []
    with torch.no_grad():
        for model in (run.student, run.teacher):
            stream = model._pos_embed(model.patch_embed(batches.plain()))
            streams.append([stream := block(stream) for block in model.blocks])
    return np.mean([float((streams[1][target] - streams[0][block]).abs().mean()) for block, target in pairs])
