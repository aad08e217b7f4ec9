"""WeCoLoRA: how its students are made, distilled and evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vitlib.computing import Context, Result, computes
from vitlib.inputs.data import Batches, indexed_batches, seed_everything, test_batches, training_batches
from vitlib.inputs.models import load_weights, parameter_count, weights_of
from vitlib.inputs.sets.watched import watched_split
from vitlib.inputs.sources import Data, class_names
from vitlib.methods.adapters.lora import ADAPTED, LoraLinear, adapters, attach, energy, merge
from vitlib.methods.adapters.weight_copy import Group, feature_loss, features, groups, weight_copy
from vitlib.papers.wecolora.specs import STEP_0, Copied, Distilled, Downstream, Spectra, Start
from vitlib.spec import SpecError
from vitlib.teachers.teacher import Teacher
from vitlib.training.evaluate import judged, labels_of, scores_of, top_k_accuracy, validated
from vitlib.training.loop import Trained, cross_entropy, train
from vitlib.training.probe import linear_probe
from vitlib.training.remembered import remembered
from vitlib.training.step.update import mean_over_images

FOLLOWED = 64  # test images on which the distance to the teacher is followed


@dataclass(frozen=True)
class Phase:
    """What a stretch of training compares: student block j with teacher block t for each pair; later blocks neither run nor train."""

    name: str
    epochs: int
    pairs: tuple[tuple[int, int], ...]

    @property
    def active(self) -> int:
        """Student blocks that run and train."""
        return self.pairs[-1][0] + 1


def phases(spec: Distilled, group_list: list[Group]) -> list[Phase]:
    """Stages k = 1, 2, ... of all but the last block, then the whole student for the epochs that remain."""
    pairs = [(block, group.target) for block, group in enumerate(group_list)]
    kept = {"active": pairs.__getitem__, "deepest": lambda cut: pairs[cut][-1:]}[spec.stage_targets]
    stages = [Phase(f"stage {k}", spec.staged_epochs, tuple(kept(slice(k)))) for k in range(1, len(pairs))] if spec.staged_epochs else []
    whole = spec.recipe.epochs - sum(stage.epochs for stage in stages)
    if whole < 1:
        raise SpecError(
            f"staged_epochs: got {spec.staged_epochs}; {len(stages)} stages leave none of {spec.recipe.epochs} epochs for the whole student"
        )
    final = tuple(pairs if spec.final_targets == "all" else pairs[-1:])
    return [*stages, Phase("whole", whole, final)]


def phase_at(progress: float, epochs: int, schedule: list[Phase]) -> Phase:
    """The phase that a share of training falls into."""
    left = progress * epochs + 1e-9
    for phase in schedule:
        if left < phase.epochs:
            return phase
        left -= phase.epochs
    return schedule[-1]


@computes(Copied)
def copy_weights(spec: Copied, context: Context) -> Result:
    teacher = frozen_teacher(spec.teacher, spec.data.image_size, context)
    student = weight_copy(teacher, spec.reduction)
    return Result({"parameters": parameter_count(student)}, weights=weights_of(student))


@computes(Distilled)
def distil(spec: Distilled, context: Context) -> Result:
    student, teacher, group_list = adapted_student(spec, context)
    distance = block_distances(spec.data, FOLLOWED, teacher, group_list, context)
    start = {f"step-0 {name}": value for name, value in distance(student).items()}
    trained, schedule = train_adapters(spec, student, teacher, group_list, context, distance)
    layers = [layer for _, layer in adapters(student)]
    metrics = (
        start
        | trained.metrics
        | {
            "trainable": sum(layer.a.numel() + layer.b.numel() for layer in layers),
            "product norm": product_norm(layers),
            "block calls": block_calls(schedule, len(group_list)),
        }
    )
    merge(student)
    metrics["parameters"] = parameter_count(student)
    return Result(metrics, trained.history, weights=weights_of(student), measured=trained.measured)


def train_adapters(
    spec: Distilled,
    student: nn.Module,
    teacher: nn.Module,
    group_list: list[Group],
    context: Context,
    evaluate: Callable[[nn.Module], dict[str, float]] = lambda model: {},
) -> tuple[Trained, list[Phase]]:
    """Train the adapters phase by phase; one optimiser and one schedule of the learning rate over all of them."""
    schedule = phases(spec, group_list)
    current: Phase | None = None
    make = indexed_batches if spec.cached else training_batches
    batches = make(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    taught = _cached_features(teacher, batches, schedule) if spec.cached else _live_features(teacher)

    @contextmanager
    def around_step(progress: float) -> Iterator[Phase]:
        nonlocal current
        if (now := phase_at(progress, spec.recipe.epochs, schedule)) is not current:
            current = now
            for index, block in enumerate(student.blocks):
                for _, layer in adapters(block):
                    layer.a.requires_grad_(index < now.active)
                    layer.b.requires_grad_(index < now.active)
        yield current

    @mean_over_images
    def loss(model: nn.Module, images: Tensor, positions: Tensor) -> Tensor:
        learned, wanted = zip(*current.pairs, strict=True)
        return feature_loss(features(model, images, list(learned)), taught(images, positions, list(wanted)))

    trained = train(
        student, batches, loss, spec.recipe, num_classes=None, context=context, evaluate=evaluate, around_step=around_step
    )  # fmt: skip
    return trained, schedule


def adapted_student(spec: Distilled, context: Context) -> tuple[nn.Module, nn.Module, list[Group]]:
    """The weight-copied student with started adapters, everything else frozen; its teacher; and what each block stands for."""
    teacher = frozen_teacher(spec.teacher, spec.data.image_size, context)
    group_list = groups(len(teacher.blocks), spec.reduction)
    seed_everything(spec.seed, context.device)
    return started(teacher, spec.reduction, spec.rank, spec.lora_init), teacher, group_list


def started(teacher: nn.Module, reduction: int, rank: int, kind: Start) -> nn.Module:
    """Weight copy with adapters, started from the dropped blocks; they alone have gradients."""
    student = weight_copy(teacher, reduction)
    for block, group in zip(student.blocks, groups(len(teacher.blocks), reduction), strict=True):
        attach(block, rank, kind, [teacher.blocks[index] for index in group.dropped])
    return student


def adapters_of(spec: Distilled, context: Context) -> nn.Module:
    """Weight copy with the adapters that make it a stored student: exact factors of the difference, whose rank theirs is.

    A shifted start differs from weight copy by two products, hence by twice the rank.
    """
    merged = context.weights(spec)
    student = weight_copy(frozen_teacher(spec.teacher, spec.data.image_size, context), spec.reduction)
    for index, block in enumerate(student.blocks):
        for name, parts in ADAPTED.items():
            layer = LoraLinear(block.get_submodule(name), parts, spec.rank * (2 if spec.lora_init == "svd_shift" else 1))
            layer.start("svd", [torch.from_numpy(merged[f"blocks.{index}.{name}.weight"]) - layer.base.weight])
            block.set_submodule(name, layer)
    return student


def frozen_teacher(teacher: Teacher, image_size: int, context: Context) -> nn.Module:
    """The teacher without classifier, in eval mode, without gradients."""
    return teacher.module(context, image_size=image_size, num_classes=0).eval().requires_grad_(False)


def block_distances(data: Data, count: int, teacher: nn.Module, group_list: list[Group], context: Context) -> Callable:
    """Measures mean |T - S| of each pair of blocks on `count` evenly spaced test images: 'block 1', ...; 'last' is equation 1."""
    batches = test_batches(data, device=context.device, data_dir=context.data_dir, count=count, batch_size=count)
    images = next(iter(batches.epoch(0)))[0]
    learned, wanted = list(range(len(group_list))), [group.target for group in group_list]
    with torch.no_grad():
        targets = features(teacher, images, wanted)

    @torch.no_grad()
    def distance(student: nn.Module) -> dict[str, float]:
        pairs = zip(features(student, images, learned), targets, strict=True)
        by_block = {f"block {block}": float(feature_loss([mine], [theirs])) for block, (mine, theirs) in enumerate(pairs, start=1)}
        return by_block | {"last": by_block[f"block {len(group_list)}"]}

    return distance


def block_calls(schedule: list[Phase], blocks: int) -> float:
    """Share of the student's blocks that run, of those that plain distillation over as many epochs runs."""
    return sum(phase.epochs * phase.active for phase in schedule) / (blocks * sum(phase.epochs for phase in schedule))


