"""DeiT: how each of its runs is computed."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from vitlib.inputs.data import pictures_of, renormalised, seed_everything, test_batches, training_batches
from vitlib.inputs.foreign.classes import columns_of, keep_columns
from vitlib.inputs.models import build, load_weights, parameter_count, weights_of
from vitlib.inputs.sources import Data, class_names
from vitlib.methods.attention import attention_maps
from vitlib.methods.distillation.losses import (
    hard_distillation_loss,
    readouts,
    soft_distillation_loss,
    token_cosines,
    token_logits,
    train_logits,
    weighted,
)
from vitlib.papers.deit.specs import Anatomy, Released, Student, Throughput, Tokens
from vitlib.spec import Context, Result
from vitlib.training.cost import VitCost, counted_macs, speed
from vitlib.training.evaluate import accuracy, labels_of, outputs, real_label_accuracy, top_k_accuracy
from vitlib.training.loop import Loss, train

HEADLINE = ("class+distillation", "class")  # the readout that `top1` reports: the fused one where there are two tokens


def train_student(spec: Student, context: Context) -> Result:
    num_classes = len(class_names(spec.data, context.data_dir))
    seed_everything(spec.seed, context.device)
    model = _build(spec, num_classes, drop_path=spec.recipe.drop_path)
    if spec.start:
        load_weights(model, context.weights(spec.start))
    if hasattr(model, "set_distilled_training"):
        model.set_distilled_training(True)
    model.to(context.device)
    batches = training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    test = test_batches(spec.data, device=context.device, data_dir=context.data_dir)
    labels = labels_of(test)
    trained = train(
        model,
        batches,
        distillation(spec, frozen_teacher(spec, num_classes, context)),
        spec.recipe,
        num_classes=num_classes,
        context=context,
        evaluate=lambda module: {"top1": _headline(_top1(module, test, labels))},
    )
    metrics, predictions = _evaluated(model, spec.data, spec.second_test, context, real_labels=spec.real_labels)
    if trained.ema:
        metrics["ema_top1"] = _headline(_top1(trained.ema, test, labels))
    metrics["parameters"] = parameter_count(model)
    return Result(metrics, trained.history, predictions | {"labels": labels}, weights_of(model), trained.measured)


def distillation(spec: Student, teacher: nn.Module | None) -> Loss:
    """The training loss: equation 2 or 3, or cross-entropy of both heads where there is no teacher.

    The teacher sees the same augmented and mixed batch, without gradient; its labels are never cached or smoothed.
    """
    base = SoftTargetCrossEntropy()

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        class_logits, dist_logits = train_logits(model, images)
        if teacher is None:
            return (base(class_logits, targets) + base(dist_logits, targets)) / 2
        with torch.no_grad():
            teacher_logits = teacher(images).float()
        if spec.objective == "soft":
            taught = soft_distillation_loss(dist_logits, teacher_logits, spec.temperature, spec.soft_reduction)
        else:
            taught = hard_distillation_loss(dist_logits, teacher_logits)
        return weighted(base(class_logits, targets), taught, spec.kd_weight)

    return loss


def frozen_teacher(spec: Student, num_classes: int, context: Context) -> nn.Module | None:
    """The teacher in eval mode, at the student's resolution, without gradients."""
    if spec.teacher is None:
        return None
    if isinstance(spec.teacher, Released):
        teacher = released_model(spec.teacher, context, image_size=spec.data.image_size)
    else:
        teacher = _build(spec.teacher, num_classes, image_size=spec.data.image_size)
        load_weights(teacher, context.weights(spec.teacher))
    teacher = renormalised(teacher, spec.data, spec.teacher.data)
    return teacher.to(context.device).eval().requires_grad_(False)


def released_model(spec: Released, context: Context, *, image_size: int = 0) -> nn.Module:
    """The released model, left with the outputs that are the data's classes."""
    model = build(spec.model, image_size=image_size or spec.data.image_size, channels=spec.data.channels, num_classes=None)
    return keep_columns(model, columns_of(spec.model.name, spec.columns, class_names(spec.data, context.data_dir)))


def evaluate_released(spec: Released, context: Context) -> Result:
    model = released_model(spec, context).to(context.device)
    metrics, predictions = _evaluated(model, spec.data, spec.second_test, context, real_labels=spec.real_labels)
    labels = labels_of(test_batches(spec.data, device=context.device, data_dir=context.data_dir))
    return Result(metrics | {"parameters": parameter_count(model)}, arrays=predictions | {"labels": labels})


