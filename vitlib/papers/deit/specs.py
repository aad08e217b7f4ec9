"""DeiT: its settings, its runs, and which run fills which point of a table's grid."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vitlib.inputs.models import ResNet, Timm, Vit, check_tiling
from vitlib.inputs.sources import Data
from vitlib.recipe import Recipe, Seeds
from vitlib.spec import Context, Part, Result, RunSpec

Weight = Annotated[float, Field(ge=0, le=1)]
Objective = Literal["none", "soft", "hard"]
Reduction = Literal["batchmean", "numel"]


class Released(RunSpec):
    """A released timm checkpoint, evaluated as it is; `real_labels` adds ImageNet-Real."""

    model: Timm
    data: Data
    second_test: Data | None = None
    real_labels: bool = False

    def compute(self, context: Context) -> Result:
        from vitlib.papers.deit.compute import evaluate_released

        return evaluate_released(self, context)


class Student(RunSpec):
    """A model trained from scratch or from `start`, on labels alone or also on a teacher (equations 2 and 3).

    A distilled model reads the teacher with its distillation token; a plain one with its only head. Without a teacher
    both tokens of a distilled model learn the label. The convnet teachers are Students too, with objective 'none'.

    Args:
        kd_weight: lambda of equation 2, 1/2 in equation 3.
        temperature: tau of equation 2.
        soft_reduction: of equation 2's KL: the mean over the batch, or the reference code's over batch and classes.
        start: the run whose weights training begins with (fine-tuning at another resolution).
        second_test: another test set to evaluate on.
        real_labels: also measure against ImageNet-Real; the test set is ImageNet's.
    """

    divisible: ClassVar[bool] = True

    data: Data
    model: Vit | ResNet | Timm
    recipe: Recipe
    seed: int
    objective: Objective = "none"
    teacher: Student | Released | None = None
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
        check_tiling(self.model, self.data.image_size)
        return self

    def compute(self, context: Context) -> Result:
        from vitlib.papers.deit.compute import train_student

        return train_student(self, context)


class Tokens(RunSpec):
    """What the prefix tokens of a trained student do: cosine by block, attention over images, logits beside the teacher's."""

    student: Student
    images: Annotated[int, Field(ge=1, le=64)] = 12

    def compute(self, context: Context) -> Result:
        from vitlib.papers.deit.compute import look_at_tokens

        return look_at_tokens(self, context)


class Anatomy(RunSpec):
    """Shapes at each stage of a distilled student's forward pass, and its cost by formula and by count."""

    model: Vit
    image_size: int
    channels: int
    num_classes: int

    def compute(self, context: Context) -> Result:
        from vitlib.papers.deit.compute import dissect

        return dissect(self)


class Throughput(RunSpec):
    """Images/s of a model on the device at hand; random weights, the speed does not depend on them."""

    timed: ClassVar[bool] = True

    model: Vit | ResNet | Timm
    image_size: int
    channels: int
    num_classes: int
    batch_size: Annotated[int, Field(ge=1)]

    def compute(self, context: Context) -> Result:
        from vitlib.papers.deit.compute import time_model

        return time_model(self, context)


class Settings(Part):
    """What the entry, a profile and a notebook's overrides may set.

    Args:
        soft_weight, hard_weight, token_weight: lambda of Table 3's rows "soft" and "hard", without a token, and "token". The first two
            carry no mark for labels there: 1 trains them on the teacher alone.
    """

    data: Data
    second_test: Data | None = None
    num_classes: Annotated[int, Field(ge=2)]
    seeds: Seeds
    students: Annotated[dict[Literal["tiny", "small", "base"], Vit], Field(min_length=1)]
    teachers: Annotated[dict[str, ResNet | Timm], Field(min_length=1)]
    teacher: str
    recipe: Recipe
    teacher_recipe: Recipe
    finetune: Recipe
    finetune_size: Annotated[int, Field(ge=4, le=1024)]
    long_factor: Annotated[float, Field(ge=1, le=1000)]
    real_labels: bool = False
    temperature: Annotated[float, Field(gt=0)]
    soft_weight: Weight
    hard_weight: Weight
    token_weight: Weight
    soft_reduction: Reduction = "batchmean"
    throughput_batch: Annotated[int, Field(ge=1)]
    released: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.teacher not in self.teachers:
            raise ValueError(f"teacher={self.teacher!r} is not among the teachers; allowed: {', '.join(self.teachers)}")
        for size, model in self.students.items():
            for pixels in (self.data.image_size, self.finetune_size):
                if pixels % model.patch_size:
                    raise ValueError(f"students.{size}.patch_size={model.patch_size} does not tile {pixels} px; choose a divisor")
        return self

    @property
    def sizes(self) -> list[str]:
        return list(self.students)

    @property
    def long_epochs(self) -> int:
        return round(self.recipe.epochs * self.long_factor)

    @property
    def largest(self) -> list[str]:
        return self.sizes[-1:]

    @property
    def teacher_names(self) -> list[str]:
        return [f"DeiT-{_SHORT[self.sizes[-1]]}", *self.teachers]


