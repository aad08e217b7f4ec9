"""Distillation from two self-supervised teachers: how teachers are adapted and students trained."""

from __future__ import annotations

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from vitlib.inputs.data import Batches, pictures_of, seed_everything, test_batches, training_batches
from vitlib.inputs.models import build, load_weights, weights_of
from vitlib.inputs.sources import Data, class_names
from vitlib.methods.attention import attention_confidence, attention_maps, by_block
from vitlib.methods.distillation.losses import soft_distillation_loss
from vitlib.papers.dual_ssl_kd.ends import CUTS
from vitlib.papers.dual_ssl_kd.joint import TwoTeachers, loss_terms
from vitlib.papers.dual_ssl_kd.specs import AttentionMaps, Joint, Protocol, Taught, Tuned
from vitlib.spec import Context, Result
from vitlib.teachers.task import with_fresh_head
from vitlib.training.evaluate import accuracy, labels_of, scores_of
from vitlib.training.loop import train
from vitlib.training.remembered import Frozen, Lessons, examples, lessons

FOLLOWED = 128  # test images on which the terms of the loss are followed


def tune(spec: Tuned, context: Context) -> Result:
    model = with_fresh_head(spec.teacher, spec.data, spec.seed, context, drop_path=spec.recipe.drop_path)
    trainable = adapt(model, spec.protocol)
    cut = CUTS[spec.protocol]
    source = (spec.teacher, spec.data, spec.protocol)
    taught = lessons(lambda images: (cut.front(model, images),), _training(spec, context), spec.recipe, model.num_classes, source)
    loss = taught.loss(lambda model, _, entering, targets: SoftTargetCrossEntropy()(cut.end(model, *entering).float(), targets))
    trained = train(model, taught.batches, loss, spec.recipe, num_classes=None, context=context)
    metrics = {"top1": top1(model, _test(spec.data, context)), "trainable": trainable}
    kept = weights_of(model) if spec.protocol == "finetune" else None
    return Result(metrics, trained.history, weights=kept, measured=trained.measured)


def adapt(model: nn.Module, protocol: Protocol) -> int:
    """Leave gradients to what the protocol trains; the number of those parameters."""
    model.requires_grad_(False)
    parts = {"finetune": [model], "linear": [model.head], "partial1": [model.blocks[-1], model.norm, model.head]}[protocol]
    for part in parts:
        part.requires_grad_(True)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def teach(spec: Taught, context: Context) -> Result:
    teachers = [_frozen(teacher, context) for teacher in spec.teachers]
    student = scratch(spec, context)
    source = (spec.teachers, spec.data)
    taught = lessons(logits_of(teachers), _training(spec, context), spec.recipe, student.num_classes, source)
    trained = train(student, taught.batches, taught.loss(taught_loss), spec.recipe, num_classes=None, context=context)
    return Result({"top1": top1(student, _test(spec.data, context))}, trained.history, measured=trained.measured)


def logits_of(teachers: list[nn.Module]) -> Frozen:
    return lambda images: tuple(teacher(images).float() for teacher in teachers)


def taught_loss(model: nn.Module, images: Tensor, theirs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    """Cross-entropy plus the mean over frozen teachers of KL(teacher || student); their logits (B, C) on the same batch."""
    logits = model(images).float()
    terms = [soft_distillation_loss(logits, other, 1.0) for other in theirs]
    return SoftTargetCrossEntropy()(logits, targets) + (torch.stack(terms).mean() if terms else 0.0)


def train_jointly(spec: Joint, context: Context) -> Result:
    cl, mim = (with_fresh_head(teacher, spec.data, spec.seed, context) for teacher in (spec.cl, spec.mim))
    for teacher in (cl, mim):
        adapt(teacher, "partial1")
    model = TwoTeachers(scratch(spec, context), cl, mim)
    classes = model.student.num_classes
    source = (spec.cl, spec.mim, spec.data)
    taught = lessons(model.frozen, _training(spec, context), spec.recipe, classes, source)
    test = examples(model.frozen, _test(spec.data, context), source)
    followed = test_batches(spec.data, device=context.device, data_dir=context.data_dir, count=FOLLOWED, batch_size=FOLLOWED)
    images, labels = next(iter(followed.epoch(0)))
    entering, targets = model.frozen(images), nn.functional.one_hot(labels, classes).float()

    def loss(module: nn.Module, images: Tensor, entering: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        return loss_terms(module(images, entering), targets, spec).total

    @torch.no_grad()
    def follow(module: TwoTeachers) -> dict[str, float]:
        return loss_terms(module(images, entering), targets, spec).history | top1_of_each(module, test)

    trained = train(model, taught.batches, taught.loss(loss), spec.recipe, num_classes=None, context=context, evaluate=follow)
    arrays = {f"confidence {name}": _confidences(net, images) for name, net in (("cl", cl), ("mim", mim), ("student", model.student))}
    metrics = {"top1": trained.metrics["top1 student"], **{f"top1 {name}": trained.metrics[f"top1 {name}"] for name in ("cl", "mim")}}
    return Result(metrics, trained.history, arrays=arrays, measured=trained.measured)


@torch.no_grad()
def top1_of_each(model: TwoTeachers, test: Lessons) -> dict[str, float]:
    """Accuracy (percent) of the three networks: 'top1 student', ..."""
    right = {name: 0 for name in ("cl", "mim", "student")}
    for images, entering, labels in test.epoch(0):
        for name, logits in model(images, entering).logits.items():
            right[name] += int((logits.argmax(dim=1) == labels).sum())
    return {f"top1 {name}": 100.0 * (count / test.batches.images) for name, count in right.items()}


def look(spec: AttentionMaps, context: Context) -> Result:
    data = spec.teacher.normalised(spec.data)
    model = spec.teacher.module(context, image_size=data.image_size).eval()
    batches = test_batches(data, device=context.device, data_dir=context.data_dir, count=spec.images)
    images = torch.cat([images for images, _ in batches.epoch(0)])
    maps = attention_maps(model, images).cpu()
    sizes = {"patch": model.patch_embed.patch_size[0], "prefix": model.num_prefix_tokens}
    return Result(sizes, arrays={"images": pictures_of(images, data), "attention": maps.numpy().astype(np.float16)})


def scratch(spec: Taught | Joint, context: Context) -> nn.Module:
    """The untrained student."""
    seed_everything(spec.seed, context.device)
    classes = len(class_names(spec.data, context.data_dir))
    sizes = {"image_size": spec.data.image_size, "channels": spec.data.channels, "num_classes": classes}
    return build(spec.student, drop_path=spec.recipe.drop_path, **sizes).to(context.device)


def top1(model: nn.Module, test: Batches) -> float:
    return accuracy(scores_of(model, test).argmax(dim=1).numpy(), labels_of(test))


def _frozen(spec: Tuned, context: Context) -> nn.Module:
    model = with_fresh_head(spec.teacher, spec.data, spec.seed, context)
    load_weights(model, context.weights(spec))
    return model.to(context.device).eval().requires_grad_(False)


def _confidences(model: nn.Module, images: Tensor) -> np.ndarray:
    """Attention confidence (blocks, heads)."""
    return torch.stack(by_block(model, images, attention_confidence)).cpu().numpy()


def _training(spec: Tuned | Taught | Joint, context: Context) -> Batches:
    return training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)


def _test(data: Data, context: Context) -> Batches:
    return test_batches(data, device=context.device, data_dir=context.data_dir)
