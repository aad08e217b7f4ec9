"""DeiT: its runs; settings.py holds what fills the tables' grids with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vitlib.inputs.foreign.classes import Columns, Knows
from vitlib.inputs.foreign.demands import TrainsOn, Uses
from vitlib.inputs.models import ResNet, Timm, Vit, check_tiling
from vitlib.inputs.sources import Data
from vitlib.methods import needs
from vitlib.papers.dual_ssl_kd.specs import Tuned
from vitlib.recipe import Recipe
from vitlib.spec import Demand, RunSpec

Weight = Annotated[float, Field(ge=0, le=1)]
Objective = Literal["none", "soft", "hard"]
Reduction = Literal["batchmean", "numel"]


class Released(RunSpec):
    """A released timm checkpoint, evaluated as it is; `real_labels` adds ImageNet-Real.

    Args:
        columns: which of its outputs are the data's classes, see `vitlib.inputs.foreign.classes`.
    """

    version: ClassVar[int] = 2

    model: Timm
    data: Data
    second_test: Data | None = None
    real_labels: bool = False
    columns: Columns = "all"

    @model_validator(mode="after")
    def _real_labels_are_of_all_classes(self) -> Self:
        if self.real_labels and self.columns != "all":
            raise ValueError(f"real_labels=True with columns={self.columns!r}; allowed: columns='all', ImageNet's thousand classes")
        _require_named_files(self)
        return self

    def demands(self) -> Iterator[Demand]:
        yield Uses("model", self.model, self.data.image_size, self.data.channels)
        yield Knows("classifier", self.model.name, self.columns, self.data)


class Student(RunSpec):
    """A model trained from scratch or from `start`, on labels alone or also on a teacher (equations 2 and 3).

    A distilled model reads the teacher with its distillation token; a plain one with its only head. Without a teacher
    both tokens of a distilled model learn the label. The convnet teachers are Students too, with objective 'none'; a teacher may also be
    any pretrained model that was fine-tuned to the labels.

    Args:
        kd_weight: lambda of equation 2, 1/2 in equation 3.
        temperature: tau of equation 2.
        soft_reduction: of equation 2's KL: the mean over the batch, or the reference code's over batch and classes.
        start: the run whose weights training begins with (fine-tuning at another resolution).
        second_test: another test set to evaluate on.
        real_labels: also measure against ImageNet-Real; the test set is ImageNet's.
    """

    version: ClassVar[int] = 2
    divisible: ClassVar[bool] = True

    data: Data
    model: Vit | ResNet | Timm
    recipe: Recipe
    seed: int
    objective: Objective = "none"
    teacher: Student | Released | Tuned | None = None
    start: Student | None = None
    kd_weight: Weight = 0.5
    temperature: Annotated[float, Field(gt=0)] = 3.0
    soft_reduction: Reduction = "batchmean"
    second_test: Data | None = None
    real_labels: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.teacher is None) != (self.objective == "none"):
            raise ValueError(
                f"objective={self.objective!r} with teacher {'absent' if self.teacher is None else 'given'}; give both or neither"
            )
        if self.soft_reduction != "batchmean" and self.objective != "soft":
            raise ValueError(f"soft_reduction={self.soft_reduction!r} with objective={self.objective!r}; allowed: with objective='soft'")
        _require_named_files(self)
        check_tiling(self.model, self.data.image_size)
        return self

    def demands(self) -> Iterator[Demand]:
        sizes = {"image_size": self.data.image_size, "channels": self.data.channels}
        yield Uses("model", self.model, drop_path=self.recipe.drop_path, **sizes)
        if self.teacher:
            yield Uses("teacher.model", self.teacher.model, **sizes)
        yield TrainsOn(self.data, self.recipe.batch_size)


def _require_named_files(spec: Released | Student) -> None:
    """ImageNet-Real knows an image by the name of its file."""
    if spec.real_labels and not spec.data.source.startswith("folder/"):
        raise ValueError(f"real_labels=True with data.source={spec.data.source!r}; allowed: 'folder/NAME' of named files")


class Tokens(RunSpec):
    """What the prefix tokens of a trained student do: cosine by block, attention over images, logits beside the teacher's."""

    version: ClassVar[int] = 2

    student: Student
    images: Annotated[int, Field(ge=1, le=64)] = 12

    def demands(self) -> Iterator[Demand]:
        yield Uses("student.model", self.student.model, self.student.data.image_size, self.student.data.channels, (needs.TOKENS,))


class Anatomy(RunSpec):
    """Shapes at each stage of a distilled student's forward pass, and its cost by formula and by count."""

    model: Vit
    image_size: int
    channels: int
    num_classes: int

    def demands(self) -> Iterator[Demand]:
        yield Uses("model", self.model, self.image_size, self.channels)


class Throughput(RunSpec):
    """Images/s of a model on the device at hand; random weights, the speed does not depend on them."""

    timed: ClassVar[bool] = True

    model: Vit | ResNet | Timm
    image_size: int
    channels: int
    num_classes: int
    batch_size: Annotated[int, Field(ge=1)]

    def demands(self) -> Iterator[Demand]:
        yield Uses("model", self.model, self.image_size, self.channels)