def look_at_tokens(spec: Tokens, context: Context) -> Result:
    student = spec.student
    num_classes = len(class_names(student.data, context.data_dir))
    model = _build(student, num_classes)
    load_weights(model, context.weights(student))
    model.to(context.device).eval()
    test = test_batches(student.data, device=context.device, data_dir=context.data_dir)
    (cosines,) = outputs(model, test, lambda module, images: (token_cosines(module, images),))
    labels = labels_of(test)
    chosen = _one_of_each_class(labels, spec.images)
    some = test_batches(student.data, device=context.device, data_dir=context.data_dir, chosen=lambda _: chosen)
    images = torch.cat([images for images, _ in some.epoch(0)])
    arrays = {
        "cosine_by_block": cosines.mean(dim=0).numpy(),
        "images": pictures_of(images, student.data),
        "labels": labels[chosen],
        "attention": attention_maps(model, images)[:, :, :, :2, 2:].cpu().numpy(),
        "student_logits": torch.stack(token_logits(model, images)).detach().cpu().numpy(),
    }
    if (teacher := frozen_teacher(student, num_classes, context)) is not None:
        arrays["teacher_logits"] = teacher(images).cpu().numpy()
    return Result({"cosine_at_input": float(cosines[:, 0].mean()), "cosine_at_last": float(cosines[:, -1].mean())}, arrays=arrays)


def dissect(spec: Anatomy) -> Result:
    """Shapes of one image at each stage, read from the model itself by hooks, and parameters and MACs twice over."""
    model = build(spec.model, image_size=spec.image_size, channels=spec.channels, num_classes=spec.num_classes)
    stages = {"patch embedding": model.patch_embed, "tokens with positions": model.norm_pre, "block": model.blocks[-1], "norm": model.norm}
    shapes: dict[str, list[int]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: list(output.shape[1:])}))
        for name, module in stages.items()
    ]
    model.eval()(torch.zeros(1, spec.channels, spec.image_size, spec.image_size))
    for hook in hooks:
        hook.remove()
    formula = VitCost(spec.model, spec.image_size, spec.channels, spec.num_classes)
    metrics = {
        "patches": model.patch_embed.num_patches,
        "prefix_tokens": model.num_prefix_tokens,
        "tokens": shapes["block"][0],
        "width": shapes["block"][1],
        "blocks": len(model.blocks),
        "heads": model.blocks[0].attn.num_heads,
        "classes": model.head.out_features,
        "parameters": parameter_count(model),
        "parameters_formula": formula.parameters,
        "macs": counted_macs(model, spec.image_size, spec.channels),
        "macs_formula": formula.macs,
    }
    return Result(metrics, arrays={f"shape of {name}": np.array(shape) for name, shape in shapes.items()})


def time_model(spec: Throughput, context: Context) -> Result:
    model = build(spec.model, image_size=spec.image_size, channels=spec.channels, num_classes=spec.num_classes)
    measured = speed(model, spec.image_size, spec.channels, batch_size=spec.batch_size, device=context.device)
    return Result(asdict(measured) | {"parameters": parameter_count(model)})


def _build(spec: Student, num_classes: int, *, image_size: int = 0, drop_path: float = 0.0) -> nn.Module:
    data = spec.data
    return build(spec.model, image_size=image_size or data.image_size, channels=data.channels, num_classes=num_classes, drop_path=drop_path)


def _evaluated(
    model: nn.Module, data: Data, second: Data | None, context: Context, real_labels: bool = False
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Top-1 by readout on the test set (and `second_top1` on the other one), top-5, and the predictions."""
    test = test_batches(data, device=context.device, data_dir=context.data_dir)
    labels = labels_of(test)
    scores = readouts(outputs(model, test, token_logits))
    predictions = {name: score.argmax(dim=1).numpy() for name, score in scores.items()}
    by_readout = {name: accuracy(predicted, labels) for name, predicted in predictions.items()}
    metrics = {f"top1 {name}": value for name, value in by_readout.items()}
    metrics |= {"top1": _headline(by_readout), "top5": top_k_accuracy(_headline(scores), labels, 5)}
    if second:
        other = test_batches(second, device=context.device, data_dir=context.data_dir)
        metrics["second_top1"] = _headline(_top1(model, other, labels_of(other)))
    if real_labels:
        metrics["real_top1"] = real_label_accuracy(_headline(scores), data, context.data_dir)
    return metrics, {f"predictions {name}": predicted.astype(np.int32) for name, predicted in predictions.items()}


def _top1(model: nn.Module, batches, labels: np.ndarray) -> dict[str, float]:
    scores = readouts(outputs(model, batches, token_logits))
    return {name: accuracy(score.argmax(dim=1).numpy(), labels) for name, score in scores.items()}


def _headline(by_readout: dict):
    return next(by_readout[name] for name in HEADLINE if name in by_readout)


def _one_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first image of each class, then of the others in order, up to `count`."""
    order = np.concatenate([np.flatnonzero(labels == label)[[0]] for label in np.unique(labels)])
    rest = np.setdiff1d(np.arange(len(labels)), order)
    return np.concatenate([order, rest])[:count]
