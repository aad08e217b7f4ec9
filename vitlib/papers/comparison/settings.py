"""The settings of the comparison of all methods."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from vitlib.inputs.models import Positive, Vit
from vitlib.inputs.sources import Data
from vitlib.papers.afr_pruning.specs import Pruning
from vitlib.papers.multi_distillation.search.space import Weights
from vitlib.recipe import Recipe, Seeds, WholeBatches
from vitlib.spec import Part
from vitlib.teachers.teacher import Teacher

Share = Annotated[float, Field(gt=0, lt=1)]


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        teacher: what is compressed, and fine-tuned what teaches DeiT's student.
        cl, mim: the contrastive and the masked-image teacher of the two-teacher student.
        student: the network of the students that begin untrained; DeiT's has a distillation token beside.
        epochs: the budget of every row: passes over the same training images, of adapters and fine-tuning together.
        tuning: fine-tuning of what was pretrained; adapters: WeCoLoRA's, the rest of the budget is fine-tuning; scratch: of the students.
        rank: of WeCoLoRA's adapters.
        lambda_1, lambda_2: shares of the contrastive teacher in the output and in the attention term.
        weights: of the losses of multi-distillation, the best that its document found.
        held_out: share of the training images that multi-distillation leaves out, as its document does.
        pruning: how AFR scores and chooses weights.
        exported: the rows that are written as ONNX files too.
    """

    teacher: Teacher
    cl: Teacher
    mim: Teacher
    student: Vit
    data: Data
    seeds: Seeds
    epochs: Positive
    tuning: Recipe
    adapters: Recipe
    scratch: WholeBatches
    rank: Positive
    lambda_1: Annotated[float, Field(ge=0, le=1)]
    lambda_2: Annotated[float, Field(ge=0, le=1)]
    weights: Weights
    held_out: Share
    pruning: Pruning = Pruning()
    exported: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        for name in ("tuning", "scratch"):
            if (epochs := getattr(self, name).epochs) != self.epochs:
                raise ValueError(f"{name}.epochs={epochs} beside epochs={self.epochs}; allowed: {self.epochs}, the budget of every row")
        if self.adapters.epochs >= self.epochs:
            raise ValueError(f"adapters.epochs={self.adapters.epochs}; allowed: below epochs={self.epochs}, the rest is fine-tuning")
        return self

    @property
    def first_seed(self) -> list[int]:
        return list(self.seeds[:1])

    @model_validator(mode="after")
    def _plain_student(self) -> Self:
        if self.student.distilled:
            raise ValueError("student.distilled=True; allowed: false, DeiT's student has a distillation token beside")
        return self
