"""WeCoLoRA: what its training and its students cost in time."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import numpy as np

from vitlib.inputs.models import parameter_count
from vitlib.methods.adapters.weight_copy import weight_copy
from vitlib.papers.wecolora.compute import adapted_student, frozen_teacher, train_adapters
from vitlib.papers.wecolora.specs import Costs, Distilled, StageTimes
from vitlib.spec import Context, Result
from vitlib.training.cost import counted_macs, speed


def cost_of_student(spec: Costs, context: Context) -> Result:
    """The merged student has the blocks that weight copy leaves; its weights do not change what it costs."""
    teacher = frozen_teacher(spec.teacher, spec.image_size, context)
    models = {"teacher": teacher, "student": weight_copy(teacher, spec.reduction)}
    channels = teacher.patch_embed.proj.in_channels
    metrics: dict[str, float] = {}
    for name, model in models.items():
        timed = speed(model, spec.image_size, channels, batch_size=spec.batch_size, device=context.device)
        metrics |= {
            f"{name} parameters": parameter_count(model),
            f"{name} macs": counted_macs(model, spec.image_size, channels),
            f"{name} images/s": timed.images_per_second,
        }
    return Result(metrics)


def time_stages(spec: StageTimes, context: Context) -> Result:
    """Alternating trainings of the same length: medians of whole trainings and of each stage's epochs, in seconds."""
    plain = Distilled(
        teacher=spec.teacher, data=spec.data, recipe=spec.recipe, seed=0, reduction=spec.reduction, rank=spec.rank, lora_init="svd"
    )  # fmt: skip
    variants = {"plain": plain, "staged": plain.changed(staged_epochs=spec.staged_epochs)}
    if spec.recipe.augment == type(spec.recipe.augment)() and spec.data.resident:
        variants |= {f"{name}, cached": variant.changed(cached=True) for name, variant in list(variants.items())}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    stages: dict[str, list[float]] = {}
    for _ in range(spec.repeats):
        for name, variant in variants.items():
            total, epochs, names = _timed(variant, context)
            seconds[name].append(total)
            if name == "staged":
                for stage, value in zip(names, epochs, strict=True):
                    stages.setdefault(stage, []).append(value)
    metrics = {f"seconds {name}": statistics.median(values) for name, values in seconds.items()}
    metrics |= {f"seconds an epoch, {stage}": statistics.median(values) for stage, values in stages.items()}
    arrays = {f"seconds {name}": np.array(values) for name, values in seconds.items()}
    return Result(metrics | {"n": spec.repeats}, arrays=arrays)


def _timed(spec: Distilled, context: Context) -> tuple[float, list[float], list[str]]:
    """Seconds in all, making the cache included; seconds of each epoch; and the name of each epoch's phase."""
    student, teacher, group_list = adapted_student(spec, context)
    begun = time.perf_counter()
    trained, schedule = train_adapters(spec, student, teacher, group_list, replace(context, scratch=None))
    return time.perf_counter() - begun, trained.epoch_seconds, [phase.name for phase in schedule for _ in range(phase.epochs)]
