"""Distillation from two self-supervised teachers: how teachers are adapted and students trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import Batches, pictures_of, seed_everything, test_batches, training_batches
from vitlib.inputs.models import build, classifiers, load_weights, weights_of
from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, class_names
from vitlib.methods.attention import attention_confidence, attention_maps, by_block
from vitlib.methods.distillation.losses import soft_distillation_loss
from vitlib.papers.dual_ssl_kd.ends import CUTS, after_blocks, frozen_front
from vitlib.papers.dual_ssl_kd.joint import Heads, Ramp, TwoTeachers, left_out, loss_terms
from vitlib.papers.dual_ssl_kd.specs import AttentionMaps, Joint, Protocol, Readout, Taught, Tuned
from vitlib.teachers.task import with_fresh_head
from vitlib.teachers.teacher import Teacher
from vitlib.training.evaluate import finite, judged, labels_of, scores_of, validated
from vitlib.training.loop import train
from vitlib.training.remembered import Frozen, Lessons, examples, lessons
from vitlib.training.step.update import mean_over_images

FOLLOWED = 128  # images on which the terms of the loss are followed, of the validation split where there is one
TEACHERS = ("cl", "mim")
POOLS: dict[Readout, str] = {"class": "token", "mean": "avg"}  # timm's names


TRAINED: dict[Protocol, Callable[[nn.Module], list[nn.Module]]] = {
    "finetune": lambda model: [model],
    "linear": classifiers,
    "partial1": lambda model: [model.blocks[-1], *after_blocks(model)],
}


@computes(Tuned)
def tune(spec: Tuned, context: Context) -> Result:
    model = ready(spec.teacher, spec.readout, spec, context, drop_path=spec.recipe.drop_path)
    trainable = adapt(model, spec.protocol)
    end = CUTS[spec.protocol].end
    source = (spec.teacher, spec.data, spec.protocol, spec.readout)
    taught = lessons(frozen_front(model, spec.protocol), _training(spec, context), spec.recipe, model.num_classes, source)

    @mean_over_images
    def loss(model: nn.Module, images: Tensor, entering: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        return SoftTargetCrossEntropy()(end(model, *entering).float(), targets)

    trained = train(model, taught.batches, taught.loss(loss), spec.recipe, num_classes=None, context=context)
    metrics, right = accuracies(model, spec, context)
    kept = weights_of(model) if spec.protocol == "finetune" else None
    return Result(metrics | {"trainable": trainable}, trained.history, right, kept, trained.measured)


def ready(teacher: Teacher, readout: Readout, spec: Tuned | Joint, context: Context, drop_path: float = 0.0) -> nn.Module:
    """The teacher with a fresh classifier of what it is to read."""
    model = with_fresh_head(teacher, spec.data, spec.seed, context, drop_path=drop_path)
    if readout != "own":
        model.global_pool = POOLS[readout]
    return model


def adapt(model: nn.Module, protocol: Protocol) -> int:
    """Leave gradients to what the protocol trains, all of it from some layer on; the number of those parameters."""
    model.requires_grad_(False)
    for part in TRAINED[protocol](model):
        part.requires_grad_(True)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@computes(Taught)
def teach(spec: Taught, context: Context) -> Result:
    teachers = [frozen_teacher(teacher, context) for teacher in spec.teachers]
    student = scratch(spec, context)
    source = (spec.teachers, spec.data)
    taught = lessons(logits_of(teachers), _training(spec, context), spec.recipe, student.num_classes, source)
    trained = train(student, taught.batches, taught.loss(taught_loss), spec.recipe, num_classes=None, context=context)
    metrics, right = accuracies(student, spec, context)
    kept = weights_of(student) if spec.keep_weights else None
    return Result(metrics, trained.history, right, kept, trained.measured)


def logits_of(teachers: list[nn.Module]) -> Frozen:
    return lambda images: tuple(teacher(images).float() for teacher in teachers)


@mean_over_images
def taught_loss(model: nn.Module, images: Tensor, theirs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    """Cross-entropy plus the mean over frozen teachers of KL(teacher || student); their logits (B, C) on the same batch."""
    logits = model(images).float()
    terms = [soft_distillation_loss(logits, other, 1.0) for other in theirs]
    return SoftTargetCrossEntropy()(logits, targets) + (torch.stack(terms).mean() if terms else 0.0)


@computes(Joint)
def train_jointly(spec: Joint, context: Context) -> Result:
    model, ramp = three_networks(spec, context), Ramp(spec.output_ramp_epochs, spec.recipe.epochs)
    heads = CHOICES[spec.attention.heads](model, spec, context)
    classes = model.student.num_classes
    source = (spec.cl, spec.mim, spec.data, spec.attention.blocks[-1])
    taught = lessons(model.frozen, _training(spec, context), spec.recipe, classes, source)
    split = watched_split(spec.data, context.data_dir)
    watched = examples(model.frozen, _images(spec.data, context, split), (source, split))
    followed = _images(spec.data, context, split, count=FOLLOWED, batch_size=FOLLOWED)
    images, labels = next(iter(followed.epoch(0)))
    entering, targets = model.frozen(images), nn.functional.one_hot(labels, classes).float()

    def loss(module: nn.Module, images: Tensor, entering: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        return loss_terms(module(images, entering), targets, spec, heads, ramp.share).total

    @torch.no_grad()
    def follow(module: TwoTeachers) -> dict[str, float]:
        found = top1_of_each(module, watched)[0]
        return loss_terms(module(images, entering), targets, spec, heads).history | {
            f"{split} {name}": top1 for name, top1 in found.items()
        }

    around = {"evaluate": follow, "around_step": ramp.around_step}
    trained = train(model, taught.batches, taught.loss(loss), spec.recipe, num_classes=None, context=context, **around)
    metrics, right = top1_of_each(model, examples(model.frozen, _images(spec.data, context), (source, "test")))
    metrics |= {"validation top1": trained.metrics["validation top1"]} if split == "validation" else {}
    arrays = {f"confidence {name}": confidences(net, images, spec).cpu().numpy() for name, net in model.named_children()}
    kept = weights_of(model.student) if spec.keep_weights else None
    return Result(metrics, trained.history, arrays | right, kept, trained.measured)


def three_networks(spec: Joint, context: Context) -> TwoTeachers:
    teachers = {name: ready(getattr(spec, name), getattr(spec.readout, name), spec, context) for name in TEACHERS}
    for teacher in teachers.values():
        adapt(teacher, "partial1")
    return TwoTeachers(scratch(spec, context), **teachers, attention=spec.attention, teacher_lr_scale=spec.teacher_lr_scale)


def calibrated_heads(model: TwoTeachers, spec: Joint, context: Context) -> Heads:
    """The surest head of each teacher and block over images of the training split, as they are evaluated (equation 2)."""
    where = {"device": context.device, "data_dir": context.data_dir}
    batches = test_batches(spec.data, split="train", count=spec.attention.calibration_images, batch_size=FOLLOWED, **where)
    heads = {}
    for name in TEACHERS:
        confidence = sum(len(images) * confidences(getattr(model, name), images, spec) for images, _ in batches.epoch(0))
        heads[name] = {block: confidence[-block].argmax() for block in spec.attention.blocks}
    return heads


CHOICES: dict[str, Callable[[TwoTeachers, Joint, Context], Heads | None]] = {
    "batch": lambda model, spec, context: None,
    "fixed": calibrated_heads,
}


@torch.no_grad()
def top1_of_each(model: TwoTeachers, asked: Lessons) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracy (percent) of the student, 'top1', and of the teachers, 'top1 cl' and 'top1 mim', and which images each has right."""
    names = {"student": "top1", "cl": "top1 cl", "mim": "top1 mim"}
    right: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    for images, entering, labels in asked.epoch(0):
        for name, logits in model.logits(images, entering).items():
            right[names[name]].append((finite(logits).argmax(dim=1) == labels).cpu().numpy())
    by_image = {name: np.concatenate(found) for name, found in right.items()}
    return {name: 100.0 * float(found.mean()) for name, found in by_image.items()}, {f"{name} by image": x for name, x in by_image.items()}