@computes(Downstream)
def evaluate_downstream(spec: Downstream, context: Context) -> Result:
    backbone = backbone_of(spec, context)
    seed_everything(spec.seed, context.device)
    return {"finetune": _fine_tuned, "probe": _probed}[spec.protocol](spec, backbone, context)


def _probed(spec: Downstream, backbone: nn.Module, context: Context) -> Result:
    """Bank, test and validation features in one pass each; the probe's scores of the last two."""
    splits = ["train", "test", *({watched_split(spec.data, context.data_dir)} - {"test"})]
    sets = [test_batches(spec.data, device=context.device, data_dir=context.data_dir, split=split) for split in splits]
    known, *labels = map(labels_of, sets)
    bank, *asked = (scores_of(backbone, batches) for batches in sets)
    scores, trained = linear_probe(bank, known, torch.cat(asked), spec.recipe, seed=spec.seed, context=context)
    tested, *validation = scores.split([len(features) for features in asked])
    metrics, right = _accuracies(tested, labels[0])
    for found, true in zip(validation, labels[1:], strict=True):
        metrics |= judged(found, true, "validation top1")[0]
    return Result(metrics, trained.history, right, measured=trained.measured)


def backbone_of(spec: Downstream, context: Context) -> nn.Module:
    """The merged student, or the teacher, at the downstream images' size; its output is what its classifier would read."""
    backbone = frozen_teacher(spec.teacher, spec.data.image_size, context)
    if spec.student is not None:
        backbone = weight_copy(backbone, spec.student.reduction)
        load_weights(backbone, context.weights(spec.student))
    return backbone


