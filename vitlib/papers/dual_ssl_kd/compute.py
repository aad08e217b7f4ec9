"""Distillation from two self-supervised teachers: how teachers are adapted and students trained."""

from __future__ import annotations

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from vitlib.inputs.data import Batches, seed_everything, test_batches, training_batches
from vitlib.inputs.models import build, load_weights, weights_of
from vitlib.inputs.sources import Data, class_names, load
from vitlib.methods.attention import attention_confidence, attention_maps
from vitlib.methods.distill import soft_distillation_loss
from vitlib.papers.dual_ssl_kd.joint import TwoTeachers, loss_terms
from vitlib.papers.dual_ssl_kd.specs import AttentionMaps, Joint, Protocol, Taught, Tuned
from vitlib.spec import Context, Result
from vitlib.teachers.task import with_fresh_head
from vitlib.training.evaluate import accuracy, labels_of, scores_of
from vitlib.training.loop import Loss, cross_entropy, train

FOLLOWED = 128  # test images on which the terms of the loss are followed


def tune(spec: Tuned, context: Context) -> Result:
    model = with_fresh_head(spec.teacher, spec.data, spec.seed, context, drop_path=spec.recipe.drop_path)
    trainable = adapt(model, spec.protocol)
    batches = training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    trained = train(model, batches, cross_entropy, spec.recipe, num_classes=model.num_classes, context=context)
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
    batches = training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    trained = train(student, batches, taught_by(teachers), spec.recipe, num_classes=student.num_classes, context=context)
    return Result({"top1": top1(student, _test(spec.data, context))}, trained.history, measured=trained.measured)


def taught_by(teachers: list[nn.Module]) -> Loss:
    """Cross-entropy plus the mean over frozen teachers of KL(teacher || student), all on the same batch."""
    base = SoftTargetCrossEntropy()

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        logits = model(images).float()
        with torch.no_grad():
            theirs = [teacher(images).float() for teacher in teachers]
        terms = [soft_distillation_loss(logits, other, 1.0) for other in theirs]
        return base(logits, targets) + (torch.stack(terms).mean() if terms else 0.0)

    return loss


def train_jointly(spec: Joint, context: Context) -> Result:
    cl, mim = (with_fresh_head(teacher, spec.data, spec.seed, context) for teacher in (spec.cl, spec.mim))
    for teacher in (cl, mim):
        adapt(teacher, "partial1")
    model = TwoTeachers(scratch(spec, context), cl, mim)
    batches = training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    test = _test(spec.data, context)
    followed = test_batches(spec.data, device=context.device, data_dir=context.data_dir, count=FOLLOWED, batch_size=FOLLOWED)
    images, labels = next(iter(followed.epoch(0)))
    targets = nn.functional.one_hot(labels, model.student.num_classes).float()

    def loss(module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return loss_terms(module(images), targets, spec).total

    @torch.no_grad()
    def follow(module: TwoTeachers) -> dict[str, float]:
        found = loss_terms(module(images), targets, spec)
        names = {"cl": module.cl, "mim": module.mim, "student": module.student}
        return found.history | {f"top1 {name}": top1(network, test) for name, network in names.items()}

    trained = train(model, batches, loss, spec.recipe, num_classes=model.student.num_classes, context=context, evaluate=follow)
    arrays = {f"confidence {name}": _confidences(net, images) for name, net in (("cl", cl), ("mim", mim), ("student", model.student))}
    metrics = {"top1": trained.metrics["top1 student"], **{f"top1 {name}": trained.metrics[f"top1 {name}"] for name in ("cl", "mim")}}
    return Result(metrics, trained.history, arrays=arrays, measured=trained.measured)


def look(spec: AttentionMaps, context: Context) -> Result:
    data = spec.teacher.normalised(spec.data)
    model = spec.teacher.module(context, image_size=data.image_size).eval()
    pictures, _ = load(data, "test", context.data_dir)
    chosen = np.unique(np.linspace(0, len(pictures) - 1, spec.images).round().astype(int))
    batches = test_batches(data, device=context.device, data_dir=context.data_dir, chosen=lambda labels: chosen)
    maps = torch.cat([attention_maps(model, images).cpu() for images, _ in batches.epoch(0)])
    sizes = {"patch": model.patch_embed.patch_size[0], "prefix": model.num_prefix_tokens}
    return Result(sizes, arrays={"images": pictures[chosen], "attention": maps.numpy().astype(np.float16)})


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
    maps = attention_maps(model, images)
    return torch.stack([attention_confidence(maps[:, block]) for block in range(maps.shape[1])]).cpu().numpy()


def _test(data: Data, context: Context) -> Batches:
    return test_batches(data, device=context.device, data_dir=context.data_dir)
