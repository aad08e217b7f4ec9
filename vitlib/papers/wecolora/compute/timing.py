"""WeCoLoRA: what its training costs in time, and its students by formula and by count."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from torch import nn

from vitlib.computing import Context, Result, computes
from vitlib.inputs.foreign.architecture import sizes_of
from vitlib.inputs.models import Vit, parameter_count
from vitlib.methods.adapters.lora import adapters
from vitlib.methods.adapters.weight_copy import weight_copy
from vitlib.papers.wecolora.compute.students import adapted_student, frozen_teacher, started, train_adapters
from vitlib.papers.wecolora.specs import Costs, Distilled, StageTimes
from vitlib.training.cost import VitCost, counted_macs, speed


@computes(Costs)
def cost_of_student(spec: Costs, context: Context) -> Result:
    """The merged student has the blocks that weight copy leaves; its weights do not change what it costs.

    Formulas are those of a plain Vision Transformer, and left out for a model that is none.
    """
    teacher = frozen_teacher(spec.teacher, spec.image_size, context)
    models = {"teacher": teacher, "student": weight_copy(teacher, spec.reduction)}
    channels = spec.teacher.channels
    metrics: dict[str, float] = {}
    for name, model in models.items():
        timed = speed(model, spec.image_size, channels, batch_size=spec.batch_size, device=context.device)
        metrics |= {
            f"{name} parameters": parameter_count(model),
            f"{name} macs": counted_macs(model, spec.image_size, channels),
            f"{name} images/s": timed.images_per_second,
        }
        if sizes := sizes_of(model, spec.image_size, channels):
            formula = VitCost(sizes, spec.image_size, channels, num_classes=0)
            metrics |= {f"{name} parameters, by formula": formula.parameters, f"{name} macs, by formula": formula.macs}
    return Result(metrics | _cost_of_adapters(spec, teacher, models["student"]))


def adapter_parameters(model: Vit, rank: int) -> int:
    """k (in + out) for each of the six matrices of every block: L k D (10 + 2 m), of width D, depth L and MLP ratio m."""
    return round(model.depth * rank * model.embed_dim * (10 + 2 * model.mlp_ratio))


def _cost_of_adapters(spec: Costs, teacher: nn.Module, merged: nn.Module) -> dict[str, float]:
    """What the adapters add until they are merged: each of their parameters is used once a token."""
    student, channels = started(teacher, spec.reduction, spec.rank, "zero_b"), spec.teacher.channels
    macs = [counted_macs(model, spec.image_size, channels) for model in (student, merged)]
    counted = {
        "adapters parameters": sum(layer.a.numel() + layer.b.numel() for _, layer in adapters(student)),
        "adapters macs": macs[0] - macs[1],
    }
    if not (sizes := sizes_of(merged, spec.image_size, channels)):
        return counted
    formula = adapter_parameters(sizes, spec.rank)
    tokens = VitCost(sizes, spec.image_size, channels, num_classes=0).tokens
    return counted | {"adapters parameters, by formula": formula, "adapters macs, by formula": tokens * formula}


@computes(StageTimes)
def time_stages(spec: StageTimes, context: Context) -> Result:
    """Alternating trainings of the same length, every other round in reverse; an epoch before them, not counted, warms up.

    Steps are taken anew: each phase's would be recorded once, which in a short training counts for more than what a phase saves.

    Arrays, a row a round: 'seconds NAME' of a whole training, (rounds,); 'epochs of PHASE' in seconds, (rounds, epochs), for each
    phase of staged training and for plain training.
    """
    plain = Distilled(
        teacher=spec.teacher, data=spec.data, recipe=spec.recipe, seed=0, reduction=spec.reduction, rank=spec.rank, lora_init="svd"
    )  # fmt: skip
    variants = {"plain": plain, "staged": plain.changed(staged_epochs=spec.staged_epochs)}
    if spec.recipe.augment == type(spec.recipe.augment)() and spec.data.resident:
        variants |= {f"{name}, cached": variant.changed(cached=True) for name, variant in list(variants.items())}
    _timed(plain.changed(recipe=spec.recipe.changed(epochs=1, warmup_epochs=0)), context)
    orders = [list(variants)[:: 1 if number % 2 == 0 else -1] for number in range(spec.repeats)]
    rounds = [{name: _timed(variants[name], context) for name in order} for order in orders]
    seconds = {f"seconds {name}": np.array([turn[name][0] for turn in rounds]) for name in variants}
    epochs = {name: np.array([turn[name][1] for turn in rounds]) for name in ("plain", "staged")}
    phases = np.array(rounds[0]["staged"][2])
    arrays = {f"epochs of {phase}": epochs["staged"][:, phases == phase] for phase in dict.fromkeys(phases.tolist())}
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return Result(medians, arrays=seconds | arrays | {"epochs of plain": epochs["plain"]})


def _timed(spec: Distilled, context: Context) -> tuple[float, list[float], list[str]]:
    """Seconds in all, making the cache included; seconds of each epoch; and the name of each epoch's phase."""
    student, teacher, group_list = adapted_student(spec, context)
    begun = time.perf_counter()
    trained, schedule = train_adapters(spec, student, teacher, group_list, replace(context, scratch=None, capture=False))
    return time.perf_counter() - begun, trained.epoch_seconds, [phase.name for phase in schedule for _ in range(phase.epochs)]
