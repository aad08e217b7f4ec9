"""A teacher made ready for a labelled task."""

from __future__ import annotations

from torch import nn

from vitlib.computing import Context
from vitlib.inputs.data import seed_everything
from vitlib.inputs.models import classifiers
from vitlib.inputs.sources import Data, class_names
from vitlib.teachers.teacher import Teacher


def with_fresh_head(teacher: Teacher, data: Data, seed: int, context: Context, drop_path: float = 0.0) -> nn.Module:
    """The teacher with a classifier drawn for the task: at zero it would leave the backbone without any gradient."""
    model = teacher.module(context, image_size=data.image_size, num_classes=0, drop_path=drop_path)
    seed_everything(seed, context.device)
    model.reset_classifier(len(class_names(data, context.data_dir)))
    for layer in classifiers(model):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model.to(context.device)
