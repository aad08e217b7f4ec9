"""The models that are compared, each by the run that leaves it behind: same teacher, same images, same number of passes over them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vitlib.inputs.foreign.architecture import architecture
from vitlib.inputs.sources import Data
from vitlib.papers.afr_pruning.specs import Criterion, Pruned
from vitlib.papers.comparison.settings import Settings
from vitlib.papers.deit.specs import Student
from vitlib.papers.dual_ssl_kd.specs import Joint, Taught, Tuned
from vitlib.papers.multi_distillation.specs import Combined
from vitlib.papers.multi_distillation.training.reading import Objective
from vitlib.papers.wecolora.specs import Distilled, Downstream
from vitlib.recipe import Recipe
from vitlib.spec import RunSpec
from vitlib.teachers.teacher import Kept, Teacher


def dense(settings: Settings, seed: int) -> Pruned:
    """The teacher, fine-tuned."""
    return _pruned(settings, seed, settings.teacher, settings.tuning, "magnitude", 0.0)


def afr(settings: Settings, seed: int, sparsity: float) -> Pruned:
    return _pruned(settings, seed, settings.teacher, settings.tuning, "afr", sparsity)


def wecolora(settings: Settings, seed: int, reduction: int) -> Downstream:
    """Adapters on every `reduction`-th block, merged; fine-tuning for the rest of the budget."""
    student = _distilled(settings, seed, reduction)
    common = {"teacher": settings.teacher, "data": _data(settings), "seed": seed}
    return Downstream(student=student, recipe=_rest(settings), protocol="finetune", keep_weights=True, **common)


def wecolora_then_afr(settings: Settings, seed: int, reduction: int, sparsity: float) -> Pruned:
    """Half of the blocks by adapters, merged; then half of their weights, and fine-tuning for the rest of the budget."""
    student, data = _distilled(settings, seed, reduction), _data(settings)
    mean, std = data.normalisation
    depth = -(-architecture(settings.teacher.model, data.image_size, data.channels).depth // reduction)
    kept = Kept(run=student, model=settings.teacher.model.changed(depth=depth), image_size=data.image_size, mean=mean, std=std)
    return _pruned(settings, seed, Teacher(origin=kept), _rest(settings), "afr", sparsity)


def alone(settings: Settings, seed: int) -> Taught:
    """The students' network on labels alone."""
    return Taught(student=settings.student, data=_data(settings), recipe=settings.scratch, seed=seed, keep_weights=True)


def deit(settings: Settings, seed: int) -> Student:
    """Hard labels of the fine-tuned teacher, by the distillation token."""
    data = _data(settings)
    teacher = Tuned(teacher=settings.teacher, data=data, recipe=settings.tuning, seed=seed, protocol="finetune")
    model = settings.student.changed(distilled=True)
    return Student(model=model, data=data, recipe=settings.scratch, seed=seed, teacher=teacher, objective="hard")


def two_teachers(settings: Settings, seed: int) -> Joint:
    shares = {"lambda_1": settings.lambda_1, "lambda_2": settings.lambda_2}
    common = {"data": _data(settings), "recipe": settings.scratch, "seed": seed, "keep_weights": True}
    return Joint(student=settings.student, cl=settings.cl, mim=settings.mim, **shares, **common)


def multi(settings: Settings, seed: int) -> Combined:
    """Two students that teach each other and themselves; the first is kept."""
    objective = Objective(weights=settings.weights)
    measured = {"held_out": settings.held_out, "measured_on": "test", "keep_weights": True}
    common = {"data": _data(settings), "recipe": settings.scratch, "seed": seed, "peers": (2 * seed, 2 * seed + 1)}
    return Combined(model=settings.student, objective=objective.changed(scale=1 / objective.label_weight), **measured, **common)


DENSE = "dense"
BY_KIND: dict[str, dict[str, Callable[[Settings, int], RunSpec]]] = {
    "dense": {DENSE: dense},
    "AFR": {f"AFR {share:.0%}".replace("%", " %"): partial(afr, sparsity=share) for share in (0.5, 0.8, 0.9)},
    "WeCoLoRA": {f"WeCoLoRA r = {reduction}": partial(wecolora, reduction=reduction) for reduction in (2, 3)},
    "both": {"WeCoLoRA r = 2, AFR 50 %": partial(wecolora_then_afr, reduction=2, sparsity=0.5)},
    "students": {
        "student, labels alone": alone,
        "DeiT student": deit,
        "two-teacher student": two_teachers,
        "multi-distilled student": multi,
    },
}
MODELS = {name: made for models in BY_KIND.values() for name, made in models.items()}
KINDS = {kind: tuple(models) for kind, models in BY_KIND.items()}


def _pruned(settings: Settings, seed: int, teacher: Teacher, recipe: Recipe, criterion: Criterion, sparsity: float) -> Pruned:
    common = {"data": _data(settings), "recipe": recipe, "seed": seed, "pruning": settings.pruning, "keep_weights": True}
    return Pruned(teacher=teacher, criterion=criterion, sparsity=sparsity, **common)


def _distilled(settings: Settings, seed: int, reduction: int) -> Distilled:
    common = {"teacher": settings.teacher, "data": _data(settings), "recipe": settings.adapters, "seed": seed}
    return Distilled(reduction=reduction, rank=settings.rank, lora_init="svd", **common)


def _rest(settings: Settings) -> Recipe:
    """Fine-tuning in what adapters leave of the budget."""
    epochs = settings.epochs - settings.adapters.epochs
    return settings.tuning.changed(epochs=epochs, warmup_epochs=min(settings.tuning.warmup_epochs, epochs), eval_every=epochs)


def _data(settings: Settings) -> Data:
    """Normalised as the teacher was pretrained."""
    return settings.teacher.normalised(settings.data)