@computes(AttentionMaps)
def look(spec: AttentionMaps, context: Context) -> Result:
    data = spec.teacher.normalised(spec.data)
    model = spec.teacher.module(context, image_size=data.image_size).eval()
    batches = test_batches(data, device=context.device, data_dir=context.data_dir, count=spec.images)
    images = torch.cat([images for images, _ in batches.epoch(0)])
    maps = attention_maps(model, images).cpu()
    sizes = {"patch": model.patch_embed.patch_size[0], "prefix": model.num_prefix_tokens}
    return Result(sizes, arrays={"images": pictures_of(images, data), "attention": maps.numpy().astype(np.float16)})


def confidences(model: nn.Module, images: Tensor, spec: Joint) -> Tensor:
    """Attention confidence (blocks, heads) over the tokens that the attention term takes."""
    prefix = left_out(model, spec.attention.tokens)
    return torch.stack(by_block(model, images, lambda maps: attention_confidence(maps, prefix)))


def scratch(spec: Taught | Joint, context: Context) -> nn.Module:
    """The untrained student."""
    seed_everything(spec.seed, context.device)
    classes = len(class_names(spec.data, context.data_dir))
    sizes = {"image_size": spec.data.image_size, "channels": spec.data.channels, "num_classes": classes}
    return build(spec.student, drop_path=spec.recipe.drop_path, **sizes).to(context.device)


def accuracies(model: nn.Module, spec: Tuned | Taught, context: Context) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracy (percent) on the test and the validation images, and which test images are right."""
    test = _images(spec.data, context)
    metrics, right = judged(scores_of(model, test), labels_of(test))
    return metrics | validated(model, spec.data, context), right


def frozen_teacher(spec: Tuned, context: Context) -> nn.Module:
    """A stored, fine-tuned teacher in eval mode, without gradients."""
    model = ready(spec.teacher, spec.readout, spec, context)
    load_weights(model, context.weights(spec))
    return model.to(context.device).eval().requires_grad_(False)


def _training(spec: Tuned | Taught | Joint, context: Context) -> Batches:
    return training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)


def _images(data: Data, context: Context, split: str = "test", **which: int) -> Batches:
    return test_batches(data, split=split, device=context.device, data_dir=context.data_dir, **which)
