"""DeiT: how each of its runs is computed."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import Batches, pictures_of, renormalised, seed_everything, test_batches, training_batches
from vitlib.inputs.foreign.classes import columns_of, keep_columns
from vitlib.inputs.models import build, load_weights, parameter_count, weights_of
from vitlib.inputs.sets.watched import watched_split
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
from vitlib.papers.dual_ssl_kd.compute import frozen_teacher as fine_tuned_teacher
from vitlib.papers.dual_ssl_kd.specs import Tuned
from vitlib.training.cost import VitCost, counted_macs, speed
from vitlib.training.evaluate import judged, labels_of, outputs, real_label_accuracy, top_k_accuracy
from vitlib.training.loop import Loss, train
from vitlib.training.step.update import mean_over_images

HEADLINE = ("class+distillation", "class")  # the readout that `top1` reports: the fused one where there are two tokens


@computes(Student)
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
    split = watched_split(spec.data, context.data_dir)
    watched, test = (test_batches(spec.data, split=name, device=context.device, data_dir=context.data_dir) for name in (split, "test"))
    trained = train(
        model,
        batches,
        distillation(spec, frozen_teacher(spec, num_classes, context)),
        spec.recipe,
        num_classes=num_classes,
        context=context,
        evaluate=lambda module: {f"{split} top1": _top1(module, watched)},
    )
    metrics, arrays = _evaluated(model, spec.data, spec.second_test, context, real_labels=spec.real_labels)
    metrics |= {"validation top1": trained.metrics["validation top1"]} if split == "validation" else {}
    if trained.ema:
        metrics["ema_top1"] = _top1(trained.ema, test)
    metrics["parameters"] = parameter_count(model)
    return Result(metrics, trained.history, arrays, weights_of(model), trained.measured)


def distillation(spec: Student, teacher: nn.Module | None) -> Loss:
    """The training loss: equation 2 or 3, or cross-entropy of both heads where there is no teacher.

    The teacher sees the same augmented and mixed batch, without gradient; its labels are never cached or smoothed.
    """
    base = SoftTargetCrossEntropy()

    @mean_over_images
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
    elif isinstance(spec.teacher, Tuned):
        teacher = fine_tuned_teacher(spec.teacher, context)
    else:
        teacher = _build(spec.teacher, num_classes, image_size=spec.data.image_size)
        load_weights(teacher, context.weights(spec.teacher))
    teacher = renormalised(teacher, spec.data, spec.teacher.data)
    return teacher.to(context.device).eval().requires_grad_(False)


def released_model(spec: Released, context: Context, *, image_size: int = 0) -> nn.Module:
    """The released model, left with the outputs that are the data's classes."""
    model = build(spec.model, image_size=image_size or spec.data.image_size, channels=spec.data.channels, num_classes=None)
    return keep_columns(model, columns_of(spec.model.name, spec.columns, class_names(spec.data, context.data_dir)))


@computes(Released)
def evaluate_released(spec: Released, context: Context) -> Result:
    model = released_model(spec, context).to(context.device)
    metrics, arrays = _evaluated(model, spec.data, spec.second_test, context, real_labels=spec.real_labels)
    return Result(metrics | {"parameters": parameter_count(model)}, arrays=arrays)


@computes(Tokens)
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
        "cosine_at_input by image": cosines[:, 0].numpy(),
        "cosine_at_last by image": cosines[:, -1].numpy(),
        "images": pictures_of(images, student.data),
        "labels": labels[chosen],
        "attention": attention_maps(model, images)[:, :, :, :2, 2:].cpu().numpy(),
        "student_logits": torch.stack(token_logits(model, images)).detach().cpu().numpy(),
    }
    if (teacher := frozen_teacher(student, num_classes, context)) is not None:
        arrays["teacher_logits"] = teacher(images).cpu().numpy()
    return Result({"cosine_at_input": float(cosines[:, 0].mean()), "cosine_at_last": float(cosines[:, -1].mean())}, arrays=arrays)


@computes(Anatomy)
def dissect(spec: Anatomy, context: Context) -> Result:
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


@computes(Throughput)
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
    """Top-1 by readout on the test set (and `second_top1` on the other one), top-5; labels, predictions, and which images are right."""
    test = test_batches(data, device=context.device, data_dir=context.data_dir)
    labels = labels_of(test)
    scores = readouts(outputs(model, test, token_logits))
    metrics, right = judged(_headline(scores), labels)
    metrics["top5"] = top_k_accuracy(_headline(scores), labels, 5)
    for name, score in scores.items():
        of_readout, by_image = judged(score, labels, f"top1 {name}")
        metrics, right = metrics | of_readout, right | by_image
    if second:
        metrics["second_top1"] = _top1(model, test_batches(second, device=context.device, data_dir=context.data_dir))
    if real_labels:
        metrics["real_top1"] = real_label_accuracy(_headline(scores), data, context.data_dir)
    predictions = {f"predictions {name}": score.argmax(dim=1).numpy().astype(np.int32) for name, score in scores.items()}
    return metrics, predictions | right | {"labels": labels}


def _top1(model: nn.Module, batches: Batches) -> float:
    return judged(_headline(readouts(outputs(model, batches, token_logits))), labels_of(batches))[0]["top1"]


def _headline(by_readout: dict):
    return next(by_readout[name] for name in HEADLINE if name in by_readout)


def _one_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first image of each class, then of the others in order, up to `count`."""
    order = np.concatenate([np.flatnonzero(labels == label)[[0]] for label in np.unique(labels)])
    rest = np.setdiff1d(np.arange(len(labels)), order)
    return np.concatenate([order, rest])[:count]