_SHORT = {"tiny": "Ti", "small": "S", "base": "B"}


def run_student(settings: Settings, *, method: str, size: str, resolution: str, seed: int) -> Student:
    """Tables 3 and 5, Figure 3. Methods: none, soft, hard (no token), token (hard, with token), two-class (no teacher).

    none-long and token-long train for `long_factor` times the epochs.
    """
    return _student(settings, method, size, resolution, seed, settings.teacher)


def run_taught(settings: Settings, *, teacher: str, column: str, seed: int) -> Student:
    """Table 2: the teacher itself, or the largest student it taught, at either resolution."""
    if column == "teacher":
        return _teacher(settings, teacher, "native")
    return _student(settings, "token", settings.sizes[-1], column, seed, teacher)


def run_teacher(settings: Settings) -> Student | Released:
    return _teacher(settings, settings.teacher, "native")


def run_tokens(settings: Settings, *, method: str, seed: int) -> Tokens:
    return Tokens(student=_student(settings, method, settings.sizes[-1], "native", seed, settings.teacher))


def run_anatomy(settings: Settings, *, size: str) -> Anatomy:
    data = settings.data
    model = settings.students[size].changed(distilled=True)
    return Anatomy(model=model, image_size=data.image_size, channels=data.channels, num_classes=settings.num_classes)


def run_throughput(settings: Settings, *, method: str, size: str, resolution: str) -> Throughput:
    return _throughput(settings, settings.students[size].changed(distilled=method != "none"), resolution)


def run_teacher_throughput(settings: Settings) -> Throughput:
    return _throughput(settings, settings.teachers[settings.teacher], "native")


def run_released(settings: Settings, *, released: str) -> Released:
    size = 384 if "384" in released else settings.data.image_size
    data = settings.data.changed(image_size=size, crop_share=1.0 if size == 384 else settings.data.crop_share)
    second = settings.second_test and settings.second_test.changed(image_size=size, crop_share=data.crop_share)
    return Released(model=Timm(name=released, pretrained=True), data=data, second_test=second, real_labels=settings.real_labels)


def _student(settings: Settings, method: str, size: str, resolution: str, seed: int, teacher: str) -> Student:
    objective = {"none": "none", "none-long": "none", "two-class": "none", "soft": "soft"}.get(method, "hard")
    taught = objective != "none"
    soft = {"soft_reduction": settings.soft_reduction} if method == "soft" else {}
    recipe = settings.recipe
    if method.endswith("-long"):
        recipe = recipe.changed(epochs=settings.long_epochs, eval_every=round(recipe.eval_every * settings.long_factor))
    native = Student(
        data=settings.data,
        model=settings.students[size].changed(distilled=method.startswith(("token", "two-class"))),
        recipe=recipe,
        seed=seed,
        objective=objective,
        teacher=_teacher(settings, teacher, "native") if taught else None,
        kd_weight={"soft": settings.soft_weight, "hard": settings.hard_weight}.get(method, settings.token_weight),
        temperature=settings.temperature,
        **soft,
        second_test=settings.second_test,
        real_labels=settings.real_labels,
    )
    if resolution == "native":
        return native
    return _finetuned(settings, native, _teacher(settings, teacher, "up") if taught else None, settings.finetune)


def _finetuned(settings: Settings, native: Student, teacher: Student | Released | None, recipe: Recipe) -> Student:
    """`native` trained on at the larger resolution, with a teacher of that resolution."""
    larger = {"image_size": settings.finetune_size}
    second = native.second_test and native.second_test.changed(**larger)
    return native.changed(data=native.data.changed(**larger), recipe=recipe, start=native, teacher=teacher, second_test=second)


def _teacher(settings: Settings, name: str, resolution: str) -> Student | Released:
    """A convnet trained by its own recipe, a released one, or the plain transformer; seed 0, shared by all students."""
    if name not in settings.teachers:
        return _student(settings, "none", settings.sizes[-1], resolution, 0, settings.teacher)
    model = settings.teachers[name]
    if isinstance(model, Timm) and model.pretrained:
        return Released(model=model, data=settings.data, second_test=settings.second_test, real_labels=settings.real_labels)
    native = Student(data=settings.data, model=model, recipe=settings.teacher_recipe, seed=0, second_test=settings.second_test)
    return native if resolution == "native" else _finetuned(settings, native, None, settings.finetune)


def _throughput(settings: Settings, model: Vit | ResNet | Timm, resolution: str) -> Throughput:
    size = settings.data.image_size if resolution == "native" else settings.finetune_size
    return Throughput(
        model=model, image_size=size, channels=settings.data.channels,
        num_classes=settings.num_classes, batch_size=settings.throughput_batch,
    )  # fmt: skip
