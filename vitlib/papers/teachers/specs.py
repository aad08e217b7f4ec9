"""The teachers: their settings, and which run fills which point of a table's grid."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vitlib.inputs.models import Positive, ResNet, Vit
from vitlib.inputs.sources import Data
from vitlib.papers.teachers.measure import AttentionDistances, Quality
from vitlib.recipe import Recipe, Seeds
from vitlib.spec import Part
from vitlib.teachers.pretrain import DinoMethod, DinoTeacher, MaeMethod, MaeTeacher, Pretrained, SupervisedTeacher
from vitlib.teachers.teacher import Teacher


class Settings(Part):
    """What the entry, a profile and overrides may set."""

    data: Data
    seeds: Seeds
    transformers: Annotated[dict[str, Vit], Field(min_length=1)]
    convnets: dict[str, ResNet]
    supervised: Recipe
    convnet: Recipe
    dino: DinoMethod
    mae: MaeMethod
    looked_at: Positive


def run_pretraining(settings: Settings, *, method: str, model: str, seed: int) -> Pretrained:
    """A transformer by one of the methods supervised, dino, mae; or a convnet, by labels."""
    if method == "convnet":
        return SupervisedTeacher(data=settings.data, model=settings.convnets[model], recipe=settings.convnet, seed=seed)
    common = {"data": settings.data, "model": settings.transformers[model], "seed": seed}
    if method == "supervised":
        return SupervisedTeacher(recipe=settings.supervised, **common)
    if method == "dino":
        return DinoTeacher(method=settings.dino, **common)
    return MaeTeacher(method=settings.mae, **common)


def run_quality(settings: Settings, *, method: str, model: str, seed: int) -> Quality:
    """Frozen features of a teacher; method 'untrained' is the network as drawn."""
    return Quality(teacher=_teacher(settings, method, model, seed), data=settings.data)


def run_distances(settings: Settings, *, method: str, model: str, seed: int) -> AttentionDistances:
    return AttentionDistances(teacher=_teacher(settings, method, model, seed), data=settings.data, images=settings.looked_at)


def _teacher(settings: Settings, method: str, model: str, seed: int) -> Teacher:
    if method == "untrained":
        trained = "convnet" if model in settings.convnets else "supervised"
        return _teacher(settings, trained, model, seed).untrained(seed)
    return Teacher(origin=run_pretraining(settings, method=method, model=model, seed=seed))