@computes(Spectra)
def look_at_spectra(spec: Spectra, context: Context) -> Result:
    teacher = frozen_teacher(spec.teacher, spec.data.image_size, context)
    group_list = groups(len(teacher.blocks), spec.reduction)
    distance = block_distances(spec.data, spec.images, teacher, group_list, context)
    arrays = {f"energy {name}": value for name, value in _energies(teacher, group_list).items()}
    blocks = [f"block {block}" for block in range(1, len(group_list) + 1)]
    step0 = np.zeros((len(STEP_0), len(spec.ranks), len(blocks)))
    for i, kind in enumerate(STEP_0):
        for j, rank in enumerate(spec.ranks):
            seed_everything(spec.seed, context.device)
            found = distance(started(teacher, spec.reduction, rank, kind))
            step0[i, j] = [found[name] for name in blocks]
    return Result({"groups": len(group_list)}, arrays=arrays | {"step-0": step0, "ranks": np.array(spec.ranks)})


@torch.no_grad()
def product_norm(layers: list[LoraLinear]) -> float:
    """Frobenius norm of all products B A together: weight decay pulls it towards zero."""
    return float(sum(layer.product.square().sum() for layer in layers) ** 0.5)


def _energies(teacher: nn.Module, group_list: list[Group]) -> dict[str, np.ndarray]:
    """Share of squared singular values held by the first k, of each adapted matrix's sum over the dropped blocks; (groups, k)."""
    named: dict[str, list[np.ndarray]] = {}
    for group in (group for group in group_list if group.dropped):
        for layer, parts in ADAPTED.items():
            total = torch.stack([teacher.blocks[index].get_submodule(layer).weight for index in group.dropped]).sum(dim=0)
            for name, matrix in zip(MATRICES[layer], total.chunk(parts), strict=True):
                named.setdefault(name, []).append(energy(matrix).cpu().numpy())
    return {name: np.stack(curves) for name, curves in named.items()}


MATRICES = {"attn.qkv": ("q", "k", "v"), "attn.proj": ("proj",), "mlp.fc1": ("fc1",), "mlp.fc2": ("fc2",)}


def _live_features(teacher: nn.Module) -> Callable[[Tensor, Tensor, list[int]], list[Tensor]]:
    @torch.no_grad()
    def taught(images: Tensor, positions: Tensor, blocks: list[int]) -> list[Tensor]:
        return features(teacher, images, blocks)

    return taught


def _cached_features(teacher: nn.Module, batches: Batches, schedule: list[Phase]) -> Callable:
    """Features of every training image after every block that some phase compares, computed once."""
    wanted = sorted({target for phase in schedule for _, target in phase.pairs})
    outputs = remembered(lambda images: tuple(features(teacher, images, wanted)), batches.plain())
    kept = dict(zip(wanted, outputs, strict=True))
    return lambda images, positions, blocks: [kept[block][positions] for block in blocks]


def _fine_tuned(spec: Downstream, backbone: nn.Module, context: Context) -> Result:
    classes = len(class_names(spec.data, context.data_dir))
    backbone.reset_classifier(classes)
    backbone.requires_grad_(True).to(context.device)
    batches = training_batches(spec.data, spec.recipe, seed=spec.seed, device=context.device, data_dir=context.data_dir)
    trained = train(backbone, batches, cross_entropy, spec.recipe, num_classes=classes, context=context)
    test = test_batches(spec.data, device=context.device, data_dir=context.data_dir)
    metrics, right = _accuracies(scores_of(backbone, test), labels_of(test))
    kept = weights_of(backbone) if spec.keep_weights else None
    return Result(metrics | validated(backbone, spec.data, context), trained.history, right, kept, trained.measured)


def _accuracies(scores: Tensor, labels: np.ndarray) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    metrics, right = judged(scores, labels)
    return metrics | {"top5": top_k_accuracy(scores, labels, 5)}, right
